//! The remarks below a verdict: the inputs that were used, what was found out about the dump, and how its
//! arrays were read.

use checkpoint::Source;
use record::{ArrayState, DiffRecord, Layer, LayerVerdict, LedgerEntry, Verdict};
use spec::{Kind, Model, Module, Precision};

use super::causes;
use super::plan::Plan;
use compare::dump::{Dump, Rounding, Text, summary};
use compare::measure::within;
use compare::{Alike, Comparison, Measurements, Side, Tiles, readings};

/// The remarks of a comparison, one sentence each.
pub(super) fn remarks(
    plan: &Plan,
    comparison: &Comparison,
    measured: &Measurements,
    diff: &DiffRecord,
) -> Vec<String> {
    let mut remarks = vec![used(plan, comparison, diff)];
    if !diff.ledger.is_empty() {
        remarks.push(summary(&diff.ledger));
    }
    let recorded = match &comparison.candidate {
        Side::Dump(dump) => Some(dump),
        Side::Engine(_) => None,
    };
    if let Side::Engine(engine) = &comparison.candidate {
        remarks.extend(engine.notes());
        remarks.extend(contradiction(comparison));
    }
    if let Some(dump) = recorded.or(comparison.reference.as_ref()) {
        remarks.extend(of_dump(plan, dump, comparison.precision));
        remarks.extend(dump.text.map(of_text));
        remarks.extend(stacked(dump, &comparison.model));
    }
    remarks.extend(without_effect(plan, diff));
    remarks.extend((comparison.tiles == Tiles::Six).then(|| LARGE_TILES.to_owned()));
    remarks.extend(coarse(comparison, measured));
    remarks.extend(unproven(&diff.layers));
    remarks.extend(silent(comparison, measured, &diff.layers));
    remarks.extend(unknown_weights(plan, comparison, measured));
    remarks.extend(plan.names.remarks.iter().cloned());
    remarks.extend(unknown_names(plan, &diff.ledger));
    remarks.extend(measured.alike.iter().map(alike));
    remarks.extend(readings::in_words(&comparison.model, &measured.readings));
    if diff.verdict == Verdict::Diverged && recorded.is_some() {
        remarks.extend(trained_weights(plan));
    }
    remarks
}

/// What a reader must know where the larger errors of F(6x6) are allowed.
const LARGE_TILES: &str = "many 3x3 convolutions have errors such as those of Winograd's algorithm in tiles of 6x6, \
    which is allowed its larger rounding error; the comparison is stricter with a dump that was made without it \
    (in ncnn: use_winograd63_convolution = False)";

/// A planted mistake that was not seen.
fn without_effect(plan: &Plan, diff: &DiffRecord) -> Option<String> {
    let fault = plan.inject.as_ref().filter(|_| diff.verdict == Verdict::Pass)?;
    Some(format!(
        "--inject {fault}: the planted mistake changes no compared value by more than rounding does"
    ))
}

/// How large a mistake in one layer may be that a half format hides.
fn coarse(comparison: &Comparison, measured: &Measurements) -> Option<String> {
    if !matches!(comparison.precision, Precision::Bf16 | Precision::F16) {
        return None;
    }
    let weighted = |module: &&Module| matches!(module.kind, Kind::Conv | Kind::Linear);
    let modules = comparison.model.modules().iter().filter(weighted);
    let passes = modules.filter_map(|m| Some((measured.layers[m.id.0].budget?.passes_up_to(), m)));
    let mut allowed: Vec<(f64, &Module)> = passes.filter(|(error, _)| *error > 0.0).collect();
    allowed.sort_by(|a, b| a.0.total_cmp(&b.0));
    let [(least, _), .., (most, module)] = allowed[..] else { return None };
    let name = &module.name;
    Some(format!(
        "in {} an own error of {:.1} % passes in every convolution, and {:.1} % in {name}: smaller mistakes, such as a \
         wrong scale or a missing bias, only show in float32",
        comparison.precision,
        100.0 * least,
        100.0 * most
    ))
}

/// What the verdict on two dumps says if the reference is not the network.
fn unknown_weights(
    plan: &Plan,
    comparison: &Comparison,
    measured: &Measurements,
) -> Option<String> {
    let wrong = measured.wrong_reference.filter(|_| !measured.right_candidate)?;
    if causes::another_clip_of_both(plan, comparison, measured).is_some() {
        return None;
    }
    let place = &comparison.model.module(wrong.first).name;
    let not_the_network = format!(
        "the reference does not compute what the network does with the weights {}, first in {place}",
        plan.source
    );
    if measured.wrong_candidate.is_some_and(|candidate| !candidate.weights && !wrong.weights) {
        return Some(not_the_network);
    }
    if let (true, Some(clip)) = (wrong.of_clip, &plan.input) {
        return Some(format!(
            "{not_the_network}, and nowhere else; so both sides were probably made from another clip than --input {clip}: \
             give the one that they were made from"
        ));
    }
    Some(format!(
        "{not_the_network}; so it was only compared whether the two sides agree, not whether they are right: give the \
         weights of both as --weights"
    ))
}

/// Why layers that have values on both sides do not count as compared.
fn unproven(layers: &[Layer]) -> Option<String> {
    let here =
        |layer: &&Layer| layer.verdict == LayerVerdict::NotCompared && layer.inherited.is_some();
    let mut found = layers.iter().filter(here);
    let first = found.next()?;
    let more = match found.count() {
        0 => String::new(),
        more => format!(" and {}", reports::count(more, "other layer")),
    };
    Some(format!("not compared: {}{more}: {}", first.name, first.note.as_ref()?))
}

/// The layers with weights that count as compared, although the reference holds one value everywhere there.
fn silent(comparison: &Comparison, measured: &Measurements, layers: &[Layer]) -> Option<String> {
    let here = |layer: &&Layer| {
        let module = comparison.model.find(&layer.name);
        let silent = module.is_some_and(|m| m.kind.has_weights() && measured.layers[m.id.0].silent);
        silent && layer.verdict == LayerVerdict::Pass
    };
    let found: Vec<&Layer> = layers.iter().filter(here).collect();
    let first = &found.first()?.name;
    let more = match found.len() - 1 {
        0 => String::new(),
        more => format!(" and in {}", reports::count(more, "other layer")),
    };
    Some(format!(
        "the reference holds one value everywhere in {first}{more}, so that many mistakes there do not show with these \
         weights"
    ))
}

/// A dump is often compared with other weights than those of the port.
pub(super) fn trained_weights(plan: &Plan) -> Option<String> {
    let weights = &plan.source;
    matches!(weights, Source::Formula(_)).then(|| {
        format!(
            "the weights were {weights}; if the port has trained ones, give its checkpoint with \
             --weights"
        )
    })
}

/// One line with the weights, the clip, the classes and the precision.
fn used(plan: &Plan, comparison: &Comparison, diff: &DiffRecord) -> String {
    let head = match &comparison.model.fc {
        Some(fc) => format!("{} classes", fc.out_features),
        None => "no classifier".to_owned(),
    };
    format!(
        "weights {}, input {}, {head}, judged in {}",
        plan.weights_in_words(),
        diff.run.input,
        comparison.precision
    )
}

/// The remark on a dump whose values went through text.
fn of_text(text: Text) -> String {
    let digits = Rounding::Text(text);
    format!(
        "nearly all values of the dump have at most {digits}, so they were rounded when they were written as text: \
         save them in binary, or with nine digits (%.9g; %.17g for float64)"
    )
}

fn of_dump(plan: &Plan, dump: &Dump, precision: Precision) -> Option<String> {
    let (format, count, total) = dump.format;
    let judged = match plan.precision {
        Some(asked) if asked != format => {
            format!("judged in {precision}, as --precision asks")
        }
        _ => format!("judged in {precision}"),
    };
    Some(format!(
        "the dump: batch {}, maps {}, {count} of {total} arrays hold {format} values, {judged}",
        dump.batch, dump.order
    ))
}

/// How the remark begins on what the candidate states otherwise than the network, although its values agree.
pub(super) const CONTRADICTS: &str = "the candidate contradicts the network";

/// What the candidate states otherwise, in words.
pub(super) fn contradiction(comparison: &Comparison) -> Option<String> {
    let Side::Engine(engine) = &comparison.candidate else { return None };
    Some(format!("{CONTRADICTS}, whether or not the values show it: {}", engine.contradiction()?))
}

/// How a clip was read whose shape does not tell the order of its channels.
fn stacked(dump: &Dump, model: &Model) -> Option<String> {
    let shape = dump.stacked_clip(model)?;
    Some(format!(
        "the clip {shape:?} was read with channel colour * T + frame; if your port stacks frame * 3 + colour, save \
         the clip before it is stacked, as [N, 3, T, H, W]"
    ))
}

/// The remark on an array of an unknown name that may be the output.
fn alike(found: &Alike) -> String {
    let array = &found.array;
    let other = format!(
        "differs from them (relative L2 {:.1e}): if your program returns it, have it judged with --map and the line \
         `{array} = fc`",
        found.errors.rel_l2
    );
    let words = match (within(&found.errors), found.probabilities) {
        (true, _) => "agrees with them",
        (_, true) => "holds their softmax",
        _ => &other,
    };
    format!("the array `{array}`, whose name is unknown, has the shape of the logits and {words}")
}

/// The flags that help if most names of a dump are unknown.
fn unknown_names(plan: &Plan, ledger: &[LedgerEntry]) -> Option<String> {
    let unknown =
        ledger.iter().filter(|entry| entry.state == ArrayState::Unknown && entry.detail.is_none());
    (unknown.count() * 2 > ledger.len() && plan.names.written.is_none()).then(|| {
        "most names of the dump are unknown: --suggest-map matches its arrays by their values, and \
         --map FILE takes your own list of names"
            .to_owned()
    })
}

/// The remark that tells how to compare a second dump, of frames of another size.
pub(super) fn second_dump(size: &str) -> String {
    format!(
        "a second dump at {size} exercises more mistakes: make it with --size {size}, then run harness \
         diff --candidate npz:SECOND.npz --size {size} (with the other flags as here)"
    )
}

/// The same for an ONNX file, whose frame size is fixed.
pub(super) fn second_file(size: &str) -> String {
    format!(
        "a file exported at {size} exercises more mistakes: run harness diff --candidate onnx:SECOND.onnx \
         --size {size} (with the other flags as here)"
    )
}
