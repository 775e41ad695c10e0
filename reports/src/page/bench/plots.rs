//! The plots of a bench over all settings: speed-up, error against time, throughput, and the roofline.

use std::collections::{BTreeMap, BTreeSet};

use super::headline::speed_ups;
use super::{is_ours, shown, title};
use crate::chart::{Axis, Chart, Dot, Look, Point, Row, Rows, Series};
use crate::format::short;
use crate::page::study::Section;
use record::{BenchEntry, BenchRecord, Setting};

/// A row for each engine of ours in each setting with another runtime.
fn rows(bench: &BenchRecord) -> Vec<Row> {
    let row = |s: &super::headline::SpeedUp<'_>| Row {
        name: format!("{}: {}", s.entry.name, title(s.setting)),
        dot: Some(Dot {
            value: s.times,
            interval: Some(s.interval),
            range: None,
            label: format!("{:.2} ×{} {}", s.times, interval(s.interval), s.peer),
        }),
        ..Row::default()
    };
    speed_ups(bench).iter().map(row).collect()
}

/// An interval in brackets; empty if it is not known.
fn interval((low, high): (f64, f64)) -> String {
    match low.is_finite() && high.is_finite() {
        true => format!(" ({low:.2} to {high:.2})"),
        false => String::new(),
    }
}

/// The section with the speed-ups; `None` without another runtime.
pub(super) fn compared(bench: &BenchRecord) -> Option<Section> {
    let rows = rows(bench);
    if rows.is_empty() {
        return None;
    }
    let figure = Rows {
        name: "speed-up",
        description: "speed of our engines, as a multiple of the fastest other runtime".to_owned(),
        axis: Axis::linear("times as fast as the fastest other runtime"),
        reference: Some((1.0, "as fast as the fastest other runtime".to_owned())),
        rows,
        ..Rows::default()
    };
    let lead = "Ratios of medians with 95 % intervals, in one bench on one machine. The fastest other runtime \
                of each setting is named.";
    Some(Section::new("Compared with the fastest other runtime", lead).figure(figure.draw()))
}

/// One series for each contestant of the bench, so that each has the same colour in every plot.
fn by_contestant(
    bench: &BenchRecord,
    settings: &[&Setting],
    look: Look,
    point: impl Fn(&Setting, &BenchEntry) -> Point,
) -> Vec<Series> {
    let all = bench.settings.iter().flat_map(|s| &s.entries).map(|e| e.name.as_str());
    let mut names: Vec<&str> = all.collect::<BTreeSet<_>>().into_iter().collect();
    // Our engines come first and so take the first colours.
    names.sort_by_key(|name| !is_ours(name));
    let series = |name: &str| {
        let of = |s: &&Setting| s.entries.iter().find(|e| e.name == name).map(|e| point(s, e));
        let points = settings.iter().filter_map(of).collect();
        Series { name: shown(name), look, points }
    };
    names.into_iter().map(series).collect()
}

/// Error over time per clip; `None` if the bench has fewer than two measurements.
pub(super) fn accuracy(bench: &BenchRecord) -> Option<Section> {
    if bench.settings.iter().map(|s| s.entries.len()).sum::<usize>() < 2 {
        return None;
    }
    let settings: Vec<&Setting> = bench.settings.iter().collect();
    let many = settings.len() > 1;
    let point = |s: &Setting, e: &BenchEntry| {
        let setting = if many {
            format!(" {} ×{} t{}", s.precision, s.batch, s.threads)
        } else {
            String::new()
        };
        let name = format!("{}{setting}", e.name);
        Point {
            first: is_ours(&e.name),
            ..Point::named(1e3 * e.p50_s / s.batch as f64, e.error, &name)
        }
    };
    let chart = Chart {
        name: "speed-accuracy",
        description: "error of each contestant over its time for a clip".to_owned(),
        x: Axis::log("ms for a clip (logarithmic)"),
        y: Axis::log("relative L2 error against float64 (logarithmic)"),
        series: by_contestant(bench, &settings, Look::Dots, point),
    };
    let lead = "A point is a contestant in one setting: faster is further left, and closer to float64 is \
                lower. bfloat16 lies above float32.";
    let note =
        many.then(|| "“bf16 ×8 t2” means bfloat16, a batch of 8 clips and 2 threads.".to_owned());
    Some(Section::new("Speed against accuracy", lead).figure(chart.draw()).notes(note))
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
pub(super) fn scaling(bench: &BenchRecord, over: &ScalingAxis) -> Vec<Section> {
    let mut groups: BTreeMap<(&str, u64), Vec<&Setting>> = BTreeMap::new();
    for setting in &bench.settings {
        let group = (setting.precision.as_str(), (over.fixed)(setting));
        groups.entry(group).or_default().push(setting);
    }
    let mut sections = vec![];
    for ((precision, fixed), settings) in groups.into_iter().filter(|(_, s)| s.len() > 1) {
        let last = settings.iter().map(|s| (over.x)(s)).max();
        let point = |s: &Setting, e: &BenchEntry| {
            // The name stands at the end of its line.
            let name = if Some((over.x)(s)) == last { e.name.as_str() } else { "" };
            Point::named((over.x)(s) as f64, s.batch as f64 / e.p50_s, name)
        };
        let chart = Chart {
            name: "throughput",
            description: format!(
                "clips per second over {}, {precision}, {} {fixed}",
                over.what, over.fixed_name
            ),
            x: Axis::whole(over.what),
            y: Axis { cover: vec![0.0], ..Axis::linear("clips/s") },
            series: by_contestant(bench, &settings, Look::Joined, point),
        };
        let title =
            format!("Throughput over {}: {precision}, {} {fixed}", over.what, over.fixed_name);
        sections.push(Section::new(&title, "").figure(chart.draw()));
    }
    sections
}

/// The unit of speeds in a roofline, as a multiple of GFLOP/s: a GPU is shown in TFLOP/s.
fn unit(setting: &Setting) -> (&'static str, f64) {
    if setting.peak_gflops >= 1e4 { ("TFLOP/s", 1e3) } else { ("GFLOP/s", 1.0) }
}

/// The speed of each step of our engines under the measured limits of the machine.
pub(super) fn roofline(setting: &Setting) -> Option<Section> {
    let ours = setting.entries.iter().filter(|entry| is_ours(&entry.name));
    let (unit, per) = unit(setting);
    let mut series: Vec<Series> = ours.map(|entry| steps(entry, per)).collect();
    series.retain(|series| !series.points.is_empty());
    let points = || series.iter().flat_map(|series| &series.points).map(|point| point.x);
    if series.is_empty() {
        return None;
    }
    let least = points().fold(f64::INFINITY, f64::min);
    let most = points().fold(0.0, f64::max);
    // On logarithmic axes the roof is two straight lines, which meet where both limits are equal.
    let ridge = (setting.peak_gflops / setting.peak_gbs).max(least).min(most);
    let roof = |x: f64| Point::at(x, (x * setting.peak_gbs).min(setting.peak_gflops) / per);
    series.push(Series {
        name: "measured roof".to_owned(),
        look: Look::Line,
        points: [least, ridge, most].map(roof).into(),
    });
    let chart = Chart {
        name: "roofline",
        description: format!("speed of each step over its operations per byte, {}", title(setting)),
        x: Axis::log("operations per byte of weights, inputs and outputs (logarithmic)"),
        y: Axis::log(&format!("{unit} (logarithmic)")),
        series,
    };
    let title = format!("Roofline: {}", title(setting));
    let lead = format!(
        "Operations are those of a direct convolution: layers with Winograd's or Strassen's algorithm may lie \
         above the roof of {} \
         and {} GB/s. Point at a step for its name.",
        super::speed(setting.peak_gflops),
        short(setting.peak_gbs)
    );
    Some(Section::new(&title, &lead).figure(chart.draw()))
}

/// The steps of an engine that compute, with names for the slowest three; `per` GFLOP/s are one unit.
fn steps(entry: &BenchEntry, per: f64) -> Series {
    let mut slowest: Vec<f64> = entry.layers.iter().map(|layer| layer.ms).collect();
    slowest.sort_by(|a, b| b.total_cmp(a));
    let limit = slowest.get(2).copied().unwrap_or(0.0);
    let point = |layer: &record::LayerTime| {
        let (gflop, mb) = (layer.gflop.filter(|g| *g > 0.0)?, layer.mb.filter(|mb| *mb > 0.0)?);
        let point = Point::at(gflop * 1e3 / mb, gflop / layer.ms * 1e3 / per);
        Some(Point {
            name: layer.name.clone(),
            first: layer.ms >= limit,
            quiet: layer.ms < limit,
            ..point
        })
    };
    Series {
        name: format!("steps of {}", entry.name),
        look: Look::Dots,
        points: entry.layers.iter().filter_map(point).collect(),
    }
}
