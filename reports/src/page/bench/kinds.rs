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
    let rows = profiled.iter().flat_map(|entry| table(entry)).collect();
    let head = ["Contestant", "Kind", "Steps", "ms", "Share", "Speed"];
    Some(
        Section::new(&format!("Where the time goes: {}", title(setting)), lead)
            .figure(figure.draw())
            .notes([
                "Speeds count the operations of a direct convolution, so that layers with Winograd's or \
                 Strassen's algorithm may exceed the peak."
                    .to_owned(),
            ])
            .fold("All kinds of steps", &head, rows),
    )
}

/// Totals of the steps of one kind.
#[derive(Default)]
struct KindTotal {
    ms: f64,
    /// Operations of the direct convolutions, 10^9.
    gflop: f64,
    steps: usize,
}

/// The rows of a contestant; the kind that takes longest comes first.
fn table(entry: &BenchEntry) -> Vec<Vec<String>> {
    let mut sums: BTreeMap<&str, KindTotal> = BTreeMap::new();
    for LayerTime { kind, ms, gflop, .. } in &entry.layers {
        let sum = sums.entry(kind).or_default();
        sum.ms += ms;
        sum.gflop += gflop.unwrap_or(0.0);
        sum.steps += 1;
    }
    let total: f64 = sums.values().map(|sum| sum.ms).sum();
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by(|a, b| b.1.ms.total_cmp(&a.1.ms));
    let row = |(kind, sum): (&str, KindTotal)| {
        let rate = if sum.gflop > 0.0 { speed(sum.gflop / sum.ms * 1e3) } else { "–".into() };
        vec![
            shown(&entry.name),
            kind.to_owned(),
            sum.steps.to_string(),
            format!("{:.2}", sum.ms),
            percent(sum.ms / total),
            rate,
        ]
    };
    sums.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
