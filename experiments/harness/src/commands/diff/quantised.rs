//! Adds to a comparison of a quantised ONNX file what its quantisers cost.

use anyhow::{Context, Error, Result};
use compare::Comparison;
use record::{Cause, Culprit, DiffRecord, LayerVerdict, Quantisation, Quantiser, Verdict};
use spec::Tensor;

use super::clips;
use super::plan::Plan;
use crate::engines::onnx;
use crate::flags::{ClipSource, Participant};

/// How the remark begins that says why the quantisers have no verdict.
pub(super) const NOT_JUDGED: &str = "the quantisers were not judged";

/// How the remark begins that says that most quantisers lose precision, although each passes.
pub(super) const COARSE: &str = "the quantisers are coarse";

/// The median quantiser may have this many times the error that its integers must have. A single one may lose more
/// ([`compare::measure::BOUND`]), where this clip fills a part of its range. A file that was calibrated on the ranges
/// of 64 videos has 2.1 on one of them.
const MOST_LOST: f64 = 3.0;

/// So few quantisers may be coarse by chance.
const FEW: usize = 8;

/// Judges the quantisers, if the candidate has any, and adds the result to the record: over all `clips`, if there
/// are any, the worst of each. If the runtime cannot run the quantised file, the comparison of the layers stands,
/// and a pass becomes incomplete.
pub(super) fn add(
    plan: &Plan,
    comparison: &Comparison,
    clips: Option<&ClipSource>,
    diff: &mut DiffRecord,
) {
    let (Participant::Onnx(path), Some(made)) = (&plan.candidate, &plan.requantised) else {
        return;
    };
    let judged = |clip: &Tensor| onnx::judged(&plan.onnx(path), clip, made);
    let found = match clips {
        None => judged(&comparison.input),
        Some(source) => over_clips(plan, comparison, source, &judged),
    };
    let found = match found {
        Ok(found) => found,
        Err(error) => return not_judged(diff, &error),
    };
    diff.remarks.extend(remarks(&found));
    if diff.verdict != Verdict::Diverged
        && let Some(culprit) = culprit(&found)
    {
        diff.verdict = Verdict::Diverged;
        diff.cause = Some(Cause::Quantisation);
        diff.first_divergent = Some(culprit.name.clone());
        diff.culprit = Some(culprit);
    }
    if let Some(remark) = coarse(&found) {
        diff.remarks.push(remark);
        if diff.verdict == Verdict::Pass {
            diff.verdict = Verdict::Incomplete;
        }
    }
    diff.quantisation = Some(found);
}

/// Scales that are too large everywhere are a mistake even if each of them passes.
fn coarse(found: &Quantisation) -> Option<String> {
    let mut ratios: Vec<f64> = found.quantisers.iter().map(|q| q.ratio).collect();
    ratios.sort_by(f64::total_cmp);
    let median = *ratios.get(ratios.len() / 2).filter(|_| ratios.len() >= FEW)?;
    (median > MOST_LOST).then(|| {
        format!(
            "{COARSE}: half of them have at least {median:.1} times the error that as many integers must have on \
             this clip, as with scales that are too large everywhere; calibrate again, or give a clip like those \
             of the calibration with --input"
        )
    })
}

fn over_clips(
    plan: &Plan,
    comparison: &Comparison,
    source: &ClipSource,
    judged: &dyn Fn(&Tensor) -> Result<Quantisation>,
) -> Result<Quantisation> {
    let mut worst: Option<Quantisation> = None;
    for input in source.inputs("--clips")? {
        let found = judged(&clips::clip(comparison, plan, &input, comparison.input.shape[0])?)?;
        worst = Some(match worst {
            Some(before) => worse(before, found),
            None => found,
        });
    }
    worst.context("--clips: there are no inputs")
}

/// The worst of each of two results for the same file.
fn worse(a: Quantisation, b: Quantisation) -> Quantisation {
    let larger = |a: f64, b: f64| b.is_nan() || b > a;
    let failed = |verdict: LayerVerdict| verdict == LayerVerdict::Diverged;
    let quantiser = |(a, b): (Quantiser, Quantiser)| {
        let b_is = (failed(b.verdict), larger(a.ratio, b.ratio)) > (failed(a.verdict), false);
        if b_is { b } else { a }
    };
    let kernels = match (a.kernels, b.kernels) {
        (Some(a), Some(b)) => Some(if larger(a.ratio, b.ratio) { b } else { a }),
        (a, b) => a.or(b),
    };
    let (logits, cosine) = match larger(a.logits, b.logits) {
        true => (b.logits, b.cosine),
        false => (a.logits, a.cosine),
    };
    Quantisation {
        quantisers: a.quantisers.into_iter().zip(b.quantisers).map(quantiser).collect(),
        same_class: a.same_class && b.same_class,
        kernels,
        logits,
        cosine,
        ..a
    }
}

fn not_judged(diff: &mut DiffRecord, error: &Error) {
    diff.remarks.push(format!("{NOT_JUDGED}: {error:#}"));
    if diff.verdict == Verdict::Pass {
        diff.verdict = Verdict::Incomplete;
    }
}

/// The first quantiser that is not fit for its values, or else the runtime's integer kernels.
fn culprit(found: &Quantisation) -> Option<Culprit> {
    let bad = found.quantisers.iter().find(|q| q.verdict == LayerVerdict::Diverged);
    let kernels = found.kernels.as_ref().filter(|k| k.verdict == LayerVerdict::Diverged);
    let (name, text) = match (bad, kernels) {
        (Some(q), _) => (q.module.clone().unwrap_or_else(|| q.value.clone()), blame(q)),
        (None, Some(kernels)) => (
            "fc".to_owned(),
            format!(
                "the runtime's integer kernels compute other logits than the file states: relative L2 {:.1e}, \
                 {:.1} times the error of quantisation; without VNNI, 8-bit products of full range overflow \
                 (quantise with reduce_range=True)",
                kernels.logits, kernels.ratio
            ),
        ),
        (None, None) => return None,
    };
    Some(Culprit { name, text, ..Culprit::default() })
}

fn blame(q: &Quantiser) -> String {
    let place = match &q.module {
        Some(module) => format!("the output of {module}"),
        None => format!("`{}`", q.value),
    };
    let why = match q.clipped > 0.01 {
        true => format!("{:.1} % of the values are beyond its range", 100.0 * q.clipped),
        false => format!("the values reach {:.1} % of its range", 100.0 * q.used),
    };
    format!(
        "the quantiser of {place} has {:.0} times the error that {} integers must have on this clip: {why}; if \
         the file was calibrated on other data, give a clip like it with --input",
        q.ratio, q.levels
    )
}

fn remarks(found: &Quantisation) -> Vec<String> {
    let failed = found.quantisers.iter().filter(|q| q.verdict == LayerVerdict::Diverged).count();
    let worst = found.quantisers.iter().max_by(|a, b| a.error.total_cmp(&b.error));
    let worst = worst.map_or(String::new(), |q| {
        let place = q.module.as_deref().unwrap_or(&q.value);
        format!(", the largest error {:.1e} at {place}", q.error)
    });
    let class = if found.same_class { "the same class" } else { "another class" };
    let weights = match found.weights_beyond {
        0 => "all of them what rounding the checkpoint gives".to_owned(),
        n => format!("{n} of them not what rounding the checkpoint gives"),
    };
    let mut remarks = vec![
        format!(
            "the file is quantised: {} weights are integers, {weights}; the layers were compared without the {} \
             quantisers of activations, with the reference's weights rounded in the same way",
            found.weights,
            found.quantisers.len()
        ),
        format!(
            "the quantisers change the logits by relative L2 {:.1e} (cosine {:.6}, {class}); {failed} of them \
             fail{worst}",
            found.logits, found.cosine
        ),
    ];
    remarks.extend(found.kernels.as_ref().map(|kernels| {
        format!(
            "the runtime's integer kernels and the file's arithmetic differ by relative L2 {:.1e}, {:.2} times \
             the error of quantisation; 4 or less passes",
            kernels.logits, kernels.ratio
        )
    }));
    remarks
}
