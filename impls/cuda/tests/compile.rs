//! Compiles every kernel with NVRTC for real GPUs, which does not need one. No kernel may spill
//! registers, and the assembler may not warn that it serialises tensor cores.

use cuda::device::nvrtc::{Compiled, Nvrtc};
use cuda::kernels::{Variant, hopper_pair, hopper_stem};
use spec::Precision;

const WITHOUT_BF16: &[Precision] = &[Precision::F32, Precision::F16];
const ALL: &[Precision] = &[Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16];

/// What the engine is used for most, for architectures whose instructions are those of sm_80.
const BF16: &[Precision] = &[Precision::Bf16];

#[test]
fn every_kernel_compiles_for_sm_75() {
    compile_all("sm_75", WITHOUT_BF16);
}

#[test]
fn every_kernel_compiles_for_sm_80() {
    compile_all("sm_80", ALL);
}

#[test]
fn every_kernel_compiles_for_sm_89() {
    compile_all("sm_89", BF16);
}

#[test]
fn every_kernel_compiles_for_sm_90a() {
    compile_all("sm_90a", ALL);
}

#[test]
fn every_kernel_compiles_for_sm_100() {
    compile_all("sm_100", BF16);
}

/// Loads the compiler. If it is not found, reports the skip and returns None.
fn nvrtc() -> Option<Nvrtc> {
    Nvrtc::load().inspect_err(|error| skip::skip!(Nvrtc, "{error}")).ok()
}

/// What is wrong with a compiled kernel: spilled registers, others than it needs, and messages of the
/// kind C75xx, with which the assembler says that it inserts waits between the instructions of tensor
/// cores.
fn faults(compiled: &Compiled, registers: Option<u32>) -> Vec<String> {
    let resources = compiled.resources().unwrap_or_else(|| panic!("{}", compiled.log));
    let other = registers.is_some_and(|expected| resources.registers != expected);
    let spilled = (resources.spilled > 0 || other).then(|| format!("{resources:?}"));
    let warned = compiled.log.lines().filter(|line| line.contains("(C75")).map(str::to_owned);
    spilled.into_iter().chain(warned).collect()
}

/// Compiles every kernel for an architecture, in the precisions that it supports.
fn compile_all(architecture: &str, precisions: &[Precision]) {
    let Some(nvrtc) = nvrtc() else { return };
    // The most shared memory that a block can have, on sm_86 where it is the least from sm_80 on.
    let shared_bytes = if architecture == "sm_75" { 64 << 10 } else { 99 << 10 };
    let all = |&precision: &Precision| Variant::all(precision, shared_bytes);
    check(&nvrtc, architecture, precisions.iter().flat_map(all));
}

/// Compiles kernels, two at a time.
fn check(nvrtc: &Nvrtc, architecture: &str, variants: impl Iterator<Item = Variant>) {
    let variants: Vec<Variant> = variants.collect();
    let each = |variant: &Variant| -> Vec<String> {
        let what = format!("{architecture} {}", variant.describe());
        let compiled = nvrtc.compile(variant, architecture);
        let compiled = compiled.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(!compiled.code.is_empty(), "{what}");
        println!("{what}: {:?}", compiled.resources());
        faults(&compiled, variant.registers())
            .into_iter()
            .map(|fault| format!("{what}: {fault}"))
            .collect()
    };
    let every_second = |from: usize| variants.iter().skip(from).step_by(2).flat_map(each).collect();
    let wrong: [Vec<String>; 2] = std::thread::scope(|scope| {
        let other = scope.spawn(|| every_second(1));
        [every_second(0), other.join().unwrap()]
    });
    assert!(wrong.iter().all(Vec::is_empty), "{wrong:#?}");
}

/// The narrowest, the middle and the widest products, which have the fewest and the most registers
/// to spare. Kernels that leave the epilogue to another run for an observer only; the assembler may
/// serialise them.
#[test]
fn kernels_in_bands_compile_for_sm_90a() {
    let Some(nvrtc) = nvrtc() else { return };
    let all = Variant::all_in_bands(Precision::Bf16).into_iter();
    let some = all.filter(|variant| {
        let described = variant.describe();
        let columns =
            ["64", "112", "208", "232", "256"].map(|columns| format!(" {columns} columns"));
        // Gates are part of fused blocks, and of what comes before an embedding.
        let gated = described.starts_with("hopper_ctl") || described.ends_with("Addend");
        columns.iter().any(|c| described.contains(c))
            && !described.ends_with("Sums")
            && described.contains(" gated ") == gated
    });
    check(&nvrtc, "sm_90a", some);
    let f16 = Variant::all_in_bands(Precision::F16);
    check(&nvrtc, "sm_90a", f16.into_iter().take(1));
}

/// Both warpgroups that multiply and those that make bands have 128 registers for a thread.
#[test]
fn the_stem_of_planes_compiles_for_sm_90a() {
    let Some(nvrtc) = nvrtc() else { return };
    let halves = [Precision::Bf16, Precision::F16].into_iter();
    check(&nvrtc, "sm_90a", halves.map(|precision| hopper_stem::variant(precision, false)));
    check(&nvrtc, "sm_90a", std::iter::once(hopper_stem::variant(Precision::Bf16, true)));
}

#[test]
fn pairs_of_convolutions_compile_for_sm_90a() {
    let Some(nvrtc) = nvrtc() else { return };
    let halves = [Precision::Bf16, Precision::F16].into_iter();
    check(&nvrtc, "sm_90a", halves.flat_map(hopper_pair::variants));
}

#[test]
fn spilled_registers_and_serialised_tensor_cores_are_noticed() {
    let log = |spilled: u32, more: &str| Compiled {
        code: vec![],
        log: format!(
            "    0 bytes stack frame, {spilled} bytes spill stores, 0 bytes spill loads\n\
             ptxas info    : Used 168 registers, used 1 barriers\n{more}"
        ),
    };
    let of = |spilled, more, registers| faults(&log(spilled, more), registers);
    assert!(of(0, "", Some(168)).is_empty());
    assert_eq!(of(0, "", Some(160)).len(), 1);
    let faults = |spilled, more| of(spilled, more, None);
    assert!(faults(0, "").is_empty());
    assert_eq!(faults(8, "").len(), 1);
    let serialised = "ptxas info    : (C7512) Potential Performance Loss: wgmma.mma_async \
                      instructions are serialized due to insufficient register resources";
    assert_eq!(faults(0, serialised), [serialised]);
}

/// Only code for sm_90a may use the instructions of Hopper's tensor cores; a GPU that is newer than
/// the compiler gets PTX.
#[test]
fn each_gpu_has_its_architecture() {
    let Some(nvrtc) = nvrtc() else { return };
    let of = |capability| nvrtc.architecture(capability).unwrap();
    assert_eq!([of((7, 5)), of((8, 9)), of((9, 0))], ["sm_75", "sm_89", "sm_90a"]);
    assert!(of((99, 0)).starts_with("compute_"), "{}", of((99, 0)));
}
