//! Confidence intervals and tests for accuracies.

use record::Rate;

/// The 97.5 % quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A rate with Wilson's 95 % score interval.
pub fn rate(hits: u64, of: u64) -> Rate {
    let (n, p) = (of as f64, hits as f64 / of as f64);
    if of == 0 {
        return Rate { hits, of, low: 0.0, high: 1.0 };
    }
    let center = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    Rate { hits, of, low: (center - half).max(0.0), high: (center + half).min(1.0) }
}

/// The two-sided p-value of the exact McNemar test. Two networks differ on `lost + won` videos; the value
/// is the probability that a fair coin splits these at least this unevenly.
pub fn mcnemar(lost: u64, won: u64) -> f64 {
    let n = lost + won;
    // ln C(n, k) - n ln 2, summed over the smaller tail.
    let (mut log, mut tail) = (-(n as f64) * std::f64::consts::LN_2, 0.0);
    for k in 0..=lost.min(won) {
        tail += log.exp();
        log += ((n - k) as f64 / (k + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

/// The mean with Student's 95 % interval; [0, 1] for fewer than two values.
pub fn mean(values: &[f64]) -> (f64, [f64; 2]) {
    // The 97.5 % quantiles of Student's t for 1, 2, … degrees of freedom.
    const T: [f64; 9] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 {
        return (mean, [0.0, 1.0]);
    }
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let t = T.get(values.len() - 2).copied().unwrap_or(Z);
    let half = t * (variance / n).sqrt();
    (mean, [mean - half, mean + half])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_interval_has_its_textbook_values() {
        let r = rate(10, 100);
        assert!((r.low - 0.055_229).abs() < 1e-5 && (r.high - 0.174_366).abs() < 1e-5, "{r:?}");
        assert_eq!((rate(0, 0).low, rate(0, 0).high), (0.0, 1.0));
        assert_eq!(rate(0, 10).low, 0.0);
        assert!((rate(10, 10).high - 1.0).abs() < 1e-12);
    }

    #[test]
    fn mcnemar_is_the_binomial_test() {
        assert!((mcnemar(0, 0) - 1.0).abs() < 1e-12);
        assert!((mcnemar(5, 5) - 1.0).abs() < 1e-12);
        assert!((mcnemar(0, 5) - 0.0625).abs() < 1e-12);
        assert!((mcnemar(1, 9) - 22.0 / 1024.0).abs() < 1e-12);
        assert!(mcnemar(10_000, 9_000) < 1e-10);
    }
}
