//! Looks for the mistake behind a divergence: the truth is made to make it, and if the candidate
//! then agrees, the mistake is named.

use anyhow::Result;
use reports::record::Hypothesis;
use spec::weights::Weights;
use spec::{Engine, Flow, Model, ModuleId, Selection};

use super::lockstep::{self, Runner};
use super::measure::{self, Budget, passes};
use super::{Comparison, Side};
use crate::faults::{Change, Edited, hypotheses};

/// Engines side by side: each holds the weights in float64.
const AT_ONCE: usize = 3;

/// Loads the truth's engine with a description and weights.
pub type Loader<'a> = dyn Fn(Model, Weights) -> Result<Box<dyn Engine>> + 'a;

/// The explanations tried at a module, the best first, and the module of the mistake that fits.
pub fn explain(
    comparison: &mut Comparison,
    weights: &Weights,
    at: ModuleId,
    budget: &Budget,
    shown: &dyn Fn(ModuleId) -> bool,
    load: &Loader,
) -> Result<(Vec<Hypothesis>, Option<ModuleId>)> {
    let changes = hypotheses(&comparison.model, at, &|id| !shown(id));
    let mut tried: Vec<(Hypothesis, ModuleId)> = vec![];
    for some in changes.chunks(AT_ONCE) {
        let mut changed = vec![];
        for change in some {
            let (mut model, mut weights) = (comparison.model.clone(), weights.clone());
            change.apply(&mut model, &mut weights);
            changed.push(Edited { engine: load(model, weights)?, change: change.clone() });
        }
        let ratios = ratios(comparison, &mut changed, at, budget, shown)?;
        for (change, ratio) in some.iter().zip(ratios) {
            tried.push((hypothesis(change, ratio), change.site));
        }
    }
    // NaN sorts last: a mistake that breaks the truth explains nothing.
    tried.sort_by(|a, b| a.0.ratio.total_cmp(&b.0.ratio));
    let site = tried.first().filter(|(best, _)| best.fits).map(|(_, site)| *site);
    Ok((tried.into_iter().map(|(hypothesis, _)| hypothesis).collect(), site))
}

fn hypothesis(change: &Change, ratio: f64) -> Hypothesis {
    Hypothesis { what: change.what.clone(), ratio, fits: passes(ratio) }
}

/// Budget ratio of the candidate against each changed truth at one module, all fed alike.
fn ratios(
    comparison: &mut Comparison,
    changed: &mut [Edited],
    at: ModuleId,
    budget: &Budget,
    shown: &dyn Fn(ModuleId) -> bool,
) -> Result<Vec<f64>> {
    let (model, precision) = (&comparison.model, comparison.precision);
    let (mut runners, recorded) = match &mut comparison.candidate {
        Side::Engine { engine, input } => (vec![Runner { engine: engine.as_mut(), input }], None),
        Side::Dump(dump) => (vec![], Some(&*dump)),
    };
    let live = runners.len();
    runners.push(Runner { engine: comparison.truth.as_mut(), input: &comparison.input });
    for engine in changed.iter_mut() {
        runners.push(Runner { engine, input: &comparison.input });
    }
    let driver = recorded.or(comparison.reference.as_ref());
    let count = runners.len() - live - 1;
    let mut found = vec![f64::NAN; count];
    lockstep::run(runners, &Selection::all(model.modules()), |id, values| {
        let Some(truth) = values[live].as_ref() else { return Flow::Continue };
        if id == at {
            let candidate = match recorded {
                Some(dump) => dump.get(id),
                None => values[0].clone(),
            };
            if let Some(candidate) = candidate {
                for (slot, value) in found.iter_mut().zip(&values[live + 1..]) {
                    let Some(value) = value else { continue };
                    *slot = budget.ratio(&measure::distance(value, &candidate, precision));
                }
            }
            return Flow::Stop;
        }
        // The change must be felt at `at` itself: where it is made earlier, at a module that the
        // candidate does not show, nothing may be replaced in between.
        let recorded = driver.and_then(|dump| dump.get(id));
        match recorded.or_else(|| shown(id).then(|| truth.clone())) {
            Some(value) => Flow::Replace(precision.round(value)),
            None => Flow::Continue,
        }
    })?;
    Ok(found)
}
