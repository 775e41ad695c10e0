//! The page of a self-test.

use serde::Serialize;

use super::provenance::{self, Provenance};
use super::{Headline, Page};
use crate::error::Result;
use crate::format::short;
use crate::table::{Column, column};
use record::{Confusion, Fault, Mutation, Place, SelftestRecord, Verdict};

/// The values of the template `selftest.html`, formatted.
#[derive(Serialize)]
pub(super) struct View {
    title: String,
    verdict: &'static str,
    mark: &'static str,
    word: &'static str,
    sentence: String,
    settings: Vec<String>,
    matrix: Vec<RowView>,
    diagonal: Option<String>,
    faults: Vec<FaultView>,
    mutations: Vec<Mutation>,
    provenance: Provenance,
}

/// One kind of fault with all its injections.
#[derive(Serialize)]
struct FaultView {
    name: String,
    anchor: String,
    injected: u64,
    detected: Share,
    named: Share,
    places: Vec<PlaceView>,
}

/// The injections of a fault that were detected, or named at the right layer.
#[derive(Serialize)]
struct Share {
    count: u64,
    percent: String,
    /// Length of the bar in percent.
    bar: u64,
    tone: &'static str,
}

/// A row of the confusion matrix.
#[derive(Serialize)]
struct RowView {
    planted: String,
    known: bool,
    /// One cell for each setting.
    cells: Vec<CellView>,
    /// The mistakes that were named instead, with setting and number.
    others: Vec<String>,
}

/// The outcomes of one kind of mistake in one setting.
#[derive(Serialize)]
struct CellView {
    itself: u64,
    another: u64,
    located: u64,
    missed: u64,
    /// Whether every one had the expected outcome.
    right: bool,
}

/// One injection.
#[derive(Serialize)]
struct PlaceView {
    module: String,
    setting: String,
    size: String,
    explanation: Option<String>,
    detected: bool,
    named: Option<String>,
    right: bool,
    ratio: String,
}

impl Page for SelftestRecord {
    fn render(&self) -> Result<String> {
        super::fill("selftest.html", &view(self))
    }

    fn headline(&self) -> Headline {
        let whole = self.faults.iter().all(|fault| fault.detected == fault.injected);
        let (verdict, word) = match whole && !self.faults.is_empty() {
            true => (Verdict::Pass, "all detected"),
            false => (Verdict::Diverged, "faults missed"),
        };
        let sentence = format!("self-test with {} kinds of faults", self.faults.len());
        Headline::new(verdict, word, sentence)
    }

    fn table_name(&self) -> &'static str {
        "faults.parquet"
    }

    fn table(&self) -> Vec<Column> {
        let faults = self.faults.iter();
        let rows: Vec<(&str, &Place)> = faults
            .flat_map(|fault| fault.places.iter().map(|place| (fault.fault.as_str(), place)))
            .collect();
        vec![
            column("fault", &rows, |(fault, _)| *fault),
            column("setting", &rows, |(_, place)| place.setting.as_str()),
            column("module", &rows, |(_, place)| place.module.as_str()),
            column("detected", &rows, |(_, place)| place.detected),
            column("named", &rows, |(_, place)| place.named.as_deref()),
            column("explanation", &rows, |(_, place)| place.explanation.as_deref()),
            column("ratio", &rows, |(_, place)| place.ratio),
        ]
    }
}

/// Builds the view.
fn view(selftest: &SelftestRecord) -> View {
    let total = |of: fn(&Fault) -> u64| selftest.faults.iter().map(of).fold(0, u64::saturating_add);
    let (injected, detected, named) =
        (total(|f| f.injected), total(|f| f.detected), total(|f| f.named));
    let unnoticed = selftest.mutations.iter().any(|mutation| !mutation.passed.is_empty());
    let whole = injected > 0 && detected == injected && !unnoticed;
    let (verdict, mark, word) = match (injected, whole) {
        (0, _) => ("incomplete", "?", "Nothing injected"),
        (_, true) => ("pass", "✓", "Every fault detected"),
        (_, false) => ("diverged", "✗", "Faults missed"),
    };
    View {
        title: format!("self-test · {detected} of {injected} detected"),
        verdict,
        mark,
        word,
        sentence: format!(
            "{detected} of {injected} injected faults were detected, and for {named} the right layer was named"
        ),
        settings: settings(&selftest.confusion),
        matrix: matrix(&selftest.confusion),
        diagonal: diagonal(&selftest.confusion),
        faults: selftest.faults.iter().enumerate().map(fault_view).collect(),
        mutations: selftest.mutations.clone(),
        provenance: provenance::of(&selftest.run),
    }
}

/// The settings in which mistakes were planted (engine, dump, …), in the order of the record.
fn settings(confusion: &[Confusion]) -> Vec<String> {
    let mut settings: Vec<String> = vec![];
    for counts in confusion {
        if !settings.contains(&counts.setting) {
            settings.push(counts.setting.clone());
        }
    }
    settings
}

fn matrix(confusion: &[Confusion]) -> Vec<RowView> {
    let settings = settings(confusion);
    let rows = confusion.chunk_by(|a, b| a.planted == b.planted);
    rows.map(|row| RowView {
        planted: row[0].planted.clone(),
        known: row[0].known,
        cells: settings
            .iter()
            .map(|setting| cell(row.iter().find(|counts| counts.setting == *setting)))
            .collect(),
        others: row
            .iter()
            .flat_map(|counts| {
                let line = |(other, times)| format!("{}: {times} as {other}", counts.setting);
                counts.others.iter().map(line)
            })
            .collect(),
    })
    .collect()
}

fn cell(counts: Option<&Confusion>) -> CellView {
    let of = |part: fn(&Confusion) -> u64| counts.map_or(0, part);
    CellView {
        itself: of(|c| c.itself),
        another: of(|c| c.another),
        located: of(|c| c.located),
        missed: of(|c| c.missed),
        right: counts.is_none_or(|c| c.right() == c.planted_times()),
    }
}

/// The share of the matrix that is on its diagonal, as text; `None` for a record without a matrix.
fn diagonal(confusion: &[Confusion]) -> Option<String> {
    let total = |of: fn(&Confusion) -> u64| confusion.iter().map(of).fold(0, u64::saturating_add);
    let (right, planted) = (total(Confusion::right), total(Confusion::planted_times));
    let percent = 100.0 * right as f64 / planted as f64;
    (planted > 0).then(|| format!("{right} of {planted} are on the diagonal, {percent:.1} %"))
}

fn fault_view((index, fault): (usize, &Fault)) -> FaultView {
    FaultView {
        name: fault.fault.clone(),
        anchor: format!("fault-{index}"),
        injected: fault.injected,
        detected: share(fault.detected, fault.injected),
        named: share(fault.named, fault.injected),
        places: fault.places.iter().map(place_view).collect(),
    }
}

fn share(count: u64, of: u64) -> Share {
    let part = if of == 0 { 0.0 } else { count as f64 / of as f64 };
    Share {
        count,
        percent: format!("{:.0} %", 100.0 * part),
        bar: (100.0 * part.min(1.0)) as u64,
        tone: tone(part),
    }
}

/// The colour of a share. The harness promises to detect every fault and to name the right layer for
/// at least 95 % of them.
fn tone(part: f64) -> &'static str {
    const TONES: [(f64, &str); 2] = [(1.0, "pass"), (0.95, "warn")];
    TONES.iter().find(|(least, _)| part >= *least).map_or("bad", |(_, tone)| tone)
}

fn place_view(place: &Place) -> PlaceView {
    PlaceView {
        module: place.module.clone(),
        setting: place.setting.clone(),
        size: place.size.clone(),
        explanation: place.explanation.clone(),
        detected: place.detected,
        right: place.named.as_deref() == Some(place.module.as_str()),
        named: place.named.clone(),
        ratio: short(place.ratio),
    }
}
