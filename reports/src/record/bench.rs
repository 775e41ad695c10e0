//! The record of a bench: who ran how fast.

use serde::{Deserialize, Serialize};

use super::{Run, Verdict, float};

/// The outcome of `harness bench`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchRecord {
    /// Diverged if a contestant's output was wrong, or it has become slower than the baseline.
    pub verdict: Verdict,
    /// Every precision, batch and number of threads.
    pub settings: Vec<Setting>,
    /// Multiply-accumulates of a clip.
    pub macs: u64,
    /// Rounds of each setting.
    pub rounds: u64,
    /// Runs that count in a turn.
    pub runs: u64,
    /// Who is slower than the baseline beyond chance, one sentence each.
    #[serde(default)]
    pub regressions: Vec<String>,
    /// How the run was made.
    pub run: Run,
}

/// Contestants that ran in turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// `f32` or `bf16`.
    pub precision: String,
    /// Clips in a batch.
    pub batch: u64,
    /// Threads.
    pub threads: u64,
    /// Who ran.
    pub entries: Vec<BenchEntry>,
    /// Who could not, and why.
    #[serde(default)]
    pub left_out: Vec<(String, String)>,
    /// Whether one of those broke, rather than being unable to take part.
    #[serde(default)]
    pub broken: bool,
    /// Measured peak of the multiply-adds, GFLOP/s.
    #[serde(with = "float")]
    pub peak_gflops: f64,
    /// Measured peak of reading memory, GB/s.
    #[serde(with = "float")]
    pub peak_gbs: f64,
}

/// One contestant. Times are seconds of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchEntry {
    /// Its name.
    pub name: String,
    /// Version of what computes.
    pub version: String,
    /// The fastest run.
    #[serde(with = "float")]
    pub min_s: f64,
    /// The median.
    #[serde(with = "float")]
    pub p50_s: f64,
    /// Lower end of the median's 95 % interval.
    #[serde(with = "float")]
    pub p50_low_s: f64,
    /// Upper end.
    #[serde(with = "float")]
    pub p50_high_s: f64,
    /// 90 of 100 are faster.
    #[serde(with = "float")]
    pub p90_s: f64,
    /// 95 of 100 are faster.
    #[serde(with = "float")]
    pub p95_s: f64,
    /// 99 of 100 are faster.
    #[serde(with = "float")]
    pub p99_s: f64,
    /// To load the model.
    #[serde(with = "float")]
    pub load_s: f64,
    /// The first run.
    #[serde(with = "float")]
    pub first_s: f64,
    /// What loading and running added to the resident memory at most.
    pub peak_bytes: u64,
    /// Relative L2 distance of a timed output from float64.
    #[serde(with = "float")]
    pub error: f64,
    /// Whether that is small enough.
    pub right: bool,
    /// The fastest other runtime, and the ratio of the medians with its 95 % interval.
    #[serde(default, with = "float::named")]
    pub to_peer: Option<(String, [f64; 3])>,
    /// Seconds of every run, by round.
    pub rounds_s: Vec<Vec<f64>>,
    /// Where the time goes.
    #[serde(default)]
    pub layers: Vec<LayerTime>,
}

/// A step of a contestant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerTime {
    /// Its name there.
    pub name: String,
    /// The kind of work.
    pub kind: String,
    /// Milliseconds.
    #[serde(with = "float")]
    pub ms: f64,
    /// Operations of the convolutions that it stands for, 10^9.
    #[serde(default)]
    pub gflop: Option<f64>,
    /// Weights, inputs and outputs, 10^6 bytes.
    #[serde(default)]
    pub mb: Option<f64>,
}
