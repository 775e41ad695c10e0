//! The page that lists several reports.

use minijinja::value::Value;
use serde::Serialize;

use crate::format::short;
use record::{Record, Verdict};

/// The verdict on a record and its summary in the list of reports.
pub(crate) struct Headline {
    verdict: Verdict,
    word: &'static str,
    sentence: String,
}

impl Headline {
    /// A verdict, the word that is shown for it, and the summary in one sentence.
    pub fn new(verdict: Verdict, word: &'static str, sentence: String) -> Self {
        Headline { verdict, word, sentence }
    }
}

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
        let Headline { verdict, word, sentence } = super::of(record).headline();
        IndexEntry {
            href: Value::from_safe_string(percent_encoded(href)),
            name: name.to_owned(),
            verdict: verdict.as_str(),
            word,
            sentence,
            candidate: run.candidate.clone(),
            reference: run.reference.clone(),
            started: run.started.clone(),
            seconds: short(run.seconds),
        }
    }
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
