//! The record of a check of the CUDA engine on a GPU.

use serde::{Deserialize, Serialize};

use super::{Run, Verdict, float};

/// The outcome of `harness gpu-check`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuRecord {
    /// Diverged if a step failed, incomplete if one could not run or the GPU was emulated.
    pub verdict: Verdict,
    /// The GPU, its architecture, the compiler.
    pub device: String,
    /// Whether the processor emulated it: then nothing here is about a GPU.
    pub emulated: bool,
    /// The kernels that were checked.
    pub kernels: Vec<KernelSource>,
    /// What was done, in order.
    pub steps: Vec<GpuStep>,
    /// How the run was made.
    pub run: Run,
}

/// The source of a kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelSource {
    /// Its file.
    pub file: String,
    /// SHA-256 over the file and all that it includes, when it was checked.
    pub checked: String,
    /// The same of the sources of the harness that makes the report; empty if it does not know.
    #[serde(default)]
    pub current: String,
}

impl KernelSource {
    /// Whether the kernel is still the one that was checked; None where that is not known.
    pub fn matches(&self) -> Option<bool> {
        (!self.current.is_empty()).then(|| self.current == self.checked)
    }
}

/// One step of the check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuStep {
    /// Name.
    pub name: String,
    /// What it proves.
    pub proves: String,
    /// The command line.
    pub command: String,
    /// Its time.
    #[serde(with = "float")]
    pub seconds: f64,
    /// `passed`, `failed` or `left out`.
    pub outcome: String,
    /// The end of what it said.
    pub said: String,
}
