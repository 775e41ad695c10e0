//! The page that compares two records of the same kind.

use super::provenance;
use super::study::{Section, View};
use crate::chart::{Axis, Dot, Row, Rows};
use crate::error::{ReportError, Result};
use crate::format::short;
use record::{DiffRecord, Layer, Record};

/// A number that is followed over runs and compared between two.
pub(crate) struct Measure {
    /// What the number is, with its unit. The same measure has the same name in all records.
    pub name: String,
    pub value: f64,
    /// Its 95 % interval, if it is known.
    pub interval: Option<(f64, f64)>,
    /// Whether two values are compared by their ratio, such as times, and not by their difference.
    pub by_ratio: bool,
}

impl Measure {
    /// The interval; `None` also if too few times were measured for one.
    fn known(&self) -> Option<(f64, f64)> {
        self.interval.filter(|(low, high)| !low.is_nan() && !high.is_nan())
    }
}

/// A measure in both records.
struct Pair<'a> {
    before: &'a Measure,
    after: &'a Measure,
}

impl Pair<'_> {
    /// The ratio or the difference.
    fn change(&self) -> f64 {
        match self.before.by_ratio {
            true => self.after.value / self.before.value,
            false => self.after.value - self.before.value,
        }
    }

    /// How far the change is from none, for the order.
    fn size(&self) -> f64 {
        if self.before.by_ratio { self.change().ln().abs() } else { self.change().abs() }
    }

    fn words(&self) -> String {
        match self.before.by_ratio {
            true => format!("× {}", short(self.change())),
            false => format!("{:+.2}", self.change()).replace('-', "−"),
        }
    }

    /// Whether the 95 % intervals overlap; `None` if one is not known.
    fn overlap(&self) -> Option<bool> {
        let ((low, high), (least, most)) = (self.before.known()?, self.after.known()?);
        Some(low <= most && least <= high)
    }
}

/// Renders the page. The names are those of the runs.
pub(super) fn render(before: (&str, &Record), after: (&str, &Record)) -> Result<String> {
    let ((first, a), (second, b)) = (before, after);
    if a.kind() != b.kind() {
        return Err(ReportError::Kinds { first: a.kind(), second: b.kind() });
    }
    let (measures, others) = (super::of(a).measures(), super::of(b).measures());
    let same = |m: &Measure| others.iter().find(|other| other.name == m.name);
    let pairs: Vec<Pair<'_>> =
        measures.iter().filter_map(|m| Some(Pair { before: m, after: same(m)? })).collect();
    let mut sections = vec![];
    if !pairs.is_empty() {
        sections.extend(changes(&pairs));
        sections.push(numbers(&pairs, first, second));
    }
    sections.extend(layers(a, b));
    sections.push(conditions(a, b, first, second));
    let view = View {
        title: format!("{first} and {second}"),
        kind: "report --compare",
        verdict: if super::of(a).headline().is(&super::of(b).headline()) {
            "pass"
        } else {
            "incomplete"
        },
        mark: "⇄",
        word: verdicts(a, b).unwrap_or_else(|| word(&pairs)),
        sentence: format!(
            "{first} ({}) compared with {second} ({}); {} of its {} numbers are in both",
            super::of(a).headline().words(),
            super::of(b).headline().words(),
            pairs.len(),
            measures.len()
        ),
        warnings: warnings(a, b),
        sections,
        provenance: provenance::of(b.run()),
    };
    super::fill("study.html", &view)
}

/// How the verdict on layers has changed; None if it has not, and for other records.
fn verdicts(a: &Record, b: &Record) -> Option<String> {
    let (Record::Diff(a), Record::Diff(b)) = (a, b) else { return None };
    let (before, after) = (a.verdict.as_str(), b.verdict.as_str());
    (before != after).then(|| format!("The verdict was {before} and is {after}"))
}

/// The largest change in words.
fn word(pairs: &[Pair<'_>]) -> String {
    let sound = pairs.iter().filter(|pair| pair.size().is_finite());
    match sound.max_by(|a, b| a.size().total_cmp(&b.size())) {
        None => "Nothing to compare".to_owned(),
        Some(pair) if pair.size() == 0.0 => "No number changed".to_owned(),
        Some(pair) => format!(
            "Largest change: {} {} to {}, {}",
            pair.before.name,
            short(pair.before.value),
            short(pair.after.value),
            pair.words()
        ),
    }
}

/// What the runs differ in besides the revision.
fn warnings(first: &Record, second: &Record) -> Vec<String> {
    let (a, b) = (first.run(), second.run());
    let mut found = vec![];
    if let (Record::Eval(a), Record::Eval(b)) = (first, second)
        && (&a.protocol, &a.order) != (&b.protocol, &b.order)
    {
        found.push("The runs have different protocols or orders of the frames.".to_owned());
    }
    if a.machine.cpu != b.machine.cpu || a.machine.cores != b.machine.cores {
        found
            .push("The runs were made on different machines: times cannot be compared.".to_owned());
    }
    if a.model != b.model {
        found.push("The runs have different networks.".to_owned());
    }
    if a.weights != b.weights || a.input != b.input {
        found.push("The runs have different weights or inputs.".to_owned());
    }
    if a.yardstick != b.yardstick {
        found.push(format!(
            "The runs were judged in different precisions, by {} and by {}: the same ratio stands for other errors.",
            a.yardstick, b.yardstick
        ));
    }
    found
}

/// A figure of the changes: ratios, then differences.
fn changes(pairs: &[Pair<'_>]) -> Option<Section> {
    let mut section = Section::new("What changed", "The second run compared with the first.");
    for by_ratio in [true, false] {
        let rows: Vec<Row> = pairs
            .iter()
            .filter(|pair| pair.before.by_ratio == by_ratio)
            .map(|pair| Row {
                name: pair.before.name.clone(),
                dot: Some(Dot { value: pair.change(), label: pair.words(), ..Dot::default() }),
                ..Row::default()
            })
            .collect();
        if rows.is_empty() {
            continue;
        }
        let (axis, none, name) = match by_ratio {
            true => (Axis::log("second / first (logarithmic)"), 1.0, "ratio"),
            false => (Axis::linear("second − first"), 0.0, "difference"),
        };
        let figure = Rows {
            name,
            description: format!("{name} of the second run to the first"),
            axis,
            reference: Some((none, "no change".to_owned())),
            rows,
            ..Rows::default()
        };
        section.figures.push(figure.draw());
    }
    (!section.figures.is_empty()).then_some(section)
}

fn numbers(pairs: &[Pair<'_>], first: &str, second: &str) -> Section {
    let value = |m: &Measure| match m.known() {
        Some((low, high)) => format!("{} ({} to {})", short(m.value), short(low), short(high)),
        None => short(m.value),
    };
    let row = |pair: &Pair<'_>| {
        let overlap = match pair.overlap() {
            Some(true) => "overlap",
            Some(false) => "apart",
            None => "not known",
        };
        vec![
            pair.before.name.clone(),
            value(pair.before),
            value(pair.after),
            pair.words(),
            overlap.to_owned(),
        ]
    };
    let lead = "In brackets: 95 % intervals within a run. They do not hold what differs between two runs, such \
                as a busy machine.";
    let head = ["Number", first, second, "Change", "Intervals"];
    Section::new("Numbers", lead).table(&head, pairs.iter().map(row).collect())
}

/// The layers whose verdict changed; `None` for other kinds than comparisons of layers.
fn layers(a: &Record, b: &Record) -> Option<Section> {
    let (Record::Diff(a), Record::Diff(b)) = (a, b) else { return None };
    let of = |layer: &Layer, other: &DiffRecord| {
        let same = other.layers.iter().find(|l| l.name == layer.name)?;
        let ratio = |l: &Layer| l.introduced.map_or("–".to_owned(), |errors| short(errors.ratio));
        (same.verdict != layer.verdict).then(|| {
            vec![
                layer.name.clone(),
                layer.verdict.words().to_owned(),
                same.verdict.words().to_owned(),
                ratio(layer),
                ratio(same),
            ]
        })
    };
    let rows: Vec<Vec<String>> = a.layers.iter().filter_map(|layer| of(layer, b)).collect();
    let head = ["Layer", "Verdict before", "Verdict after", "Own error / allowed before", "After"];
    Some(Section::new("Layers with another verdict", "").table(&head, rows))
}

/// The conditions of both runs side by side.
fn conditions(a: &Record, b: &Record, first: &str, second: &str) -> Section {
    let both = [a, b].map(|record| {
        let mut facts = provenance::of(record.run()).facts();
        if let Record::Eval(eval) = record {
            let of_videos = [("Order of frames", &eval.order), ("Protocol", &eval.protocol)];
            facts.extend(of_videos.map(|(name, value)| (name.to_owned(), value.clone())));
        }
        facts
    });
    let [before, after] = &both;
    let rows = before.iter().map(|(name, value)| {
        let other = after.iter().find(|(n, _)| n == name).map_or("–", |(_, value)| value);
        let same = if value == other { "same" } else { "different" };
        vec![name.clone(), value.clone(), other.to_owned(), same.to_owned()]
    });
    Section::new("Conditions", "").table(&["Condition", first, second, "Equal"], rows.collect())
}
