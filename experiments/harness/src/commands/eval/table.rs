//! The table that `eval` prints, at most 100 columns wide.

use console::style;
use files::printable;
use record::{DecordFile, DecordRemark, EvalRecord, Manifest, Rate, Score, Speed, Verdict};

/// The number of files that each line of the manifest names.
const NAMED: usize = 3;

/// The table of an evaluation: one line per engine, then disagreements, missing and damaged videos.
pub fn table(record: &EvalRecord) -> String {
    let mut lines = vec![
        evaluated(&record.manifest),
        format!(
            "{:24} {:>24} {:>8} {:>14} {:>12} {:>12}",
            "engine",
            "top-1 (95 % interval)",
            "top-5",
            "mean per-class",
            "calib. error",
            "time a view"
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
    lines.extend(record.speed.as_ref().map(pace).into_iter().flatten());
    let word = record.verdict.as_str().to_uppercase();
    lines.push(match record.verdict {
        Verdict::Pass if record.engines.len() < 2 => format!(
            "{}  every video that was asked for was evaluated; with one engine, no agreement was tested",
            style(word).green().bold()
        ),
        Verdict::Pass => format!(
            "{}  every video that was asked for was evaluated, and the engines agree, ties aside",
            style(word).green().bold()
        ),
        Verdict::Diverged => style(word).red().bold().to_string(),
        Verdict::Incomplete => style(word).yellow().bold().to_string(),
    });
    lines.join("\n")
}

/// How many videos of the list were evaluated.
fn evaluated(manifest: &Manifest) -> String {
    let all = manifest.in_list.unwrap_or(manifest.listed);
    format!("{} of the {} of {}", manifest.evaluated, videos(all), printable(&manifest.list))
}

/// A number of videos.
fn videos(count: u64) -> String {
    if count == 1 { "1 video".to_owned() } else { format!("{count} videos") }
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
    let time = match score.seconds_per_view.is_finite() {
        true => format!("{:.2} ms", 1e3 * score.seconds_per_view),
        false => "–".to_owned(),
    };
    // Most engines run on the CPU; the others must be told apart.
    let name = score.engine.strip_suffix(" on cpu").unwrap_or(&score.engine);
    let name = console::truncate_str(name, 24, "…");
    format!(
        "{name:24} {:>24} {:>8} {:>14} {:>12} {time:>12}",
        percent(score.top1.share(), 1) + &interval,
        percent(score.top5.share(), 1),
        percent(score.mean_class, 1),
        percent(score.calibration_error, 1),
    )
}

/// Why decord takes other frames, and by how much it is off.
fn differences(remark: &DecordRemark) -> String {
    let pairs = remark.evaluated.iter().zip(&remark.decord_takes);
    let differ: Vec<i64> = pairs.map(|(&ours, &theirs)| theirs as i64 - ours as i64).collect();
    let off = differ.iter().filter(|&&by| by != 0).count();
    let range = (differ.iter().min(), differ.iter().max());
    match range {
        (Some(low), Some(high)) => {
            format!("{} ({off} of {} frames, {low:+} to {high:+})", remark.why, differ.len())
        }
        _ => remark.why.clone(),
    }
}

/// How fast the run was, and what bound it.
fn pace(speed: &Speed) -> [String; 2] {
    let rate = |count: u64| count as f64 / speed.seconds.max(1e-9);
    let parts: Vec<String> = speed
        .parts
        .iter()
        .map(|part| format!("{} {:.2}", part.name, part.videos_per_second))
        .collect();
    let rates = format!("{:.2} videos/s, {:.1} views/s", rate(speed.videos), rate(speed.views));
    [
        format!("{rates}; bound by the {}", speed.bound),
        format!("  each part alone, in videos/s: {}", parts.join(", ")),
    ]
}

/// The files that are not part of the accuracy, or only with a warning, and the first of their names.
fn manifest(record: &EvalRecord) -> Vec<String> {
    let manifest = &record.manifest;
    let alone = |path: &String| (path.clone(), String::new());
    let missing: Vec<(String, String)> = manifest.missing.iter().map(alone).collect();
    let decord = |file: &DecordFile| (file.path.clone(), differences(&file.remark));
    let decord: Vec<(String, String)> = manifest.decord.iter().map(decord).collect();
    let mut lines = vec![];
    for (files, what) in [
        (&missing, "missing"),
        (&manifest.undecodable, "undecodable"),
        (&manifest.damaged, if manifest.damage_allowed { "damaged (allowed)" } else { "damaged" }),
        (&manifest.warned, "with ffmpeg warnings"),
        (&decord, "of which decord takes other frames"),
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
