//! The head of a comparison's page: the verdict in words and the numbers behind it.

use minijinja::value::Value;
use serde::Serialize;

use crate::format::{count, escape, short, words, wrapping};
use record::{Culprit, DiffRecord, Layer, LayerKind, LayerVerdict, Quantisation, Verdict};

/// The verdict, its explanation and the key numbers of a comparison.
#[derive(Serialize)]
pub(super) struct Summary {
    verdict: &'static str,
    mark: &'static str,
    word: &'static str,
    sentence: String,
    first_divergent: Option<String>,
    explanation: Option<String>,
    /// The known mistakes that explain the divergence.
    fitting: Vec<HypothesisView>,
    /// Those that were tried and do not.
    failing: Vec<HypothesisView>,
    facts: Vec<Fact>,
    candidate: String,
    reference: String,
    yardstick: String,
}

/// A known mistake that was tried as an explanation.
#[derive(Serialize)]
struct HypothesisView {
    what: String,
    ratio: String,
    fits: bool,
}

/// A key number with its label and a remark.
#[derive(Serialize)]
struct Fact {
    label: &'static str,
    value: String,
    /// Safe markup: texts from the record are escaped.
    remark: Value,
    bad: bool,
}

/// Number of layers by outcome.
struct Counts {
    compared: usize,
    covered: usize,
    missing: usize,
    diverged: usize,
}

/// Builds the summary of a comparison.
pub(super) fn of(diff: &DiffRecord) -> Summary {
    let counts = Counts::of(&diff.layers);
    let (mark, word) = heading(diff.verdict);
    let tried = diff.culprit.as_ref().map(hypotheses).unwrap_or_default();
    let (fitting, failing) = tried.into_iter().partition(|hypothesis| hypothesis.fits);
    Summary {
        verdict: diff.verdict.as_str(),
        mark,
        word,
        sentence: sentence(diff, &counts),
        first_divergent: diff.first_divergent.clone(),
        explanation: diff.culprit.as_ref().and_then(|culprit| culprit.explanation.clone()),
        fitting,
        failing,
        facts: facts(diff, &counts),
        candidate: diff.run.candidate.clone(),
        reference: diff.run.reference.clone(),
        yardstick: diff.run.yardstick.clone(),
    }
}

impl Counts {
    fn of(layers: &[Layer]) -> Self {
        let number = |verdict| layers.iter().filter(|layer| layer.verdict == verdict).count();
        let (covered, missing) = (number(LayerVerdict::Covered), number(LayerVerdict::NotCompared));
        Counts {
            compared: layers.len() - covered - missing,
            covered,
            missing,
            diverged: number(LayerVerdict::Diverged),
        }
    }
}

fn heading(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Pass => ("✓", "Pass"),
        Verdict::Diverged => ("✗", "Diverged"),
        Verdict::Incomplete => ("?", "Incomplete"),
    }
}

/// The verdict in one sentence.
fn sentence(diff: &DiffRecord, counts: &Counts) -> String {
    match (diff.verdict, &diff.culprit) {
        (Verdict::Diverged, Some(culprit)) => culprit.text.clone(),
        (Verdict::Diverged, None) => match &diff.first_divergent {
            Some(name) => format!("first divergent layer: {name}"),
            None => "the candidate is above the bound".to_owned(),
        },
        (Verdict::Pass, _) => format!(
            "every layer passes: no own error is more than {} times the allowed rounding error",
            diff.bound
        ),
        (Verdict::Incomplete, _) => format!(
            "no compared layer is above the bound, but {} not compared",
            layers_were(counts.missing)
        ),
    }
}

/// `1 layer was`, `2 layers were`.
fn layers_were(number: usize) -> String {
    let verb = if number == 1 { "was" } else { "were" };
    format!("{} {verb}", count(number, "layer"))
}

fn hypotheses(culprit: &Culprit) -> Vec<HypothesisView> {
    let view = |h: &record::Hypothesis| HypothesisView {
        what: h.what.clone(),
        ratio: short(h.ratio),
        fits: h.fits,
    };
    culprit.hypotheses.iter().map(view).collect()
}

fn facts(diff: &DiffRecord, counts: &Counts) -> Vec<Fact> {
    let quantisers = diff.quantisation.as_ref().map(quantisers);
    let all = [
        Some(compared(counts)),
        Some(worst_layer(diff)),
        Some(logits(diff)),
        quantisers,
        Some(time(diff)),
    ];
    all.into_iter().flatten().collect()
}

fn compared(counts: &Counts) -> Fact {
    let total = counts.compared + counts.covered + counts.missing;
    let missing = match counts.missing {
        0 => "none missing".to_owned(),
        number => format!("{number} not compared"),
    };
    let diverged = match counts.diverged {
        0 => String::new(),
        number => format!("{number} diverged, "),
    };
    Fact {
        label: "Layers compared",
        value: format!("{} of {total}", counts.compared),
        remark: text(&format!("{diverged}{} checked through the next, {missing}", counts.covered)),
        bad: counts.diverged > 0 || counts.missing > 0,
    }
}

/// The layer with the largest error ratio of its own error, where NaN counts as larger than any number.
fn worst_layer(diff: &DiffRecord) -> Fact {
    let measured = diff.layers.iter().filter_map(|l| Some((l, l.introduced?.ratio)));
    let larger = |a: f64, b: f64| !a.is_nan() && (b.is_nan() || b > a);
    let worst = measured.reduce(|a, b| if larger(a.1, b.1) { b } else { a });
    let label = "Worst own error / allowed";
    match worst {
        Some((layer, ratio)) => Fact {
            label,
            value: short(ratio),
            remark: Value::from_safe_string(format!(
                "<span class=\"path\">{}</span>; the bound is {}",
                wrapping(&layer.name),
                diff.bound
            )),
            bad: !within(ratio, diff.bound),
        },
        None => Fact { label, value: "–".to_owned(), remark: text("not measured"), bad: false },
    }
}

fn text(words: &str) -> Value {
    Value::from_safe_string(escape(words))
}

/// Whether a ratio passes; NaN never does.
pub(super) fn within(ratio: f64, bound: f64) -> bool {
    ratio <= bound
}

fn logits(diff: &DiffRecord) -> Fact {
    // A network without its head ends in the pooled features.
    let headless = diff.layers.last().is_some_and(|layer| layer.kind == LayerKind::Pool);
    let label = match headless && diff.logits.is_some() {
        true => "Error of the features (relative L2)",
        false => "Error of the logits (relative L2)",
    };
    match &diff.logits {
        Some(errors) => Fact {
            label,
            value: short(errors.rel_l2),
            remark: text(&format!(
                "{} has {}; error / allowed {}",
                diff.run.yardstick,
                short(errors.e_ref),
                short(errors.ratio)
            )),
            bad: !within(errors.ratio, diff.bound),
        },
        None => {
            Fact {
                label, value: "–".to_owned(), remark: text(&words("not_compared")), bad: false
            }
        }
    }
}

/// What the quantisers cost, which the comparison of the layers leaves out.
fn quantisers(found: &Quantisation) -> Fact {
    let failed = found.quantisers.iter().filter(|q| q.verdict == LayerVerdict::Diverged).count();
    let kernels = found.kernels.as_ref().is_some_and(|k| k.verdict == LayerVerdict::Diverged);
    Fact {
        label: "Change of the logits by quantisers (relative L2)",
        value: short(found.logits),
        remark: text(&format!(
            "{failed} of {} fail{}",
            count(found.quantisers.len(), "quantiser"),
            if kernels { ", and so do the runtime’s integer kernels" } else { "" }
        )),
        bad: failed > 0 || kernels,
    }
}

fn time(diff: &DiffRecord) -> Fact {
    let run = &diff.run;
    Fact {
        label: "Time",
        value: format!("{} s", short(run.seconds)),
        remark: text(&format!(
            "depth {}, {} frames, {} × {}",
            run.model.depth, run.model.frames, run.model.size[0], run.model.size[1]
        )),
        bad: false,
    }
}
