//! Missing biases that are smaller than what passes, which in a half format is much.

use checkpoint::Weights;
use spec::{Model, ModuleId};

use super::catalogue::Fault;
use super::edit::{Change, Edit};
use super::exercised::NotExercised;
use super::graph::ModelGraph;
use super::reach::first_shown;
use crate::measure::{BOUND, Budget};

/// The mistake in the catalogue.
const WORD: &str = "bias-missing";

/// The places where a bias could be missing unnoticed: what it adds to every value of its channel is within what passes
/// at the module where it would first show. `budget` is that of the forced pass there.
///
/// Biases of zeros are left out: without them nothing is missing. So are biases that first show behind anything but a
/// batch normalisation, where their effect is not known.
pub fn small_biases(
    model: &Model,
    weights: &Weights,
    compared: &dyn Fn(ModuleId) -> bool,
    budget: &dyn Fn(ModuleId) -> Option<Budget>,
) -> Option<NotExercised> {
    let graph = ModelGraph::new(model);
    let fault = Fault::ALL.iter().find(|fault| fault.word == WORD)?;
    let mut count = 0;
    let mut hidden: Vec<(ModuleId, f64, Budget)> = vec![];
    for place in fault.places_on(&graph) {
        let Some(added) = added(&place, weights) else { continue };
        count += 1;
        let Some(shown) = first_shown(&graph, &place, compared) else { continue };
        let scales = match shown == place.site {
            true => vec![1.0; added.len()],
            false if graph.readers(place.site) == [shown] => {
                match graph.scale_behind(place.site, weights) {
                    Some(scales) => scales,
                    None => continue,
                }
            }
            false => continue,
        };
        let Some(budget) = budget(shown) else { continue };
        let effects = added.iter().zip(&scales).map(|(bias, scale)| (bias * scale).abs());
        let (squares, largest) =
            effects.fold((0.0, 0.0), |(sum, largest): (f64, f64), x| (sum + x * x, largest.max(x)));
        let rms = (squares / added.len().max(1) as f64).sqrt();
        let [l2, most] = budget.granted();
        if rms <= BOUND * l2 && largest <= BOUND * most {
            hidden.push((place.site, rms / budget.yardstick.rms, budget));
        }
    }
    let (site, effect, budget) = hidden.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let what = format!(
        "{} (in {} of {count} places, where it is too small: at most {:.1} % of the values, in {}, where {} lets {:.1} % \
         pass)",
        fault.what,
        hidden.len(),
        100.0 * effect,
        model.module(*site).name,
        budget.precision,
        100.0 * budget.passes_up_to(),
    );
    Some(NotExercised { word: WORD, what, try_size: None })
}

/// The values that are missing, one for each channel; None if they are zeros.
fn added(place: &Change, weights: &Weights) -> Option<Vec<f64>> {
    let [Edit::Weight(name, _)] = &place.edits[..] else { return None };
    let bias = weights.get(name)?.to_f64();
    bias.iter().any(|value| *value != 0.0).then_some(bias)
}
