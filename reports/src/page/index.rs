//! The page that lists several reports.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::value::Value;
use serde::Serialize;

use crate::chart::{Axis, Dot, Figure, Row, Rows};
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

    /// The verdict and the summary in words.
    pub fn words(&self) -> String {
        match self.sentence.is_empty() {
            true => self.word.to_owned(),
            false => format!("{}: {}", self.word, self.sentence),
        }
    }

    /// Whether both have the same verdict.
    pub fn is(&self, other: &Headline) -> bool {
        self.verdict == other.verdict
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
    kind: &'static str,
    /// The first digits of the git revision; empty outside a checkout.
    revision: String,
    /// The numbers that are followed over runs, with the names of their trends.
    #[serde(skip)]
    measures: Vec<(String, f64)>,
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
            kind: record.kind(),
            revision: run.git.as_ref().map_or(String::new(), |git| {
                let state = if git.dirty { "+" } else { "" };
                git.revision.chars().take(8).collect::<String>() + state
            }),
            measures: measures(record),
        }
    }
}

/// The names and values of the numbers that are followed over runs.
fn measures(record: &Record) -> Vec<(String, f64)> {
    super::of(record).measures().into_iter().map(|m| (m.name, m.value)).collect()
}

/// A relative URL: a path whose characters cannot be taken for a scheme, a query or a fragment.
fn percent_encoded(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    let encode = |b: u8| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") };
    format!("./{}", path.bytes().map(encode).collect::<String>().trim_start_matches('/'))
}

/// The largest number of trends on a page.
const MAX_TRENDS: usize = 24;

/// The values of the template `index.html`.
#[derive(Serialize)]
pub(super) struct View<'a> {
    title: &'static str,
    entries: &'a [IndexEntry],
    /// The kinds and the verdicts that occur, for the filters.
    kinds: BTreeSet<&'static str>,
    verdicts: BTreeSet<&'static str>,
    trends: Vec<Trend>,
    /// The number of trends that are not shown.
    more: usize,
}

/// A number over several runs.
#[derive(Serialize)]
struct Trend {
    name: String,
    figure: Figure,
}

/// Builds the view of the list.
pub(super) fn view(entries: &[IndexEntry]) -> View<'_> {
    let mut trends = trends(entries);
    let more = trends.len().saturating_sub(MAX_TRENDS);
    trends.truncate(MAX_TRENDS);
    View {
        title: "Reports",
        entries,
        kinds: entries.iter().map(|entry| entry.kind).collect(),
        verdicts: entries.iter().map(|entry| entry.word).collect(),
        trends,
        more,
    }
}

/// A figure for each number that at least two runs have, with the runs in order of time.
fn trends(entries: &[IndexEntry]) -> Vec<Trend> {
    let mut groups: BTreeMap<&str, Vec<(&IndexEntry, f64)>> = BTreeMap::new();
    for entry in entries {
        for (name, value) in &entry.measures {
            groups.entry(name).or_default().push((entry, *value));
        }
    }
    let several = groups.into_iter().filter(|(_, runs)| runs.len() > 1);
    several.map(|(name, runs)| trend(name, runs)).collect()
}

fn trend(name: &str, mut runs: Vec<(&IndexEntry, f64)>) -> Trend {
    runs.sort_by(|a, b| a.0.started.cmp(&b.0.started));
    let row = |(entry, value): &(&IndexEntry, f64)| {
        let day: String = entry.started.chars().take(10).collect();
        Row {
            name: format!("{day} {} {}", entry.revision, entry.name),
            dot: Some(Dot { value: *value, label: short(*value), ..Dot::default() }),
            ..Row::default()
        }
    };
    let figure = Rows {
        name: "trend",
        description: format!("{name}, by run"),
        axis: Axis::linear(name),
        rows: runs.iter().map(row).collect(),
        ..Rows::default()
    };
    Trend { name: name.to_owned(), figure: figure.draw() }
}
