//! Estimates the probability of values that are too rare to be observed, from the tail of a distribution.
//!
//! Beyond a high threshold u the exceedances of nearly every distribution follow a generalised
//! Pareto distribution, P(X > x | X > u) = (1 + xi (x - u) / sigma)^(-1 / xi) (Pickands 1975;
//! Balkema and de Haan 1974). Its two parameters are estimated by the method of Zhang and
//! Stephens (2009, Technometrics 51): a posterior mean over a grid, which needs no search and works on
//! small samples.

use checkpoint::formula;
use record::Tail;

/// The share of the sample that is its tail.
const SHARE: f64 = 0.1;
/// The smallest number of exceedances to which a tail is fitted.
const MIN_EXCEEDANCES: usize = 20;
/// The number of bootstrap resamples for the interval.
const RESAMPLES: u64 = 400;

/// A generalised Pareto distribution of the exceedances above a threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pareto {
    /// xi: 0 is an exponential tail, a positive value a power law, a negative value a bounded tail.
    shape: f64,
    /// sigma, in the unit of the exceedances.
    scale: f64,
}

impl Pareto {
    /// Fits positive exceedances in ascending order; `None` if the fit is not finite.
    fn fit(sorted: &[f64]) -> Option<Self> {
        let n = sorted.len();
        let (largest, quartile) = (*sorted.last()?, sorted[(n as f64 / 4.0 + 0.5) as usize - 1]);
        if !(largest.is_finite() && quartile > 0.0) {
            return None;
        }
        let m = 30 + (n as f64).sqrt() as usize;
        let theta = |j: usize| {
            1.0 / largest + (1.0 - (m as f64 / (j as f64 - 0.5)).sqrt()) / (3.0 * quartile)
        };
        let thetas: Vec<f64> = (1..=m).map(theta).filter(|t| *t != 0.0).collect();
        let shape =
            |theta: f64| sorted.iter().map(|x| (-theta * x).ln_1p()).sum::<f64>() / n as f64;
        let likelihood = |&theta: &f64| {
            let k = shape(theta);
            n as f64 * ((-theta / k).ln() - k - 1.0)
        };
        let likelihoods: Vec<f64> = thetas.iter().map(likelihood).collect();
        let weight = |at: usize| {
            let relative = likelihoods.iter().map(|other| (other - likelihoods[at]).exp());
            1.0 / relative.sum::<f64>()
        };
        let theta: f64 = thetas.iter().enumerate().map(|(at, theta)| weight(at) * theta).sum();
        let shape = shape(theta);
        let fitted = Pareto { shape, scale: -shape / theta };
        (fitted.shape.is_finite() && fitted.scale > 0.0).then_some(fitted)
    }

    /// The probability that an exceedance is above `x`.
    fn beyond(&self, x: f64) -> f64 {
        if self.shape.abs() < 1e-9 {
            return (-x / self.scale).exp();
        }
        (1.0 + self.shape * x / self.scale).max(0.0).powf(-1.0 / self.shape)
    }
}

/// The tail of the largest ratios of comparisons, and the rate of ratios above `bound` with its interval.
/// The comparisons in a group are those of one draw, which share the network and the comparison run; therefore
/// whole groups are resampled. `None` if there are too few comparisons.
pub fn fit(groups: &[Vec<f64>], bound: f64, seed: u64) -> Option<Tail> {
    let all: Vec<&Vec<f64>> = groups.iter().filter(|group| !group.is_empty()).collect();
    let whole = rate(&all, bound)?;
    let mut rates: Vec<f64> = (0..RESAMPLES)
        .filter_map(|n| {
            let uniform = formula::uniform(&format!("resample {n}"), all.len(), seed);
            let at = |u: f32| ((u * all.len() as f32) as usize).min(all.len() - 1);
            let resampled: Vec<_> = uniform.into_iter().map(|u| all[at(u)]).collect();
            rate(&resampled, bound).map(|fitted| fitted.rate)
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    let quantile = |q: f64| rates.get(((rates.len() as f64 - 1.0) * q).round() as usize).copied();
    let (low, high) = (quantile(0.025).unwrap_or(0.0), quantile(0.975).unwrap_or(1.0));
    Some(Tail { low, high, ..whole })
}

/// The tail and its rate without the interval.
fn rate(groups: &[&Vec<f64>], bound: f64) -> Option<Tail> {
    let mut ratios: Vec<f64> = groups.iter().flat_map(|group| group.iter().copied()).collect();
    ratios.sort_by(f64::total_cmp);
    let count = (ratios.len() as f64 * SHARE) as usize;
    if count < MIN_EXCEEDANCES {
        return None;
    }
    let threshold = ratios[ratios.len() - count - 1];
    let exceedances: Vec<f64> =
        ratios[ratios.len() - count..].iter().map(|r| (r - threshold).max(1e-12)).collect();
    let fitted = Pareto::fit(&exceedances)?;
    let share = count as f64 / ratios.len() as f64;
    Some(Tail {
        threshold,
        exceedances: count as u64,
        shape: fitted.shape,
        scale: fitted.scale,
        rate: share * if bound > threshold { fitted.beyond(bound - threshold) } else { 1.0 },
        low: f64::NAN,
        high: f64::NAN,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws `n` values of a generalised Pareto distribution.
    fn sample(shape: f64, scale: f64, n: usize, seed: u64) -> Vec<f64> {
        let draw = |u: f32| {
            let u = f64::from(u).max(1e-9);
            if shape == 0.0 { -scale * u.ln() } else { scale * (u.powf(-shape) - 1.0) / shape }
        };
        formula::uniform("pareto", n, seed).into_iter().map(draw).collect()
    }

    #[test]
    fn the_fit_recovers_the_parameters() {
        for (shape, scale) in [(-0.2, 0.5), (0.0, 1.0), (0.3, 0.2), (0.8, 2.0)] {
            let mut values = sample(shape, scale, 20_000, 1);
            values.sort_by(f64::total_cmp);
            let fitted = Pareto::fit(&values).unwrap();
            assert!((fitted.shape - shape).abs() < 0.05, "{shape}: {fitted:?}");
            assert!((fitted.scale / scale - 1.0).abs() < 0.06, "{scale}: {fitted:?}");
        }
    }

    #[test]
    fn the_true_rate_of_rare_values_lies_in_the_interval() {
        // P(X > 4) = e^-6 = 0.0025 for an exponential distribution of scale 2/3; 300 groups of 10 values.
        let values = sample(0.0, 2.0 / 3.0, 3000, 2);
        let groups: Vec<Vec<f64>> = values.chunks(10).map(<[f64]>::to_vec).collect();
        let tail = fit(&groups, 4.0, 0).unwrap();
        let true_rate = (-6f64).exp();
        assert!(tail.low <= true_rate && true_rate <= tail.high, "{tail:?}");
        assert!((tail.rate / true_rate).ln().abs() < 0.7, "{tail:?}");
    }

    #[test]
    fn few_values_and_equal_values_have_no_tail() {
        assert_eq!(fit(&[vec![1.0; 30]], 4.0, 0), None);
        let equal = fit(&vec![vec![1.0; 10]; 100], 4.0, 0);
        assert!(equal.is_none_or(|tail| tail.rate < 1e-6), "{equal:?}");
        assert_eq!(fit(&[], 4.0, 0), None);
    }
}
