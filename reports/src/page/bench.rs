//! The page of a bench.

mod headline;
mod kinds;
mod plots;
mod setting;

pub(super) use headline::device;

use super::study::View;
use super::{Headline, Measure, Page, provenance};
use crate::error::Result;
use crate::format::short;
use crate::table::{Column, column};
use record::{BenchEntry, BenchRecord, Setting, Verdict};

impl Page for BenchRecord {
    fn render(&self) -> Result<String> {
        super::fill("study.html", &view(self))
    }

    fn headline(&self) -> Headline {
        Headline::new(self.verdict, "bench", headline::word(self))
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
            column("from_bytes_s", &rows, |(_, e)| e.from_bytes_s),
            column("error", &rows, |(_, e)| e.error),
            column("peak_bytes", &rows, |(_, e)| e.peak_bytes),
        ]
    }

    fn measures(&self) -> Vec<Measure> {
        let machine = self.run.machine.gpu.as_ref().unwrap_or(&self.run.machine.cpu);
        let all = self.settings.iter().flat_map(|s| s.entries.iter().map(move |e| (s, e)));
        let measure = |(s, e): (&Setting, &BenchEntry)| Measure {
            name: format!("ms of {}: {}, {machine}", e.name, title(s)),
            value: 1e3 * e.p50_s,
            interval: Some((1e3 * e.p50_low_s, 1e3 * e.p50_high_s)),
            by_ratio: true,
        };
        all.filter(|(_, e)| is_ours(&e.name)).map(measure).collect()
    }
}

/// Builds the view.
fn view(bench: &BenchRecord) -> View {
    let mut sections = vec![];
    sections.extend(plots::compared(bench));
    sections.extend(bench.settings.iter().map(|s| setting::section(bench, s)));
    sections.extend(plots::accuracy(bench));
    sections.extend(plots::scaling(bench, &plots::THREADS));
    sections.extend(plots::scaling(bench, &plots::BATCH));
    sections.extend(bench.settings.iter().filter_map(kinds::section));
    sections.extend(bench.settings.iter().filter_map(plots::roofline));
    let unsteady = headline::unsteady(bench);
    let (verdict, mark) = match bench.verdict {
        Verdict::Pass if unsteady.iter().any(|(decides, _)| *decides) => ("incomplete", "!"),
        Verdict::Pass => ("pass", "✓"),
        Verdict::Incomplete => ("incomplete", "?"),
        Verdict::Diverged => ("diverged", "✗"),
    };
    View {
        title: format!("bench · {}", headline::word(bench)),
        kind: "bench",
        verdict,
        mark,
        word: headline::word(bench),
        sentence: headline::sentence(bench),
        warnings: warnings(bench, unsteady.into_iter().map(|(_, sentence)| sentence)),
        sections,
        provenance: provenance::of(&bench.run),
    }
}

/// Wrong outputs, regressions against the baseline and times that scatter, one sentence each.
fn warnings(bench: &BenchRecord, unsteady: impl Iterator<Item = String>) -> Vec<String> {
    let of = |s: &Setting| {
        let names = s.entries.iter().filter(|e| !e.right);
        names
            .map(|e| format!("{}: the output of {} was wrong.", title(s), e.name))
            .collect::<Vec<_>>()
    };
    let wrong = bench.settings.iter().flat_map(of);
    wrong.chain(bench.regressions.iter().cloned()).chain(unsteady).collect()
}

/// A setting as a heading, such as `f32, batch 1, 2 threads`.
fn title(setting: &Setting) -> String {
    let threads = if setting.threads == 1 { "thread" } else { "threads" };
    format!("{}, batch {}, {} {threads}", setting.precision, setting.batch, setting.threads)
}

/// Whether a contestant is an engine of this repository and not another runtime. The engine `torch` runs
/// on libtorch and so stands for PyTorch.
pub(super) fn is_ours(name: &str) -> bool {
    ["cpu", "cuda", "scalar"].contains(&name)
}

/// The name of a contestant as the page shows it.
fn shown(name: &str) -> String {
    if is_ours(name) { format!("{name} (our engine)") } else { name.to_owned() }
}

/// A time in milliseconds with three digits, such as `41.3 ms`.
fn ms(seconds: f64) -> String {
    format!("{}\u{a0}ms", ms_number(seconds))
}

/// A time in milliseconds without its unit; a dash for NaN.
fn ms_number(seconds: f64) -> String {
    match 1e3 * seconds {
        time if time.is_nan() => "–".to_owned(),
        time if (1e3..1e9).contains(&time) => thousands(time),
        time => short(time),
    }
}

/// A whole number with commas: `1,720`.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A speed with the unit that keeps it short: `117 GFLOP/s`, `785 TFLOP/s`.
fn speed(gflops: f64) -> String {
    match gflops {
        g if (1e3..1e9).contains(&g) => format!("{}\u{a0}TFLOP/s", short(g / 1e3)),
        g => format!("{}\u{a0}GFLOP/s", short(g)),
    }
}
