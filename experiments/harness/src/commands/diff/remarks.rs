//! The remarks below a verdict: the inputs that were used, what was found out about the dump, and how its
//! arrays were read.

use checkpoint::Source;
use record::{
    ArrayState, DiffRecord, Errors, Layer, LayerKind, LayerVerdict, LedgerEntry, Verdict,
};
use spec::Precision;

use super::plan::Plan;
use compare::dump::{Dump, summary};
use compare::measure::passes;
use compare::{Comparison, Measurements, Side, readings};

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
    }
    if let Some(dump) = recorded.or(comparison.reference.as_ref()) {
        remarks.extend(of_dump(plan, dump, comparison.precision));
    }
    remarks.extend(plan.names.remarks.iter().cloned());
    remarks.extend(unknown_names(plan, &diff.ledger));
    remarks.extend(readings::in_words(&comparison.model, &measured.readings));
    if diff.verdict == Verdict::Diverged {
        remarks.extend(only_the_array(diff, recorded.is_some()));
        remarks.extend(hints(plan, diff, recorded.is_some()));
    }
    remarks
}

/// One line with the weights, the clip, the classes and the precision.
fn used(plan: &Plan, comparison: &Comparison, diff: &DiffRecord) -> String {
    let head = match &comparison.model.fc {
        Some(fc) => format!("{} classes", fc.out_features),
        None => "no classifier".to_owned(),
    };
    format!(
        "weights {}, input {}, {head}, judged in {}",
        plan.source, diff.run.input, comparison.precision
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

/// A relative L2 error that no number format explains.
const GROSS: f64 = 0.1;

fn is_gross(layer: &Layer) -> bool {
    let large = |errors: &Errors| errors.rel_l2.is_nan() || errors.rel_l2 > GROSS;
    layer.verdict == LayerVerdict::Diverged && layer.introduced.as_ref().is_some_and(large)
}

/// The remark on a dump whose logits are right although a layer is grossly wrong: the port probably went on with
/// other values than those that were recorded.
fn only_the_array(diff: &DiffRecord, recorded: bool) -> Option<String> {
    let right = diff.logits.as_ref().is_some_and(|logits| passes(logits.ratio) && logits.nan == 0);
    let wrong = diff.layers.iter().find(|layer| layer.verdict == LayerVerdict::Diverged)?;
    (recorded && right && is_gross(wrong)).then(|| {
        format!(
            "the logits are right, so the port probably went on with right values, and it is the recording of \
             {} that is wrong: its hook, its layout or a later copy",
            wrong.name
        )
    })
}

/// A hint for a divergence: a dump is often compared with other weights than those of the port.
fn hints(plan: &Plan, diff: &DiffRecord, recorded: bool) -> Option<String> {
    let weighted = |layer: &&Layer| layer.kind == LayerKind::Conv && layer.introduced.is_some();
    let weighted: Vec<&Layer> = diff.layers.iter().filter(weighted).collect();
    let wrong = weighted.iter().filter(|layer| is_gross(layer)).count();
    let weights = &plan.source;
    let explained = diff.culprit.as_ref().is_some_and(|culprit| culprit.explanation.is_some());
    if weighted.len() > 1 && 10 * wrong >= 9 * weighted.len() && !explained {
        return Some(format!(
            "{wrong} of {} compared convolutions are off by more than {:.0} %: the candidate probably has \
             other weights than {weights}; give those that it was run with as --weights",
            weighted.len(),
            100.0 * GROSS
        ));
    }
    let reproducible = matches!(plan.source, Source::Formula(_));
    (recorded && reproducible).then(|| {
        format!(
            "the weights were {weights}; if the port has trained ones, give its checkpoint with \
             --weights"
        )
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
