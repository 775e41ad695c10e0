//! The record of an ablation: accuracy of the network without some of its parts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Body, Rate, Run, float};

/// The outcome of `harness ablate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AblateRecord {
    /// The question that the ablation answers.
    pub question: Ablation,
    /// Name of the data set.
    pub dataset: String,
    /// Names of the classes; empty if they are not known.
    #[serde(default)]
    pub classes: Vec<String>,
    /// The unchanged network first, then the variants without parts.
    pub variants: Vec<Variant>,
    /// Number of test videos.
    pub videos: u64,
    /// Command, machine, versions and configuration of the run.
    pub run: Run,
}

impl Body for AblateRecord {
    fn run(&self) -> &Run {
        &self.run
    }
}

/// The question that an ablation answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ablation {
    /// The part is removed from a trained network: how much does this network rely on it?
    KnockOut,
    /// The network is trained without the part: how much does the part contribute?
    Retrained,
}

/// One variant of the network with its accuracy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Variant {
    /// Settings of the variant, such as `tfc=off`; `as it is` for the unchanged network.
    pub name: String,
    /// Accuracy of each trained network: one for a knock-out, one for each seed if retrained.
    pub accuracy: Vec<Rate>,
    /// Mean accuracy, 0 to 1.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub mean: f64,
    /// Ends of the 95 % interval: Wilson's for one network, Student's t over the seeds otherwise.
    #[serde(with = "float::list")]
    #[schemars(with = "Vec<float::Number>")]
    pub interval: Vec<f64>,
    /// Comparison with the unchanged network on the same videos; `None` for that network.
    pub paired: Option<Paired>,
    /// Multiply-accumulates for one clip, without the removed parts.
    pub macs: u64,
    /// Time of the forward pass for one view.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub seconds_per_view: f64,
    /// Outcome of the comparison with the other engine, layer by layer; `None` if it was not made.
    pub checked: Option<String>,
}

/// A comparison of a variant with the unchanged network on the same videos.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Paired {
    /// Only full right: number of videos that only the unchanged network classifies correctly.
    pub lost: u64,
    /// Only variant right: number of videos that only the variant classifies correctly.
    pub won: u64,
    /// Two-sided p value of the exact McNemar test.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub p: f64,
    /// `lost` and `won` for each class.
    #[serde(default)]
    pub by_class: Vec<(u64, u64)>,
    /// Logit change: mean over videos of the relative L2 distance between the logits.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub drift: f64,
}
