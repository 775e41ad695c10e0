//! The accuracy of this run among published methods on Kinetics-400.

use crate::chart::{Axis, Chart, Figure, Look, Point, Series};
use crate::format::short;
use crate::page::study::{Section, percent};
use crate::published::{CONDITIONS, Method, methods};
use record::{EvalRecord, Score};

/// A quantity on the horizontal axis.
struct Cost {
    name: &'static str,
    label: &'static str,
    read: fn(&Method) -> f64,
}

const COSTS: [Cost; 3] = [
    Cost {
        name: "published-cost",
        label: "GMAC for one view, as published (logarithmic)",
        read: |m| m.gmac,
    },
    Cost {
        name: "published-latency",
        label: "ms on the paper's CPU, batch 1 (logarithmic)",
        read: |m| m.latency,
    },
    Cost {
        name: "published-throughput",
        label: "clips/s on the paper's GPU (logarithmic)",
        read: |m| m.throughput,
    },
];

/// The section with a figure for each cost.
pub(super) fn section(eval: &EvalRecord, score: &Score) -> Section {
    let methods = methods();
    let macs = eval.macs.map(|macs| macs as f64 / 1e9);
    let mut section = Section::new("Published methods on Kinetics-400", CONDITIONS);
    for (at, cost) in COSTS.iter().enumerate() {
        // This run has a cost in multiply-accumulates, and no latency on the paper's machines.
        let here = if at == 0 { macs } else { None };
        section.figures.push(figure(cost, &methods, score, here));
    }
    let own = match macs {
        Some(gmac) => format!(
            "This run is at {}, with {} GMAC for a view in its own configuration. Its latency and \
             throughput were measured on another machine than the published ones and are not in the plots.",
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
    section.notes([own]).fold("The published table", &head, rows)
}

fn figure(cost: &Cost, methods: &[Method], score: &Score, here: Option<f64>) -> Figure {
    let point = |m: &Method| {
        let ours = m.name == "SqueezeTime";
        Point { first: ours, ..Point::named((cost.read)(m), m.top1, &m.label()) }
    };
    let (least, most) = methods
        .iter()
        .map(cost.read)
        .fold((f64::INFINITY, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
    let (share, ends) =
        (100.0 * score.top1.share(), (100.0 * score.top1.low, 100.0 * score.top1.high));
    let (look, points) = match here {
        Some(x) => {
            let point = Point::named(x, share, "this run");
            (Look::Dots, vec![Point { interval: Some(ends), first: true, ..point }])
        }
        None => (Look::Line, vec![Point::at(least, share), Point::at(most, share)]),
    };
    let series = |name: &str, look, points| Series { name: name.to_owned(), look, points };
    let chart = Chart {
        name: cost.name,
        description: format!("top-1 accuracy on Kinetics-400 over {}", cost.label),
        x: Axis::log(cost.label),
        y: Axis::percent("top-1 in %"),
        series: vec![
            series("published", Look::Dots, methods.iter().map(point).collect()),
            series("this run", look, points),
        ],
    };
    chart.draw()
}
