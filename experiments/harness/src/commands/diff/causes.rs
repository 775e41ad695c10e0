//! Causes of a divergence that are not the port: other weights, or an array that was recorded wrongly.

use compare::dump::Text;
use compare::faults::ModelGraph;
use compare::measure::passes;
use record::{Cause, DiffRecord, Errors, Layer, LayerKind, LayerVerdict};
use spec::Precision;

use super::plan::Plan;
use crate::flags::Participant;

/// A relative L2 error that no number format explains.
const GROSS: f64 = 0.1;

/// An error that is this many times as large as the error of a later layer was not passed on to that layer. For a
/// gross error, a factor of ten is enough.
const LOST: f64 = 1000.0;
const LOST_IF_GROSS: f64 = 10.0;

/// The probable cause of a divergence, if it is not the port, and the sentence that says why.
pub(super) fn other_than_the_port(
    plan: &Plan,
    diff: &DiffRecord,
    (text, precision): (Option<Text>, Precision),
) -> Option<(Cause, String)> {
    if let Some(why) = rounded_by_text(diff, text) {
        return Some((Cause::Recording, why));
    }
    if let Some(why) = another_clip(plan, diff).or_else(|| own_preprocessing(plan, diff)) {
        return Some((Cause::Preprocessing, why));
    }
    let weights = || Some((Cause::Weights, other_weights(plan, diff)?));
    let recording = || Some((Cause::Recording, only_the_array(plan, diff, precision)?));
    recording().or_else(weights)
}

/// The sentence on a dump whose values were rounded when they were written as text, if that explains the error.
fn rounded_by_text(diff: &DiffRecord, text: Option<Text>) -> Option<String> {
    let layer = diff.layers.iter().find(|layer| layer.verdict == LayerVerdict::Diverged)?;
    let errors = layer.introduced.as_ref()?;
    text?.explains(errors.rel_l2, errors.max_abs).then(|| {
        "Writing the values as text with so few digits changes them by as much as this error."
            .to_owned()
    })
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

/// The sentence on a candidate of which something later is right although a layer is wrong: the port probably
/// went on with other values than those that it showed.
fn only_the_array(plan: &Plan, diff: &DiffRecord, precision: Precision) -> Option<String> {
    let at = diff.layers.iter().position(|layer| layer.verdict == LayerVerdict::Diverged)?;
    let wrong = &diff.layers[at];
    let right = |errors: &Errors| passes(errors.ratio) && errors.nan == 0;
    // A layer that is right for the wrong values before it, and wrong for the right ones, was given the wrong ones.
    let given_wrong = |layer: &Layer| {
        layer.introduced.as_ref().is_some_and(right) && layer.inherited.is_some_and(|e| !right(&e))
    };
    if matches!(plan.candidate, Participant::Engine(_)) && !plan.recorded() {
        return None;
    }
    if plan.recorded() {
        // In a half format a later error may be allowed although the wrong values caused it.
        let coarse = matches!(precision, Precision::Bf16 | Precision::F16);
        let read_by = if coarse { readers(plan, diff, wrong) } else { vec![] };
        let computed_from_it = !read_by.is_empty() && read_by.iter().all(right);
        if computed_from_it || diff.layers[at + 1..].iter().any(given_wrong) {
            return None;
        }
    }
    let error = wrong.inherited.as_ref()?.rel_l2;
    let times = if is_gross(wrong) { LOST_IF_GROSS } else { LOST };
    let lost = |later: Errors| exceeds(error, times * later.rel_l2);
    // Every later block, and the logits, follow from what the layer passes on.
    let follows = |layer: &&Layer| {
        matches!(layer.kind, LayerKind::Block | LayerKind::Linear) && layer.block != wrong.block
    };
    let mut later = diff.layers[at + 1..].iter().filter(follows);
    let later = later.find_map(|layer| Some((layer, layer.inherited.filter(right)?)));
    let proof = match (later, diff.logits.filter(right)) {
        (Some((layer, errors)), _) if lost(errors) => layer.name.as_str(),
        (_, Some(logits)) if lost(logits) => "the output",
        _ => return None,
    };
    let what = match plan.recorded() {
        true => "the recording of it that is wrong: its hook, its layout or a later copy",
        false => {
            "what this module shows that is wrong: an operation may have moved behind it, such as a ReLU"
        }
    };
    Some(format!(
        "In the whole run {proof} is right, so the port probably goes on with right values after {}, and it is {what}.",
        wrong.name
    ))
}

/// The own errors of the compared modules that read a layer, or read what is computed from it without being
/// compared: from the values of a wrong recording, they seem wrong themselves.
fn readers(plan: &Plan, diff: &DiffRecord, wrong: &Layer) -> Vec<Errors> {
    let graph = ModelGraph::new(&plan.model);
    let Some(module) = plan.model.find(&wrong.name) else { return vec![] };
    let own = |name: &str| diff.layers.iter().find(|layer| layer.name == name)?.introduced;
    let (mut found, mut seen) = (vec![], vec![]);
    let mut queue = graph.readers(module.id).to_vec();
    while let Some(id) = queue.pop() {
        if seen.contains(&id) {
            continue;
        }
        seen.push(id);
        match own(&plan.model.module(id).name) {
            Some(errors) => found.push(errors),
            None => queue.extend(graph.readers(id)),
        }
    }
    found
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
