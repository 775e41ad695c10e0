//! The section about a quantised file: a row for each quantiser, the worst first.

use record::{DiffRecord, Quantisation, Quantiser};
use serde::Serialize;

use crate::format;

/// The section, formatted.
#[derive(Serialize)]
pub(super) struct QuantisedView {
    lead: String,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    value: String,
    verdict: &'static str,
    levels: u64,
    error: String,
    ratio: String,
    clipped: String,
    used: String,
}

pub(super) fn view(diff: &DiffRecord) -> Option<QuantisedView> {
    let found = diff.quantisation.as_ref()?;
    let rank = |q: &Quantiser| if q.error.is_nan() { f64::INFINITY } else { q.error };
    let mut order: Vec<&Quantiser> = found.quantisers.iter().collect();
    order.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
    Some(QuantisedView { lead: lead(found), rows: order.into_iter().map(row).collect() })
}

fn lead(found: &Quantisation) -> String {
    let class = if found.same_class { "the same class" } else { "another class" };
    let kernels = found.kernels.as_ref().map_or(String::new(), |kernels| {
        format!(
            " The runtime’s integer kernels and the file’s arithmetic differ by {} of that ({}).",
            format::short(kernels.ratio),
            kernels.verdict.as_str()
        )
    });
    format!(
        "Rounding activations to integers changes the logits by {} (relative L2, cosine {:.6}, {class}).{kernels} {} \
         weights are integers, and {} of them are not what rounding the checkpoint gives.",
        format::short(found.logits),
        found.cosine,
        found.weights,
        found.weights_beyond
    )
}

fn row(q: &Quantiser) -> Row {
    Row {
        value: q.module.clone().unwrap_or_else(|| q.value.clone()),
        verdict: q.verdict.as_str(),
        levels: q.levels,
        error: format::short(q.error),
        ratio: format::short(q.ratio),
        clipped: format!("{:.2} %", 100.0 * q.clipped),
        used: format!("{:.0} %", 100.0 * q.used),
    }
}
