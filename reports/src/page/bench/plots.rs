//! The plots of a bench: accuracy, throughput, where the time goes, and the roofline.

use std::collections::{BTreeMap, BTreeSet};

use super::super::study::Section;
use super::title;
use crate::chart::{Chart, Look, MOST_SERIES, Point, Series};
use crate::error::Result;
use crate::record::{BenchEntry, BenchRecord, LayerTime, Setting};

/// One series for each contestant of the bench, so that it has the same colour in every plot.
fn by_contestant(
    bench: &BenchRecord,
    settings: &[&Setting],
    look: Look,
    point: impl Fn(&Setting, &BenchEntry) -> Point,
) -> Vec<Series> {
    let all = bench.settings.iter().flat_map(|s| &s.entries).map(|e| e.name.as_str());
    let mut names: Vec<&str> = all.collect::<BTreeSet<_>>().into_iter().collect();
    // Ours comes first: it has the first colour.
    names.sort_by_key(|name| *name != "cpu");
    let series = |name: &str| {
        let of = |s: &&Setting| s.entries.iter().find(|e| e.name == name).map(|e| point(s, e));
        let points = settings.iter().filter_map(of).collect();
        Series { name: name.to_owned(), look, points }
    };
    names.into_iter().map(series).collect()
}

/// Speed against accuracy, where there is something to compare.
pub(super) fn accuracy(bench: &BenchRecord) -> Result<Option<Section>> {
    if bench.settings.iter().map(|s| s.entries.len()).sum::<usize>() < 2 {
        return Ok(None);
    }
    let settings: Vec<&Setting> = bench.settings.iter().collect();
    let point = |s: &Setting, e: &BenchEntry| Point::at(1e3 * e.p50_s / s.batch as f64, e.error);
    let chart = Chart {
        name: "accuracy",
        description: "error of each contestant over its time for a clip".to_owned(),
        x_label: "ms a clip (logarithmic)".to_owned(),
        y_label: "relative L2 error".to_owned(),
        series: by_contestant(bench, &settings, Look::Dots, point),
        log_x: true,
        log_y: true,
        ..Chart::default()
    };
    let lead = "A point is a contestant in one setting: the faster the further left, the closer to \
                float64 the lower. bfloat16 lies above float32.";
    Ok(Some(Section::new("Speed against accuracy", lead).chart(&chart)?))
}

/// What throughput is shown over, and what is the same in one plot.
pub(super) struct Over {
    what: &'static str,
    x: fn(&Setting) -> u64,
    fixed: fn(&Setting) -> u64,
    /// The word for what is the same.
    of: &'static str,
}

pub(super) const THREADS: Over =
    Over { what: "threads", x: |s| s.threads, fixed: |s| s.batch, of: "batch" };
pub(super) const BATCH: Over =
    Over { what: "clips in a batch", x: |s| s.batch, fixed: |s| s.threads, of: "threads:" };

/// Throughput over threads or over the batch, where there is more than one.
pub(super) fn scaling(bench: &BenchRecord, over: &Over) -> Result<Vec<Section>> {
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
            description: format!("clips a second over {}, {precision}", over.what),
            x_label: over.what.to_owned(),
            y_label: "clips/s".to_owned(),
            series: by_contestant(bench, &settings, Look::Joined, point),
            ..Chart::default()
        };
        let title = format!("Throughput over {}: {precision}, {} {fixed}", over.what, over.of);
        sections.push(Section::new(&title, "").chart(&chart)?);
    }
    Ok(sections)
}

/// What steps of one kind come to.
#[derive(Default)]
pub(super) struct Sum {
    pub ms: f64,
    pub gflop: f64,
    pub steps: usize,
}

type Kinds<'a> = Vec<(&'a str, Sum)>;

/// Steps by kind, those that take longest first.
pub(super) fn by_kind(layers: &[LayerTime]) -> Kinds<'_> {
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
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

/// Where the time of our engine goes, setting beside setting.
pub(super) fn kinds(bench: &BenchRecord) -> Result<Option<Section>> {
    let ours = |s| profile_of(s).map(|layers| (s, by_kind(layers)));
    let settings: Vec<(&Setting, Kinds<'_>)> = bench.settings.iter().filter_map(ours).collect();
    let Some((_, first)) = settings.first() else { return Ok(None) };
    // Colours for those that take longest in the first setting; the others are one.
    let named: Vec<&str> = first.iter().map(|(kind, _)| *kind).take(MOST_SERIES - 1).collect();
    let series = |name: &str, belongs: &dyn Fn(&str) -> bool| {
        let bar = |(at, (setting, kinds)): (usize, &(&Setting, Kinds<'_>))| {
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
        description: "time of the engine cpu for a clip by kind of layer".to_owned(),
        x_label: "precision, clips × threads".to_owned(),
        y_label: "ms a clip".to_owned(),
        series: bars,
        names: settings.iter().map(name).collect(),
        ..Chart::default()
    };
    let lead = "The engine cpu by kind of layer; its profile below has them all.";
    Ok(Some(Section::new("Where the time goes", lead).chart(&chart)?))
}

/// The steps of our engine, where it was asked for them.
fn profile_of(setting: &Setting) -> Option<&[LayerTime]> {
    let entry = setting.entries.iter().find(|e| e.name == "cpu")?;
    (!entry.layers.is_empty()).then_some(&entry.layers)
}

/// Each step of our engine under the roofs of the machine.
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
    // On logarithmic axes the roof is two straight lines that meet where both peaks bind.
    let ridge = (setting.peak_gflops / setting.peak_gbs).max(least).min(most);
    let roof = |x: f64| Point::at(x, (x * setting.peak_gbs).min(setting.peak_gflops));
    let series = |name: &str, look, points| Series { name: name.to_owned(), look, points };
    let chart = Chart {
        name: "roofline",
        description: "speed of each step over its operations for each byte".to_owned(),
        x_label: "operations for each byte of weights, inputs and outputs (logarithmic)".to_owned(),
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
    let lead = "Operations are those of the direct convolution: Winograd layers may lie above.";
    Ok(Some(Section::new(&title, lead).chart(&chart)?))
}
