//! Intervals and tests for the pages of evaluations and ablations.
//!
//! Wilson's interval: Wilson, JASA 22 (1927). Interval of a paired difference: Agresti and Min, Statistics
//! in Medicine 24 (2005). Correction for several comparisons: Holm, Scandinavian Journal of Statistics 6
//! (1979). Two tests answer two questions (Dror et al., ACL 2018): McNemar's test on the videos, would the
//! same networks differ on other videos; the paired t test over seeds, would other trainings differ.
//!
//! The smallest difference that a run could have seen, its minimum detectable effect, is the true difference
//! that its test calls significant with probability [`POWER`] (80 %) at the level 0.05 divided by the number
//! of comparisons, which is Holm's level for the first of them:
//!
//! - McNemar's test: Connor, Biometrics 43 (1987). Of n pairs a share psi is right with one network only. A
//!   difference d is detected with probability Phi((d sqrt(n) - z(1 - level / 2) sqrt(psi)) / sqrt(psi - d^2)).
//!   psi is the share that was observed, or d if that is larger, since d cannot exceed it.
//! - Paired t test over n seeds: (t(1 - level / 2) + t(0.8)) s / sqrt(n), with Student's t at n - 1 degrees of
//!   freedom and the standard deviation s of the differences that was observed (Bloom, Evaluation Review 19,
//!   1995). With few seeds s itself is uncertain, and so is this number.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// The 97.5 % quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;
/// The level of significance of all tests.
pub(crate) const LEVEL: f64 = 0.05;
/// The probability with which the smallest detectable difference is detected.
pub(crate) const POWER: f64 = 0.8;

/// Wilson's 95 % interval of a share.
pub(crate) fn wilson(hits: f64, of: f64) -> (f64, f64) {
    if of <= 0.0 {
        return (0.0, 1.0);
    }
    let share = hits / of;
    let center = (share + Z * Z / (2.0 * of)) / (1.0 + Z * Z / of);
    let root = (share * (1.0 - share) / of + Z * Z / (4.0 * of * of)).sqrt();
    let half = Z / (1.0 + Z * Z / of) * root;
    ((center - half).max(0.0), (center + half).min(1.0))
}

/// The 95 % interval of the difference of two networks' accuracies on the same videos: `lost` videos are
/// right with the first only, `won` with the second only. Half a video is added to every cell.
pub(crate) fn paired_interval(lost: u64, won: u64, of: f64) -> (f64, f64) {
    let (lost, won, of) = (lost as f64 + 0.5, won as f64 + 0.5, of + 2.0);
    let difference = (won - lost) / of;
    let variance = (lost + won - (won - lost).powi(2) / of).max(0.0);
    let half = Z * variance.sqrt() / of;
    ((difference - half).max(-1.0), (difference + half).min(1.0))
}

/// Holm's correction: the p value of each comparison, given that all of them were made.
pub(crate) fn holm(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let (mut corrected, mut largest) = (vec![f64::NAN; values.len()], 0.0f64);
    for (rank, at) in order.into_iter().enumerate() {
        // NaN sorts last and stays NaN.
        if values[at].is_nan() {
            continue;
        }
        largest = largest.max((values.len() - rank) as f64 * values[at]).min(1.0);
        corrected[at] = largest;
    }
    corrected
}

/// The smallest number of changed answers that McNemar's exact test calls significant at `level`, if all
/// of them change in the same direction.
pub(crate) fn least_changed(level: f64) -> u64 {
    (1..1000).find(|n| 2.0 * 0.5f64.powi(*n) <= level).unwrap_or(1000) as u64
}

/// The smallest true difference of two networks' accuracies on `of` pairs of answers that McNemar's test
/// detects at `level` with probability [`POWER`], if as many pairs differ as the `changed` ones. `None` if
/// the pairs are too few to detect any difference.
pub(crate) fn least_paired(changed: f64, of: f64, level: f64) -> Option<f64> {
    let normal = Normal::standard();
    let z = normal.inverse_cdf(1.0 - level / 2.0);
    let power = |difference: f64| {
        let differ = (changed / of).max(difference);
        let scatter = (differ - difference.powi(2)).sqrt();
        let distance = difference * of.sqrt() - z * differ.sqrt();
        // Without scatter the outcome is certain.
        if scatter > 0.0 { normal.cdf(distance / scatter) } else { f64::from(distance > 0.0) }
    };
    let known = of >= 1.0 && of.is_finite() && (0.0..=of).contains(&changed) && level > 0.0;
    if !known || power(1.0) < POWER {
        return None;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if power(middle) < POWER { low = middle } else { high = middle }
    }
    Some(high)
}

/// The outcome of a paired t test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TTest {
    /// Mean of the differences.
    pub mean: f64,
    /// Its 95 % interval.
    pub interval: (f64, f64),
    /// Two-sided p value.
    pub p: f64,
    /// The smallest true difference that a test at the given level detects with probability [`POWER`].
    pub least: f64,
}

/// The paired t test of differences, one for each seed; `level` is used for the smallest detectable
/// difference only. `None` for fewer than two seeds and where all differences are equal, since the scatter
/// is then unknown.
pub(crate) fn paired_t(differences: &[f64], level: f64) -> Option<TTest> {
    let n = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let error = (variance / n).sqrt();
    let known = error.is_finite() && mean.is_finite();
    if differences.len() < 2 || !known || error < 1e-12 {
        return None;
    }
    let student = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
    let half = student.inverse_cdf(1.0 - LEVEL / 2.0) * error;
    let detectable = student.inverse_cdf(1.0 - level / 2.0) + student.inverse_cdf(POWER);
    Some(TTest {
        mean,
        interval: (mean - half, mean + half),
        p: 2.0 * student.cdf(-(mean / error).abs()),
        least: detectable * error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_interval_has_its_textbook_values() {
        let (low, high) = wilson(10.0, 100.0);
        assert!((low - 0.055_229).abs() < 1e-5 && (high - 0.174_366).abs() < 1e-5);
        assert_eq!(wilson(0.0, 0.0), (0.0, 1.0));
    }

    #[test]
    fn holm_multiplies_the_smallest_value_most() {
        let corrected = holm(&[0.01, 0.04, 0.03, f64::NAN]);
        assert!((corrected[0] - 0.04).abs() < 1e-12 && (corrected[2] - 0.09).abs() < 1e-12);
        assert_eq!(corrected[1], corrected[2], "values keep their order");
        assert!(corrected[3].is_nan());
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn the_t_test_agrees_with_tables() {
        // t = 2.6458 at two degrees of freedom.
        let test = paired_t(&[1.0, 2.0, 4.0], 0.05).expect("a test");
        assert!((test.p - 0.1181).abs() < 1e-3, "{test:?}");
        assert!((test.interval.0 - -1.4613).abs() < 1e-3, "{test:?}");
        assert!((test.least - (4.3027 + 1.0607) * 0.8819).abs() < 1e-3, "{test:?}");
        assert_eq!(paired_t(&[1.0], 0.05), None);
        assert_eq!(paired_t(&[1.0, 1.0], 0.05), None);
        assert_eq!(paired_t(&[f64::NAN, 1.0], 0.05), None);
    }

    #[test]
    fn six_changes_in_one_direction_are_significant() {
        assert_eq!(least_changed(0.05), 6);
        assert_eq!(least_changed(0.01), 8);
    }

    /// With the difference that was found, the formula gives the number of pairs again.
    #[test]
    fn the_smallest_difference_of_pairs_solves_the_formula_and_needs_eight_changes() {
        let least = least_paired(150.0, 500.0, 0.05).expect("a difference");
        let (psi, d) = (0.3f64, least);
        let n = (1.959_964 * psi.sqrt() + 0.841_621 * (psi - d * d).sqrt()).powi(2) / (d * d);
        assert!((n - 500.0).abs() < 0.1, "{n} pairs for {d}");
        // If all changes have one direction, about 7.8 must be expected to see 6 in 80 % of the runs.
        let least = 400.0 * least_paired(0.0, 400.0, 0.05).expect("a difference");
        assert!((7.0..8.5).contains(&least), "{least}");
        assert!(least_paired(4.0, 400.0, 0.01) > least_paired(4.0, 400.0, 0.05));
        for (changed, of) in [(0.0, 0.0), (0.0, 2.0), (9.0, 4.0), (f64::NAN, 9.0)] {
            assert_eq!(least_paired(changed, of, 0.05), None, "{changed} of {of}");
        }
    }

    #[test]
    fn a_paired_interval_is_wide_even_without_changes() {
        let (low, high) = paired_interval(0, 0, 400.0);
        assert!(low < 0.0 && high > 0.0 && high < 0.01, "{low} {high}");
        assert!(paired_interval(44, 4, 1200.0).1 < 0.0);
    }
}
