//! Where a mistake would show, and what the network would compute there.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use checkpoint::Weights;
use spec::{Model, ModuleId};

use super::edit::Change;
use super::expr::{Missing, Scope};
use super::graph::ModelGraph;
use super::map::Map;
use super::network::Network;

/// The modules whose output a change alters, if the value after every module for which `shown` is true
/// is replaced by the right one. These are the modules that the change touches, and those that read an
/// altered module that is not shown.
pub fn reach(
    graph: &ModelGraph,
    change: &Change,
    shown: &dyn Fn(ModuleId) -> bool,
) -> BTreeSet<ModuleId> {
    spread(graph, change, shown, &|_| false)
}

/// The first module that is shown and that a change alters; None if there is none.
pub fn first_shown(
    graph: &ModelGraph,
    change: &Change,
    shown: &dyn Fn(ModuleId) -> bool,
) -> Option<ModuleId> {
    spread(graph, change, shown, shown).into_iter().find(|id| shown(*id))
}

/// The same as [`reach`], but stops at the first altered module for which `enough` is true.
fn spread(
    graph: &ModelGraph,
    change: &Change,
    shown: &dyn Fn(ModuleId) -> bool,
    enough: &dyn Fn(ModuleId) -> bool,
) -> BTreeSet<ModuleId> {
    let mut altered = change.touches(graph.model);
    let Some(first) = altered.first().copied() else { return altered };
    for id in (first.0..graph.model.modules().len()).map(ModuleId) {
        let alters = |read: &ModuleId| altered.contains(read) && !shown(*read);
        let reads = match change.computes(graph.model, id) {
            Some(expr) => expr.reads().iter().any(alters),
            None => graph.reads(id).iter().any(alters),
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

/// A change whose effect is computed from the values of a run of the correct network.
pub struct Trial {
    /// The change under trial.
    pub change: Change,
    /// The modules that it alters and that are shown, in order of execution.
    pub shows: Vec<ModuleId>,
    /// The modules that it alters and that are not shown: they have to be computed, too.
    hidden: BTreeSet<ModuleId>,
    /// The description after the change.
    model: Model,
    /// The expressions of the changed description.
    network: Network,
    /// The weights after the change.
    weights: Weights,
}

/// The outputs of modules in a run of the correct network that is fed what the candidate shows.
pub type Values = HashMap<ModuleId, Arc<Map>>;

impl Trial {
    /// Prepares a change for evaluation. `weights` are those of the correct network.
    pub fn new(
        graph: &ModelGraph,
        weights: &Weights,
        change: Change,
        shown: &dyn Fn(ModuleId) -> bool,
    ) -> Trial {
        let altered = reach(graph, &change, shown);
        let (mut model, mut weights) = (graph.model.clone(), weights.clone());
        change.apply(&mut model, &mut weights);
        let network = Network::new(&model);
        let shows = altered.iter().copied().filter(|id| shown(*id)).collect();
        let hidden = altered.iter().copied().filter(|id| !shown(*id)).collect();
        Trial { change, shows, hidden, model, network, weights }
    }

    /// The modules whose values [`Trial::value`] needs for the module `at`.
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

    /// The output of the module `at` with the change. `values` are those of the correct network, and
    /// `clip` is the right clip. None if a value is missing.
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
        let nothing = || Err(Missing::Module(at));
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
