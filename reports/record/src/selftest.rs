//! The record of a self-test: planted faults and changed files, and whether they were noticed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Body, Run, float};

/// The outcome of `harness selftest`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SelftestRecord {
    /// One entry for each kind of fault.
    pub faults: Vec<Fault>,
    /// Changed dumps and checkpoints, one entry for each kind of change.
    #[serde(default)]
    pub mutations: Vec<Mutation>,
    /// The confusion matrix, planted against named: one entry for each kind of fault and setting.
    #[serde(default)]
    pub confusion: Vec<Confusion>,
    /// Command, machine, versions and configuration of the run.
    pub run: Run,
}

impl Body for SelftestRecord {
    fn run(&self) -> &Run {
        &self.run
    }
}

/// Correct files in each of which one array was changed, and how many of them were noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mutation {
    /// `dump` or `checkpoint`.
    pub file: String,
    /// How the array was changed, such as `scaled by 1.001`.
    pub what: String,
    /// Number of files made.
    pub made: u64,
    /// Number of files that could not be opened or loaded.
    pub refused: u64,
    /// Number of files that diverged or were compared incompletely.
    pub noticed: u64,
    /// Number of files without an array whose module is checked through the next one.
    pub covered: u64,
    /// The arrays whose change was not noticed.
    pub passed: Vec<String>,
}

impl Mutation {
    /// An entry with all counts at zero.
    pub fn new(file: &str, what: &str) -> Self {
        let (file, what) = (file.to_owned(), what.to_owned());
        Mutation { file, what, made: 0, refused: 0, noticed: 0, covered: 0, passed: vec![] }
    }
}

/// The outcomes of one kind of fault in one setting. The four counts add up to the number planted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Confusion {
    /// The fault in words, such as `swapped weights`.
    pub planted: String,
    /// Whether the fault is in the catalogue. Others must be located and must not be named.
    pub known: bool,
    /// Where it was planted: `engine`, `dump` or `flax dump`.
    pub setting: String,
    /// Times that it was named as itself, alone or among mistakes that give the same values there.
    pub itself: u64,
    /// Times that another mistake was named.
    pub another: u64,
    /// Times that it was detected and no mistake was named.
    pub located: u64,
    /// Times that it was not detected.
    pub missed: u64,
    /// The mistakes that were named instead, and how often.
    #[serde(default)]
    pub others: BTreeMap<String, u64>,
}

impl Confusion {
    /// Number of times that the fault was planted.
    pub fn planted_times(&self) -> u64 {
        let counts = [self.itself, self.another, self.located, self.missed];
        counts.into_iter().fold(0, u64::saturating_add)
    }

    /// Number of expected outcomes: named as itself or, for a fault outside the catalogue, located only.
    pub fn right(&self) -> u64 {
        if self.known { self.itself } else { self.located }
    }
}

/// One kind of fault, injected into several modules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// The fault in words, such as `swapped weights`.
    pub fault: String,
    /// Number of injections.
    pub injected: u64,
    /// Number of injections with which the run diverged.
    pub detected: u64,
    /// Number of injections for which the right layer was named.
    pub named: u64,
    /// The injections.
    #[serde(default)]
    pub places: Vec<Place>,
}

/// One injected fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// Full name of the module that it was injected into.
    pub module: String,
    /// Whether the run diverged.
    pub detected: bool,
    /// The module that was named as the culprit.
    pub named: Option<String>,
    /// Where it was planted: `engine`, `dump` or `flax dump`.
    #[serde(default)]
    pub setting: String,
    /// Frame size of the model as HxW.
    #[serde(default)]
    pub size: String,
    /// The mistake that was named, in words.
    #[serde(default)]
    pub explanation: Option<String>,
    /// Largest error ratio in the run.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub ratio: f64,
}
