//! Causes of a divergence that are not the port: other weights, or an array that was recorded wrongly.

use anyhow::Result;
use compare::dump::Rounding;
use compare::measure::within;
use compare::{Comparison, Measurements, Side};
use record::{Cause, DiffRecord, Errors, Layer, LayerKind, LayerVerdict};

use super::plan::Plan;
use crate::flags::Participant;

/// A relative L2 error that no number format explains.
const GROSS: f64 = 0.1;

/// An error that is this many times as large as the error of a later layer was probably not passed on to that layer.
/// For a gross error, a factor of ten is enough.
const LOST: f64 = 1000.0;
const LOST_IF_GROSS: f64 = 10.0;

/// The probable cause of a divergence, if it is not the port, and the sentence that says why.
///
/// # Errors
///
/// If the truth cannot be run.
pub(super) fn other_than_the_port(
    plan: &Plan,
    comparison: &mut Comparison,
    measured: &Measurements,
    diff: &DiffRecord,
) -> Result<Option<(Cause, String)>> {
    if let Some(why) = rounded(comparison, diff) {
        return Ok(Some((Cause::Recording, why)));
    }
    if let Some(why) = another_clip(plan, diff).or_else(|| own_preprocessing(plan, diff)) {
        return Ok(Some((Cause::Preprocessing, why)));
    }
    if let Some(why) = only_the_array(plan, comparison, measured, diff)? {
        return Ok(Some((Cause::Recording, why)));
    }
    Ok(other_weights(plan, diff).map(|why| (Cause::Weights, why)))
}

/// The first layer with too much own error.
fn first_wrong(diff: &DiffRecord) -> Option<(usize, &Layer)> {
    diff.layers.iter().enumerate().find(|(_, layer)| layer.verdict == LayerVerdict::Diverged)
}

/// The sentence on values that were rounded when they were written, if that explains the error: those of the whole
/// dump, or of one array.
fn rounded(comparison: &Comparison, diff: &DiffRecord) -> Option<String> {
    let Side::Dump(dump) = &comparison.candidate else { return None };
    let (_, layer) = first_wrong(diff)?;
    let errors = layer.introduced.as_ref()?;
    let explains = |rounding: &Rounding| rounding.explains(errors.rel_l2, errors.max_abs);
    if dump.text.map(Rounding::Text).is_some_and(|text| explains(&text)) {
        return Some(
            "Writing the values as text with so few digits changes them by as much as this error."
                .to_owned(),
        );
    }
    let array = dump.get(comparison.model.find(&layer.name)?.id)?;
    let coarse = |rounding: &Rounding| rounding.is_coarser_than(comparison.precision);
    let rounding = Rounding::of(&array).filter(coarse).filter(explains)?;
    Some(format!(
        "The values of {} were rounded to {rounding} when they were written, which changes them by as much as this \
         error.",
        layer.name
    ))
}

/// The sentence on an ONNX file that changes the clip before its first convolution.
fn own_preprocessing(plan: &Plan, diff: &DiffRecord) -> Option<String> {
    let culprit = diff.culprit.as_ref()?;
    let changed = culprit.name == "input" && matches!(plan.candidate, Participant::Onnx(_));
    (changed && culprit.explanation.is_none()).then(|| {
        "The file changes the clip before its first convolution. If it normalises clips, export it without that step: \
         here it is given clips that are normalised."
            .to_owned()
    })
}

/// The sentence on a dump that was made from another clip than the one that was asked for.
fn another_clip(plan: &Plan, diff: &DiffRecord) -> Option<String> {
    let (input, culprit) = (plan.input.as_ref()?, diff.culprit.as_ref()?);
    let unexplained = culprit.name == "input" && culprit.explanation.is_none();
    (plan.recorded() && unexplained).then(|| {
        format!(
            "The clip in the dump is not that of --input {input}, and no known mistake of preprocessing makes one from \
             the other; leave out --input to compare the network on the clip of the dump."
        )
    })
}

fn exceeds(error: f64, limit: f64) -> bool {
    error.is_nan() || error > limit
}

fn is_gross(layer: &Layer) -> bool {
    let large = |errors: &Errors| exceeds(errors.rel_l2, GROSS);
    layer.verdict == LayerVerdict::Diverged && layer.introduced.as_ref().is_some_and(large)
}

/// The sentence on a candidate of which something later is right although a layer is wrong: the port went on with
/// other values than those that it showed.
fn only_the_array(
    plan: &Plan,
    comparison: &mut Comparison,
    measured: &Measurements,
    diff: &DiffRecord,
) -> Result<Option<String>> {
    let Some((at, wrong)) = first_wrong(diff) else { return Ok(None) };
    if matches!(plan.candidate, Participant::Engine(_)) {
        return Ok(None);
    }
    if !plan.recorded() {
        return Ok(moved_behind(diff, at));
    }
    let Some(module) = comparison.model.find(&wrong.name).map(|module| module.id) else {
        return Ok(None);
    };
    let Some(proof) = comparison.disproof(measured, module)? else { return Ok(None) };
    let later = &comparison.model.module(proof.module).name;
    Ok(Some(format!(
        "{later} is right in the whole run; computed from what the dump has of {}, it would be off by {}. So the port \
         went on with other values, and it is the recording of this layer that is wrong: its hook, its layout or a \
         later copy.",
        wrong.name,
        percent(proof.would_be),
    )))
}

/// A relative error in words.
fn percent(error: f64) -> String {
    match 100.0 * error {
        percent if percent.is_nan() => "NaN".to_owned(),
        percent if percent >= 1.0 => format!("{percent:.0} %"),
        percent => format!("{percent:.1e} %"),
    }
}

/// The sentence on a layer of a live model or of a file, of which the rest of the network does not have the error.
fn moved_behind(diff: &DiffRecord, at: usize) -> Option<String> {
    let wrong = &diff.layers[at];
    let error = wrong.inherited.as_ref()?.rel_l2;
    let times = if is_gross(wrong) { LOST_IF_GROSS } else { LOST };
    let right_without_it = |later: &Errors| within(later) && exceeds(error, times * later.rel_l2);
    // Every later block, and the logits, follow from what the layer passes on.
    let follows = |layer: &&Layer| {
        matches!(layer.kind, LayerKind::Block | LayerKind::Linear) && layer.block != wrong.block
    };
    let right = |layer: &&Layer| follows(layer) && layer.inherited.as_ref().is_some_and(within);
    let right = diff.layers[at + 1..].iter().find(right);
    let proof = match right {
        Some(layer) if layer.inherited.as_ref().is_some_and(right_without_it) => &layer.name,
        _ if diff.logits.as_ref().is_some_and(right_without_it) => "the output",
        _ => return None,
    };
    Some(format!(
        "In the whole run {proof} is right, so the port probably goes on with right values after {}, and it is what \
         this module shows that is wrong: an operation may have moved behind it, such as a ReLU.",
        wrong.name
    ))
}

/// Whether the candidate probably has other weights.
pub(super) fn are_other_weights(plan: &Plan, diff: &DiffRecord) -> bool {
    other_weights(plan, diff).is_some()
}

/// The sentence on a candidate of which nearly all convolutions are grossly wrong.
fn other_weights(plan: &Plan, diff: &DiffRecord) -> Option<String> {
    let weighted = |layer: &&Layer| layer.kind == LayerKind::Conv && layer.introduced.is_some();
    let weighted: Vec<&Layer> = diff.layers.iter().filter(weighted).collect();
    let wrong = weighted.iter().filter(|layer| is_gross(layer)).count();
    let explained = diff.culprit.as_ref().is_some_and(|culprit| culprit.explanation.is_some());
    (weighted.len() > 1 && 10 * wrong >= 9 * weighted.len() && !explained).then(|| {
        format!(
            "{wrong} of {} compared convolutions are off by more than {:.0} %: the candidate probably has \
             other weights than {}; give those that it was run with as --weights.",
            weighted.len(),
            100.0 * GROSS,
            plan.source
        )
    })
}
