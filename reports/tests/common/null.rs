//! Records of false-alarm rates for the tests.

use record::*;

use super::{HOSTILE, run};

fn case(ratio: f64) -> NullCase {
    NullCase {
        ratio,
        module: "layer1.1.conv1.spatial_conv.glo_conv.1".to_owned(),
        measure: "introduced, largest".to_owned(),
        engine: "cpu avx2".to_owned(),
        precision: "f32".to_owned(),
        alarm: ratio.is_nan() || ratio > 4.0,
        command: "harness diff --candidate cpu --isa avx2 --weights formula:255".to_owned(),
    }
}

/// 3000 comparisons without a false alarm.
pub fn healthy() -> NullRecord {
    let bar = |at: u64| Bar {
        from: 0.1 * at as f64,
        to: 0.1 * (at + 1) as f64,
        count: 1 + 600 / (1 + at * at),
    };
    let quantiles = |x: f64| Quantiles { median: x, p99: 2.0 * x, p999: 3.0 * x, largest: 4.0 * x };
    let group = |engine: &str, precision: &str, layer: &str| NullGroup {
        engine: engine.to_owned(),
        precision: precision.to_owned(),
        layer: layer.to_owned(),
        count: 12_345,
        ratios: [0.2, 0.3, 0.1, 0.15].map(quantiles),
    };
    NullRecord {
        verdict: Verdict::Pass,
        bound: 4.0,
        comparisons: 3000,
        draws: 272,
        alarms: 0,
        measurements: 4_000_000,
        tail: Some(Tail {
            threshold: 1.1,
            exceedances: 300,
            shape: 0.05,
            scale: 0.2,
            rate: 2.3e-7,
            low: 1e-9,
            high: 4e-5,
        }),
        histogram: (3..18).map(bar).collect(),
        groups: vec![
            group("cpu avx2", "f32", "conv 3x3"),
            group("cpu avx512bf16", "bf16", "bn"),
            group("scalar", "f64", "linear"),
        ],
        worst: vec![case(1.7), case(1.6)],
        run: run("selftest"),
    }
}

/// A run that was stopped before the first comparison.
pub fn stopped() -> NullRecord {
    NullRecord {
        comparisons: 0,
        draws: 0,
        measurements: 0,
        tail: None,
        histogram: vec![],
        groups: vec![],
        worst: vec![],
        ..healthy()
    }
}

/// False alarms, with markup in place of names and NaN in the tail.
pub fn hostile() -> NullRecord {
    let mut null = healthy();
    (null.verdict, null.alarms) = (Verdict::Diverged, 2);
    null.groups[0].engine = HOSTILE.to_owned();
    null.groups[0].ratios[0].largest = f64::INFINITY;
    null.worst[0] =
        NullCase { module: HOSTILE.to_owned(), command: HOSTILE.to_owned(), ..case(f64::NAN) };
    if let Some(tail) = &mut null.tail {
        (tail.rate, tail.shape, tail.scale) = (f64::NAN, f64::NAN, 0.0);
    }
    null
}
