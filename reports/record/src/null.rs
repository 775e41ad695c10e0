//! The record of `harness selftest --null`: many comparisons of engines that are known to be correct.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Body, ErrorKind, Run, Verdict, float};

/// The outcome of `harness selftest --null`: correct engines on random networks, compared as by
/// `harness diff`. Every divergence is a false alarm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NullRecord {
    /// `Diverged` if there was a false alarm, `Incomplete` if the run was stopped before all comparisons.
    pub verdict: Verdict,
    /// Largest error ratio that passes.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub bound: f64,
    /// Number of comparisons; each is a complete run of `harness diff`.
    pub comparisons: u64,
    /// Number of random networks, each of which several engines ran.
    pub draws: u64,
    /// Number of comparisons that diverged.
    pub alarms: u64,
    /// Number of error ratios that were measured.
    pub measurements: u64,
    /// The tail fitted to the largest ratio of each comparison; `None` if there were too few.
    #[serde(default)]
    pub tail: Option<Tail>,
    /// Number of comparisons by their largest ratio.
    pub histogram: Vec<Bar>,
    /// Quantiles of the ratios by engine, precision and kind of layer.
    pub groups: Vec<NullGroup>,
    /// The comparisons with the largest ratios, the worst first.
    pub worst: Vec<NullCase>,
    /// Command, machine, versions and configuration of the run.
    pub run: Run,
}

impl Body for NullRecord {
    fn run(&self) -> &Run {
        &self.run
    }
}

/// A generalised Pareto distribution, fitted to the excesses of the largest ratios over a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tail {
    /// The threshold on the largest ratio of a comparison.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub threshold: f64,
    /// Number of comparisons above the threshold.
    pub exceedances: u64,
    /// Shape xi: 0 is an exponential tail, positive a power law, negative a tail that ends.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub shape: f64,
    /// Scale sigma.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub scale: f64,
    /// Predicted number of false alarms per comparison.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub rate: f64,
    /// Lower end of the rate's 95 % interval, by a bootstrap over the random networks.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub low: f64,
    /// Upper end of the rate's 95 % interval.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub high: f64,
}

/// One bar of the histogram of largest ratios.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bar {
    /// Lower end of the interval, which belongs to it.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub from: f64,
    /// Upper end of the interval, which does not belong to it.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub to: f64,
    /// Number of comparisons in the interval.
    pub count: u64,
}

/// The ratios of one engine at one precision in one kind of layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NullGroup {
    /// The engine with its instruction set, such as `cpu avx2`.
    pub engine: String,
    /// Precision of the engine.
    pub precision: String,
    /// Kind of layer, such as `conv 3x3`.
    pub layer: String,
    /// Number of layers that were measured.
    pub count: u64,
    /// Ratios by relative L2 and largest own error, and by relative L2 and largest accumulated
    /// largest error.
    pub ratios: [Quantiles; 4],
}

/// Quantiles of a set of error ratios.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quantiles {
    /// Median.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub median: f64,
    /// 99 % quantile.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub p99: f64,
    /// 99.9 % quantile.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub p999: f64,
    /// Largest ratio.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub largest: f64,
}

/// One comparison, with the place of its largest ratio.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NullCase {
    /// The largest ratio.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub ratio: f64,
    /// Full name of the module with this ratio.
    pub module: String,
    /// Which error it is: `introduced` (own) or `inherited` (accumulated), `L2` or `largest`.
    pub measure: String,
    /// The engine with its instruction set.
    pub engine: String,
    /// Precision of the engine.
    pub precision: String,
    /// Whether the comparison diverged: a false alarm.
    pub alarm: bool,
    /// The command that repeats the comparison.
    pub command: String,
}

/// A measure of [`NullCase::measure`] in words: `own, L2` for `introduced, L2`.
pub fn measure_words(measure: &str) -> String {
    let words = |kind: ErrorKind| (kind.as_str(), kind.words());
    let kinds = [ErrorKind::Introduced, ErrorKind::Inherited].map(words);
    kinds.iter().fold(measure.to_owned(), |text, (name, word)| text.replace(name, word))
}
