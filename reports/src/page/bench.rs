//! The view of a bench.

use std::collections::BTreeMap;

use super::provenance;
use super::study::{Section, View};
use crate::chart::{Chart, Point, Series};
use crate::error::Result;
use crate::format::short;
use crate::record::{BenchEntry, BenchRecord, LayerTime, Setting, Verdict};

/// Builds the view.
pub(super) fn view(bench: &BenchRecord) -> Result<View> {
    let mut sections = vec![];
    for setting in &bench.settings {
        sections.push(latency(setting, bench.macs)?);
    }
    sections.extend(scaling(bench, "threads", |s| s.threads, |s| s.batch)?);
    sections.extend(scaling(bench, "clips in a batch", |s| s.batch, |s| s.threads)?);
    for setting in bench.settings.iter().filter(|s| s.entries.iter().any(|e| !e.layers.is_empty()))
    {
        sections.push(kinds(setting));
        sections.extend(roofline(setting)?);
    }
    sections.extend(left_out(bench));
    let (word, sentence) = headline(bench);
    Ok(View {
        title: "bench".to_owned(),
        kind: "bench",
        verdict: bench.verdict.as_str(),
        mark: if bench.verdict == Verdict::Pass { "✓" } else { "✗" },
        word,
        sentence,
        warnings: wrong(bench),
        sections,
        provenance: provenance::of(&bench.run),
    })
}

/// The best of our ratios, and how it was measured.
fn headline(bench: &BenchRecord) -> (String, String) {
    let ours = bench.settings.iter().flat_map(|s| {
        s.entries
            .iter()
            .filter(|e| e.name == "cpu")
            .filter_map(move |e| Some((s, e.to_peer.as_ref()?)))
    });
    let ratios: Vec<f64> = ours.map(|(_, (_, [point, ..]))| *point).collect();
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    let word = match ratios[..] {
        [] => format!("{} settings", bench.settings.len()),
        [one] => format!("{one:.2} of the time of the fastest other runtime"),
        _ => format!("{least:.2} to {most:.2} of the time of the fastest other runtime"),
    };
    let how = format!(
        "{} rounds of {} runs in turn, {} GMAC a clip; ratios are of medians in one run on one machine",
        bench.rounds,
        bench.runs,
        short(bench.macs as f64 / 1e9)
    );
    (word, how)
}

fn title(setting: &Setting) -> String {
    let threads = if setting.threads == 1 { "thread" } else { "threads" };
    format!("{}, batch {}, {} {threads}", setting.precision, setting.batch, setting.threads)
}

fn wrong(bench: &BenchRecord) -> Vec<String> {
    let of = |s: &Setting| {
        let names = s.entries.iter().filter(|e| !e.right);
        names
            .map(|e| format!("{}: the output of {} was wrong.", title(s), e.name))
            .collect::<Vec<_>>()
    };
    bench.settings.iter().flat_map(of).chain(bench.regressions.iter().cloned()).collect()
}

fn ms(seconds: f64) -> String {
    if seconds.is_nan() { "–".to_owned() } else { format!("{:.2}", 1e3 * seconds) }
}

/// The part of the measured peak that a median makes of the network's multiplications.
fn share(macs: u64, setting: &Setting, entry: &BenchEntry) -> String {
    let gflop = 2e-9 * macs as f64 * setting.batch as f64;
    let share = gflop / entry.p50_s / setting.peak_gflops;
    if share.is_finite() { format!("{:.0} %", 100.0 * share) } else { "–".to_owned() }
}

fn latency(setting: &Setting, macs: u64) -> Result<Section> {
    let point = |(at, entry): (usize, &BenchEntry)| Point {
        x: at as f64,
        y: 1e3 * entry.p50_s,
        interval: Some((1e3 * entry.min_s, 1e3 * entry.p95_s)),
        name: String::new(),
    };
    let chart = Chart {
        name: "latency",
        description: format!("latency by contestant, {}", title(setting)),
        x_label: String::new(),
        y_label: "ms".to_owned(),
        series: vec![Series {
            name: "median".to_owned(),
            points: setting.entries.iter().enumerate().map(point).collect(),
        }],
        joined: false,
        bars: true,
        names: setting.entries.iter().map(|entry| entry.name.clone()).collect(),
        log_x: false,
    };
    let row = |e: &BenchEntry| {
        let ratio = e.to_peer.as_ref().map_or("–".to_owned(), |(name, [point, low, high])| {
            format!("{point:.3} ({low:.3} to {high:.3}) of {name}")
        });
        vec![
            format!("{} {}", e.name, e.version),
            format!("{} ({} to {})", ms(e.p50_s), ms(e.p50_low_s), ms(e.p50_high_s)),
            ms(e.min_s),
            ms(e.p90_s),
            ms(e.p95_s),
            ms(e.p99_s),
            format!("{:.2}", setting.batch as f64 / e.p50_s),
            share(macs, setting, e),
            ratio,
            format!("{:.2} s", e.load_s),
            ms(e.first_s),
            format!("{:.0} MiB", e.peak_bytes as f64 / f64::from(1 << 20)),
            short(e.error),
        ]
    };
    let lead = format!(
        "Bars are medians, lines go from the fastest run to p95. Measured peak {} GFLOP/s and {} GB/s.",
        short(setting.peak_gflops),
        short(setting.peak_gbs)
    );
    let head = [
        "Contestant",
        "Median ms (95 %)",
        "Min",
        "p90",
        "p95",
        "p99",
        "Clips/s",
        "Of the peak",
        "To the fastest peer",
        "Load",
        "First ms",
        "Memory",
        "Error",
    ];
    let rows = setting.entries.iter().map(row).collect();
    Ok(Section::new(&title(setting), &lead).chart(&chart)?.table(&head, rows))
}

/// Throughput over threads or over the batch, where there is more than one.
fn scaling(
    bench: &BenchRecord,
    what: &str,
    x: fn(&Setting) -> u64,
    fixed: fn(&Setting) -> u64,
) -> Result<Vec<Section>> {
    let mut groups: BTreeMap<(String, u64), Vec<&Setting>> = BTreeMap::new();
    for setting in &bench.settings {
        groups.entry((setting.precision.clone(), fixed(setting))).or_default().push(setting);
    }
    let mut sections = vec![];
    for ((precision, other), settings) in groups.into_iter().filter(|(_, s)| s.len() > 1) {
        let mut lines: BTreeMap<&str, Vec<Point>> = BTreeMap::new();
        for setting in &settings {
            for entry in &setting.entries {
                lines.entry(&entry.name).or_default().push(Point {
                    x: x(setting) as f64,
                    y: setting.batch as f64 / entry.p50_s,
                    interval: None,
                    name: entry.name.clone(),
                });
            }
        }
        // Ours first: it has the first colour.
        let mut series: Vec<Series> = lines
            .into_iter()
            .map(|(name, points)| Series { name: name.to_owned(), points })
            .collect();
        series.sort_by_key(|s| s.name != "cpu");
        let chart = Chart {
            name: "scaling",
            description: format!("clips a second over {what}, {precision}"),
            x_label: what.to_owned(),
            y_label: "clips/s".to_owned(),
            series,
            joined: true,
            bars: false,
            names: vec![],
            log_x: false,
        };
        let title = format!("Throughput over {what}: {precision}, {other}");
        sections.push(Section::new(&title, "").chart(&chart)?);
    }
    Ok(sections)
}

/// Where the time goes, by kind of work.
fn kinds(setting: &Setting) -> Section {
    let mut rows = vec![];
    for entry in setting.entries.iter().filter(|entry| !entry.layers.is_empty()) {
        let mut sums: BTreeMap<&str, (f64, f64, usize)> = BTreeMap::new();
        for layer in &entry.layers {
            let sum = sums.entry(&layer.kind).or_default();
            sum.0 += layer.ms;
            sum.1 += layer.gflop.unwrap_or(0.0);
            sum.2 += 1;
        }
        let total: f64 = entry.layers.iter().map(|layer| layer.ms).sum();
        let mut kinds: Vec<_> = sums.into_iter().collect();
        kinds.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
        for (kind, (time, gflop, count)) in kinds {
            let speed = if gflop > 0.0 { short(gflop / time * 1e3) } else { "–".to_owned() };
            rows.push(vec![
                entry.name.clone(),
                kind.to_owned(),
                count.to_string(),
                format!("{time:.2}"),
                format!("{:.1} %", 100.0 * time / total),
                speed,
            ]);
        }
    }
    let lead = "Each contestant's own profile. GFLOP/s counts the multiplications of the direct \
                convolution, so that Winograd's algorithm may exceed the peak.";
    let head = ["Contestant", "Kind", "Steps", "ms", "Share", "GFLOP/s"];
    Section::new(&format!("Where the time goes: {}", title(setting)), lead).table(&head, rows)
}

/// Each step of `cpu` under the roofs of the machine.
fn roofline(setting: &Setting) -> Result<Option<Section>> {
    let Some(entry) = setting.entries.iter().find(|e| e.name == "cpu") else { return Ok(None) };
    let point = |layer: &LayerTime| {
        let (gflop, mb) = (layer.gflop.filter(|g| *g > 0.0)?, layer.mb.filter(|mb| *mb > 0.0)?);
        let (x, y) = (gflop * 1e3 / mb, gflop / layer.ms * 1e3);
        Some(Point { x, y, interval: None, name: String::new() })
    };
    let points: Vec<Point> = entry.layers.iter().filter_map(point).collect();
    if points.is_empty() {
        return Ok(None);
    }
    let least = points.iter().map(|p| p.x).fold(f64::INFINITY, f64::min);
    let most = points.iter().map(|p| p.x).fold(0.0, f64::max);
    let steps = (0..=40).map(|at| least * (most / least).powf(f64::from(at) / 40.0));
    let roof = |x: f64| (x * setting.peak_gbs).min(setting.peak_gflops);
    let roof =
        steps.map(|x| Point { x, y: roof(x), interval: None, name: String::new() }).collect();
    let chart = Chart {
        name: "roofline",
        description: "speed of each step over its operations for each byte".to_owned(),
        x_label: "operations for each byte of weights, inputs and outputs".to_owned(),
        y_label: "GFLOP/s".to_owned(),
        series: vec![
            Series { name: "steps of cpu".to_owned(), points },
            Series { name: "measured roof".to_owned(), points: roof },
        ],
        joined: false,
        bars: false,
        names: vec![],
        log_x: true,
    };
    let title = format!("Roofline: {}", title(setting));
    let lead = "Operations are those of the direct convolution: Winograd layers may lie above.";
    Ok(Some(Section::new(&title, lead).chart(&chart)?))
}

fn left_out(bench: &BenchRecord) -> Option<Section> {
    let mut rows: Vec<Vec<String>> = bench
        .settings
        .iter()
        .flat_map(|s| {
            s.left_out.iter().map(|(name, why)| vec![name.clone(), title(s), why.clone()])
        })
        .collect();
    rows.dedup();
    let section = Section::new("Left out", "").table(&["Contestant", "Setting", "Why"], rows);
    (!section.rows.is_empty()).then_some(section)
}
