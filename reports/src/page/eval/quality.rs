//! How good the answers are: accuracy by engine and class, confusion, calibration.

use crate::chart::{Axis, Chart, Dot, Look, Point, Row, Rows, Series};
use crate::format::count;
use crate::page::study::{Matrix, Section, class, percent};
use crate::stats::wilson;
use record::{EvalRecord, Score};

/// The largest number of classes in the plot of accuracy by class.
const MAX_CLASSES: usize = 20;
/// The largest number of confused pairs in words.
const MAX_PAIRS: usize = 5;

/// Top-1 and top-5 of each engine.
pub(super) fn accuracies(eval: &EvalRecord) -> Rows {
    let row = |name: &str, at: usize, rate: &record::Rate| {
        let share = 100.0 * rate.share();
        let (low, high) = (100.0 * rate.low, 100.0 * rate.high);
        Row {
            name: name.to_owned(),
            series: at,
            dot: Some(Dot {
                value: share,
                interval: Some((low, high)),
                range: None,
                label: format!("{} ({low:.1} to {high:.1})", percent(rate.share())),
            }),
            ..Row::default()
        }
    };
    let mut rows = vec![];
    for score in &eval.engines {
        rows.push(row(&format!("top-1, {}", score.engine), 0, &score.top1));
        rows.push(row(&format!("top-5, {}", score.engine), 1, &score.top5));
    }
    let published = eval.published.as_ref();
    Rows {
        name: "accuracy",
        description: format!("top-1 and top-5 accuracy on {}", eval.dataset),
        axis: Axis::percent("accuracy in %, with 95 % intervals"),
        reference: published.map(|p| (p.top1, format!("published top-1, {:.1} %", p.top1))),
        rows,
        ..Rows::default()
    }
}

/// Accuracy of each class, the worst first; `None` if the record holds no confusion matrix.
pub(super) fn classes(eval: &EvalRecord, score: &Score) -> Option<Section> {
    let of = |(at, row): (usize, &Vec<u64>)| {
        let (hits, of) = (row.get(at).copied().unwrap_or(0), row.iter().sum::<u64>());
        (of > 0).then(|| (class(&eval.classes, at), hits, of))
    };
    let mut all: Vec<(String, u64, u64)> =
        score.confusion.iter().enumerate().filter_map(of).collect();
    if all.is_empty() {
        return None;
    }
    all.sort_by(|a, b| (a.1 as f64 / a.2 as f64).total_cmp(&(b.1 as f64 / b.2 as f64)));
    let row = |(name, hits, of): &(String, u64, u64)| {
        let (low, high) = wilson(*hits as f64, *of as f64);
        let share = *hits as f64 / *of as f64;
        Row {
            name: name.clone(),
            dot: Some(Dot {
                value: 100.0 * share,
                interval: Some((100.0 * low, 100.0 * high)),
                range: None,
                label: format!("{} ({hits} of {of})", percent(share)),
            }),
            ..Row::default()
        }
    };
    let shown = all.len().min(MAX_CLASSES);
    let figure = Rows {
        name: "classes",
        description: format!("accuracy of {} by class", score.engine),
        axis: Axis::percent("accuracy in %, with 95 % intervals"),
        reference: Some((100.0 * score.mean_class, "mean per-class accuracy".to_owned())),
        rows: all.iter().take(shown).map(row).collect(),
        ..Rows::default()
    };
    let which = match shown == all.len() {
        true => format!("All {shown} classes"),
        false => format!("The {shown} worst of {} classes", all.len()),
    };
    let lead = format!(
        "{which}, for {}. The mean per-class accuracy, {}, counts every class the same, however many \
         videos it has.",
        score.engine,
        percent(score.mean_class)
    );
    Some(Section::new("Accuracy by class", &lead).figure(figure.draw()))
}

/// The confusion matrix, shaded, with the worst pairs in words.
pub(super) fn confusion(eval: &EvalRecord, score: &Score) -> Option<Section> {
    if score.confusion.is_empty() {
        return None;
    }
    let name = |at: usize| class(&eval.classes, at);
    let mut pairs = vec![];
    let mut rows = vec![];
    for (label, row) in score.confusion.iter().enumerate() {
        let sum = row.iter().sum::<u64>().max(1) as f64;
        let cell = |(named, n): (usize, &u64)| {
            let text = if *n == 0 { String::new() } else { n.to_string() };
            // Even a single video gets a shade that can be seen.
            let depth = if *n == 0 { 0 } else { 12 + (68.0 * *n as f64 / sum) as u32 };
            (text, depth, named != label)
        };
        rows.push((name(label), row.iter().enumerate().map(cell).collect()));
        let wrong = row.iter().enumerate().filter(|(named, n)| *named != label && **n > 0);
        pairs.extend(wrong.map(|(named, n)| (*n, label, named)));
    }
    pairs.sort_by(|a, b| b.0.cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let words = |(n, label, named): &(u64, usize, usize)| {
        let times = if *n == 1 { "once".to_owned() } else { format!("{n} times") };
        format!("{} taken for {} {times}", name(*label), name(*named))
    };
    let worst: Vec<String> = pairs.iter().take(MAX_PAIRS).map(words).collect();
    let rest = pairs.len().saturating_sub(MAX_PAIRS);
    let note = match (worst.is_empty(), rest) {
        (true, _) => "No video was taken for another class.".to_owned(),
        (false, 0) => format!("Confused: {}.", worst.join("; ")),
        (false, n) => format!("Most often confused: {}; and {n} other pairs.", worst.join("; ")),
    };
    let lead = format!(
        "Number of videos: rows are the true classes, columns the classes that {} named. The shade is the \
         share of the row.",
        score.engine
    );
    let mut section = Section::new("Confusion", &lead).notes([note]);
    section.matrix = Some(Matrix {
        label: "Confusion matrix".to_owned(),
        head: (0..score.confusion.len()).map(name).collect(),
        rows,
    });
    Some(section)
}

/// Accuracy by confidence, with intervals and numbers of videos.
pub(super) fn calibration(score: &Score) -> Section {
    let bins = || score.calibration.iter().filter(|bin| bin.count > 0);
    let point = |bin: &record::Bin| {
        let (low, high) = wilson(bin.accuracy * bin.count as f64, bin.count as f64);
        Point {
            interval: Some((100.0 * low, 100.0 * high)),
            first: true,
            ..Point::named(
                100.0 * bin.confidence,
                100.0 * bin.accuracy,
                &count(bin.count as usize, "video"),
            )
        }
    };
    let series = |name: &str, look, points| Series { name: name.to_owned(), look, points };
    let whole =
        |label: &str| Axis { cover: vec![0.0, 100.0], most: Some(100.0), ..Axis::linear(label) };
    let chart = Chart {
        name: "calibration",
        description: format!("accuracy of {} by confidence", score.engine),
        x: whole("mean confidence of the bin in %"),
        y: whole("accuracy in %"),
        series: vec![
            series(&score.engine, Look::Dots, bins().map(point).collect()),
            series(
                "confidence equals accuracy",
                Look::Line,
                vec![Point::at(0.0, 0.0), Point::at(100.0, 100.0)],
            ),
        ],
    };
    let lead = format!(
        "Videos are put into ten bins by the score of the class that was named, their confidence. Expected \
         calibration error: the difference between accuracy and mean confidence of a bin, averaged over \
         videos; it is {} here, and 0 is best. Below the line the network is too sure of itself, above it \
         not sure enough.",
        percent(score.calibration_error)
    );
    Section::new("Calibration", &lead).figure(chart.draw())
}
