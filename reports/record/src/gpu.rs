//! The record of a check of the CUDA engine on a GPU.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Body, Run, Verdict, float};

/// The outcome of `harness gpu-check`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuRecord {
    /// `Diverged` if a step failed, `Incomplete` if one could not run or the GPU was emulated.
    pub verdict: Verdict,
    /// The GPU, its architecture and the version of the compiler, as text.
    pub device: String,
    /// Whether the processor emulated the GPU; the record then proves nothing about a GPU.
    pub emulated: bool,
    /// The sources of the kernels that were checked.
    pub kernels: Vec<KernelSource>,
    /// The steps, in order of execution.
    pub steps: Vec<GpuStep>,
    /// Command, machine, versions and configuration of the run.
    pub run: Run,
}

impl Body for GpuRecord {
    fn run(&self) -> &Run {
        &self.run
    }
}

/// The source of a kernel at the time of the check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KernelSource {
    /// Name of the source file, such as `conv.cu`.
    pub file: String,
    /// SHA-256 of the checked source: the file and all files that it includes.
    pub checked: String,
    /// SHA-256 of the source in the harness that makes the report; empty if it has no such file.
    #[serde(default)]
    pub current: String,
}

impl KernelSource {
    /// Whether the source is unchanged since the check; `None` if the current source is not known.
    pub fn matches(&self) -> Option<bool> {
        (!self.current.is_empty()).then(|| self.current == self.checked)
    }
}

/// One step of the check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuStep {
    /// Name of the step.
    pub name: String,
    /// What the step proves, in words.
    pub proves: String,
    /// Command line of the step.
    pub command: String,
    /// Duration in seconds.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub seconds: f64,
    /// `passed`, `failed` or `left out`.
    pub outcome: String,
    /// The end of the step's output.
    pub said: String,
}
