//! The page of a bench.

mod plots;

use super::study::{Section, View, percent};
use super::{Headline, Page, provenance};
use crate::chart::{Chart, Look, Point, Series};
use crate::error::Result;
use crate::format::short;
use crate::table::{Column, column};
use record::{BenchEntry, BenchRecord, Setting, Verdict};

impl Page for BenchRecord {
    fn render(&self) -> Result<String> {
        super::fill("study.html", &view(self)?)
    }

    fn headline(&self) -> Headline {
        Headline::new(self.verdict, "bench", format!("{} settings", self.settings.len()))
    }

    fn table_name(&self) -> &'static str {
        "times.parquet"
    }

    fn table(&self) -> Vec<Column> {
        let settings = self.settings.iter();
        let rows: Vec<(&Setting, &BenchEntry)> =
            settings.flat_map(|s| s.entries.iter().map(move |e| (s, e))).collect();
        vec![
            column("contestant", &rows, |(_, e)| e.name.as_str()),
            column("precision", &rows, |(s, _)| s.precision.as_str()),
            column("batch", &rows, |(s, _)| s.batch),
            column("threads", &rows, |(s, _)| s.threads),
            column("p50_s", &rows, |(_, e)| e.p50_s),
            column("p99_s", &rows, |(_, e)| e.p99_s),
            column("load_s", &rows, |(_, e)| e.load_s),
            column("first_s", &rows, |(_, e)| e.first_s),
            column("error", &rows, |(_, e)| e.error),
            column("peak_bytes", &rows, |(_, e)| e.peak_bytes),
        ]
    }
}

/// Builds the view.
fn view(bench: &BenchRecord) -> Result<View> {
    let mut sections = vec![];
    for setting in &bench.settings {
        sections.push(latency(setting, bench.macs)?);
    }
    sections.extend(plots::accuracy(bench)?);
    sections.extend(plots::scaling(bench, &plots::THREADS)?);
    sections.extend(plots::scaling(bench, &plots::BATCH)?);
    sections.extend(plots::kinds(bench)?);
    for setting in bench.settings.iter().filter(|s| s.entries.iter().any(|e| !e.layers.is_empty()))
    {
        sections.push(profile(setting));
        sections.extend(plots::roofline(setting)?);
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
        warnings: warnings(bench),
        sections,
        provenance: provenance::of(&bench.run),
    })
}

/// The range of the engine cpu's ratios to the fastest peer, and a sentence on how it was measured.
fn headline(bench: &BenchRecord) -> (String, String) {
    let ours = bench.settings.iter().flat_map(|s| {
        s.entries
            .iter()
            .filter(|e| e.name == "cpu")
            .filter_map(move |e| Some((s, e.to_peer.as_ref()?)))
    });
    let ratios = ours.map(|(_, (_, [point, ..]))| *point);
    let ratios: Vec<f64> = ratios.filter(|ratio| ratio.is_finite()).collect();
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    let word = match ratios[..] {
        [] => format!("{} settings", bench.settings.len()),
        [one] => format!("{one:.2} of the time of the fastest peer"),
        _ => format!("{least:.2} to {most:.2} of the time of the fastest peer"),
    };
    let how = format!(
        "{} interleaved rounds of {} runs, {} GMAC per clip; ratios are of medians, in one bench on one machine",
        bench.rounds,
        bench.runs,
        short(bench.macs as f64 / 1e9)
    );
    (word, how)
}

/// A setting as a heading, such as `f32, batch 1, 2 threads`.
fn title(setting: &Setting) -> String {
    let threads = if setting.threads == 1 { "thread" } else { "threads" };
    format!("{}, batch {}, {} {threads}", setting.precision, setting.batch, setting.threads)
}

/// Wrong outputs and regressions against the baseline, one sentence each.
fn warnings(bench: &BenchRecord) -> Vec<String> {
    let of = |s: &Setting| {
        let names = s.entries.iter().filter(|e| !e.right);
        names
            .map(|e| format!("{}: the output of {} was wrong.", title(s), e.name))
            .collect::<Vec<_>>()
    };
    bench.settings.iter().flat_map(of).chain(bench.regressions.iter().cloned()).collect()
}

/// A number with this many decimals; a dash for NaN.
fn number(value: f64, digits: usize) -> String {
    if value.is_nan() { "–".to_owned() } else { format!("{value:.digits$}") }
}

fn ms(seconds: f64) -> String {
    number(1e3 * seconds, 2)
}

/// The achieved multiply-add rate at the median, in percent of the machine's measured peak.
fn peak_share(macs: u64, setting: &Setting, entry: &BenchEntry) -> String {
    let gflop = 2e-9 * macs as f64 * setting.batch as f64;
    let share = gflop / entry.p50_s / setting.peak_gflops;
    if share.is_finite() { format!("{:.0} %", 100.0 * share) } else { "–".to_owned() }
}

/// The bar chart and the table of latencies of one setting.
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
            look: Look::Bars,
            points: setting.entries.iter().enumerate().map(point).collect(),
        }],
        names: setting.entries.iter().map(|entry| entry.name.clone()).collect(),
        ..Chart::default()
    };
    let row = |e: &BenchEntry| {
        let ratio = e.to_peer.as_ref().map_or("–".to_owned(), |(name, [point, low, high])| {
            let [point, low, high] = [point, low, high].map(|v| number(*v, 3));
            format!("{point} ({low} to {high}) of {name}")
        });
        vec![
            format!("{} {}", e.name, e.version),
            format!("{} ({} to {})", ms(e.p50_s), ms(e.p50_low_s), ms(e.p50_high_s)),
            ms(e.min_s),
            ms(e.p90_s),
            ms(e.p95_s),
            ms(e.p99_s),
            format!("{:.2}", setting.batch as f64 / e.p50_s),
            peak_share(macs, setting, e),
            ratio,
            format!("{:.2} s", e.load_s),
            ms(e.first_s),
            format!("{:.0} MiB", e.peak_bytes as f64 / f64::from(1 << 20)),
            short(e.error),
        ]
    };
    let lead = format!(
        "Bars are medians; lines go from the fastest run to p95. Measured peaks: {} GFLOP/s and {} GB/s.",
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
        "Of peak",
        "Ratio to the fastest peer",
        "Load",
        "First ms",
        "Memory",
        "Error",
    ];
    let rows = setting.entries.iter().map(row).collect();
    Ok(Section::new(&title(setting), &lead).chart(&chart)?.table(&head, rows))
}

/// The table of the steps of each contestant, summed by kind of work.
fn profile(setting: &Setting) -> Section {
    let mut rows = vec![];
    for entry in setting.entries.iter().filter(|entry| !entry.layers.is_empty()) {
        let total: f64 = entry.layers.iter().map(|layer| layer.ms).sum();
        for (kind, sum) in plots::by_kind(&entry.layers) {
            let speed =
                if sum.gflop > 0.0 { short(sum.gflop / sum.ms * 1e3) } else { "–".into() };
            rows.push(vec![
                entry.name.clone(),
                kind.to_owned(),
                sum.steps.to_string(),
                format!("{:.2}", sum.ms),
                percent(sum.ms / total),
                speed,
            ]);
        }
    }
    let lead = "Each contestant's own profile. GFLOP/s counts the operations of a direct convolution, so \
                that layers with Winograd's algorithm may exceed the peak.";
    let head = ["Contestant", "Kind", "Steps", "ms", "Share", "GFLOP/s"];
    Section::new(&format!("Profile: {}", title(setting)), lead).table(&head, rows)
}

/// The contestants that could not run, with the reason.
fn left_out(bench: &BenchRecord) -> Option<Section> {
    let mut rows: Vec<Vec<String>> = bench
        .settings
        .iter()
        .flat_map(|s| {
            s.left_out.iter().map(|(name, why)| vec![name.clone(), title(s), why.clone()])
        })
        .collect();
    rows.dedup();
    let section = Section::new("Left out", "").table(&["Contestant", "Setting", "Reason"], rows);
    (!section.rows.is_empty()).then_some(section)
}
