//! The record of a training: its settings and its curve.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Body, Rate, Run, float};

/// The outcome of `harness train`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrainRecord {
    /// Name of the data set.
    pub dataset: String,
    /// Settings of the training by name.
    pub settings: BTreeMap<String, String>,
    /// The training curve.
    pub epochs: Vec<Epoch>,
    /// Whether all epochs were run.
    pub finished: bool,
    /// Command, machine, versions and configuration of the run.
    pub run: Run,
}

impl Body for TrainRecord {
    fn run(&self) -> &Run {
        &self.run
    }
}

/// One epoch of a training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Epoch {
    /// Number of the epoch, from 1.
    pub epoch: u64,
    /// Learning rate at the end of the epoch.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub rate: f64,
    /// Mean loss of the batches.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub loss: f64,
    /// Accuracy on the augmented training batches, 0 to 1.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub train: f64,
    /// Accuracy on the validation part after the epoch.
    pub val: Rate,
    /// Duration of the epoch in seconds.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub seconds: f64,
}
