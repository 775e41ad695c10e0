//! Collects the error ratios of many comparisons of correct engines.

use std::collections::BTreeMap;

use record::{Bar, NullCase, NullGroup, Quantiles};

/// The number of worst comparisons that are listed.
const WORST: usize = 10;
/// The width of a bar of the histogram, as an error ratio.
const WIDTH: f64 = 0.1;

/// The four error ratios of a module, in the order of [`MEASURES`]: those of its own and accumulated
/// error, each as relative L2 and as largest error.
pub type Ratios = [f64; 4];

/// The names of the four ratios.
pub const MEASURES: [&str; 4] =
    ["introduced, L2", "introduced, largest", "inherited, L2", "inherited, largest"];

/// The ratios and comparisons so far.
#[derive(Default)]
pub struct Tally {
    groups: BTreeMap<[String; 3], [Vec<f32>; 4]>,
    worst: Vec<NullCase>,
    /// The largest ratio of each comparison, by draw.
    pub largest: Vec<Vec<f64>>,
}

impl Tally {
    /// Adds the ratios of one module of a comparison.
    pub fn add(&mut self, engine: &str, precision: &str, kind: &str, ratios: Ratios) {
        let key = [engine, precision, kind].map(str::to_owned);
        let group = self.groups.entry(key).or_default();
        for (values, ratio) in group.iter_mut().zip(ratios) {
            // NaN stands for what was not measured. A ratio that is NaN is an alarm, which `case` counts.
            if !ratio.is_nan() {
                values.push(ratio as f32);
            }
        }
    }

    /// Adds a comparison with its worst module.
    pub fn case(&mut self, case: NullCase) {
        if let Some(draw) = self.largest.last_mut() {
            draw.push(if case.ratio.is_nan() { f64::INFINITY } else { case.ratio });
        }
        self.worst.push(case);
        // This order puts NaN first.
        self.worst.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
        self.worst.truncate(WORST);
    }

    /// The number of comparisons so far.
    pub fn comparisons(&self) -> usize {
        self.largest.iter().map(Vec::len).sum()
    }

    /// The comparisons with the largest ratios, worst first.
    pub fn worst(&self) -> &[NullCase] {
        &self.worst
    }

    /// The number of ratios so far.
    pub fn measurements(&self) -> u64 {
        self.groups.values().flatten().map(|values| values.len() as u64).sum()
    }

    /// The quantiles of every group: engine, precision and kind of layer.
    pub fn groups(&self) -> Vec<NullGroup> {
        let quantiles = |values: &Vec<f32>| {
            let mut sorted = values.clone();
            sorted.sort_by(f32::total_cmp);
            let at = |q: f64| match sorted.len() {
                0 => f64::NAN,
                n => rounded(f64::from(sorted[((n as f64 - 1.0) * q).ceil() as usize])),
            };
            Quantiles { median: at(0.5), p99: at(0.99), p999: at(0.999), largest: at(1.0) }
        };
        let group = |(key, values): (&[String; 3], &[Vec<f32>; 4])| {
            let [engine, precision, layer] = key.clone();
            let count = values.iter().map(Vec::len).max().unwrap_or(0) as u64;
            NullGroup { engine, precision, layer, count, ratios: values.each_ref().map(quantiles) }
        };
        self.groups.iter().map(group).filter(|group| group.count > 0).collect()
    }

    /// The histogram of the comparisons' largest ratios.
    pub fn histogram(&self) -> Vec<Bar> {
        let mut counts = BTreeMap::new();
        for ratio in self.largest.iter().flatten() {
            *counts.entry((ratio / WIDTH).floor().clamp(0.0, 1e6) as u64).or_insert(0u64) += 1;
        }
        let bin = |(at, count): (&u64, &u64)| Bar {
            from: rounded(*at as f64 * WIDTH),
            to: rounded((at + 1) as f64 * WIDTH),
            count: *count,
        };
        counts.iter().map(bin).collect()
    }
}

/// Rounds to four significant digits, which keeps records small.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}
