//! Where the time of each contestant with a profile goes, side by side.

use std::collections::BTreeMap;

use super::{shown, speed, title};
use crate::chart::{Axis, Bars};
use crate::page::study::{Section, percent};
use record::{BenchEntry, LayerTime, Setting};

/// The groups into which the kinds of all runtimes are sorted: a kind belongs to the first group of which
/// it holds a word. Runtimes have names of their own for the same work.
const GROUPS: [(&str, &[&str]); 5] = [
    ("means, gates and pooling", &["gate", "mean", "pool"]),
    (
        "convolutions",
        &["conv", "1x1", "3x3", "5x5", "7x7", "stem", "expand", "downsample", "shortcut"],
    ),
    ("head", &["gemm", "fullyconnected", "matmul", "head"]),
    ("element by element", &["add", "mul", "relu", "sigmoid", "bn", "embed", "resize"]),
    (
        "layout and copies",
        &["order", "reshape", "import", "flatten", "transpose", "convert", "copy"],
    ),
];

/// The groups in the order in which they are stacked, and the one for everything else.
const STACK: [&str; 6] = [
    "convolutions",
    "means, gates and pooling",
    "element by element",
    "layout and copies",
    "head",
    "other work",
];

fn group(kind: &str) -> &'static str {
    let kind = kind.to_lowercase();
    let holds = |words: &[&str]| words.iter().any(|word| kind.contains(word));
    GROUPS.iter().find(|(_, words)| holds(words)).map_or("other work", |(name, _)| name)
}

/// The section of a setting; `None` without a profile.
pub(super) fn section(setting: &Setting) -> Option<Section> {
    let profiled: Vec<&BenchEntry> =
        setting.entries.iter().filter(|entry| !entry.layers.is_empty()).collect();
    if profiled.is_empty() {
        return None;
    }
    let bar = |entry: &&BenchEntry| {
        let sum = |name: &&str| {
            let layers = entry.layers.iter().filter(|layer| group(&layer.kind) == *name);
            layers.map(|layer| layer.ms).filter(|ms| ms.is_finite()).sum()
        };
        (shown(&entry.name), STACK.iter().map(sum).collect())
    };
    let figure = Bars {
        name: "where-the-time-goes",
        description: format!("time by kind of work, {}", title(setting)),
        axis: Axis::linear("ms for a batch"),
        kinds: STACK.iter().map(|name| (*name).to_owned()).collect(),
        rows: profiled.iter().map(bar).collect(),
    };
    let lead = "Each contestant's own profile; runtimes fuse differently, so that an addition may be counted \
                as part of a convolution. Profiled runs take longer than timed ones.";
    let predicted = profiled.iter().flat_map(|e| &e.layers).any(|l| l.predicted_ms.is_some());
    let mut head = vec!["Contestant", "Kind", "Steps", "ms", "Share", "Speed"];
    let mut notes = vec![
        "Speeds count the operations of a direct convolution, so that layers with Winograd's or Strassen's \
         algorithm may exceed the peak."
            .to_owned(),
    ];
    if predicted {
        head.push("Model, ms");
        notes.push(PREDICTED.to_owned());
    }
    let rows = profiled.iter().flat_map(|entry| table(entry, predicted)).collect();
    Some(
        Section::new(&format!("Where the time goes: {}", title(setting)), lead)
            .figure(figure.draw())
            .notes(notes)
            .fold("All kinds of steps", &head, rows),
    )
}

/// What the times of a model mean.
const PREDICTED: &str = "The last column is what cuda's model of an H100 predicts (impls/cuda/src/run/predict.rs), \
                         which is no measurement. In a profile, the host waits for every step, which adds some \
                         10 us to the time of each.";

/// Totals of the steps of one kind.
#[derive(Default)]
struct KindTotal {
    ms: f64,
    /// Operations of the direct convolutions, 10^9.
    gflop: f64,
    steps: usize,
    /// As a model predicts, ms.
    predicted: f64,
}

impl KindTotal {
    fn add(&mut self, layer: &LayerTime) {
        self.ms += layer.ms;
        self.gflop += layer.gflop.unwrap_or(0.0);
        self.steps += 1;
        self.predicted += layer.predicted_ms.unwrap_or(0.0);
    }

    /// A row of the table, with the prediction if any contestant has one.
    fn cells(&self, contestant: &str, kind: &str, total: f64, predicted: bool) -> Vec<String> {
        let none = || "–".to_owned();
        let rate = if self.gflop > 0.0 { speed(self.gflop / self.ms * 1e3) } else { none() };
        let model = if self.predicted > 0.0 { format!("{:.3}", self.predicted) } else { none() };
        let cells = [
            shown(contestant),
            kind.to_owned(),
            self.steps.to_string(),
            format!("{:.2}", self.ms),
            percent(self.ms / total),
            rate,
        ];
        cells.into_iter().chain(predicted.then_some(model)).collect()
    }
}

/// The rows of a contestant; the kind that takes longest comes first.
fn table(entry: &BenchEntry, predicted: bool) -> Vec<Vec<String>> {
    let mut sums: BTreeMap<&str, KindTotal> = BTreeMap::new();
    for layer in &entry.layers {
        sums.entry(&layer.kind).or_default().add(layer);
    }
    let total: f64 = sums.values().map(|sum| sum.ms).sum();
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by(|a, b| b.1.ms.total_cmp(&a.1.ms));
    sums.iter().map(|(kind, sum)| sum.cells(&entry.name, kind, total, predicted)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_model_stand_beside_the_measured_ones_if_there_are_any() {
        let layer = |predicted_ms| LayerTime {
            name: "stem".to_owned(),
            kind: "stem".to_owned(),
            ms: 2.0,
            gflop: None,
            mb: None,
            predicted_ms,
        };
        let mut sums = KindTotal::default();
        sums.add(&layer(Some(0.25)));
        sums.add(&layer(None));
        assert_eq!((sums.ms, sums.predicted, sums.steps), (4.0, 0.25, 2));
        assert_eq!(sums.cells("cuda", "stem", 8.0, true)[6], "0.250");
        assert_eq!(sums.cells("cuda", "stem", 8.0, false).len(), 6);
        assert_eq!(KindTotal::default().cells("cpu", "stem", 8.0, true)[6], "–");
    }

    #[test]
    fn the_same_work_of_different_runtimes_is_in_the_same_group() {
        for kind in ["Conv", "Convolution", "GroupConvolution", "reduce 1x1", "short 3x3", "stem"] {
            assert_eq!(group(kind), "convolutions", "{kind}");
        }
        for kind in ["ReduceMean", "GlobalAveragePool", "gate mean", "MaxPool"] {
            assert_eq!(group(kind), "means, gates and pooling", "{kind}");
        }
        assert_eq!(group("ReorderInput"), "layout and copies");
        assert_eq!(group("Multiply"), "element by element");
        assert_eq!(group("FullyConnected"), "head");
    }
}
