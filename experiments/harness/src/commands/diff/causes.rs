//! Causes of a divergence that are not the port: other weights, or an array that was recorded wrongly.

use anyhow::Result;
use compare::dump::Rounding;
use compare::judge::stands_alone;
use compare::measure::within;
use compare::{Comparison, GROSS, Measurements, Onward, Side, Wrong, are_nearly_all, exceeds};
use record::{Cause, DiffRecord, Errors, Layer, LayerKind, LayerVerdict};
use spec::{Model, ModuleId, Precision};

use super::plan::Plan;
use super::stored;
use crate::flags::{InputSource, Participant};

/// An error that is this many times as large as the error of a later layer was probably not passed on to that layer.
/// For a gross error, a factor of ten is enough.
const LOST: f64 = 1000.0;
const LOST_IF_GROSS: f64 = 10.0;

/// The largest number of modules behind a wrong recording that are tried. For each of them the truth runs twice.
const MOST_TRIED: usize = 4;

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
    let first = first_wrong(diff);
    if let Some(why) = first.and_then(|(_, layer)| rounded_by_text(comparison, layer)) {
        return Ok(Some((Cause::Recording, why)));
    }
    if let Some(why) = another_clip(plan, diff).or_else(|| own_preprocessing(plan, diff)) {
        return Ok(Some((Cause::Preprocessing, why)));
    }
    if first.is_some()
        && let Some(why) = stored::in_half_precision(plan, comparison, diff)?
    {
        return Ok(Some((Cause::Weights, why)));
    }
    if let Some((at, layer)) = first {
        let found = match &comparison.candidate {
            Side::Dump(_) => of_later_values(comparison, measured, layer)?,
            Side::Engine(_) if matches!(plan.candidate, Participant::Engine(_)) => None,
            Side::Engine(_) => {
                moved_behind(diff, at, comparison.precision).map(|why| (Cause::Recording, why))
            }
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(other_weights(plan, diff).map(|why| (Cause::Weights, why)))
}

/// The first layer with too much own error.
fn first_wrong(diff: &DiffRecord) -> Option<(usize, &Layer)> {
    diff.layers.iter().enumerate().find(|(_, layer)| layer.verdict == LayerVerdict::Diverged)
}

/// The modules behind the first wrong layer, whose recording is wrong, that are wrong whatever was recorded there.
pub(super) fn wrong_besides(
    model: &Model,
    measured: &Measurements,
    diff: &DiffRecord,
) -> Vec<ModuleId> {
    let Some((first, _)) = first_wrong(diff) else { return vec![] };
    let wrong = diff.layers[first + 1..].iter().filter(|l| l.verdict == LayerVerdict::Diverged);
    let ids = wrong.filter_map(|layer| Some(model.find(&layer.name)?.id));
    ids.filter(|id| stands_alone(model, *id, &measured.layers)).collect()
}

/// The first of some modules at which the port is wrong, and not only what was recorded.
///
/// # Errors
///
/// If the truth cannot be run.
pub(super) fn mistake(
    comparison: &mut Comparison,
    measured: &Measurements,
    wrong: &[ModuleId],
) -> Result<Option<ModuleId>> {
    for id in wrong.iter().take(MOST_TRIED) {
        let gross = measured.layers[id.0].introduced.is_some_and(|e| exceeds(e.rel_l2, GROSS));
        let end = measured.layers[id.0 + 1..].iter().all(|layer| layer.inherited.is_none());
        match comparison.onward(measured, *id)? {
            Onward::Here => return Ok(Some(*id)),
            // A small error of the output may come from how it was written.
            Onward::Unknown if end && gross => return Ok(Some(*id)),
            _ => {}
        }
    }
    Ok(None)
}

/// The sentence on a dump whose values were rounded when they were written as text, if that explains the error.
fn rounded_by_text(comparison: &Comparison, layer: &Layer) -> Option<String> {
    let Side::Dump(dump) = &comparison.candidate else { return None };
    let errors = layer.introduced.as_ref()?;
    dump.text?.explains(errors.rel_l2, errors.max_abs).then(|| {
        "Writing the values as text with so few digits changes them by as much as this error."
            .to_owned()
    })
}

/// How one array was rounded, if that explains its error.
fn rounding(comparison: &Comparison, layer: &Layer, id: ModuleId) -> Option<Rounding> {
    let Side::Dump(dump) = &comparison.candidate else { return None };
    let errors = layer.introduced.as_ref()?;
    let rounding = Rounding::of(&dump.get(id)?)?;
    let explains = rounding.explains(errors.rel_l2, errors.max_abs);
    (explains && rounding.is_coarser_than(comparison.precision)).then_some(rounding)
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

/// The clip that was asked for, if two dumps that agree on their clip were made from another one.
pub(super) fn another_clip_of_both<'a>(
    plan: &'a Plan,
    comparison: &Comparison,
    measured: &Measurements,
) -> Option<&'a InputSource> {
    let at_clip = |wrong: Wrong| wrong.first == comparison.model.input;
    let both = measured.wrong_reference.is_some_and(at_clip)
        && !measured.right_candidate
        && measured.wrong_candidate.is_none_or(at_clip);
    let dumps = [&plan.candidate, &plan.reference].into_iter().all(|side| side.dump().is_some());
    plan.input.as_ref().filter(|_| dumps && both)
}

fn is_gross(layer: &Layer) -> bool {
    let large = |errors: &Errors| exceeds(errors.rel_l2, GROSS);
    layer.verdict == LayerVerdict::Diverged && layer.introduced.as_ref().is_some_and(large)
}

/// What later values of a dump tell about the cause of an array that is wrong: the recording, if the port went on with
/// other values.
fn of_later_values(
    comparison: &mut Comparison,
    measured: &Measurements,
    layer: &Layer,
) -> Result<Option<(Cause, String)>> {
    let Some(id) = comparison.model.find(&layer.name).map(|module| module.id) else {
        return Ok(None);
    };
    let rounding = rounding(comparison, layer, id);
    let name = &layer.name;
    let written = |rounding| {
        format!("The values of {name} were rounded to {rounding} when they were written")
    };
    let why = match (comparison.onward(measured, id)?, rounding) {
        (Onward::Changed(right, wrong), _) => {
            let [right, wrong] = [right, wrong].map(|id| &comparison.model.module(id).name);
            let why = format!(
                "{right}, which reads it, is right, and {wrong}, which reads it as well, is not: the port probably \
                 changes it in between, in place."
            );
            return Ok(Some((Cause::Port, why)));
        }
        (Onward::Elsewhere(..), Some(rounding)) => Some(format!(
            "{}, which changes them by as much as this error; the port went on with other values.",
            written(rounding)
        )),
        (Onward::Elsewhere(later, own, error), None) => {
            let later = &comparison.model.module(later).name;
            let error = match error.is_nan() {
                true => "hold NaN".to_owned(),
                false => format!("be off by {}", percent(error)),
            };
            let own = match own {
                Some(own) => format!("off by only {}", percent(own)),
                None => "right".to_owned(),
            };
            Some(format!(
                "{later} is {own} in the whole run; computed from what the dump has of {name}, it would {error}. \
                 So the port went on with other values, and it is the recording of this layer that is wrong: \
                 its hook, its layout or a later copy."
            ))
        }
        // Nobody computes in decimal digits.
        (Onward::Unknown, Some(rounding @ Rounding::Text(_))) => {
            Some(format!("{}, which changes them by as much as this error.", written(rounding)))
        }
        _ => None,
    };
    Ok(why.map(|why| (Cause::Recording, why)))
}

/// A relative error in words.
fn percent(error: f64) -> String {
    match 100.0 * error {
        percent if percent >= 1.0 => format!("{percent:.0} %"),
        percent => format!("{percent:.1e} %"),
    }
}

/// The sentence on a layer of a live model or of a file, of which the rest of the network does not have the error.
fn moved_behind(diff: &DiffRecord, at: usize, precision: Precision) -> Option<String> {
    let wrong = &diff.layers[at];
    let error = wrong.inherited.as_ref()?.rel_l2;
    // In a half format much is allowed, so that a later layer may pass although it follows from the wrong one.
    let coarse = matches!(precision, Precision::Bf16 | Precision::F16);
    let times = if is_gross(wrong) && !coarse { LOST_IF_GROSS } else { LOST };
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

/// The sentence on a candidate of which nearly all convolutions are grossly wrong.
fn other_weights(plan: &Plan, diff: &DiffRecord) -> Option<String> {
    let weighted = |layer: &&Layer| layer.kind == LayerKind::Conv && layer.introduced.is_some();
    let weighted: Vec<&Layer> = diff.layers.iter().filter(weighted).collect();
    let wrong = weighted.iter().filter(|layer| is_gross(layer)).count();
    let explained = diff.culprit.as_ref().is_some_and(|culprit| culprit.explanation.is_some());
    (are_nearly_all(wrong, weighted.len()) && !explained).then(|| {
        format!(
            "{wrong} of {} compared convolutions are off by more than {:.0} %: the candidate probably has \
             other weights than {}; give those that it was run with as --weights.",
            weighted.len(),
            100.0 * GROSS,
            plan.source
        )
    })
}
