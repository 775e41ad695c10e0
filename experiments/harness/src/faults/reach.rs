//! Where a mistake would show, and what the network would give there.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use spec::weights::Weights;
use spec::{Model, ModuleId};

use super::edit::Change;
use super::expr::{Gap, Scope};
use super::ground::Ground;
use super::map::Map;
use super::network::Network;

/// The modules whose output a change alters when every module that `shown` tells is fed the right
/// input: those that it touches, and those that read one that it alters and that is not shown.
pub fn reach(
    ground: &Ground,
    change: &Change,
    shown: &dyn Fn(ModuleId) -> bool,
) -> BTreeSet<ModuleId> {
    spread(ground, change, shown, &|_| false)
}

/// The first module that is shown and that a change alters.
pub fn first_shown(
    ground: &Ground,
    change: &Change,
    shown: &dyn Fn(ModuleId) -> bool,
) -> Option<ModuleId> {
    spread(ground, change, shown, shown).into_iter().find(|id| shown(*id))
}

/// [`reach`], up to the first module that is enough.
fn spread(
    ground: &Ground,
    change: &Change,
    shown: &dyn Fn(ModuleId) -> bool,
    enough: &dyn Fn(ModuleId) -> bool,
) -> BTreeSet<ModuleId> {
    let mut altered = change.touches(ground.model);
    let Some(first) = altered.first().copied() else { return altered };
    for id in (first.0..ground.model.modules().len()).map(ModuleId) {
        let alters = |read: &ModuleId| altered.contains(read) && !shown(*read);
        let reads = match change.computes(ground.model, id) {
            Some(expr) => expr.reads().iter().any(alters),
            None => ground.reads(id).iter().any(alters),
        };
        if reads {
            altered.insert(id);
        }
        if altered.contains(&id) && enough(id) {
            break;
        }
    }
    altered
}

/// A change that is evaluated beside a run of the right network.
pub struct Trial {
    /// The change.
    pub change: Change,
    /// The modules that are compared and that it alters, in order of execution.
    pub shows: Vec<ModuleId>,
    hidden: BTreeSet<ModuleId>,
    model: Model,
    network: Network,
    weights: Weights,
}

/// What the modules gave in a run of the right network, in which each is fed what is shown.
pub type Values = HashMap<ModuleId, Arc<Map>>;

impl Trial {
    /// Makes a change ready to be evaluated.
    pub fn new(
        ground: &Ground,
        weights: &Weights,
        change: Change,
        shown: &dyn Fn(ModuleId) -> bool,
    ) -> Trial {
        let altered = reach(ground, &change, shown);
        let (mut model, mut weights) = (ground.model.clone(), weights.clone());
        change.apply(&mut model, &mut weights);
        let network = Network::new(&model);
        let shows = altered.iter().copied().filter(|id| shown(*id)).collect();
        let hidden = altered.iter().copied().filter(|id| !shown(*id)).collect();
        Trial { change, shows, hidden, model, network, weights }
    }

    /// The modules whose values it reads to tell what `at` would give.
    pub fn needs(&self, at: ModuleId) -> BTreeSet<ModuleId> {
        let mut needed = BTreeSet::new();
        let mut open = vec![at];
        let mut done = BTreeSet::new();
        while let Some(id) = open.pop() {
            if !done.insert(id) {
                continue;
            }
            let own = self.network.expr(id);
            let other = self.change.computes(&self.model, id);
            let reads = other.map(|expr| expr.reads()).unwrap_or_default();
            let of_own = match other {
                Some(expr) if !expr.reads_own() => vec![],
                _ => own.reads(),
            };
            for read in reads.into_iter().chain(of_own) {
                match self.hidden.contains(&read) {
                    true => open.push(read),
                    false => drop(needed.insert(read)),
                }
            }
        }
        needed
    }

    /// What a module would give. `clip` is the right clip.
    pub fn value(&self, at: ModuleId, values: &Values, clip: &Arc<Map>) -> Option<Arc<Map>> {
        let computed = RefCell::new(BTreeMap::new());
        self.computed(at, values, clip, &computed)
    }

    fn computed(
        &self,
        at: ModuleId,
        values: &Values,
        clip: &Arc<Map>,
        computed: &RefCell<BTreeMap<ModuleId, Arc<Map>>>,
    ) -> Option<Arc<Map>> {
        if let Some(value) = computed.borrow().get(&at) {
            return Some(value.clone());
        }
        let read = |id: ModuleId| match self.hidden.contains(&id) {
            true => self.computed(id, values, clip, computed),
            false => values.get(&id).cloned(),
        };
        let nothing = || Err(Gap::Module(at));
        let right = || match at == self.model.input {
            true => Ok(clip.clone()),
            false => {
                let scope = Scope { weights: &self.weights, values: &read, own: &nothing };
                self.network.expr(at).evaluate(&scope)
            }
        };
        let scope = Scope { weights: &self.weights, values: &read, own: &right };
        let value = match self.change.computes(&self.model, at) {
            Some(expr) => expr.evaluate(&scope),
            None => right(),
        };
        let value = value.ok()?;
        computed.borrow_mut().insert(at, value.clone());
        Some(value)
    }
}
