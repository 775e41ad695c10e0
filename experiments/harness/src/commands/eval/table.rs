//! The table that `eval` prints, at most 100 columns wide.

use console::style;
use files::printable;
use record::{EvalRecord, Rate, Score, Verdict};

/// The number of files that each line of the manifest names.
const NAMED: usize = 3;

/// The table of an evaluation: one line per engine, then disagreements, missing and damaged videos.
pub fn table(record: &EvalRecord) -> String {
    let mut lines = vec![
        format!("{} videos of {}", record.manifest.evaluated, printable(&record.manifest.list)),
        format!(
            "{:24} {:>24} {:>8} {:>11} {:>12} {:>12}",
            "engine", "top-1 (95 % interval)", "top-5", "mean class", "calibration", "time a view"
        ),
    ];
    lines.extend(record.engines.iter().map(row));
    if let Some(published) = &record.published {
        lines.push(format!("published: {} % top-1 ({})", published.top1, published.source));
    }
    if record.engines.len() > 1 {
        let beyond = record.disagreements.iter().filter(|d| !d.tie).count();
        let ties = record.disagreements.len() - beyond;
        lines.push(format!(
            "disagreements: {beyond}, and {ties} ties (margin at most {})",
            record.tie
        ));
        lines.extend(record.disagreements.iter().filter(|d| !d.tie).take(5).map(|d| {
            let path = printable(&d.path);
            format!("  {}: margin {:.3}", console::truncate_str(&path, 70, "…"), d.margin)
        }));
    }
    lines.extend(manifest(record));
    let word = record.verdict.as_str().to_uppercase();
    lines.push(match record.verdict {
        Verdict::Pass => style(word).green().bold().to_string(),
        Verdict::Diverged => style(word).red().bold().to_string(),
        Verdict::Incomplete => style(word).yellow().bold().to_string(),
    });
    lines.join("\n")
}

/// The accuracy of an engine; a dash stands for what was not measured.
fn row(score: &Score) -> String {
    let percent = |share: f64, digits: usize| match share.is_finite() {
        true => format!("{:.digits$} %", 100.0 * share),
        false => "–".to_owned(),
    };
    let Rate { of, low, high, .. } = score.top1;
    let interval = match of {
        0 => String::new(),
        _ => format!(" ({:.1} to {:.1})", 100.0 * low, 100.0 * high),
    };
    let known = |share: f64| if of == 0 { f64::NAN } else { share };
    let time = match score.seconds_per_view.is_finite() {
        true => format!("{:.2} ms", 1e3 * score.seconds_per_view),
        false => "–".to_owned(),
    };
    let name = console::truncate_str(&score.engine, 24, "…");
    format!(
        "{name:24} {:>24} {:>8} {:>11} {:>12} {time:>12}",
        percent(score.top1.share(), 1) + &interval,
        percent(score.top5.share(), 1),
        percent(score.mean_class, 1),
        percent(known(score.calibration_error), 1),
    )
}

/// The files that are not part of the accuracy, or only with a warning, and the first of their names.
fn manifest(record: &EvalRecord) -> Vec<String> {
    let manifest = &record.manifest;
    let alone = |path: &String| (path.clone(), String::new());
    let missing: Vec<(String, String)> = manifest.missing.iter().map(alone).collect();
    let mut lines = vec![];
    for (files, what) in [
        (&missing, "missing"),
        (&manifest.undecodable, "undecodable"),
        (&manifest.damaged, "decoded with a warning"),
    ] {
        if files.is_empty() {
            continue;
        }
        lines.push(style(format!("{} {what}", files.len())).yellow().to_string());
        lines.extend(files.iter().take(NAMED).map(|(path, why)| {
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            let line = printable(&format!("{path}{why}"));
            format!("  {}", console::truncate_str(&line, 96, "…"))
        }));
        if files.len() > NAMED {
            lines.push(format!("  … and {} more, which the record names", files.len() - NAMED));
        }
    }
    if manifest.interrupted {
        let text = "stopped before the end; run the same command again to go on";
        lines.push(style(text).yellow().to_string());
    }
    lines
}
