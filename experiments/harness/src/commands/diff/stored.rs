//! Finds out whether a divergence comes from weights that a converter stored in half precision.

use std::collections::BTreeSet;

use anyhow::Result;
use compare::Comparison;
use compare::stored::Stored;
use record::{DiffRecord, Layer, LayerKind, LayerVerdict};
use spec::{ModuleId, Precision};

use super::plan::Plan;

/// The root mean square of the relative error of numbers that are rounded to a format, in units of its epsilon: that of
/// an error that is uniform within half an epsilon, for numbers whose logarithm is uniform.
const TYPICAL: f64 = 0.212;

/// How far the own error of a layer may be from that of its rounded weights for the question to be asked. Errors of
/// weights and of the values that they are multiplied with may cancel, and activations may enlarge them.
const NEAR: f64 = 10.0;

/// How the sentence names the flag that makes the same weights; `next` gives it.
const FLAG: &str = "--round-weights ";

/// The sentence on a candidate whose values fit rounded weights, and what else is wrong with it.
///
/// # Errors
///
/// If the truth cannot be run.
pub(super) fn in_half_precision(
    plan: &Plan,
    comparison: &mut Comparison,
    diff: &DiffRecord,
) -> Result<Option<String>> {
    let exact = matches!(comparison.precision, Precision::F32 | Precision::F64);
    let explained = diff.culprit.as_ref().is_some_and(|culprit| culprit.explanation.is_some());
    let asked = plan.stored.is_some() || plan.requantised.is_some();
    if !exact || explained || asked || comparison.reference.is_some() {
        return Ok(None);
    }
    let Some(error) = typical_error(diff) else { return Ok(None) };
    let mut formats = [Precision::F16, Precision::Bf16];
    let off = |format: &Precision| (error / (TYPICAL * format.epsilon())).ln().abs();
    formats.sort_by(|a, b| off(a).total_cmp(&off(b)));
    let wrong: BTreeSet<ModuleId> =
        diverged(diff).filter_map(|layer| Some(comparison.model.find(&layer.name)?.id)).collect();
    for format in formats.into_iter().filter(|format| off(format) <= NEAR.ln()) {
        // A program may store some layers in one way and others in another.
        let mut left = wrong.clone();
        let mut best: Option<(Stored, usize)> = None;
        for stored in Stored::ways(format) {
            let rounded = plan.with_stored(stored);
            let still = comparison.wrong_with(|precision| rounded.load(precision))?;
            left.retain(|id| still.contains(id));
            if best.is_none_or(|(_, count)| still.len() < count) {
                best = Some((stored, still.len()));
            }
            if still.is_empty() {
                break;
            }
        }
        if let Some((stored, _)) = best
            && 10 * left.len() <= wrong.len()
        {
            let besides = left.first().map(|first| {
                format!(
                    " Besides, {} wrong with these weights as well, first {}.",
                    match left.len() {
                        1 => "1 layer is".to_owned(),
                        several => format!("{several} layers are"),
                    },
                    comparison.model.module(*first).name
                )
            });
            return Ok(Some(format!(
                "The values fit {}, as some converters store them: export with float32 weights, or compare with these \
                 weights ({FLAG}{stored}).{}",
                stored.in_words(),
                besides.unwrap_or_default()
            )));
        }
    }
    Ok(None)
}

/// How the weights were rounded that explain a divergence, as the flag takes it.
pub(super) fn flag_of(explanation: &str) -> Option<(&'static str, &str)> {
    let (_, rest) = explanation.split_once(FLAG)?;
    Some((FLAG.trim_end(), rest.split_once(')')?.0))
}

fn diverged(diff: &DiffRecord) -> impl Iterator<Item = &Layer> {
    diff.layers
        .iter()
        .filter(|layer| layer.verdict == LayerVerdict::Diverged && layer.introduced.is_some())
}

/// The median of the own errors of the wrong layers, if most layers with weights are wrong. Some candidates show whole
/// blocks only.
fn typical_error(diff: &DiffRecord) -> Option<f64> {
    let count = |kinds: &[LayerKind]| {
        let of_kind = |layer: &&Layer| kinds.contains(&layer.kind) && layer.introduced.is_some();
        let all = diff.layers.iter().filter(of_kind).count();
        (diverged(diff).filter(of_kind).count(), all)
    };
    let (wrong, all) = match count(&[LayerKind::Conv]) {
        (_, 0) => count(&[LayerKind::Bn, LayerKind::Block, LayerKind::Ctl, LayerKind::Linear]),
        found => found,
    };
    let mut errors: Vec<f64> =
        diverged(diff).filter_map(|layer| Some(layer.introduced?.rel_l2)).collect();
    errors.sort_by(f64::total_cmp);
    let median = errors.get(errors.len() / 2).copied().filter(|error| error.is_finite());
    median.filter(|_| wrong > 1 && 2 * wrong > all)
}
