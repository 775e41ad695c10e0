//! The section of one setting: times of all contestants, in a figure and a table.

use super::{is_ours, ms, ms_number, shown, speed, title};
use crate::chart::{Axis, Dot, Row, Rows};
use crate::format::short;
use crate::page::study::{Section, list};
use record::{BenchEntry, BenchRecord, Setting, Spread};

/// The section of a setting.
pub(super) fn section(bench: &BenchRecord, setting: &Setting) -> Section {
    let lead = format!(
        "Medians with their 95 % intervals (thick); thin lines go from the fastest run to p95, and rings are \
         the medians of the rounds. Measured peaks: {} and {} GB/s{}.",
        speed(setting.peak_gflops),
        short(setting.peak_gbs),
        setting.handover_s().map_or(String::new(), |s| format!(
            "; {:.0} ns until one core sees what another one wrote",
            1e9 * s
        ))
    );
    let head = [
        "Contestant",
        "Median ms (95 % interval)",
        "Min · p95 · p99 ms",
        "Clips/s",
        "Of peak",
        "Time / fastest other runtime",
        "Error",
    ];
    let entries = || setting.entries.iter();
    let mut section = Section::new(&title(setting), &lead)
        .figure(times(setting).draw())
        .table(&head, entries().map(|e| row(bench, setting, e)).collect())
        .notes(spread(setting))
        .notes(left_out(setting));
    let detail = [
        "Contestant",
        "Version",
        "p90 ms",
        "First ms",
        "From bytes, ms",
        "Load",
        "Memory",
        "Rounds, ms",
    ];
    section =
        section.fold("Versions, memory and first run", &detail, entries().map(details).collect());
    section
}

/// How much the processes of each contestant differ, and the reason where one is slow.
fn spread(setting: &Setting) -> Vec<String> {
    let found: Vec<_> = setting.entries.iter().filter_map(|e| Some((e, e.spread()?))).collect();
    let Some(count) = found.iter().map(|(e, _)| e.processes.len()).max() else { return vec![] };
    let ratio = |(e, spread): &(&BenchEntry, Spread)| format!("{:.2} ({})", spread.ratio, e.name);
    let ratios: Vec<String> = found.iter().map(ratio).collect();
    let first = format!(
        "Time of the slowest of {count} processes divided by that of the median process: {}.",
        list(&ratios)
    );
    let why = |(e, spread): &(&BenchEntry, Spread)| {
        Some(format!("A slow process of {}: {}.", shown(&e.name), spread.reason()?))
    };
    std::iter::once(first).chain(found.iter().filter_map(why)).collect()
}

/// The contestants that did not run, with the reason.
fn left_out(setting: &Setting) -> Vec<String> {
    let sentence = |(name, why): &(String, String)| {
        format!("{} was left out: {}.", shown(name), why.trim_end_matches('.'))
    };
    setting.left_out.iter().map(sentence).collect()
}

/// The median of each round of a contestant.
fn rounds(entry: &BenchEntry) -> Vec<f64> {
    let median = |times: &Vec<f64>| {
        let mut sorted = times.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() % 2 {
            0 if middle > 0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
            0 => f64::NAN,
            _ => sorted[middle],
        }
    };
    entry.rounds_s.iter().map(median).collect()
}

fn times(setting: &Setting) -> Rows {
    let row = |entry: &BenchEntry| Row {
        name: shown(&entry.name),
        series: usize::from(!is_ours(&entry.name)),
        dot: Some(Dot {
            value: 1e3 * entry.p50_s,
            interval: Some((1e3 * entry.p50_low_s, 1e3 * entry.p50_high_s)),
            range: Some((1e3 * entry.min_s, 1e3 * entry.p95_s)),
            label: ms(entry.p50_s),
        }),
        singles: rounds(entry).into_iter().map(|seconds| 1e3 * seconds).collect(),
    };
    let all = setting.entries.iter().flat_map(|e| [e.p50_s, e.min_s, e.p95_s]);
    Rows {
        name: "latency",
        description: format!("time for a batch by contestant, {}", title(setting)),
        axis: Axis::positive("ms for a batch", all.map(|seconds| 1e3 * seconds)),
        single: "round",
        rows: setting.entries.iter().map(row).collect(),
        ..Rows::default()
    }
}

/// A number with this many decimals; a dash for NaN.
fn number(value: f64, digits: usize) -> String {
    if value.is_nan() { "–".to_owned() } else { format!("{value:.digits$}") }
}

/// The achieved multiply-add rate at the median, in percent of the machine's measured peak.
fn peak_share(macs: u64, setting: &Setting, entry: &BenchEntry) -> String {
    let gflop = 2e-9 * macs as f64 * setting.batch as f64;
    let share = gflop / entry.p50_s / setting.peak_gflops;
    match 100.0 * share {
        share if !share.is_finite() => "–".to_owned(),
        share if share < 10.0 => format!("{share:.1}\u{a0}%"),
        share => format!("{share:.0}\u{a0}%"),
    }
}

fn row(bench: &BenchRecord, setting: &Setting, e: &BenchEntry) -> Vec<String> {
    let ratio = e.to_peer.as_ref().map_or("–".to_owned(), |(name, [point, low, high])| {
        let [point, low, high] = [point, low, high].map(|v| number(*v, 3));
        format!("{point} ({low} to {high}), {name}")
    });
    let tails = [e.min_s, e.p95_s, e.p99_s].map(ms_number).join("\u{a0}·\u{a0}");
    vec![
        shown(&e.name),
        format!(
            "{} ({} to {})",
            ms_number(e.p50_s),
            ms_number(e.p50_low_s),
            ms_number(e.p50_high_s)
        ),
        tails,
        short(setting.batch as f64 / e.p50_s),
        peak_share(bench.macs, setting, e),
        ratio,
        format!("{}{}", short(e.error), if e.right { "" } else { " (wrong)" }),
    ]
}

fn details(e: &BenchEntry) -> Vec<String> {
    let rounds: Vec<String> = rounds(e).into_iter().map(ms_number).collect();
    vec![
        shown(&e.name),
        e.version.clone(),
        ms_number(e.p90_s),
        ms_number(e.first_s),
        e.from_bytes_s.map_or("–".to_owned(), ms_number),
        format!("{}\u{a0}s", number(e.load_s, 2)),
        format!("{:.0}\u{a0}MiB", e.peak_bytes as f64 / f64::from(1 << 20)),
        rounds.join(", "),
    ]
}
