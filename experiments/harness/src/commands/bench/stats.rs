//! Statistics of times. They use medians and order statistics, because times are skewed and a shared
//! machine has outliers of any size.

use video::mini::rng::Rng;

/// A quantile, interpolated between the two nearest values; NaN if there are none.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = q * last as f64;
    let (low, share) = (at.floor() as usize, at.fract());
    sorted[low] + share * (sorted[(low + 1).min(last)] - sorted[low])
}

/// A copy in ascending order.
pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The median of unsorted values; NaN if there are none.
pub fn median(values: &[f64]) -> f64 {
    quantile(&sorted(values), 0.5)
}

/// A 95 % confidence interval of the median from order statistics: the number of values below the median
/// is binomial, and the normal approximation is used. It is NaN for fewer than 6 values, whose extremes
/// enclose the median with a probability below 95 %.
pub fn median_interval(values: &[f64]) -> (f64, f64) {
    let (values, n) = (sorted(values), values.len() as f64);
    if values.len() < 6 {
        return (f64::NAN, f64::NAN);
    }
    let half = 0.98 * n.sqrt();
    let low = (n / 2.0 - half).floor().max(0.0) as usize;
    let high = ((n / 2.0 + half).ceil() as usize).min(values.len() - 1);
    (values[low], values[high])
}

/// The ratio of the medians of two contestants and its 95 % interval (ratio, low, high). The interval is
/// a bootstrap over rounds, because the runs of a round are correlated. All rounds have the same number
/// of values.
pub fn ratio(ours: &[Vec<f64>], theirs: &[Vec<f64>]) -> (f64, f64, f64) {
    let flat = |rounds: &[&Vec<f64>]| {
        median(&rounds.iter().copied().flatten().copied().collect::<Vec<_>>())
    };
    let all = |rounds: &'_ [Vec<f64>]| rounds.iter().flatten().copied().collect::<Vec<f64>>();
    let point = median(&all(ours)) / median(&all(theirs));
    let rounds = ours.len().min(theirs.len());
    if rounds < 2 {
        return (point, f64::NAN, f64::NAN);
    }
    let mut rng = Rng::new(0);
    let ratios: Vec<f64> = (0..500)
        .map(|_| {
            let chosen: Vec<usize> = (0..rounds).map(|_| rng.below(rounds)).collect();
            let of = |side: &'_ [Vec<f64>]| {
                flat(&chosen.iter().map(|&at| &side[at]).collect::<Vec<_>>())
            };
            of(ours) / of(theirs)
        })
        .collect();
    let ratios = sorted(&ratios);
    (point, quantile(&ratios, 0.025), quantile(&ratios, 0.975))
}

/// The two-sided p-value of the Mann-Whitney U test in the normal approximation, with corrections for
/// ties and for continuity.
pub fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    let (n, m) = (a.len() as f64, b.len() as f64);
    if a.is_empty() || b.is_empty() {
        return f64::NAN;
    }
    let mut all: Vec<(f64, bool)> = a.iter().map(|&v| (v, true)).collect();
    all.extend(b.iter().map(|&v| (v, false)));
    all.sort_by(|x, y| x.0.total_cmp(&y.0));
    let (mut ranks, mut ties, mut at) = (0.0, 0.0, 0);
    while at < all.len() {
        let end = at + all[at..].iter().take_while(|x| x.0 == all[at].0).count();
        let (count, rank) = ((end - at) as f64, (at + 1 + end) as f64 / 2.0);
        ranks += rank * all[at..end].iter().filter(|x| x.1).count() as f64;
        ties += count * count * count - count;
        at = end;
    }
    let u = ranks - n * (n + 1.0) / 2.0;
    let total = n + m;
    let variance = n * m / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let z = ((u - n * m / 2.0).abs() - 0.5).max(0.0) / variance.sqrt();
    (2.0 * upper_tail(z)).min(1.0)
}

/// P(Z > z) for z >= 0 (Abramowitz and Stegun 26.2.17, within 7.5e-8).
fn upper_tail(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let factors = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let sum: f64 = factors.iter().rev().fold(0.0, |sum, f| (sum + f) * t);
    (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_values() {
        let values = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(quantile(&values, 0.5), 2.5);
        assert_eq!(quantile(&values, 1.0), 4.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn the_interval_holds_the_median() {
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(median_interval(&values), (40.0, 60.0));
        assert_eq!(median_interval(&values[..6]), (0.0, 5.0));
        assert!(median_interval(&values[..5]).0.is_nan());
    }

    #[test]
    fn mann_whitney_agrees_with_scipy() {
        // scipy.stats.mannwhitneyu(a, b, method="asymptotic"): p = 0.01218578.
        let p = mann_whitney(&[1.0, 2.0, 3.0, 4.0, 5.0], &[6.0, 7.0, 8.0, 9.0, 10.0]);
        assert!((p - 0.012_185_78).abs() < 1e-6, "{p}");
        assert_eq!(mann_whitney(&[1.0; 5], &[1.0; 5]), 1.0);
    }

    #[test]
    fn a_ratio_has_an_interval_around_it() {
        let ours: Vec<Vec<f64>> = (0..20).map(|r| vec![10.0 + f64::from(r % 3)]).collect();
        let theirs: Vec<Vec<f64>> = (0..20).map(|r| vec![20.0 + f64::from(r % 5)]).collect();
        let (point, low, high) = ratio(&ours, &theirs);
        assert_eq!(point, 0.5);
        assert!(low <= point && point <= high && high - low < 0.1);
    }
}
