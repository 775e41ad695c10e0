//! The table of a setting on the terminal, at most 100 columns wide.

use record::{BenchEntry, Setting, Spread};

/// The largest number of columns of a line.
const WIDTH: usize = 100;

/// The table of a setting.
pub fn table(setting: &Setting) -> String {
    let mut lines = vec![
        format!(
            "{}, batch {}, {} thread{}; peak {:.0} GFLOP/s, {:.1} GB/s{}",
            setting.precision,
            setting.batch,
            setting.threads,
            if setting.threads == 1 { "" } else { "s" },
            setting.peak_gflops,
            setting.peak_gbs,
            setting
                .handover_s()
                .map_or(String::new(), |s| format!(", core to core {:.0} ns", 1e9 * s))
        ),
        format!(
            "  {:13} {:>7} {:>16} {:>7} {:>6} {:>5} {:>5}  {}",
            "ms",
            "median",
            "95 %",
            if from_bytes(setting) { "bytes" } else { "p99" },
            "load s",
            "MiB",
            "error",
            "x fastest other runtime's time"
        ),
    ];
    lines.extend(setting.entries.iter().map(|entry| line(entry, from_bytes(setting))));
    lines.extend(unsteady(setting).map(|sentence| format!("  {sentence}")));
    lines.extend(processes(setting));
    for (name, why) in &setting.left_out {
        lines.push(format!("  {name:13} left out: {why}"));
    }
    lines.push(
        "  MiB: peak growth of memory; error: relative L2 to float64; other: neither ours nor eager torch"
            .to_owned(),
    );
    lines.iter().map(|line| cut(line.trim_end())).collect::<Vec<_>>().join("\n")
}

/// A sentence for each contestant whose times scatter.
pub fn unsteady(setting: &Setting) -> impl Iterator<Item = String> {
    setting.entries.iter().filter_map(|entry| {
        Some(format!(
            "the times of {} scatter by a factor of {:.1}: measure again on an idle machine",
            entry.name,
            entry.unsteady()?
        ))
    })
}

/// Whether the time from bytes was measured, which is shown in the place of the 99th percentile.
fn from_bytes(setting: &Setting) -> bool {
    setting.entries.iter().any(|entry| entry.from_bytes_s.is_some())
}

/// How much the processes of each contestant differ, and what is known about those that are slow.
fn processes(setting: &Setting) -> Vec<String> {
    let found: Vec<_> =
        setting.entries.iter().filter_map(|entry| Some((entry, entry.spread()?))).collect();
    let Some(count) = found.iter().map(|(entry, _)| entry.processes.len()).max() else {
        return vec![];
    };
    let ratio = |(entry, spread): &(&BenchEntry, Spread)| {
        format!("{} {:.2}", short(&entry.name), spread.ratio)
    };
    let ratios: Vec<String> = found.iter().map(ratio).collect();
    let head = format!("  slowest of {count} processes / their median: {}", ratios.join(", "));
    let why = |(entry, spread): &(&BenchEntry, Spread)| {
        Some(format!("  slow process of {}: {}", entry.name, spread.reason()?))
    };
    std::iter::once(head).chain(found.iter().filter_map(why)).collect()
}

fn line(entry: &BenchEntry, from_bytes: bool) -> String {
    let ratio = entry.to_peer.as_ref().map_or(String::new(), |(name, [point, low, high])| {
        format!("{point:.2} ({} to {}) {}", number(*low, 2), number(*high, 2), short(name))
    });
    let ms = |s: f64| number(1e3 * s, 1);
    let wrong = if entry.right { "" } else { "WRONG " };
    format!(
        "  {:13} {:>7} {:>16} {:>7} {:>6.2} {:>5.0} {:>5.0e}  {wrong}{ratio}",
        entry.name,
        ms(entry.p50_s),
        format!("{} to {}", ms(entry.p50_low_s), ms(entry.p50_high_s)),
        ms(if from_bytes { entry.from_bytes_s.unwrap_or(f64::NAN) } else { entry.p99_s }),
        entry.load_s,
        entry.peak_bytes as f64 / f64::from(1 << 20),
        entry.error,
    )
}

/// A number, or a dash for NaN.
fn number(value: f64, digits: usize) -> String {
    if value.is_nan() { "–".to_owned() } else { format!("{value:.digits$}") }
}

/// The name of a peer, shortened so that the line fits.
fn short(name: &str) -> &str {
    match name {
        "onnxruntime" => "ort",
        "torch-compile" => "compile",
        other => other,
    }
}

/// The line, cut to [`WIDTH`] columns; the record has the whole text.
fn cut(line: &str) -> String {
    match line.chars().count() > WIDTH {
        true => line.chars().take(WIDTH - 1).chain(['…']).collect(),
        false => line.to_owned(),
    }
}
