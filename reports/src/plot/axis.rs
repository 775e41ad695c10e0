//! A logarithmic axis that also has a place for zero, NaN and infinity.
//!
//! None of the three has a logarithm, and all three are news: an error of exactly zero says that
//! two programs did the same, NaN that one of them broke. They get a strip of their own at the
//! border, where they cannot be mistaken for a value.

/// Where a value is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Spot {
    /// Among the decades.
    At(f64),
    /// In the strip at the bottom: exactly zero.
    Zero(f64),
    /// In the strip at the top: NaN, infinite, or negative, which no error is.
    Broken(f64),
}

impl Spot {
    /// The height on the axis.
    pub fn height(self) -> f64 {
        match self {
            Spot::At(y) | Spot::Zero(y) | Spot::Broken(y) => y,
        }
    }
}

/// The axis: whole decades from `low` to `high`, and the strips that are needed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    low: i32,
    high: i32,
    zeros: bool,
    broken: bool,
}

/// The most decades that get a label.
const MOST_LABELS: i32 = 8;

/// The height of a strip, as a part of the decades.
const STRIP: f64 = 0.11;

impl Axis {
    /// An axis for some values which shows at least the decades from `low` to `high`.
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

    /// The lowest and the highest place on the axis.
    pub fn range(&self) -> (f64, f64) {
        let bottom = f64::from(self.low) - if self.zeros { self.strip() } else { 0.0 };
        let top = f64::from(self.high) + if self.broken { self.strip() } else { 0.0 };
        (bottom, top)
    }

    /// The lines between the decades and the strips.
    pub fn borders(&self) -> Vec<f64> {
        let borders = [(self.zeros, self.low), (self.broken, self.high)];
        borders.iter().filter(|(shown, _)| *shown).map(|(_, at)| f64::from(*at)).collect()
    }

    /// Where a value is drawn.
    pub fn spot(&self, value: f64) -> Spot {
        match value {
            0.0 => Spot::Zero(f64::from(self.low) - self.strip() / 2.0),
            v if has_logarithm(v) => Spot::At(v.log10()),
            _ => Spot::Broken(f64::from(self.high) + self.strip() / 2.0),
        }
    }

    /// The labelled places with their labels.
    pub fn labels(&self) -> Vec<(f64, String)> {
        let step = ((self.high - self.low) / MOST_LABELS + 1).max(1) as usize;
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

/// `0.01` to `1000` as they are, anything else as a power: `10⁻⁷`.
fn decade_label(decade: i32) -> String {
    const PLAIN: [(i32, &str); 6] =
        [(-2, "0.01"), (-1, "0.1"), (0, "1"), (1, "10"), (2, "100"), (3, "1000")];
    match PLAIN.iter().find(|(exponent, _)| *exponent == decade) {
        Some((_, label)) => (*label).to_owned(),
        None => format!("10{}", superscript(decade)),
    }
}

fn superscript(number: i32) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let raise = |c: char| c.to_digit(10).map_or('⁻', |digit| DIGITS[digit as usize]);
    number.to_string().chars().map(raise).collect()
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
