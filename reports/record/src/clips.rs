//! The part of a comparison that is about its inputs, if there were several.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Errors, Verdict, float};

/// The results of a comparison over several inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Clips {
    /// One entry for each input, in the order in which they were given.
    pub inputs: Vec<ClipResult>,
    /// One entry for each module that was compared, in order of execution.
    pub modules: Vec<OverClips>,
}

/// The result for one input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClipResult {
    /// The input: `formula:SEED`, or the name of a video.
    pub input: String,
    /// The verdict on this input alone.
    pub verdict: Verdict,
    /// Full name of the first divergent module with this input.
    pub first_divergent: Option<String>,
    /// Largest error ratio of a module's own error.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub worst: f64,
    /// Full name of the module with this ratio.
    pub worst_layer: Option<String>,
    /// Accumulated error of the logits; `None` if they were not compared.
    pub logits: Option<Errors>,
}

/// The error ratios of one module's own error over all inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OverClips {
    /// Full name of the module.
    pub name: String,
    /// Number of inputs with which the module passed.
    pub passed: u64,
    /// Lower end of the 95 % interval (Clopper-Pearson) of the share of inputs that pass, 0 to 1.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub low: f64,
    /// Upper end of this interval.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub high: f64,
    /// Median of the ratios.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub median: f64,
    /// 90 % quantile of the ratios.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub p90: f64,
    /// Index of the input with the largest ratio.
    pub worst_input: u64,
    /// The ratio with each input; NaN where the module was not compared or gave NaN.
    #[serde(with = "float::list")]
    #[schemars(with = "Vec<float::Number>")]
    pub ratios: Vec<f64>,
}
