//! The record of a bench: latency of each contestant in each setting.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Body, Run, Verdict, float};

/// The outcome of `harness bench`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchRecord {
    /// `Diverged` if a contestant's output was wrong or the engine is slower than the baseline.
    pub verdict: Verdict,
    /// One entry for each precision, batch size and number of threads.
    pub settings: Vec<Setting>,
    /// Multiply-accumulates for one clip.
    pub macs: u64,
    /// Number of rounds of each setting.
    pub rounds: u64,
    /// Number of timed forward passes in each turn of a contestant.
    pub runs: u64,
    /// Significant slowdowns against the baseline, one sentence each.
    #[serde(default)]
    pub regressions: Vec<String>,
    /// Command, machine, versions and configuration of the run.
    pub run: Run,
}

impl Body for BenchRecord {
    fn run(&self) -> &Run {
        &self.run
    }
}

/// One setting, in which the contestants ran in turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Setting {
    /// Precision of the computation, such as `f32` or `bf16`.
    pub precision: String,
    /// Number of clips in a batch.
    pub batch: u64,
    /// Number of threads of each contestant.
    pub threads: u64,
    /// The contestants that ran.
    pub entries: Vec<BenchEntry>,
    /// The contestants that could not run, with the reason.
    #[serde(default)]
    pub left_out: Vec<(String, String)>,
    /// Whether one of these failed, rather than not supporting the setting.
    #[serde(default)]
    pub broken: bool,
    /// Measured peak speed of multiply-adds, GFLOP/s.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub peak_gflops: f64,
    /// Measured peak speed of reading memory, GB/s.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub peak_gbs: f64,
}

/// One contestant in one setting. Times are seconds for a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchEntry {
    /// Name of the contestant, such as `cpu` or `openvino`.
    pub name: String,
    /// Version of the engine or runtime.
    pub version: String,
    /// Fastest forward pass.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub min_s: f64,
    /// Median.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub p50_s: f64,
    /// Lower end of the median's 95 % interval.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub p50_low_s: f64,
    /// Upper end of the median's 95 % interval.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub p50_high_s: f64,
    /// 90th percentile.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub p90_s: f64,
    /// 95th percentile.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub p95_s: f64,
    /// 99th percentile.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub p99_s: f64,
    /// Time to load the model.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub load_s: f64,
    /// First forward pass.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub first_s: f64,
    /// Median from frames as bytes in the host's memory [N, T, H, W, 3] to the logits there, with normalisation
    /// and copies, which is what `eval` pays for a batch after decoding.
    #[serde(default)]
    pub from_bytes_s: Option<f64>,
    /// Peak growth of the resident memory by loading and running, in bytes.
    pub peak_bytes: u64,
    /// Relative L2 error of a timed output against float64.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub error: f64,
    /// Whether the error is small enough for the precision.
    pub right: bool,
    /// Name of the fastest other runtime, and the ratio of the medians to its median with both ends of
    /// the 95 % interval.
    #[serde(default, with = "float::named")]
    #[schemars(with = "Option<(String, [float::Number; 3])>")]
    pub to_peer: Option<(String, [f64; 3])>,
    /// Times of all forward passes, by round.
    pub rounds_s: Vec<Vec<f64>>,
    /// The contestant's profile, one entry for each step.
    #[serde(default)]
    pub layers: Vec<LayerTime>,
}

/// One step in the profile of a contestant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LayerTime {
    /// Name of the step in the contestant's profile.
    pub name: String,
    /// Kind of work, such as `Conv`.
    pub kind: String,
    /// Time for a batch in milliseconds.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub ms: f64,
    /// Operations of the direct convolutions that the step computes, 10^9.
    #[serde(default)]
    pub gflop: Option<f64>,
    /// Size of weights, inputs and outputs, 10^6 bytes.
    #[serde(default)]
    pub mb: Option<f64>,
}
