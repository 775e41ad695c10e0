//! The page of an evaluation.

mod published;
mod quality;
mod strips;
mod table;

use super::study::{Section, View, class, percent, with_interval};
use super::{Headline, Measure, Page, provenance};
use crate::error::Result;
use crate::format::{count, short};
use crate::table::Column;
use record::{BenchRecord, Disagreement, EvalRecord, Rate, Score, Verdict};

/// The largest number of rows in a table of files; the record lists all files.
const MAX_ROWS: usize = 200;

impl Page for EvalRecord {
    fn render(&self) -> Result<String> {
        super::fill("study.html", &view(self, None))
    }

    fn headline(&self) -> Headline {
        Headline::new(self.verdict, self.verdict.as_str(), word(self))
    }

    fn table_name(&self) -> &'static str {
        "videos.parquet"
    }

    fn table(&self) -> Vec<Column> {
        table::columns(self)
    }

    fn measures(&self) -> Vec<Measure> {
        let of = |score: &Score| {
            let rate = |name: &str, rate: &Rate| Measure {
                name: format!("{name} in % on {} ({}), {}", self.dataset, self.mode, score.engine),
                value: 100.0 * rate.share(),
                interval: Some((100.0 * rate.low, 100.0 * rate.high)),
                by_ratio: false,
            };
            [rate("top-1", &score.top1), rate("top-5", &score.top5)]
        };
        self.engines.iter().flat_map(of).collect()
    }

    /// Without the run, a resumed evaluation writes the same bytes as an uninterrupted one.
    fn table_holds_run(&self) -> bool {
        false
    }
}

/// Whether the page has plots of published methods.
pub(super) fn has_published(eval: &EvalRecord) -> bool {
    eval.dataset == published::DATASET && eval.published.is_some() && !eval.engines.is_empty()
}

/// Renders the page with the times of a bench in the plots of published methods.
pub(super) fn render_with_bench(eval: &EvalRecord, bench: &BenchRecord) -> Result<String> {
    super::fill("study.html", &view(eval, Some(bench)))
}

/// Builds the view.
fn view(eval: &EvalRecord, bench: Option<&BenchRecord>) -> View {
    let mut sections = vec![accuracies(eval)];
    if let Some(score) = eval.engines.first() {
        if has_published(eval) {
            sections.push(published::section(eval, score, bench));
        }
        sections.extend(quality::classes(eval, score));
        sections.extend(quality::confusion(eval, score));
        sections.push(quality::calibration(score));
    }
    sections.extend(strips::mistakes(eval));
    sections.extend(agreement(eval));
    sections.extend(manifest(eval));
    View {
        title: word(eval),
        kind: "eval",
        verdict: eval.verdict.as_str(),
        mark: match eval.verdict {
            Verdict::Pass => "✓",
            Verdict::Diverged => "✗",
            Verdict::Incomplete => "?",
        },
        word: word(eval),
        sentence: sentence(eval),
        warnings: warnings(eval),
        sections,
        provenance: provenance::of(&eval.run),
    }
}

/// The result in words: `98.8 % top-1 (97.1 to 99.5) on mini`.
fn word(eval: &EvalRecord) -> String {
    let Some(score) = eval.engines.first() else {
        return format!("No engine was evaluated on {}", eval.dataset);
    };
    if score.top1.of == 0 {
        let videos = count(eval.manifest.evaluated as usize, "video");
        return format!("{videos} without labels on {}", eval.dataset);
    }
    let top1 = 100.0 * score.top1.share();
    let manifest = &eval.manifest;
    let result = format!(
        "{} top-1 ({:.1} to {:.1})",
        percent(score.top1.share()),
        100.0 * score.top1.low,
        100.0 * score.top1.high
    );
    match &eval.published {
        Some(published) if top1.is_finite() => {
            let points = top1 - published.top1;
            let side = if points < 0.0 { "below" } else { "above" };
            format!(
                "{result}, {:.1} points {side} the published {:.1}\u{a0}%",
                points.abs(),
                published.top1
            )
        }
        _ if manifest.in_list.is_some_and(|all| manifest.listed < all) => {
            format!("{result} on a part of {}", list(eval))
        }
        _ => format!("{result} on {}", list(eval)),
    }
}

/// What the accuracy is about. A list of one's own is not the data set whose protocol it is evaluated with.
fn list(eval: &EvalRecord) -> String {
    let dataset = &eval.dataset;
    match eval.manifest.list.strip_prefix(&format!("{dataset}: ")) {
        Some(list) if dataset != "mini" => {
            let videos = count(eval.manifest.evaluated as usize, "video");
            format!("{videos} of {list} (protocol of {dataset})")
        }
        _ => dataset.clone(),
    }
}

/// What was evaluated, what the engines agree on, and with which protocol the published accuracy was made.
fn sentence(eval: &EvalRecord) -> String {
    let manifest = &eval.manifest;
    let whole = manifest.in_list.unwrap_or(manifest.listed);
    let evaluated = match manifest.evaluated == whole {
        true => format!("all {} of {}", count(whole as usize, "video"), manifest.list),
        false => format!(
            "{} of the {} of {}",
            manifest.evaluated,
            count(whole as usize, "video"),
            manifest.list
        ),
    };
    let beyond = eval.disagreements.iter().filter(|d| !d.tie).count();
    let agreement = match (eval.engines.len(), beyond) {
        (0 | 1, _) => "one engine only, so agreement was not tested".to_owned(),
        (n, 0) => format!("the {n} engines name the same class for every video, ties aside"),
        (n, videos) => {
            format!("the {n} engines name different classes for {}", count(videos, "video"))
        }
    };
    let published = match &eval.published {
        Some(published) => {
            format!("; published: {}, this run: {} protocol", published.source, eval.mode)
        }
        None => String::new(),
    };
    let gpu = &eval.run.machine.gpu;
    let device = gpu.as_ref().map_or(String::new(), |name| format!("; computed on {name}"));
    format!("{evaluated}, 95 % interval in brackets; {agreement}{published}{device}")
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
            format!("{:.2}\u{a0}ms", 1e3 * score.seconds_per_view),
        ]
    };
    let head = [
        "Engine",
        "Top-1 (95 % interval)",
        "Top-5",
        "Mean per-class accuracy",
        "Expected calibration error",
        "Time for a view",
    ];
    let mut rows: Vec<Vec<String>> = eval.engines.iter().map(row).collect();
    if let Some(published) = &eval.published {
        let top5 = published.top5.map_or("–".to_owned(), |top5| format!("{top5:.1}\u{a0}%"));
        let name = format!("published ({})", published.source);
        let top1 = format!("{:.1}\u{a0}%", published.top1);
        rows.push(vec![name, top1, top5, "–".into(), "–".into(), "–".into()]);
    }
    let lead = format!(
        "Protocol {}: {}. The score of a class is the mean of the softmax over the views.",
        eval.mode, eval.protocol
    );
    Section::new("Accuracy", &lead).figure(quality::accuracies(eval).draw()).table(&head, rows)
}

fn agreement(eval: &EvalRecord) -> Option<Section> {
    if eval.engines.len() < 2 {
        return None;
    }
    let row = |d: &Disagreement| {
        let label = d.label.map_or("–".to_owned(), |at| class(&eval.classes, at as usize));
        let tie = if d.tie { "tie" } else { "disagreement" };
        vec![d.path.clone(), label, named(eval, d), short(d.margin), tie.to_owned()]
    };
    let lead = format!(
        "Engines that compute the same network name the same class for every video: a test that needs \
         no labels. A difference with a margin of at most {} is a tie.",
        short(eval.tie)
    );
    let rows: Vec<_> = eval.disagreements.iter().take(MAX_ROWS).map(row).collect();
    let head = ["Video", "Class", "Named", "Margin", "Outcome"];
    let mut section = Section::new("Agreement", &lead).table(&head, rows);
    section.pictures = strips::disagreements(eval);
    Some(section)
}

/// The class that each engine names.
fn named(eval: &EvalRecord, d: &Disagreement) -> String {
    let names = d.named.iter().map(|(e, c)| format!("{e}: {}", class(&eval.classes, *c as usize)));
    names.collect::<Vec<_>>().join("; ")
}

fn manifest(eval: &EvalRecord) -> Vec<Section> {
    let manifest = &eval.manifest;
    let fact = |name: &str, value: String| (name.to_owned(), value);
    let facts = vec![
        fact("List", manifest.list.clone()),
        fact("Videos in it", manifest.in_list.unwrap_or(manifest.listed).to_string()),
        fact("Asked for", manifest.listed.to_string()),
        fact("Evaluated", manifest.evaluated.to_string()),
        fact("Missing", manifest.missing.len().to_string()),
        fact("Undecodable", manifest.undecodable.len().to_string()),
        fact("Damaged", manifest.damaged.len().to_string()),
        fact("With ffmpeg warnings", manifest.warned.len().to_string()),
        fact("Other frames in decord", manifest.decord.len().to_string()),
        fact("Decoder", manifest.decoder.clone()),
        fact("Protocol", eval.protocol.clone()),
        fact("Order of frames", eval.order.clone()),
    ];
    let mut sections = vec![Section { facts, ..Section::new("What was evaluated", "") }];
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
