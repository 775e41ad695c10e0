//! The record of many comparisons of right engines.

use serde::{Deserialize, Serialize};

use super::{Run, Verdict, float};

/// The outcome of `harness selftest --null`: right engines on random networks, each compared as
/// `harness diff` compares. Whatever diverges is a false alarm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NullRecord {
    /// Diverged if there was a false alarm.
    pub verdict: Verdict,
    /// A layer passes at a budget ratio of at most this.
    #[serde(with = "float")]
    pub bound: f64,
    /// Comparisons: whole runs of `harness diff`.
    pub comparisons: u64,
    /// Random networks, each compared with several engines.
    pub draws: u64,
    /// Comparisons that diverged.
    pub alarms: u64,
    /// Budget ratios that were measured.
    pub measurements: u64,
    /// What the largest ratios of the comparisons predict, where there were enough of them.
    #[serde(default)]
    pub tail: Option<Tail>,
    /// How many comparisons had their largest ratio in each interval.
    pub histogram: Vec<Bar>,
    /// The ratios by engine, precision and kind of layer.
    pub groups: Vec<NullGroup>,
    /// The comparisons with the largest ratios, the worst first.
    pub worst: Vec<NullCase>,
    /// How the run was made.
    pub run: Run,
}

/// A generalised Pareto distribution of what the largest ratios exceed a threshold by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    /// The threshold.
    #[serde(with = "float")]
    pub threshold: f64,
    /// Comparisons beyond it.
    pub exceedances: u64,
    /// xi: 0 is exponential, above it a power law, below it the tail ends.
    #[serde(with = "float")]
    pub shape: f64,
    /// sigma.
    #[serde(with = "float")]
    pub scale: f64,
    /// Predicted false alarms per comparison.
    #[serde(with = "float")]
    pub rate: f64,
    /// Lower end of its 95 % interval (a bootstrap over the random networks).
    #[serde(with = "float")]
    pub low: f64,
    /// Upper end.
    #[serde(with = "float")]
    pub high: f64,
}

/// A bar of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// Least ratio in it.
    #[serde(with = "float")]
    pub from: f64,
    /// First ratio beyond it.
    #[serde(with = "float")]
    pub to: f64,
    /// How many there are.
    pub count: u64,
}

/// The ratios of one engine in one kind of layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NullGroup {
    /// The engine: `cpu avx2`.
    pub engine: String,
    /// Its precision.
    pub precision: String,
    /// The kind of layer: `conv 3x3`.
    pub layer: String,
    /// Layers that were measured.
    pub count: u64,
    /// Introduced as relative L2 and as largest error, inherited as relative L2 and as largest error.
    pub ratios: [Quantiles; 4],
}

/// How ratios are spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Half of them are below.
    #[serde(with = "float")]
    pub median: f64,
    /// 99 % are below.
    #[serde(with = "float")]
    pub p99: f64,
    /// 99.9 % are below.
    #[serde(with = "float")]
    pub p999: f64,
    /// The largest.
    #[serde(with = "float")]
    pub largest: f64,
}

/// One comparison, by its largest ratio.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NullCase {
    /// The ratio.
    #[serde(with = "float")]
    pub ratio: f64,
    /// The module where it was.
    pub module: String,
    /// Introduced or inherited, relative L2 or largest error.
    pub measure: String,
    /// The engine.
    pub engine: String,
    /// Its precision.
    pub precision: String,
    /// Whether the comparison did not pass.
    pub alarm: bool,
    /// The command that makes it again.
    pub command: String,
}
