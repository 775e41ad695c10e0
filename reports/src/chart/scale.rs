//! Scales: from values to pixels, with ticks at round numbers.

use super::drawable;
use crate::format::superscript;

/// An axis as the caller describes it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Axis {
    /// What the axis shows, with its unit.
    pub label: String,
    /// Whether the axis is logarithmic.
    pub log: bool,
    /// Whether the values are counts, so that ticks are whole numbers.
    pub whole: bool,
    /// Values that the axis shows in any case.
    pub cover: Vec<f64>,
    /// The axis does not reach beyond this value, such as 100 %.
    pub most: Option<f64>,
}

impl Axis {
    /// A linear axis.
    pub fn linear(label: &str) -> Self {
        Axis { label: label.to_owned(), ..Axis::default() }
    }

    /// A logarithmic axis.
    pub fn log(label: &str) -> Self {
        Axis { log: true, ..Axis::linear(label) }
    }

    /// An axis of whole numbers.
    pub fn whole(label: &str) -> Self {
        Axis { whole: true, ..Axis::linear(label) }
    }

    /// An axis of times or other positive values: from 0, or logarithmic if the largest value is more than
    /// 5 times the smallest, since on a linear axis the largest would hide the others.
    pub fn positive(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = ends(values.filter(|v| *v > 0.0));
        match high > 5.0 * low {
            true => Axis::log(&format!("{label} (logarithmic)")),
            false => Axis { cover: vec![0.0], ..Axis::linear(label) },
        }
    }

    /// A linear axis of percentages that shows only the part where the values are.
    pub fn percent(label: &str) -> Self {
        Axis { most: Some(100.0), ..Axis::linear(label) }
    }

    fn coordinate(&self, value: f64) -> Option<f64> {
        let place = if self.log { value.log10() } else { value };
        (drawable(value) && drawable(place)).then_some(place)
    }
}

/// A range of values laid out on a range of pixels.
pub(super) struct Scale {
    axis: Axis,
    /// Ends in the coordinates of the axis, which are logarithms on a logarithmic axis.
    low: f64,
    high: f64,
    /// The pixels of both ends.
    pixels: (f64, f64),
}

impl Scale {
    /// A scale that shows all values that can be drawn, with a margin on both sides.
    pub fn new(axis: &Axis, values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Self {
        const MARGIN: f64 = 0.06;
        let places = values.chain(axis.cover.iter().copied());
        let (low, high) = ends(places.filter_map(|value| axis.coordinate(value)));
        let pad = match high - low {
            0.0 if axis.log => 0.2,
            0.0 => 0.1 * high.abs().max(1e-3),
            span => span * MARGIN,
        };
        // An axis that begins at zero has nothing below it.
        let bottom = if low == 0.0 && !axis.log { low } else { low - pad };
        // The limit itself stays a little away from the edge, so that a dot on it is not cut.
        let top = axis.most.map_or(high + pad, |most| (high + pad).min(most + 0.3 * pad));
        Scale { axis: axis.clone(), low: bottom, high: top.max(bottom + 1e-300), pixels }
    }

    /// The pixel of a value; `None` for what cannot be drawn, such as zero on a logarithmic axis.
    pub fn at(&self, value: f64) -> Option<f64> {
        self.axis.coordinate(value).map(|place| self.pixel(place))
    }

    fn pixel(&self, place: f64) -> f64 {
        let (from, to) = self.pixels;
        from + (place - self.low) / (self.high - self.low) * (to - from)
    }

    /// Ticks at round numbers that are at least `spacing` pixels apart: pixels and labels.
    pub fn ticks(&self, spacing: f64) -> Vec<(f64, String)> {
        let values = if self.axis.log { self.log_ticks(spacing) } else { self.even_ticks(spacing) };
        let most = self.axis.most.unwrap_or(f64::INFINITY);
        let shown = values.into_iter().filter(|value| *value <= most);
        shown.filter_map(|value| Some((self.at(value)?, number(value)))).collect()
    }

    /// Multiples of 1, 2 or 5 times a power of ten.
    fn even_ticks(&self, spacing: f64) -> Vec<f64> {
        let (low, high) = match self.axis.log {
            true => (10f64.powf(self.low), 10f64.powf(self.high)),
            false => (self.low, self.high),
        };
        let many = ((self.pixels.1 - self.pixels.0).abs() / spacing).floor().max(1.0);
        let mut step = round_up((high - low) / many);
        if self.axis.whole {
            step = step.max(1.0);
        }
        let first = (low / step).ceil() as i64;
        let multiples = (first..first.saturating_add(100)).map(|n| n as f64 * step);
        multiples.take_while(|value| *value <= high).collect()
    }

    /// Round numbers of every decade, as many as there is room for.
    fn log_ticks(&self, spacing: f64) -> Vec<f64> {
        const DIGITS: [&[f64]; 4] =
            [&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]];
        let decades = self.low.floor() as i32..=self.high.ceil() as i32;
        let apart = |values: &[f64]| {
            let places: Vec<f64> = values.iter().filter_map(|value| self.at(*value)).collect();
            places.windows(2).all(|pair| (pair[1] - pair[0]).abs() >= spacing)
        };
        for digits in DIGITS {
            let all = decades.clone().flat_map(|d| digits.iter().map(move |n| n * 10f64.powi(d)));
            let values: Vec<f64> = all.filter(|value| self.encloses(*value)).collect();
            if values.len() < 3 {
                break;
            }
            if apart(&values) {
                return values;
            }
        }
        let span = self.high - self.low;
        if span < 1.0 {
            return self.even_ticks(1.5 * spacing);
        }
        let room = ((self.pixels.1 - self.pixels.0).abs() / spacing).floor().max(1.0);
        let stride = (span / room).ceil().max(1.0) as usize;
        let powers = decades.step_by(stride).map(|d| 10f64.powi(d));
        powers.filter(|value| self.encloses(*value)).collect()
    }

    fn encloses(&self, value: f64) -> bool {
        self.axis.coordinate(value).is_some_and(|place| place >= self.low && place <= self.high)
    }
}

/// The smallest and the largest value that is not NaN or infinite; 0 and 1 if there are none.
pub(super) fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let ends = values.filter(|value| drawable(*value)).fold(None, |ends: Option<(f64, f64)>, v| {
        Some(ends.map_or((v, v), |(low, high)| (low.min(v), high.max(v))))
    });
    ends.unwrap_or((0.0, 1.0))
}

/// The next number of the form 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.abs().max(1e-300).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power);
    steps.into_iter().find(|step| *step >= value * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

/// The label of a tick without superfluous digits: `0.5`, `20`, `10⁻⁷`, `2·10⁷`.
fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    // A power of ten may come out a little below itself.
    let exponent = (value.abs().log10() + 1e-9).floor();
    if (-3.0..6.0).contains(&exponent) {
        let decimals = (3.0 - exponent).clamp(0.0, 7.0) as usize;
        let text = format!("{value:.decimals$}");
        let short = text.trim_end_matches('0').trim_end_matches('.');
        return if text.contains('.') { short.to_owned() } else { text };
    }
    let digit = (value / 10f64.powf(exponent)).round();
    let power = format!("10{}", superscript(exponent as i32));
    if digit == 1.0 { power } else { format!("{digit}·{power}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, values: &[f64], spacing: f64) -> Vec<String> {
        let scale = Scale::new(axis, values.iter().copied(), (0.0, 800.0));
        scale.ticks(spacing).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(&Axis::whole("threads"), &[1.0, 2.0], 60.0), ["1", "2"]);
        assert_eq!(labels(&Axis::linear("%"), &[88.0, 100.0], 150.0), ["90", "95", "100"]);
        assert_eq!(labels(&Axis::log("ms"), &[36.8, 104.0], 60.0), ["40", "50", "60", "80", "100"]);
        assert_eq!(labels(&Axis::log("ms"), &[1.4, 43.0], 60.0), ["2", "5", "10", "20", "50"]);
        assert_eq!(labels(&Axis::log("e"), &[1e-7, 1e-2], 200.0), ["10⁻⁶", "10⁻⁴", "0.01"]);
        assert_eq!(labels(&Axis::percent("%"), &[99.0, 100.0], 200.0), ["99", "99.5", "100"]);
    }

    #[test]
    fn an_axis_without_values_or_with_extreme_ones_still_has_an_end() {
        let values = [f64::NAN, f64::INFINITY, f64::MAX, 5e-324, -3.0, 0.0];
        for axis in [Axis::log(""), Axis::linear(""), Axis::whole(""), Axis::percent("")] {
            assert!(labels(&axis, &values, 60.0).len() < 40, "{axis:?}");
            assert!(labels(&axis, &[], 60.0).len() < 40, "{axis:?}");
        }
        let scale = Scale::new(&Axis::log(""), [2.0].into_iter(), (0.0, 100.0));
        assert!(scale.at(0.0).is_none() && scale.at(f64::NAN).is_none());
    }
}
