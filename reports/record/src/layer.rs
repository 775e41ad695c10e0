//! One module of the network in the record of a comparison: its errors and its verdict.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::float;

/// One module of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Layer {
    /// Full module path, such as `layer1.2.conv2.spatial_conv`.
    pub name: String,
    /// Short name, such as `ctl3`.
    pub alias: Option<String>,
    /// What the module computes.
    pub kind: LayerKind,
    /// The block that contains the module: `stem`, `layer1.0`, …, `head`.
    pub block: String,
    /// Output shape for one clip.
    pub shape: Vec<u64>,
    /// Number of parameters.
    pub params: u64,
    /// Multiply-accumulates for one clip.
    pub macs: u64,
    /// The factor on `eps` in the allowed error: the number of roundings that it allows for.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub n: f64,
    /// Own error: the module was fed the reference's input. `None` if it was not measured.
    pub introduced: Option<Errors>,
    /// Accumulated error: the whole network ran through. `None` if it was not measured.
    pub inherited: Option<Errors>,
    /// The verdict on the module.
    pub verdict: LayerVerdict,
    /// Full name of the layer through which this one was checked, for [`LayerVerdict::Covered`].
    #[serde(default)]
    pub covered_by: Option<String>,
    /// A remark for the reader.
    #[serde(default)]
    pub note: Option<String>,
}

/// What a module computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// The input of the network, in the shape that the first convolution takes.
    Input,
    /// A convolution.
    Conv,
    /// A batch normalisation.
    Bn,
    /// A rectified linear unit.
    Relu,
    /// A sigmoid.
    Sigmoid,
    /// A max-pooling or a mean.
    Pool,
    /// The addition of the resized positional embedding in the IOI branch.
    PosEmbed,
    /// The spatial branch of a CTL.
    SpatialConv,
    /// A channel-time learning block (CTL).
    Ctl,
    /// A residual block.
    Block,
    /// A dense layer.
    Linear,
}

impl LayerKind {
    /// The name in JSON and in tables, such as `pos_embed`.
    pub fn as_str(self) -> &'static str {
        match self {
            LayerKind::Input => "input",
            LayerKind::Conv => "conv",
            LayerKind::Bn => "bn",
            LayerKind::Relu => "relu",
            LayerKind::Sigmoid => "sigmoid",
            LayerKind::Pool => "pool",
            LayerKind::PosEmbed => "pos_embed",
            LayerKind::SpatialConv => "spatial_conv",
            LayerKind::Ctl => "ctl",
            LayerKind::Block => "block",
            LayerKind::Linear => "linear",
        }
    }
}

/// The verdict on one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LayerVerdict {
    /// The layer was compared and is within the bound.
    Pass,
    /// The own error of the layer is above the bound.
    Diverged,
    /// Only the accumulated error is above the bound: an earlier layer is the cause.
    Inherited,
    /// Checked through the next module: the layer was not compared itself, but [`Layer::covered_by`],
    /// which depends on it, was.
    Covered,
    /// Neither the layer nor one that depends on it directly was compared.
    NotCompared,
}

impl LayerVerdict {
    /// The name in JSON and in tables, such as `not_compared`.
    pub fn as_str(self) -> &'static str {
        match self {
            LayerVerdict::Pass => "pass",
            LayerVerdict::Diverged => "diverged",
            LayerVerdict::Inherited => "inherited",
            LayerVerdict::Covered => "covered",
            LayerVerdict::NotCompared => "not_compared",
        }
    }

    /// The verdict in words, such as `not compared`.
    pub fn words(self) -> &'static str {
        match self {
            LayerVerdict::Pass => "pass",
            LayerVerdict::Diverged => "diverged",
            LayerVerdict::Inherited => "accumulated",
            LayerVerdict::Covered => "through next",
            LayerVerdict::NotCompared => "not compared",
        }
    }
}

/// The error of one tensor against the float64 truth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Errors {
    /// Relative L2 error.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub rel_l2: f64,
    /// Largest absolute error.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub max_abs: f64,
    /// Largest absolute error divided by the root mean square of the truth.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub max_rel: f64,
    /// Largest error in units in the last place of the candidate's precision.
    pub ulp: u64,
    /// Cosine of the angle between the two tensors.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub cosine: f64,
    /// Error ratio (error / allowed): the candidate's error divided by the allowed error
    /// `max(a * e_ref, n * eps)`, the larger of the ratios by relative L2 and by largest error.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub ratio: f64,
    /// Relative L2 error of the comparison run.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub e_ref: f64,
    /// Number of NaN values in the candidate.
    pub nan: u64,
    /// Number of infinite values in the candidate.
    pub inf: u64,
}
