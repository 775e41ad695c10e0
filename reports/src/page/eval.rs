//! The page of an evaluation.

mod table;

use super::study::{Section, View, class, percent, with_interval};
use super::{Headline, Page, provenance};
use crate::chart::{Chart, Look, Point, Series};
use crate::error::Result;
use crate::format::{count, short};
use crate::table::Column;
use record::{Disagreement, EvalRecord, Score, Verdict};

/// The largest number of rows in a table of files; the record lists all files.
const MAX_ROWS: usize = 200;

impl Page for EvalRecord {
    fn render(&self) -> Result<String> {
        super::fill("study.html", &view(self)?)
    }

    fn headline(&self) -> Headline {
        let top1 = self.engines.first().map_or(f64::NAN, |score| 100.0 * score.top1.share());
        let sentence = format!("{}: {} % top-1", self.dataset, short(top1));
        Headline::new(self.verdict, self.verdict.as_str(), sentence)
    }

    fn table_name(&self) -> &'static str {
        "videos.parquet"
    }

    fn table(&self) -> Vec<Column> {
        table::columns(self)
    }

    /// Without the run, a resumed evaluation writes the same bytes as an uninterrupted one.
    fn table_holds_run(&self) -> bool {
        false
    }
}

/// Builds the view.
fn view(eval: &EvalRecord) -> Result<View> {
    let first = eval.engines.first();
    let accuracy = first.map_or("nothing".to_owned(), |score| percent(score.top1.share()));
    let beyond = eval.disagreements.iter().filter(|d| !d.tie).count();
    let mut sections = vec![accuracies(eval)];
    sections.extend(agreement(eval));
    if let Some(score) = first {
        sections.push(calibration(score)?);
        sections.extend(confusion(eval, score));
    }
    sections.extend(manifest(eval));
    if eval.dataset == "k400" {
        sections.push(published(eval)?);
    }
    Ok(View {
        title: format!("{} · {accuracy} top-1", eval.dataset),
        kind: "eval",
        verdict: eval.verdict.as_str(),
        mark: match eval.verdict {
            Verdict::Pass => "✓",
            Verdict::Diverged => "✗",
            Verdict::Incomplete => "?",
        },
        word: format!("{accuracy} top-1 on {}", eval.dataset),
        sentence: format!(
            "{} evaluated of {}; {}",
            count(eval.manifest.evaluated as usize, "video"),
            eval.manifest.listed,
            match eval.engines.len() {
                0 | 1 => "one engine only, so agreement was not tested".to_owned(),
                n => format!("{n} engines disagree on {beyond} of them, ties not counted"),
            }
        ),
        warnings: warnings(eval),
        sections,
        provenance: provenance::of(&eval.run),
    })
}

/// What makes the accuracy differ from that of the data set: missing files, shards, other orders.
fn warnings(eval: &EvalRecord) -> Vec<String> {
    let manifest = &eval.manifest;
    let mut warnings = vec![];
    if !manifest.missing.is_empty() {
        warnings.push(format!(
            "{} of the list's {} files are missing: this is not the accuracy on {}.",
            manifest.missing.len(),
            manifest.listed,
            eval.dataset
        ));
    }
    if !manifest.undecodable.is_empty() {
        warnings
            .push(format!("{} could not be decoded.", count(manifest.undecodable.len(), "file")));
    }
    if !manifest.damaged.is_empty() {
        warnings.push(format!(
            "{} with many fewer frames than promised.",
            count(manifest.damaged.len(), "damaged file")
        ));
    }
    if manifest.interrupted {
        warnings
            .push("The run was stopped before its end; the same command continues it.".to_owned());
    }
    if eval.order != "natural" {
        warnings.push(format!("The frames were not in their natural order: {}.", eval.order));
    }
    if let Some(shard) = &manifest.shard {
        warnings.push(format!("This is shard {shard} of the list; --merge joins the shards."));
    }
    warnings
}

fn accuracies(eval: &EvalRecord) -> Section {
    let row = |score: &Score| {
        vec![
            score.engine.clone(),
            with_interval(&score.top1),
            with_interval(&score.top5),
            percent(score.mean_class),
            percent(score.calibration_error),
            format!("{:.2} ms", 1e3 * score.seconds_per_view),
        ]
    };
    let head = [
        "Engine",
        "Top-1 (95 % interval)",
        "Top-5",
        "Mean class accuracy",
        "Calibration error",
        "Time per view",
    ];
    let mut rows: Vec<Vec<String>> = eval.engines.iter().map(row).collect();
    if let Some(published) = &eval.published {
        let top5 = published.top5.map_or("–".to_owned(), |top5| format!("{top5} %"));
        let name = format!("published ({})", published.source);
        rows.push(vec![
            name,
            format!("{} %", published.top1),
            top5,
            "–".into(),
            "–".into(),
            "–".into(),
        ]);
    }
    let lead = format!(
        "Protocol {}: {}. The score of a class is the mean of the softmax over the views.",
        eval.mode, eval.protocol
    );
    Section::new("Accuracy", &lead).table(&head, rows)
}

fn agreement(eval: &EvalRecord) -> Option<Section> {
    if eval.engines.len() < 2 {
        return None;
    }
    let named = |d: &Disagreement| {
        let names =
            d.named.iter().map(|(e, c)| format!("{e}: {}", class(&eval.classes, *c as usize)));
        names.collect::<Vec<_>>().join("; ")
    };
    let row = |d: &Disagreement| {
        let label = d.label.map_or("–".to_owned(), |at| class(&eval.classes, at as usize));
        let tie = if d.tie { "tie" } else { "disagreement" };
        vec![d.path.clone(), label, named(d), short(d.margin), tie.to_owned()]
    };
    let lead = format!(
        "Engines that compute the same network name the same class for every video: a test that needs \
         no labels. A difference with a margin of at most {} is a tie.",
        short(eval.tie)
    );
    let rows: Vec<_> = eval.disagreements.iter().take(MAX_ROWS).map(row).collect();
    let head = ["Video", "Class", "Named", "Margin", ""];
    let mut section = Section::new("Agreement", &lead).table(&head, rows);
    // A record may come from a stranger, so only embedded images are shown: nothing is loaded.
    let inside = |uri: &&String| uri.starts_with("data:image/jpeg;base64,");
    let shown = eval.disagreements.iter().filter_map(|d| {
        let frames = d.frames.as_ref().filter(inside)?;
        Some((frames.clone(), format!("{} — {}", d.path, named(d))))
    });
    section.pictures = shown.collect();
    Some(section)
}

fn calibration(score: &Score) -> Result<Section> {
    let points = score.calibration.iter().filter(|bin| bin.count > 0).map(|bin| Point {
        x: 100.0 * bin.confidence,
        y: 100.0 * bin.accuracy,
        interval: None,
        name: format!("{}", bin.count),
    });
    let ideal = [0.0, 100.0].map(|at| Point { x: at, y: at, interval: None, name: String::new() });
    let chart = Chart {
        name: "calibration",
        description: "Accuracy by confidence".to_owned(),
        x_label: "confidence in %".to_owned(),
        y_label: "accuracy in %".to_owned(),
        series: vec![
            Series { name: score.engine.clone(), look: Look::Joined, points: points.collect() },
            Series { name: "ideal".to_owned(), look: Look::Joined, points: ideal.into() },
        ],
        ..Chart::default()
    };
    let lead = "Videos grouped by the score of the named class, in tenths; next to each point, the number of videos.";
    Section::new("Calibration", lead).chart(&chart)
}

fn confusion(eval: &EvalRecord, score: &Score) -> Option<Section> {
    if score.confusion.is_empty() {
        return None;
    }
    let names: Vec<String> =
        (0..score.confusion.len()).map(|at| class(&eval.classes, at)).collect();
    let mut head = vec!["Class"];
    head.extend(names.iter().map(String::as_str));
    let cell = |n: &u64| if *n == 0 { String::new() } else { n.to_string() };
    let rows = score
        .confusion
        .iter()
        .zip(&names)
        .map(|(row, name)| std::iter::once(name.clone()).chain(row.iter().map(cell)).collect());
    let lead =
        format!("Rows are the true classes, columns the classes that {} named.", score.engine);
    Some(Section::new("Confusion", &lead).table(&head, rows.collect()))
}

fn manifest(eval: &EvalRecord) -> Vec<Section> {
    let manifest = &eval.manifest;
    let fact = |name: &str, value: String| vec![name.to_owned(), value];
    let facts = vec![
        fact("List", manifest.list.clone()),
        fact("Videos in it", manifest.listed.to_string()),
        fact("Evaluated", manifest.evaluated.to_string()),
        fact("Missing", manifest.missing.len().to_string()),
        fact("Undecodable", manifest.undecodable.len().to_string()),
        fact("Damaged", manifest.damaged.len().to_string()),
        fact("Decoded with a warning", manifest.warned.len().to_string()),
        fact("Other frames in decord", manifest.decord.len().to_string()),
        fact("Decoder", manifest.decoder.clone()),
        fact("Protocol", eval.protocol.clone()),
        fact("Order of frames", eval.order.clone()),
    ];
    let mut sections = vec![Section::new("Manifest", "").table(&["", ""], facts)];
    let mut pairs = |title: &str, lead: &str, pairs: &[(String, String)]| {
        if !pairs.is_empty() {
            let rows =
                pairs.iter().take(MAX_ROWS).map(|(path, why)| vec![path.clone(), why.clone()]);
            sections.push(Section::new(title, lead).table(&["File", "Reason"], rows.collect()));
        }
    };
    pairs(
        "Undecodable files",
        "They count neither as correct nor as wrong.",
        &manifest.undecodable,
    );
    pairs(
        "Damaged files",
        "Their containers promise many more frames than came. They were evaluated with what came.",
        &manifest.damaged,
    );
    pairs("Files with a warning", "They were decoded and evaluated.", &manifest.warned);
    let decord: Vec<(String, String)> =
        manifest.decord.iter().map(|file| (file.path.clone(), file.remark.why.clone())).collect();
    pairs(
        "Files of which decord takes other frames",
        "The frames that were evaluated are those at the sampled places, in order. Where it can be \
         computed, the record has the frames that decord 0.6.0 takes instead.",
        &decord,
    );
    let missing: Vec<_> = manifest
        .missing
        .iter()
        .map(|path| (path.clone(), "not in the folder".to_owned()))
        .collect();
    pairs("Missing files", "", &missing);
    sections
}

/// This run among published methods on Kinetics-400.
fn published(eval: &EvalRecord) -> Result<Section> {
    let rows = crate::published::METHODS;
    let point = |m: &crate::published::Method| Point {
        x: m.gflops,
        y: m.top1,
        interval: None,
        name: m.name.to_owned(),
    };
    let mut series = vec![Series {
        name: "published".to_owned(),
        look: Look::Dots,
        points: rows.iter().map(point).collect(),
    }];
    if let Some(score) = eval.engines.first() {
        let here = Point {
            x: crate::published::SQUEEZETIME_GFLOPS,
            y: 100.0 * score.top1.share(),
            interval: Some((100.0 * score.top1.low, 100.0 * score.top1.high)),
            name: "this run".to_owned(),
        };
        series.push(Series { name: "this run".to_owned(), look: Look::Dots, points: vec![here] });
    }
    let chart = Chart {
        name: "published",
        description: "Top-1 accuracy on Kinetics-400 against cost".to_owned(),
        x_label: "cost of one view in GFLOPs, as published (logarithmic)".to_owned(),
        y_label: "top-1 in %".to_owned(),
        series,
        log_x: true,
        ..Chart::default()
    };
    let table = rows.iter().map(|m| {
        vec![m.name.to_owned(), format!("{} %", m.top1), short(m.gflops), m.source.to_owned()]
    });
    Ok(Section::new("Published methods on Kinetics-400", crate::published::LEAD)
        .chart(&chart)?
        .table(&["Method", "Top-1", "GFLOPs per view", "Source"], table.collect()))
}
