//! The plots of a bench: error against time, throughput, time by kind of layer, and the roofline.

use std::collections::{BTreeMap, BTreeSet};

use super::super::study::Section;
use super::title;
use crate::chart::{Chart, Look, MAX_SERIES, Point, Series};
use crate::error::Result;
use record::{BenchEntry, BenchRecord, LayerTime, Setting};

/// One series for each contestant of the bench, so that each has the same colour in every plot.
fn by_contestant(
    bench: &BenchRecord,
    settings: &[&Setting],
    look: Look,
    point: impl Fn(&Setting, &BenchEntry) -> Point,
) -> Vec<Series> {
    let all = bench.settings.iter().flat_map(|s| &s.entries).map(|e| e.name.as_str());
    let mut names: Vec<&str> = all.collect::<BTreeSet<_>>().into_iter().collect();
    // The engine cpu comes first and so takes the first colour.
    names.sort_by_key(|name| *name != "cpu");
    let series = |name: &str| {
        let of = |s: &&Setting| s.entries.iter().find(|e| e.name == name).map(|e| point(s, e));
        let points = settings.iter().filter_map(of).collect();
        Series { name: name.to_owned(), look, points }
    };
    names.into_iter().map(series).collect()
}

/// Error over time per clip; `None` if the bench has fewer than two measurements.
pub(super) fn accuracy(bench: &BenchRecord) -> Result<Option<Section>> {
    if bench.settings.iter().map(|s| s.entries.len()).sum::<usize>() < 2 {
        return Ok(None);
    }
    let settings: Vec<&Setting> = bench.settings.iter().collect();
    let point = |s: &Setting, e: &BenchEntry| Point::at(1e3 * e.p50_s / s.batch as f64, e.error);
    let chart = Chart {
        name: "accuracy",
        description: "error of each contestant over its time per clip".to_owned(),
        x_label: "ms per clip (logarithmic)".to_owned(),
        y_label: "relative L2 error".to_owned(),
        series: by_contestant(bench, &settings, Look::Dots, point),
        log_x: true,
        log_y: true,
        ..Chart::default()
    };
    let lead = "A point is a contestant in one setting: faster is further left, and closer to float64 is \
                lower. bfloat16 lies above float32.";
    Ok(Some(Section::new("Speed against accuracy", lead).chart(&chart)?))
}

/// The quantity on the horizontal axis of a throughput plot, and the one that is constant in it.
pub(super) struct ScalingAxis {
    /// Name of the quantity on the axis.
    what: &'static str,
    x: fn(&Setting) -> u64,
    fixed: fn(&Setting) -> u64,
    /// Name of the constant quantity.
    fixed_name: &'static str,
}

/// Throughput over threads, one plot for each batch size.
pub(super) const THREADS: ScalingAxis =
    ScalingAxis { what: "threads", x: |s| s.threads, fixed: |s| s.batch, fixed_name: "batch" };
/// Throughput over the batch size, one plot for each number of threads.
pub(super) const BATCH: ScalingAxis = ScalingAxis {
    what: "clips in a batch",
    x: |s| s.batch,
    fixed: |s| s.threads,
    fixed_name: "threads:",
};

/// Throughput over one axis; a group of settings with a single value on it gets no plot.
pub(super) fn scaling(bench: &BenchRecord, over: &ScalingAxis) -> Result<Vec<Section>> {
    let mut groups: BTreeMap<(&str, u64), Vec<&Setting>> = BTreeMap::new();
    for setting in &bench.settings {
        let group = (setting.precision.as_str(), (over.fixed)(setting));
        groups.entry(group).or_default().push(setting);
    }
    let point =
        |s: &Setting, e: &BenchEntry| Point::at((over.x)(s) as f64, s.batch as f64 / e.p50_s);
    let mut sections = vec![];
    for ((precision, fixed), settings) in groups.into_iter().filter(|(_, s)| s.len() > 1) {
        let chart = Chart {
            name: "scaling",
            description: format!("clips per second over {}, {precision}", over.what),
            x_label: over.what.to_owned(),
            y_label: "clips/s".to_owned(),
            series: by_contestant(bench, &settings, Look::Joined, point),
            ..Chart::default()
        };
        let title =
            format!("Throughput over {}: {precision}, {} {fixed}", over.what, over.fixed_name);
        sections.push(Section::new(&title, "").chart(&chart)?);
    }
    Ok(sections)
}

/// Totals of the steps of one kind.
#[derive(Default)]
pub(super) struct KindTotal {
    pub ms: f64,
    /// Operations of the direct convolutions, 10^9.
    pub gflop: f64,
    pub steps: usize,
}

type KindTotals<'a> = Vec<(&'a str, KindTotal)>;

/// Sums the steps by kind; the kind that takes longest comes first.
pub(super) fn by_kind(layers: &[LayerTime]) -> KindTotals<'_> {
    let mut sums: BTreeMap<&str, KindTotal> = BTreeMap::new();
    for layer in layers {
        let sum = sums.entry(&layer.kind).or_default();
        sum.ms += layer.ms;
        sum.gflop += layer.gflop.unwrap_or(0.0);
        sum.steps += 1;
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by(|a, b| b.1.ms.total_cmp(&a.1.ms));
    sums
}

/// The time of the engine cpu by kind of layer, one stacked bar for each setting.
pub(super) fn kinds(bench: &BenchRecord) -> Result<Option<Section>> {
    let ours = |s| profile_of(s).map(|layers| (s, by_kind(layers)));
    let settings: Vec<(&Setting, KindTotals<'_>)> =
        bench.settings.iter().filter_map(ours).collect();
    let Some((_, first)) = settings.first() else { return Ok(None) };
    // The kinds that take longest in the first setting get colours; the others share one.
    let named: Vec<&str> = first.iter().map(|(kind, _)| *kind).take(MAX_SERIES - 1).collect();
    let series = |name: &str, belongs: &dyn Fn(&str) -> bool| {
        let bar = |(at, (setting, kinds)): (usize, &(&Setting, KindTotals<'_>))| {
            let ms = kinds.iter().filter(|(kind, _)| belongs(kind)).map(|(_, sum)| sum.ms);
            Point::at(at as f64, ms.sum::<f64>() / setting.batch as f64)
        };
        let points = settings.iter().enumerate().map(bar).collect();
        Series { name: name.to_owned(), look: Look::Stack, points }
    };
    let mut bars: Vec<Series> = named.iter().map(|name| series(name, &|k| k == *name)).collect();
    bars.push(series("others", &|kind| !named.contains(&kind)));
    let name = |(s, _): &(&Setting, _)| format!("{} {}×{}", s.precision, s.batch, s.threads);
    let chart = Chart {
        name: "kinds",
        description: "time of the engine cpu per clip by kind of layer".to_owned(),
        x_label: "precision, clips × threads".to_owned(),
        y_label: "ms per clip".to_owned(),
        series: bars,
        names: settings.iter().map(name).collect(),
        ..Chart::default()
    };
    let lead = "The engine cpu by kind of layer; the profile below lists all kinds.";
    Ok(Some(Section::new("Where the time goes", lead).chart(&chart)?))
}

/// The profile of the engine cpu; `None` if the bench was run without profiles.
fn profile_of(setting: &Setting) -> Option<&[LayerTime]> {
    let entry = setting.entries.iter().find(|e| e.name == "cpu")?;
    (!entry.layers.is_empty()).then_some(&entry.layers)
}

/// The speed of each step of the engine cpu under the measured limits of the machine.
pub(super) fn roofline(setting: &Setting) -> Result<Option<Section>> {
    let point = |layer: &LayerTime| {
        let (gflop, mb) = (layer.gflop.filter(|g| *g > 0.0)?, layer.mb.filter(|mb| *mb > 0.0)?);
        Some(Point::at(gflop * 1e3 / mb, gflop / layer.ms * 1e3))
    };
    let steps = profile_of(setting).unwrap_or_default();
    let points: Vec<Point> = steps.iter().filter_map(point).collect();
    if points.is_empty() {
        return Ok(None);
    }
    let least = points.iter().map(|p| p.x).fold(f64::INFINITY, f64::min);
    let most = points.iter().map(|p| p.x).fold(0.0, f64::max);
    // On logarithmic axes the roof is two straight lines, which meet where both limits are equal.
    let ridge = (setting.peak_gflops / setting.peak_gbs).max(least).min(most);
    let roof = |x: f64| Point::at(x, (x * setting.peak_gbs).min(setting.peak_gflops));
    let series = |name: &str, look, points| Series { name: name.to_owned(), look, points };
    let chart = Chart {
        name: "roofline",
        description: "speed of each step over its operations per byte".to_owned(),
        x_label: "operations per byte of weights, inputs and outputs (logarithmic)".to_owned(),
        y_label: "GFLOP/s".to_owned(),
        series: vec![
            series("steps of cpu", Look::Dots, points),
            series("measured roof", Look::Line, [least, ridge, most].map(roof).into()),
        ],
        log_x: true,
        log_y: true,
        ..Chart::default()
    };
    let title = format!("Roofline: {}", title(setting));
    let lead =
        "Operations are those of a direct convolution: Winograd layers may lie above the roof.";
    Ok(Some(Section::new(&title, lead).chart(&chart)?))
}
