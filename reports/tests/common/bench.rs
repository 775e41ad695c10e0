//! Records of benches for the tests.

use record::*;

use super::{HOSTILE, noise, run};

fn layers(kinds: &[&str]) -> Vec<LayerTime> {
    let layer = |(at, kind): (usize, &&str)| LayerTime {
        name: format!("layer{}.{at}.conv", 1 + at % 4),
        kind: (*kind).to_owned(),
        ms: 1.0 + noise(at),
        gflop: Some(0.1 + noise(at + 7)),
        mb: Some(1.0 + 9.0 * noise(at + 99)),
        predicted_ms: None,
    };
    kinds.iter().enumerate().map(layer).collect()
}

/// A process of two rounds; while it is slow, its cores have no common cache.
fn process(seconds: f64, slow: bool) -> BenchProcess {
    BenchProcess {
        rounds: 2,
        p50_s: seconds,
        handover_s: Some(if slow { 155e-9 } else { 32e-9 }),
        page_faults: Some(3),
        huge_pages: Some(0.53),
    }
}

fn entry(name: &str, seconds: f64, error: f64) -> BenchEntry {
    BenchEntry {
        name: name.to_owned(),
        version: "1.2.3".to_owned(),
        min_s: 0.9 * seconds,
        p50_s: seconds,
        p50_low_s: 0.95 * seconds,
        p50_high_s: 1.05 * seconds,
        p90_s: 1.1 * seconds,
        p95_s: 1.2 * seconds,
        p99_s: 1.4 * seconds,
        load_s: 0.3,
        first_s: 2.0 * seconds,
        from_bytes_s: Some(0.05),
        peak_bytes: 300 << 20,
        error,
        right: true,
        to_peer: Some(("onnxruntime".to_owned(), [0.7, 0.65, 0.75])),
        rounds_s: vec![vec![seconds; 3]; 6],
        processes: [1.0, 1.01, 1.29].map(|factor| process(factor * seconds, factor > 1.1)).into(),
        layers: vec![],
    }
}

fn setting(precision: &str, batch: u64, threads: u64, error: f64) -> Setting {
    let seconds = 0.08 * batch as f64 / threads as f64;
    let kinds = ["stem", "short 3x3", "reduce 1x1", "expand 1x1", "tfc 1x1", "ioi 7x7", "gate"];
    let cpu = BenchEntry { layers: layers(&kinds), ..entry("cpu", seconds, error) };
    let peer = BenchEntry { to_peer: None, ..entry("onnxruntime", 1.4 * seconds, 0.8 * error) };
    let peer = BenchEntry { layers: layers(&["Conv", "Mul"]), ..peer };
    Setting {
        precision: precision.to_owned(),
        batch,
        threads,
        entries: vec![cpu, peer],
        left_out: vec![("openvino".to_owned(), "is not set up".to_owned())],
        broken: false,
        peak_gflops: 120.0 * threads as f64,
        peak_gbs: 40.0,
    }
}

/// Two contestants at two precisions, two batch sizes and two numbers of threads.
pub fn bench() -> BenchRecord {
    let mut settings = vec![];
    for (precision, error) in [("f32", 4e-7), ("bf16", 4e-3)] {
        for (batch, threads) in [(1, 1), (1, 2), (8, 1), (8, 2)] {
            settings.push(setting(precision, batch, threads, error));
        }
    }
    BenchRecord {
        verdict: Verdict::Pass,
        settings,
        macs: 5_483_000_000,
        rounds: 6,
        runs: 3,
        baseline: None,
        warnings: vec![],
        regressions: vec![],
        run: run("bench"),
    }
}

/// Markup in place of names, and NaN, infinity and other extreme values in place of times.
pub fn hostile() -> BenchRecord {
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, f64::MAX, 5e-324, -3.0];
    let mut record = bench();
    for (at, setting) in record.settings.iter_mut().enumerate() {
        let bad = |more: usize| values[(at + more) % values.len()];
        setting.precision = HOSTILE.to_owned();
        setting.left_out = vec![(HOSTILE.to_owned(), HOSTILE.to_owned())];
        (setting.peak_gflops, setting.peak_gbs) = (bad(0), bad(1));
        let names = ["cpu", HOSTILE];
        for (entry, name) in setting.entries.iter_mut().zip(names) {
            (entry.name, entry.version) = (name.to_owned(), HOSTILE.to_owned());
            (entry.p50_s, entry.min_s, entry.p95_s) = (bad(2), bad(3), bad(4));
            (entry.error, entry.load_s, entry.right) = (bad(5), bad(6), false);
            entry.to_peer = Some((HOSTILE.to_owned(), [bad(0), f64::NAN, bad(1)]));
            entry.rounds_s = vec![];
            for (index, layer) in entry.layers.iter_mut().enumerate() {
                (layer.name, layer.kind) = (HOSTILE.to_owned(), format!("{HOSTILE}{index}"));
                layer.ms = bad(index);
                (layer.gflop, layer.mb) = (Some(values[4 + index % 2]), Some(values[5]));
            }
        }
    }
    record.settings[0].batch = 0;
    record.regressions = vec![HOSTILE.to_owned()];
    record.verdict = Verdict::Diverged;
    record
}

/// A bench that was interrupted before anything was measured: one setting without contestants.
pub fn empty() -> BenchRecord {
    let mut record = bench();
    record.settings.truncate(1);
    record.settings[0].entries.clear();
    record.verdict = Verdict::Incomplete;
    record
}
