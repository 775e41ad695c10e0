//! The page of the false-alarm rate: many comparisons of engines that are known to be correct.

use super::study::{Section, View};
use super::{Headline, Page, provenance};
use crate::chart::{Axis, Chart, Look, Point, Series};
use crate::error::Result;
use crate::format::short;
use crate::table::{Column, column};
use record::{NullCase, NullGroup, NullRecord, Quantiles, Tail, measure_words};

/// The largest number of points in the histogram.
const MAX_BARS: usize = 60;

/// The names of a group's four sets of ratios in the table.
const MEASURES: [&str; 4] =
    ["introduced_l2", "introduced_largest", "inherited_l2", "inherited_largest"];

impl Page for NullRecord {
    fn render(&self) -> Result<String> {
        super::fill("study.html", &view(self))
    }

    fn headline(&self) -> Headline {
        let sentence =
            format!("{} in {} comparisons of correct engines", self.alarms, self.comparisons);
        Headline::new(self.verdict, "false alarms", sentence)
    }

    fn table_name(&self) -> &'static str {
        "ratios.parquet"
    }

    fn table(&self) -> Vec<Column> {
        let groups = self.groups.iter();
        let rows: Vec<(&NullGroup, &str, &Quantiles)> = groups
            .flat_map(|group| MEASURES.iter().zip(&group.ratios).map(move |(m, q)| (group, *m, q)))
            .collect();
        vec![
            column("engine", &rows, |(group, ..)| group.engine.as_str()),
            column("precision", &rows, |(group, ..)| group.precision.as_str()),
            column("layer", &rows, |(group, ..)| group.layer.as_str()),
            column("measure", &rows, |(_, measure, _)| *measure),
            column("count", &rows, |(group, ..)| group.count),
            column("median", &rows, |(.., q)| q.median),
            column("p99", &rows, |(.., q)| q.p99),
            column("p999", &rows, |(.., q)| q.p999),
            column("largest", &rows, |(.., q)| q.largest),
        ]
    }
}

/// Builds the view.
fn view(null: &NullRecord) -> View {
    let (mark, word) = match (null.comparisons, null.alarms) {
        (0, _) => ("?", "Nothing compared".to_owned()),
        (_, 0) => ("✓", "No false alarm".to_owned()),
        (_, 1) => ("✗", "1 false alarm".to_owned()),
        (_, n) => ("✗", format!("{n} false alarms")),
    };
    let sections = vec![
        Section::new(
            "Largest ratio of each comparison",
            "A comparison is a complete run of harness diff with a correct engine; above the bound it \
             would be a false alarm. The line is the fitted tail.",
        )
        .figure(histogram(null).draw())
        .table(&["Tail", "Value"], tail_rows(null)),
        Section::new(
            "Ratios by engine and kind of layer",
            "Median, 99.9 % quantile and maximum of the error ratios, by relative L2 and by largest \
             error, own and accumulated.",
        )
        .table(
            &[
                "Engine",
                "Precision",
                "Layer",
                "Count",
                "Own, L2",
                "Own, largest",
                "Accumulated, L2",
                "Accumulated, largest",
            ],
            null.groups.iter().map(group_row).collect(),
        ),
        Section::new("The worst comparisons", "The command repeats the comparison.").table(
            &["Ratio", "Measure", "Layer", "Engine", "Precision", "Command"],
            null.worst.iter().map(case_row).collect(),
        ),
    ];
    View {
        title: format!("{} comparisons of correct engines", null.comparisons),
        kind: "null",
        verdict: null.verdict.as_str(),
        mark,
        word,
        sentence: format!(
            "{} false alarms in {} comparisons of correct engines on {} random networks; {} error \
             ratios were measured, and {} or less passes",
            null.alarms,
            null.comparisons,
            null.draws,
            null.measurements,
            short(null.bound)
        ),
        warnings: vec![],
        sections,
        provenance: provenance::of(&null.run),
    }
}

fn histogram(null: &NullRecord) -> Chart {
    let points = null.histogram.iter().take(MAX_BARS);
    let points = points.map(|bin| Point::at((bin.from + bin.to) / 2.0, bin.count as f64)).collect();
    let bars = Series { name: "comparisons".to_owned(), look: Look::Joined, points };
    let mut series = vec![bars];
    if let (Some(tail), Some(bin)) = (&null.tail, null.histogram.first()) {
        let width = bin.to - bin.from;
        let expected = |step: usize| {
            let x = tail.threshold + (null.bound - tail.threshold).max(0.0) * step as f64 / 40.0;
            let density = density(tail, x - tail.threshold) * width;
            Point::at(x, tail.exceedances as f64 * density)
        };
        // Below a hundredth of a comparison the curve would only stretch the logarithmic axis.
        let points = (0..=40).map(expected).filter(|point| point.y > 1e-2).collect();
        series.push(Series { name: "fitted tail".to_owned(), look: Look::Line, points });
    }
    Chart {
        name: "null",
        description: format!("comparisons by their largest ratio; the bound is {}", null.bound),
        x: Axis::linear("largest error ratio"),
        y: Axis::log("comparisons (logarithmic)"),
        series,
    }
}

/// The density of the generalised Pareto distribution at `x` above the threshold.
fn density(tail: &Tail, x: f64) -> f64 {
    if tail.shape.abs() < 1e-9 {
        return (-x / tail.scale).exp() / tail.scale;
    }
    let base = (1.0 + tail.shape * x / tail.scale).max(0.0);
    base.powf(-1.0 / tail.shape - 1.0) / tail.scale
}

fn tail_rows(null: &NullRecord) -> Vec<Vec<String>> {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let Some(tail) = &null.tail else {
        return vec![row("Predicted false alarms", "too few comparisons to predict".to_owned())];
    };
    let (rate, low, high) = (short(tail.rate), short(tail.low), short(tail.high));
    vec![
        row(
            "Predicted false alarms per comparison",
            format!("{rate} (95 % interval {low} to {high})"),
        ),
        row("Threshold", format!("{}, exceeded {} times", short(tail.threshold), tail.exceedances)),
        row(
            "Generalised Pareto distribution",
            format!("shape {}, scale {}", short(tail.shape), short(tail.scale)),
        ),
    ]
}

fn group_row(group: &NullGroup) -> Vec<String> {
    let three =
        |q: &Quantiles| format!("{} · {} · {}", short(q.median), short(q.p999), short(q.largest));
    let names = [&group.engine, &group.precision, &group.layer].map(Clone::clone);
    let mut row: Vec<String> = names.to_vec();
    row.push(group.count.to_string());
    row.extend(group.ratios.iter().map(three));
    row
}

fn case_row(case: &NullCase) -> Vec<String> {
    let measure = measure_words(&case.measure);
    let texts = [&measure, &case.module, &case.engine, &case.precision, &case.command];
    std::iter::once(short(case.ratio)).chain(texts.map(Clone::clone)).collect()
}
