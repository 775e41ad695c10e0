//! Judges a quantiser: the error that it makes of a value, divided by the smallest error that as many
//! integers allow.
//!
//! The smallest error is found by trying: ranges from the whole range of the values down to a fiftieth of it,
//! divided into equal steps. A small range clips large values, a large one has wide steps, and the best is in
//! between. A quantiser is wrong if it is [`BOUND`] times worse than the best one (two bits are lost) and
//! its error is not small: a clip whose values fill a part of the calibrated range only does not make a file
//! wrong.

use crate::measure::BOUND;

/// An error of this size relative to the rms of the values does not make a quantiser wrong, whatever the best
/// one would do: 14 dB.
const SMALL: f64 = 0.2;

/// At most this many values are used to search the best range.
const SAMPLE: usize = 1 << 15;

/// What a quantiser does to a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantised {
    /// Root mean square of the error, relative to that of the values.
    pub error: f64,
    /// The smallest such error that as many integers allow.
    pub best: f64,
    /// `error / best`, NaN if a value is NaN.
    pub ratio: f64,
}

impl Quantised {
    /// Whether the quantiser is fit for these values. NaN is not.
    pub fn passes(&self) -> bool {
        self.ratio <= BOUND || self.error <= SMALL
    }
}

/// Judges what a quantiser of this many `levels` made of `values`. `rectifies`: whether its numbers begin at
/// zero, so that the values below are not meant to be kept.
///
/// # Panics
///
/// If both do not have the same length.
pub fn judge(values: &[f64], quantised: &[f64], levels: f64, rectifies: bool) -> Quantised {
    assert_eq!(values.len(), quantised.len(), "a quantiser keeps the shape");
    let kept = |x: f64| if rectifies && x < 0.0 { 0.0 } else { x };
    let (mut error2, mut truth2) = (0.0, 0.0);
    let (mut low, mut high) = (0.0f64, 0.0f64);
    for (x, q) in values.iter().zip(quantised) {
        let x = kept(*x);
        error2 += (q - x) * (q - x);
        truth2 += x * x;
        (low, high) = (low.min(x), high.max(x));
    }
    let count = values.len().max(1) as f64;
    let sample: Vec<f64> =
        values.iter().step_by(values.len().div_ceil(SAMPLE).max(1)).map(|x| kept(*x)).collect();
    let best2 = best(&sample, (low, high), levels) * count;
    let over = |a: f64, b: f64| if a == 0.0 { 0.0 } else { a / b };
    Quantised {
        error: over(error2, truth2).sqrt(),
        best: over(best2, truth2).sqrt(),
        ratio: over(error2, best2).sqrt(),
    }
}

/// The smallest mean square error over the ranges, but at least that of the best range's steps: few values
/// may happen to lie on the numbers.
fn best(sample: &[f64], (low, high): (f64, f64), levels: f64) -> f64 {
    const RANGES: usize = 40;
    const SMALLEST: f64 = 0.02;
    let error = |share: f64| {
        let (low, high) = (share * low, share * high);
        let step = (high - low) / (levels - 1.0);
        let sum: f64 = sample
            .iter()
            .map(|x| {
                let nearest = low + ((x.clamp(low, high) - low) / step).round_ties_even() * step;
                (nearest - x) * (nearest - x)
            })
            .sum();
        (sum / sample.len().max(1) as f64).max(step * step / 12.0)
    };
    let share = |at: usize| SMALLEST.powf(at as f64 / (RANGES - 1) as f64);
    match high > low {
        true => (0..RANGES).map(|at| error(share(at))).fold(f64::INFINITY, f64::min),
        false => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values like those of an activation.
    fn values() -> Vec<f64> {
        let uniform = checkpoint::formula::uniform("activation", 48_000, 0);
        let normal = |c: &[f32]| c.iter().map(|&x| f64::from(x)).sum::<f64>() - 6.0;
        uniform.chunks(12).map(normal).collect()
    }

    fn quantised(values: &[f64], step: f64, zero: f64) -> Vec<f64> {
        let integer = |x: &f64| ((x / step).round_ties_even() + zero).clamp(0.0, 255.0);
        values.iter().map(|x| (integer(x) - zero) * step).collect()
    }

    fn of(step: f64) -> Quantised {
        let values = values();
        judge(&values, &quantised(&values, step, 128.0), 256.0, false)
    }

    #[test]
    fn a_scale_from_the_range_of_the_values_passes() {
        let largest = values().iter().fold(0.0f64, |m, x| m.max(x.abs()));
        let found = of(largest / 127.0);
        assert!(found.passes() && found.ratio < 1.5, "{found:?}");
        assert!(found.error < 0.02, "{found:?}");
    }

    #[test]
    fn a_scale_that_is_far_too_small_or_too_large_does_not() {
        let largest = values().iter().fold(0.0f64, |m, x| m.max(x.abs()));
        let small = of(largest / 127.0 / 8.0);
        assert!(!small.passes(), "{small:?}");
        let large = of(largest / 127.0 * 30.0);
        assert!(!large.passes(), "{large:?}");
        // A clip that fills only a quarter of the calibrated range does not make the file wrong.
        assert!(of(largest / 127.0 * 6.0).passes());
    }

    #[test]
    fn zeros_and_constants_pass_and_nan_does_not() {
        let zeros = vec![0.0; 9];
        assert!(judge(&zeros, &zeros, 256.0, false).passes());
        let threes = vec![3.0; 9];
        assert!(judge(&threes, &[3.004; 9], 256.0, false).passes());
        let nan = judge(&[1.0, f64::NAN], &[1.0, f64::NAN], 256.0, false);
        assert!(!nan.passes(), "{nan:?}");
        assert!(judge(&[], &[], 256.0, false).passes());
    }

    #[test]
    fn a_quantiser_that_works_as_a_relu_is_not_blamed_for_what_it_cuts_off() {
        let values = values();
        let relu: Vec<f64> = values.iter().map(|x| x.max(0.0)).collect();
        let largest = relu.iter().fold(0.0f64, |m, x| m.max(*x));
        let quantised = quantised(&values, largest / 255.0, 0.0);
        let found = judge(&values, &quantised, 256.0, true);
        assert!(found.passes() && found.ratio < 1.5, "{found:?}");
        assert!(!judge(&values, &quantised, 256.0, false).passes());
    }
}
