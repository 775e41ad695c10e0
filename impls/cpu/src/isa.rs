//! Instruction sets: which of them this machine has, and the kernels compiled for each.
//!
//! A [`DetectedIsa`] can only be made by [`Isa::detect`] and [`DetectedIsa::best`], and a table of
//! [`Kernels`] is only handed out for one. So a caller that holds a table needs no further check of
//! the instruction set.

#![allow(unsafe_code, reason = "functions with target features")]

use std::fmt;
use std::str::FromStr;

use crate::element::{Bf16, Element};
use crate::kernels::gemm::{Gemm, ProductKernel};
use crate::kernels::import::{self, Import};
use crate::kernels::spatial::{self, Band, Depthwise, MaxPool, Mean, Resume};
use crate::kernels::tiles::MatrixUnit;
use crate::kernels::vectors::VectorUnit;
use crate::kernels::winograd::{self, Input, Output};
use crate::kernels::{rows, strassen};
use crate::simd::Simd;
use crate::simd::amx;

/// The instruction sets for which kernels are compiled, from the least to the most capable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// The matrix unit of [`Isa::Amx`] emulated in plain Rust: slow, for tests on machines without
    /// the unit.
    AmxEmulated,
    /// Plain Rust with 4 lanes, which any machine runs.
    Portable,
    /// NEON, which every 64-bit Arm processor has.
    Neon,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, BW and VL.
    Avx512,
    /// [`Isa::Avx512`] and its bfloat16 dot products (AVX512_BF16).
    Avx512Bf16,
    /// [`Isa::Avx512Bf16`], and the matrix unit AMX for products in bfloat16.
    Amx,
}

impl Isa {
    /// Every instruction set, in the order of the enum.
    pub const ALL: [Isa; 7] = [
        Isa::AmxEmulated,
        Isa::Portable,
        Isa::Neon,
        Isa::Avx2,
        Isa::Avx512,
        Isa::Avx512Bf16,
        Isa::Amx,
    ];

    /// The name that `--isa` takes, such as `avx512`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::AmxEmulated => "amx-emulated",
            Isa::Portable => "portable",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Bf16 => "avx512bf16",
            Isa::Amx => "amx",
        }
    }

    /// Proof that this machine has the instruction set; None if it does not.
    pub fn detect(self) -> Option<DetectedIsa> {
        let present = match self {
            Isa::AmxEmulated | Isa::Portable => true,
            Isa::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => {
                Isa::Avx512.detect().is_some() && is_x86_feature_detected!("avx512bf16")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => Isa::Avx512Bf16.detect().is_some() && amx::available(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        };
        present.then_some(DetectedIsa(self))
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Isa::ALL.into_iter().find(|isa| isa.name() == text);
        found.ok_or_else(|| {
            let names = Isa::ALL.map(Isa::name).join(", ");
            format!("unknown instruction set `{text}`; use one of {names}")
        })
    }
}

/// Proof that this machine has an instruction set: only detection makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DetectedIsa(Isa);

impl DetectedIsa {
    /// The most capable instruction set of this machine.
    pub fn best() -> DetectedIsa {
        let mut found = Isa::ALL.into_iter().rev().filter_map(Isa::detect);
        found.next().unwrap_or(DetectedIsa(Isa::Portable))
    }

    /// The instruction set that was detected.
    pub fn isa(self) -> Isa {
        self.0
    }
}

/// The kernels compiled for one instruction set and one storage format.
///
/// Each function requires that the memory which its argument describes is valid. Nothing else is
/// required, because a table is only handed out for a [`DetectedIsa`].
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "each kernel is documented in its module")]
pub struct Kernels<E> {
    /// f32 in a vector.
    pub lanes: usize,
    /// See [`ProductKernel::K_PER_INSTRUCTION`].
    pub k_per_instruction: usize,
    /// Rows of the largest tile: [`ProductKernel::ROWS`].
    pub tile_rows: usize,
    /// See [`ProductKernel::PADDING`].
    pub padding: [usize; 2],
    pub gemm: unsafe fn(&Gemm<E, E>),
    pub gemm_planes: unsafe fn(&Gemm<E, f32>),
    pub winograd_input: unsafe fn(&Input<E>, usize, usize, usize),
    pub winograd_output: unsafe fn(&Output<E>, usize, usize, usize),
    pub strassen_input: unsafe fn(&strassen::Input<E>),
    pub strassen_output: unsafe fn(&strassen::Output<E>),
    pub strassen_prefetch: unsafe fn(&strassen::Output<E>, usize),
    pub rows_input: unsafe fn(&rows::Input<E>),
    pub rows_output: unsafe fn(&rows::Output<E>),
    pub band: unsafe fn(&Band<E>),
    pub depthwise: unsafe fn(&Depthwise<E>),
    pub max_pool: unsafe fn(&MaxPool<E>),
    pub mean: unsafe fn(&Mean<E>),
    pub resume: unsafe fn(&Resume<E>),
    pub import: unsafe fn(&Import<E>),
    pub peak: unsafe fn(usize) -> f32,
    /// Multiply-adds in each round of `peak`.
    pub peak_macs: usize,
}

/// A storage format for which every instruction set has a table of kernels.
pub trait HasKernels: Element {
    /// The kernels for this format on a detected instruction set.
    fn kernels(detected: DetectedIsa) -> Kernels<Self>;
}

macro_rules! compile {
    ($module:ident, $simd:ty, $element:ty, $sums:ty $(, $features:literal)?) => {
        mod $module {
            use super::*;
            type S = $simd;
            type E = $element;
            type M = $sums;

            $(#[target_feature(enable = $features)])?
            unsafe fn gemm(g: &Gemm<E, E>) {
                // SAFETY: the caller keeps the kernel's contract, and this function has the
                // features of `S`.
                unsafe { <M as ProductKernel<S, E>>::run(g) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn gemm_planes(g: &Gemm<E, f32>) {
                // SAFETY: the caller keeps the kernel's contract, and this function has the
                // features of `S`.
                unsafe { <M as ProductKernel<S, E>>::run(g) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn winograd_input(i: &Input<E>, row: usize, column: usize, index: usize) {
                // SAFETY: the caller keeps the kernel's contract, and this function has the
                // features of `S`.
                unsafe {
                    match i.tile.is_short(i.size, row, column) {
                        [false, false] => winograd::input::<S, E, false>(i, row, column, index),
                        _ => winograd_short_input(i, row, column, index),
                    }
                }
            }
            $(#[target_feature(enable = $features)])?
            #[inline(never)]
            unsafe fn winograd_short_input(i: &Input<E>, row: usize, column: usize, index: usize) {
                // SAFETY: the caller keeps the kernel's contract, and this function has the
                // features of `S`.
                unsafe { winograd::input::<S, E, true>(i, row, column, index) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn winograd_output(o: &Output<E>, row: usize, column: usize, index: usize) {
                // SAFETY: the caller keeps the kernel's contract, and this function has the
                // features of `S`.
                unsafe {
                    match o.tile.is_short(o.size, row, column) {
                        [false, false] => winograd::output::<S, E, false>(o, row, column, index),
                        _ => winograd_short_output(o, row, column, index),
                    }
                }
            }
            $(#[target_feature(enable = $features)])?
            #[inline(never)]
            unsafe fn winograd_short_output(o: &Output<E>, row: usize, column: usize, index: usize) {
                // SAFETY: the caller keeps the kernel's contract, and this function has the
                // features of `S`.
                unsafe { winograd::output::<S, E, true>(o, row, column, index) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn strassen_input(i: &strassen::Input<E>) {
                // SAFETY: the caller keeps the kernel's contract, and this function has the
                // features of `S`.
                unsafe { strassen::input::<S, E>(i) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn strassen_output(o: &strassen::Output<E>) {
                // SAFETY: the caller keeps the kernel's contract, and this function has the
                // features of `S`.
                unsafe { strassen::output::<S, E>(o) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn strassen_prefetch(o: &strassen::Output<E>, part: usize) {
                // SAFETY: the caller keeps the kernel's contract, and this function has the
                // features of `S`.
                unsafe { strassen::prefetch::<S, E>(o, part) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn rows_input(i: &rows::Input<E>) {
                // SAFETY: the caller keeps the kernel's contract, and this function has the
                // features of `S`.
                unsafe { rows::input::<S, E>(i) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn rows_output(o: &rows::Output<E>) {
                // SAFETY: the caller keeps the kernel's contract, and this function has the
                // features of `S`.
                unsafe { rows::output::<S, E>(o) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn band(b: &Band<E>) {
                // SAFETY: the caller keeps the kernel's contract, and this function has the
                // features of `S`.
                unsafe { spatial::band::<S, E>(b) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn depthwise(d: &Depthwise<E>) {
                // SAFETY: the caller keeps the kernel's contract, and this function has the
                // features of `S`.
                unsafe { spatial::depthwise::<S, E>(d) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn max_pool(p: &MaxPool<E>) {
                // SAFETY: the caller keeps the kernel's contract, and this function has the
                // features of `S`.
                unsafe { spatial::max_pool::<S, E>(p) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn mean(m: &Mean<E>) {
                // SAFETY: the caller keeps the kernel's contract, and this function has the
                // features of `S`.
                unsafe { spatial::mean::<S, E>(m) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn resume(r: &Resume<E>) {
                // SAFETY: the caller keeps the kernel's contract, and this function has the
                // features of `S`.
                unsafe { spatial::resume::<S, E>(r) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn import(i: &Import<E>) {
                // SAFETY: the caller keeps the kernel's contract, and this function has the
                // features of `S`.
                unsafe { import::import::<S, E>(i) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn peak(rounds: usize) -> f32 {
                // SAFETY: the caller keeps the kernel's contract, and this function has the
                // features of `S`.
                unsafe { <M as ProductKernel<S, E>>::peak(rounds) }
            }

            pub const KERNELS: Kernels<E> = Kernels {
                lanes: <S as Simd>::LANES,
                k_per_instruction: <M as ProductKernel<S, E>>::K_PER_INSTRUCTION,
                tile_rows: <M as ProductKernel<S, E>>::ROWS,
                padding: <M as ProductKernel<S, E>>::PADDING,
                gemm,
                gemm_planes,
                winograd_input,
                winograd_output,
                strassen_input,
                strassen_output,
                strassen_prefetch,
                rows_input,
                rows_output,
                band,
                depthwise,
                max_pool,
                mean,
                resume,
                import,
                peak,
                peak_macs: <M as ProductKernel<S, E>>::PEAK_MACS,
            };
        }
    };
}

compile!(portable_f32, crate::simd::portable::Portable<4>, f32, VectorUnit);
compile!(portable_bf16, crate::simd::portable::Portable<4>, Bf16, VectorUnit);
compile!(emulated_bf16, crate::simd::portable::Portable<16>, Bf16, MatrixUnit<amx::Software>);
#[cfg(target_arch = "aarch64")]
compile!(neon_f32, crate::simd::neon::Neon, f32, VectorUnit);
#[cfg(target_arch = "aarch64")]
compile!(neon_bf16, crate::simd::neon::Neon, Bf16, VectorUnit);
#[cfg(target_arch = "x86_64")]
compile!(avx2_f32, crate::simd::avx2::Avx2, f32, VectorUnit, "avx2,fma");
#[cfg(target_arch = "x86_64")]
compile!(avx2_bf16, crate::simd::avx2::Avx2, Bf16, VectorUnit, "avx2,fma");
#[cfg(target_arch = "x86_64")]
compile!(
    avx512_f32,
    crate::simd::avx512::Avx512<false>,
    f32,
    VectorUnit,
    "avx512f,avx512bw,avx512vl"
);
#[cfg(target_arch = "x86_64")]
compile!(
    avx512_bf16,
    crate::simd::avx512::Avx512<false>,
    Bf16,
    VectorUnit,
    "avx512f,avx512bw,avx512vl"
);
#[cfg(target_arch = "x86_64")]
compile!(
    avx512bf16_bf16,
    crate::simd::avx512::Avx512<true>,
    Bf16,
    VectorUnit,
    "avx512f,avx512bw,avx512vl,avx512bf16"
);
#[cfg(target_arch = "x86_64")]
compile!(
    amx_bf16,
    crate::simd::avx512::Avx512<true>,
    Bf16,
    MatrixUnit<amx::Hardware>,
    "avx512f,avx512bw,avx512vl,avx512bf16"
);

impl HasKernels for f32 {
    fn kernels(detected: DetectedIsa) -> Kernels<f32> {
        match detected.0 {
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon_f32::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2_f32::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => avx512_f32::KERNELS,
            _ => portable_f32::KERNELS,
        }
    }
}

impl HasKernels for Bf16 {
    fn kernels(detected: DetectedIsa) -> Kernels<Bf16> {
        match detected.0 {
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon_bf16::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2_bf16::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512_bf16::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => avx512bf16_bf16::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => amx_bf16::KERNELS,
            Isa::AmxEmulated => emulated_bf16::KERNELS,
            _ => portable_bf16::KERNELS,
        }
    }
}
