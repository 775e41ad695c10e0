//! The confusion matrix: planted mistakes, and how each was named.

use std::collections::BTreeMap;

use record::{Confusion, Fault, Place};

use super::bench::{Planted, SETTINGS, Setting};

/// A row: one kind of mistake, planted at several places.
pub struct Row {
    what: String,
    known: bool,
    places: Vec<Place>,
    counts: BTreeMap<&'static str, Confusion>,
}

impl Row {
    /// A row without planted mistakes.
    pub fn new(what: String, known: bool) -> Row {
        Row { what, known, places: vec![], counts: BTreeMap::new() }
    }

    /// Counts a planted mistake. One that was planted everywhere must be recognised as such, and one at a
    /// single place must not.
    pub fn add(&mut self, setting: Setting, planted: Planted, throughout: bool) {
        let counts = self.counts.entry(setting.word()).or_insert_with(|| Confusion {
            planted: self.what.clone(),
            known: self.known,
            setting: setting.word().to_owned(),
            itself: 0,
            another: 0,
            located: 0,
            missed: 0,
            others: BTreeMap::new(),
        });
        let Planted { place, word, found } = planted;
        let right = found.words.contains(&word) && found.places.is_some() == throughout;
        match (place.detected, found.words.is_empty()) {
            (false, _) => counts.missed += 1,
            (true, true) => counts.located += 1,
            (true, false) if right => counts.itself += 1,
            (true, false) => {
                counts.another += 1;
                let named = place.explanation.clone().unwrap_or_default();
                *counts.others.entry(named).or_default() += 1;
            }
        }
        self.places.push(place);
    }

    /// The counts for the record, one entry per setting.
    pub fn confusion(&self) -> Vec<Confusion> {
        SETTINGS.iter().filter_map(|setting| self.counts.get(setting.word()).cloned()).collect()
    }

    /// The record's entry on the planted mistakes.
    pub fn fault(self) -> Fault {
        let right = |place: &&Place| place.named.as_deref() == Some(&place.module);
        Fault {
            fault: self.what,
            injected: self.places.len() as u64,
            detected: self.places.iter().filter(|place| place.detected).count() as u64,
            named: self.places.iter().filter(right).count() as u64,
            places: self.places,
        }
    }

    fn in_words(&self) -> String {
        let mut line = format!("{:NAME$}", console::truncate_str(&self.what, NAME, "…"));
        for setting in SETTINGS {
            let cell = self.counts.get(setting.word()).map(cell).unwrap_or_default();
            line += &format!(" {cell:>SETTING$}");
        }
        line.trim_end().to_owned()
    }
}

/// Widths of the columns; a line has at most 100.
const NAME: usize = 42;
const SETTING: usize = 18;

fn cell(counts: &Confusion) -> String {
    let Confusion { itself, another, located, missed, .. } = counts;
    format!("{itself:>3} {another:>3} {located:>3} {missed:>3}")
}

/// The table: four counts for each setting, and below them the mistakes that are off the diagonal.
pub fn table(rows: &[Row]) -> String {
    let mut lines = vec![
        "Each cell: named as itself, named as another, located only, missed.".to_owned(),
        header(),
    ];
    lines.extend(rows.iter().map(Row::in_words));
    lines.extend(rows.iter().flat_map(off_diagonal));
    let total = Total::of(rows);
    lines.push(format!(
        "{} planted: {} detected, {} at the right layer, {} on the diagonal ({:.1} %)",
        total.planted,
        total.detected,
        total.placed,
        total.right,
        100.0 * total.share(total.right)
    ));
    lines.join("\n")
}

fn header() -> String {
    let words = SETTINGS.map(|setting| format!("{:>SETTING$}", setting.word()));
    format!("{:NAME$} {}", "planted", words.join(" "))
}

fn off_diagonal(row: &Row) -> Vec<String> {
    let mut lines = vec![];
    for counts in row.confusion() {
        for (other, times) in &counts.others {
            lines.push(format!("{}, {}: {times} named as: {other}", row.what, counts.setting));
        }
        let unnamed = if counts.known { counts.located } else { 0 };
        for (times, what) in [(unnamed, "located only"), (counts.missed, "missed")] {
            if times > 0 {
                let setting = &counts.setting;
                lines.push(format!("{}, {setting}: {times} {what}", row.what));
            }
        }
    }
    let shorten = |line: String| console::truncate_str(&line, 100, "…").into_owned();
    lines.into_iter().map(shorten).collect()
}

/// Whether every mistake was detected, and at least the share `least` located and named.
pub fn passes(rows: &[Row], least: f64) -> bool {
    let total = Total::of(rows);
    total.detected == total.planted
        && total.share(total.placed) >= least
        && total.share(total.right) >= least
}

struct Total {
    planted: u64,
    detected: u64,
    placed: u64,
    right: u64,
}

impl Total {
    fn of(rows: &[Row]) -> Total {
        let places = || rows.iter().flat_map(|row| &row.places);
        let count = |holds: &dyn Fn(&Place) -> bool| places().filter(|p| holds(p)).count() as u64;
        Total {
            planted: places().count() as u64,
            detected: count(&|place| place.detected),
            placed: count(&|place| place.named.as_deref() == Some(&place.module)),
            right: rows.iter().flat_map(Row::confusion).map(|counts| counts.right()).sum(),
        }
    }

    fn share(&self, part: u64) -> f64 {
        part as f64 / self.planted.max(1) as f64
    }
}
