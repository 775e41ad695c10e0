//! Records of checks on a GPU for the tests.

use record::*;

use super::{HOSTILE, run};

fn step(name: &str, outcome: &str) -> GpuStep {
    GpuStep {
        name: name.to_owned(),
        proves: "the same bits".to_owned(),
        command: "harness diff --device cuda".to_owned(),
        seconds: 3.5,
        outcome: outcome.to_owned(),
        said: "PASS  296 layers compared".to_owned(),
    }
}

/// A check in which all steps passed; one kernel has changed since, and one is unknown.
pub fn checked() -> GpuRecord {
    let kernel = |file: &str, current: &str| KernelSource {
        file: file.to_owned(),
        checked: "00ff00ff00ff00ff00ff".to_owned(),
        current: current.to_owned(),
    };
    GpuRecord {
        verdict: Verdict::Pass,
        device: "cuda:0 (a GPU, sm_90, NVRTC 13.0)".to_owned(),
        emulated: false,
        kernels: vec![
            kernel("conv.cu", "00ff00ff00ff00ff00ff"),
            kernel("ctl.cu", "11"),
            kernel("mean.cu", ""),
        ],
        steps: vec![step("kernels", "passed"), step("diff bf16", "passed")],
        run: run("gpu-check"),
    }
}

/// An emulated check with markup in place of names and outputs.
pub fn hostile() -> GpuRecord {
    let mut gpu = checked();
    gpu.device = HOSTILE.to_owned();
    gpu.emulated = true;
    gpu.kernels[0].file = HOSTILE.to_owned();
    let bad = GpuStep { said: HOSTILE.to_owned(), seconds: f64::NAN, ..step(HOSTILE, "failed") };
    gpu.steps.push(bad);
    gpu
}
