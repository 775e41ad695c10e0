//! The page that lists several reports.

use minijinja::value::Value;
use serde::Serialize;

use crate::format::short;
use record::{DiffRecord, Record, SelftestRecord};

/// One report in the list of [`crate::render_index`].
#[derive(Debug, Clone, Serialize)]
pub struct IndexEntry {
    /// Path of the report relative to the list, percent-encoded.
    href: Value,
    /// Name of the report in the list.
    name: String,
    verdict: &'static str,
    word: &'static str,
    sentence: String,
    candidate: String,
    reference: String,
    started: String,
    seconds: String,
}

impl IndexEntry {
    /// The entry for a record whose report is at `href`, a path relative to the list.
    pub fn new(record: &Record, name: &str, href: &str) -> Self {
        let run = record.run();
        let (verdict, word, sentence) = match record {
            Record::Diff(diff) => diff_verdict(diff),
            Record::Selftest(selftest) => selftest_verdict(selftest),
            Record::Eval(eval) => {
                let name = eval.verdict.as_str();
                let top1 =
                    eval.engines.first().map_or(f64::NAN, |score| 100.0 * score.top1.share());
                (name, name, format!("{}: {} % top-1", eval.dataset, short(top1)))
            }
            Record::Train(train) => {
                let val = train.epochs.last().map_or(f64::NAN, |epoch| 100.0 * epoch.val.share());
                (
                    "pass",
                    "trained",
                    format!("{}: {} % on the validation part", train.dataset, short(val)),
                )
            }
            Record::Bench(bench) => {
                (bench.verdict.as_str(), "bench", format!("{} settings", bench.settings.len()))
            }
            Record::Gpu(gpu) => (gpu.verdict.as_str(), "GPU check", gpu.device.clone()),
            Record::Null(null) => (
                null.verdict.as_str(),
                "false alarms",
                format!("{} in {} comparisons of correct engines", null.alarms, null.comparisons),
            ),
            Record::Ablate(ablate) => (
                "pass",
                "ablation",
                format!("{} variants on {}", ablate.variants.len(), ablate.dataset),
            ),
        };
        IndexEntry {
            href: Value::from_safe_string(percent_encoded(href)),
            name: name.to_owned(),
            verdict,
            word,
            sentence,
            candidate: run.candidate.clone(),
            reference: run.reference.clone(),
            started: run.started.clone(),
            seconds: short(run.seconds),
        }
    }
}

fn diff_verdict(diff: &DiffRecord) -> (&'static str, &'static str, String) {
    let name = diff.verdict.as_str();
    let culprit = diff.culprit.as_ref().map(|culprit| culprit.text.clone());
    let sentence = culprit.or_else(|| diff.first_divergent.clone()).unwrap_or_default();
    (name, name, sentence)
}

fn selftest_verdict(selftest: &SelftestRecord) -> (&'static str, &'static str, String) {
    let whole = selftest.faults.iter().all(|fault| fault.detected == fault.injected);
    let verdict = if whole && !selftest.faults.is_empty() { "pass" } else { "diverged" };
    let word = if verdict == "pass" { "all detected" } else { "faults missed" };
    (verdict, word, format!("self-test with {} kinds of faults", selftest.faults.len()))
}

/// A relative URL: a path whose characters cannot be taken for a scheme, a query or a fragment.
fn percent_encoded(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    let encode = |b: u8| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") };
    format!("./{}", path.bytes().map(encode).collect::<String>().trim_start_matches('/'))
}

/// The values of the template `index.html`.
#[derive(Serialize)]
pub(super) struct View<'a> {
    title: &'static str,
    entries: &'a [IndexEntry],
}

/// Builds the view of the list.
pub(super) fn view(entries: &[IndexEntry]) -> View<'_> {
    View { title: "Reports", entries }
}
