//! The table that `eval` prints, at most 100 columns wide.

use console::style;
use record::{EvalRecord, Rate, Verdict};

/// The table of an evaluation: one line per engine, then disagreements, missing and damaged videos.
pub fn table(record: &EvalRecord) -> String {
    let mut lines = vec![
        format!("{} videos of {}", record.manifest.evaluated, record.manifest.list),
        format!(
            "{:24} {:>24} {:>8} {:>11} {:>12} {:>12}",
            "engine", "top-1 (95 % interval)", "top-5", "mean class", "calibration", "time a view"
        ),
    ];
    lines.extend(record.engines.iter().map(|score| {
        let Rate { low, high, .. } = score.top1;
        let interval = format!("({:.1} to {:.1})", 100.0 * low, 100.0 * high);
        let name = console::truncate_str(&score.engine, 24, "…");
        format!(
            "{name:24} {:>24} {:>6.1} % {:>9.1} % {:>10.1} % {:>9.2} ms",
            format!("{:.1} % {interval}", 100.0 * score.top1.share()),
            100.0 * score.top5.share(),
            100.0 * score.mean_class,
            100.0 * score.calibration_error,
            1e3 * score.seconds_per_view
        )
    }));
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
            format!("  {}: margin {:.3}", console::truncate_str(&d.path, 70, "…"), d.margin)
        }));
    }
    let manifest = &record.manifest;
    for (count, what) in [
        (manifest.missing.len(), "missing"),
        (manifest.undecodable.len(), "undecodable"),
        (manifest.damaged.len(), "decoded with a warning"),
    ] {
        if count > 0 {
            lines.push(style(format!("{count} {what}")).yellow().to_string());
        }
    }
    lines.extend(manifest.undecodable.iter().take(5).map(|(path, why)| format!("  {path}: {why}")));
    if manifest.interrupted {
        lines.push(style("stopped before the end; continue with --resume").yellow().to_string());
    }
    let word = record.verdict.as_str().to_uppercase();
    lines.push(match record.verdict {
        Verdict::Pass => style(word).green().bold().to_string(),
        Verdict::Diverged => style(word).red().bold().to_string(),
        Verdict::Incomplete => style(word).yellow().bold().to_string(),
    });
    lines.join("\n")
}
