//! Compiles every kernel with NVRTC for real GPUs, which does not need one. No kernel may spill
//! registers.

use cuda::device::nvrtc::Nvrtc;
use cuda::kernels::Variant;
use spec::Precision;

const WITHOUT_BF16: &[Precision] = &[Precision::F32, Precision::F16];
const ALL: &[Precision] = &[Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16];

#[test]
fn every_kernel_compiles_for_sm_75_without_spilling() {
    compile_all("sm_75", WITHOUT_BF16);
}

#[test]
fn every_kernel_compiles_for_sm_80_without_spilling() {
    compile_all("sm_80", ALL);
}

#[test]
fn every_kernel_compiles_for_sm_90a_without_spilling() {
    compile_all("sm_90a", ALL);
}

/// Compiles every kernel for an architecture, in the precisions that it supports.
fn compile_all(architecture: &str, precisions: &[Precision]) {
    let nvrtc = match Nvrtc::load() {
        Ok(nvrtc) => nvrtc,
        Err(error) => {
            skip::skip!(Nvrtc, "{error}");
            return;
        }
    };
    let mut spilled = vec![];
    // The most shared memory that a block can have, on sm_86 where it is the least from sm_80 on.
    let shared_bytes = if architecture == "sm_75" { 64 << 10 } else { 99 << 10 };
    let all = |&precision: &Precision| Variant::all(precision, shared_bytes);
    for variant in precisions.iter().flat_map(all) {
        let what = format!("{architecture} {}", variant.describe());
        let compiled = nvrtc.compile(&variant, architecture);
        let compiled = compiled.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(!compiled.code.is_empty(), "{what}");
        let resources = compiled.resources();
        let resources = resources.unwrap_or_else(|| panic!("{what}: {}", compiled.log));
        println!("{what}: {} registers", resources.registers);
        if resources.spilled > 0 {
            spilled.push(format!("{what}: {resources:?}"));
        }
    }
    assert!(spilled.is_empty(), "{spilled:#?}");
}
