//! How a run was made: a part of every record.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::float;

/// How a run was made: everything that is needed to repeat it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// The command line, one entry for each word.
    pub command: Vec<String>,
    /// Git revision of the harness; `null` outside a checkout.
    pub git: Option<Git>,
    /// The machine on which it ran.
    pub machine: Machine,
    /// Versions of the harness, rustc, libtorch and others, by name.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
    /// Start of the run in UTC, such as `2026-11-23T07:01:02Z`.
    pub started: String,
    /// Duration in seconds.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub seconds: f64,
    /// The seeds that were used, by purpose.
    #[serde(default)]
    pub seeds: BTreeMap<String, u64>,
    /// The candidate, such as `scalar f32 on cpu`.
    pub candidate: String,
    /// The reference, such as `libtorch f64 on cpu`.
    pub reference: String,
    /// The comparison run, whose error sets the allowed error, such as `libtorch f32 on cpu`.
    pub yardstick: String,
    /// The weights: a file or a formula such as `formula:0`.
    pub weights: String,
    /// The input: a file or a formula such as `formula:0`.
    pub input: String,
    /// The configuration of the network.
    pub model: Model,
}

/// A git revision of the harness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Git {
    /// Hash of the commit that the program was built from.
    pub revision: String,
    /// Whether the program may hold changes that this commit does not.
    pub dirty: bool,
}

/// The machine on which a run was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// Name of the processor.
    pub cpu: String,
    /// The vector and matrix extensions of the processor, such as `avx2`; empty in old records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<String>,
    /// Name of the GPU that computed; `None` if none did, and in old records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// Number of logical cores.
    pub cores: u64,
    /// Memory in GiB.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub memory_gib: f64,
    /// Name of the operating system.
    pub os: String,
}

/// The configuration of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Model {
    /// Number of layers: 10 to 200.
    pub depth: u64,
    /// Factor on the channel counts.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub width: f64,
    /// Number of frames in a clip.
    pub frames: u64,
    /// Height and width of a frame in pixels.
    pub size: [u64; 2],
    /// Number of classes.
    pub classes: u64,
    /// Height and width of the positional embedding in each stage.
    pub pos_dim: Vec<u64>,
    /// Other settings by name.
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}
