//! The accuracy of this run among published methods on Kinetics-400, and the times of a bench over them.

use std::collections::BTreeMap;

use crate::chart::{Axis, Chart, Figure, Look, Point, Series};
use crate::format::short;
use crate::page::bench::{device, is_ours};
use crate::page::study::{Section, percent};
use crate::published::{CONDITIONS, Method, methods};
use record::{BenchEntry, BenchRecord, EvalRecord, Score, Setting};

/// The data set of the published table.
pub(super) const DATASET: &str = "k400";

/// A quantity on the horizontal axis.
struct Cost {
    name: &'static str,
    label: &'static str,
    /// The label where times of a bench are in the plot, too.
    shared: &'static str,
    read: fn(&Method) -> f64,
    /// The same quantity of the contestants of a bench.
    measured: fn(&BenchRecord) -> Vec<(String, f64)>,
}

const COSTS: [Cost; 3] = [
    Cost {
        name: "published-cost",
        label: "GMAC for one view, as published (logarithmic)",
        shared: "GMAC for one view, as published (logarithmic)",
        read: |m| m.gmac,
        measured: |_| vec![],
    },
    Cost {
        name: "published-latency",
        label: "ms on the paper's CPU, batch 1 (logarithmic)",
        shared: "ms, batch 1, different machines (logarithmic)",
        read: |m| m.latency,
        measured: latencies,
    },
    Cost {
        name: "published-throughput",
        label: "clips/s on the paper's GPU (logarithmic)",
        shared: "clips/s, different machines (logarithmic)",
        read: |m| m.throughput,
        measured: throughputs,
    },
];

/// Our engines in a bench, with the setting in words but for the batch.
fn ours(bench: &BenchRecord) -> impl Iterator<Item = (&Setting, &BenchEntry, String)> {
    let all = bench.settings.iter().flat_map(|s| s.entries.iter().map(move |e| (s, e)));
    all.filter(|(_, e)| is_ours(&e.name) && e.right).map(|(s, e)| {
        let threads = if e.name == "cuda" { String::new() } else { format!(" t{}", s.threads) };
        (s, e, format!("{} {}{threads}", e.name, s.precision))
    })
}

/// Milliseconds for a batch of one clip.
fn latencies(bench: &BenchRecord) -> Vec<(String, f64)> {
    let single = ours(bench).filter(|(s, ..)| s.batch == 1);
    single.map(|(_, e, name)| (name, 1e3 * e.p50_s)).collect()
}

/// Clips per second at the batch size that is fastest.
fn throughputs(bench: &BenchRecord) -> Vec<(String, f64)> {
    let mut best: BTreeMap<String, f64> = BTreeMap::new();
    for (s, e, name) in ours(bench) {
        let rate = s.batch as f64 / e.p50_s;
        let known = best.entry(name).or_insert(rate);
        *known = known.max(rate);
    }
    best.into_iter().collect()
}

/// The section with a figure for each cost.
pub(super) fn section(eval: &EvalRecord, score: &Score, bench: Option<&BenchRecord>) -> Section {
    let methods = methods();
    let macs = eval.macs.map(|macs| macs as f64 / 1e9);
    let mut section = Section::new("Published methods on Kinetics-400", CONDITIONS);
    for (at, cost) in COSTS.iter().enumerate() {
        // This run has a cost in multiply-accumulates, and no latency on the paper's machines.
        let here = if at == 0 { macs } else { None };
        section.figures.push(figure(cost, &methods, score, here, bench));
    }
    let own = match macs {
        Some(gmac) => format!(
            "This run is at {}, with {} GMAC for a view in its own configuration. An evaluation measures no \
             latency that could be compared with the published ones; harness report --published puts the \
             times of a bench into the plots.",
            percent(score.top1.share()),
            short(gmac)
        ),
        None => format!(
            "This run is at {}, drawn as a line: its record does not say how many multiply-accumulates its \
             network takes.",
            percent(score.top1.share())
        ),
    };
    let row = |m: &Method| {
        vec![
            m.label(),
            m.backbone.clone(),
            format!("{:.1}\u{a0}%", m.top1),
            format!("{:.1}\u{a0}%", m.top5),
            short(m.gmac),
            m.views.clone(),
            format!("{}\u{a0}ms", m.latency),
            format!("{}", m.throughput),
        ]
    };
    let head = [
        "Method",
        "Backbone",
        "Top-1",
        "Top-5",
        "GMAC for a view",
        "Frames x crops x clips",
        "Latency, CPU",
        "Clips/s, GPU",
    ];
    let rows = methods.iter().map(row).collect();
    section.notes([own]).notes(bench.map(overlaid)).fold("The published table", &head, rows)
}

/// What is to be known about the times of a bench in the plots.
fn overlaid(bench: &BenchRecord) -> String {
    format!(
        "The times of the bench of {} were measured on another machine than the published ones: {}. They show \
         where this code stands today, and not that one method is faster than another. Their accuracy is that \
         of this run, in the precision of this run. “cpu f32 t2” is our engine cpu in float32 with 2 threads.",
        bench.run.started.chars().take(10).collect::<String>(),
        device(bench)
    )
}

fn figure(
    cost: &Cost,
    methods: &[Method],
    score: &Score,
    here: Option<f64>,
    bench: Option<&BenchRecord>,
) -> Figure {
    let point = |m: &Method| {
        let ours = m.name == "SqueezeTime";
        Point { first: ours, ..Point::named((cost.read)(m), m.top1, &m.label()) }
    };
    let measured = bench.map(cost.measured).unwrap_or_default();
    let measured: Vec<_> =
        measured.into_iter().filter(|(_, x)| x.is_finite() && *x > 0.0).collect();
    let label = if measured.is_empty() { cost.label } else { cost.shared };
    let all = methods.iter().map(cost.read).chain(measured.iter().map(|(_, x)| *x));
    let (least, most) = all.fold((f64::INFINITY, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
    let (share, ends) =
        (100.0 * score.top1.share(), (100.0 * score.top1.low, 100.0 * score.top1.high));
    let (look, points) = match here {
        Some(x) => {
            let point = Point::named(x, share, "this run");
            (Look::Dots, vec![Point { interval: Some(ends), first: true, ..point }])
        }
        // The points of a bench are at the accuracy of this run and say the same as the line.
        None if !measured.is_empty() => (Look::Level, vec![]),
        None => (Look::Level, vec![Point::at(least, share), Point::at(most, share)]),
    };
    let series = |name: &str, look, points| Series { name: name.to_owned(), look, points };
    let mut all = vec![
        series("published", Look::Dots, methods.iter().map(point).collect()),
        series("this run", look, points),
    ];
    if let Some(bench) = bench.filter(|_| !measured.is_empty()) {
        let point = |(name, x): &(String, f64)| Point {
            interval: Some(ends),
            first: true,
            ..Point::named(*x, share, name)
        };
        let name = format!("another machine: {}", device(bench));
        all.push(series(&name, Look::Dots, measured.iter().map(point).collect()));
    }
    let chart = Chart {
        name: cost.name,
        description: format!("top-1 accuracy on Kinetics-400 over {label}"),
        x: Axis::log(label),
        y: Axis::percent("top-1 in %"),
        series: all,
    };
    chart.draw()
}
