//! A logarithmic axis with separate strips for zero and for NaN and infinity.
//!
//! These values have no logarithm, yet a reader must see them: an error of exactly zero means that two
//! programs computed the same bits, and NaN that one of them failed. The strips lie at the ends of the
//! axis, where their values cannot be mistaken for ordinary ones.

use crate::format::superscript;

/// Where a value is drawn on the axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Spot {
    /// An ordinary value, at its decimal logarithm.
    At(f64),
    /// Exactly zero, in the strip at the bottom.
    Zero(f64),
    /// NaN, infinite or negative (an error cannot be negative), in the strip at the top.
    Broken(f64),
}

impl Spot {
    /// The coordinate on the axis.
    pub fn height(self) -> f64 {
        match self {
            Spot::At(y) | Spot::Zero(y) | Spot::Broken(y) => y,
        }
    }
}

/// The axis: decades from 10^`low` to 10^`high`, and the strips that the values need.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    low: i32,
    high: i32,
    zeros: bool,
    broken: bool,
}

/// The largest number of decades that get a label.
const MAX_LABELS: i32 = 8;

/// The height of a strip as a fraction of the height of the decades.
const STRIP: f64 = 0.11;

impl Axis {
    /// An axis for the given values that covers at least 10^`low` to 10^`high`.
    pub fn new(values: impl Iterator<Item = f64> + Clone, low: f64, high: f64) -> Self {
        let decades = values.clone().filter(|&v| has_logarithm(v)).map(f64::log10);
        let (least, most) =
            decades.fold((low, high), |(least, most), v| (least.min(v), most.max(v)));
        Axis {
            low: least.floor() as i32,
            high: (most.ceil() as i32).max(least.floor() as i32 + 1),
            zeros: values.clone().any(|v| v == 0.0),
            broken: values.clone().any(|v| v != 0.0 && !has_logarithm(v)),
        }
    }

    fn strip(&self) -> f64 {
        f64::from(self.high - self.low) * STRIP
    }

    /// The lowest and the highest coordinate of the axis, with the strips.
    pub fn range(&self) -> (f64, f64) {
        let bottom = f64::from(self.low) - if self.zeros { self.strip() } else { 0.0 };
        let top = f64::from(self.high) + if self.broken { self.strip() } else { 0.0 };
        (bottom, top)
    }

    /// The coordinates of the lines between the decades and the strips.
    pub fn borders(&self) -> Vec<f64> {
        let borders = [(self.zeros, self.low), (self.broken, self.high)];
        borders.iter().filter(|(shown, _)| *shown).map(|(_, at)| f64::from(*at)).collect()
    }

    /// Where the axis shows a value.
    pub fn spot(&self, value: f64) -> Spot {
        match value {
            0.0 => Spot::Zero(f64::from(self.low) - self.strip() / 2.0),
            v if has_logarithm(v) => Spot::At(v.log10()),
            _ => Spot::Broken(f64::from(self.high) + self.strip() / 2.0),
        }
    }

    /// The labels of the axis with their coordinates.
    pub fn labels(&self) -> Vec<(f64, String)> {
        let step = ((self.high - self.low) / MAX_LABELS + 1).max(1) as usize;
        let decades = (self.low..=self.high).step_by(step);
        let mut labels: Vec<_> = decades.map(|d| (f64::from(d), decade_label(d))).collect();
        let strips = [(self.zeros, 0.0, "zero"), (self.broken, f64::NAN, "NaN, ∞")];
        for (_, value, label) in strips.iter().filter(|(shown, ..)| *shown) {
            labels.push((self.spot(*value).height(), (*label).to_owned()));
        }
        labels
    }
}

fn has_logarithm(value: f64) -> bool {
    value > 0.0 && value.is_finite()
}

/// The label of a decade: `0.01` to `1000` in full, the others as a power such as `10⁻⁷`.
fn decade_label(decade: i32) -> String {
    const PLAIN: [(i32, &str); 6] =
        [(-2, "0.01"), (-1, "0.1"), (0, "1"), (1, "10"), (2, "100"), (3, "1000")];
    match PLAIN.iter().find(|(exponent, _)| *exponent == decade) {
        Some((_, label)) => (*label).to_owned(),
        None => format!("10{}", superscript(decade)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(values: &[f64]) -> Axis {
        Axis::new(values.iter().copied(), 0.0, 1.0)
    }

    #[test]
    fn decades_enclose_the_values() {
        assert_eq!(axis(&[2e-7, 3e2]).range(), (-7.0, 3.0));
        assert_eq!(axis(&[]).range(), (0.0, 1.0));
    }

    #[test]
    fn zero_and_nan_get_strips_outside_of_the_decades() {
        let axis = axis(&[0.0, f64::NAN, 5.0]);
        let (bottom, top) = axis.range();
        assert!(matches!(axis.spot(0.0), Spot::Zero(y) if y < 0.0 && y > bottom));
        for broken in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
            assert!(matches!(axis.spot(broken), Spot::Broken(y) if y > 1.0 && y < top));
        }
        assert_eq!(axis.borders(), [0.0, 1.0]);
    }

    #[test]
    fn the_extremes_of_f64_still_get_few_labels() {
        let axis = axis(&[f64::MIN_POSITIVE, f64::MAX, 5e-324]);
        assert!(axis.labels().len() <= 10, "{:?}", axis.labels());
    }

    #[test]
    fn labels_are_plain_near_one_and_powers_elsewhere() {
        assert_eq!(decade_label(-1), "0.1");
        assert_eq!(decade_label(-17), "10⁻¹⁷");
        assert_eq!(decade_label(4), "10⁴");
    }
}
