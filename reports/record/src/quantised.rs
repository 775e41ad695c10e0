//! What the quantisers of an ONNX file cost, in the record of a comparison.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{LayerVerdict, float};

/// A quantised file: its weights, its quantisers, and its logits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quantisation {
    /// Number of weights that are integers with a scale.
    pub weights: u64,
    /// How many of them are not what rounding the checkpoint gives.
    pub weights_beyond: u64,
    /// The pairs of QuantizeLinear and DequantizeLinear that activations pass through, in order of execution.
    pub quantisers: Vec<Quantiser>,
    /// Relative L2 distance of the file's logits from those of the same file without its quantisers.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub logits: f64,
    /// Cosine of the angle between the two.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub cosine: f64,
    /// Whether both have the same largest logit for every clip.
    pub same_class: bool,
    /// The runtime's own integer kernels. `None` if the runtime runs the file in one way only.
    #[serde(default)]
    pub kernels: Option<IntegerKernels>,
}

/// The integer kernels of a runtime, compared with the file's arithmetic, operator by operator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IntegerKernels {
    /// Relative L2 distance between the logits of both.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub logits: f64,
    /// The distance divided by that between the logits with and without quantisers; 4 or less passes.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub ratio: f64,
    /// `pass` or `diverged`.
    pub verdict: LayerVerdict,
}

/// One quantiser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quantiser {
    /// The name in the file of the value before it.
    pub value: String,
    /// Full name of the module whose output that is, if it is one.
    pub module: Option<String>,
    /// Number of integers, such as 256.
    pub levels: u64,
    /// Root mean square of its error, relative to that of the value.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub error: f64,
    /// The error divided by the smallest one that as many integers allow.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub ratio: f64,
    /// Share of the values that are beyond its range.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub clipped: f64,
    /// Share of its range that the values reach.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub used: f64,
    /// `pass` or `diverged`.
    pub verdict: LayerVerdict,
}
