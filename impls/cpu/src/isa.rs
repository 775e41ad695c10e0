//! Instruction sets: which are there, and every kernel compiled for each.

#![allow(unsafe_code, reason = "functions with target features")]

use std::fmt;
use std::str::FromStr;

use crate::element::{Bf16, Element};
use crate::kernels::gemm::{self, Gemm, Sums};
use crate::kernels::import::{self, Import};
use crate::kernels::spatial::{self, Band, Depthwise, MaxPool, Mean, Resume};
use crate::kernels::tiles::Matrix;
use crate::kernels::vectors::Vectors;
use crate::kernels::winograd::{self, Input, Output};
use crate::simd::Simd;
use crate::simd::amx;

/// The instruction sets for which kernels are compiled, from the plainest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// The matrix unit of [`Isa::Amx`] in plain Rust: slow, for machines that have none.
    AmxEmulated,
    /// Plain Rust.
    Portable,
    /// 64-bit Arm.
    Neon,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, BW and VL.
    Avx512,
    /// AVX-512 with bfloat16 dot products.
    Avx512Bf16,
    /// The same, and in bfloat16 the matrix unit AMX for products.
    Amx,
}

impl Isa {
    /// All of them.
    pub const ALL: [Isa; 7] = [
        Isa::AmxEmulated,
        Isa::Portable,
        Isa::Neon,
        Isa::Avx2,
        Isa::Avx512,
        Isa::Avx512Bf16,
        Isa::Amx,
    ];

    /// The name on the command line.
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

    /// Proof that this machine has it, or None.
    pub fn detect(self) -> Option<Level> {
        let there = match self {
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
        there.then_some(Level(self))
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
            format!("`{text}` is no instruction set; use one of {names}")
        })
    }
}

/// An instruction set that this machine was found to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(Isa);

impl Level {
    /// The best that this machine has.
    pub fn best() -> Level {
        let mut found = Isa::ALL.into_iter().rev().filter_map(Isa::detect);
        found.next().unwrap_or(Level(Isa::Portable))
    }

    /// Which it is.
    pub fn isa(self) -> Isa {
        self.0
    }
}

/// Every kernel, compiled for one instruction set and storage format.
///
/// All functions need the memory that their argument describes; that is the whole of their contract,
/// because a table is only handed out for a [`Level`].
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "the kernels' own names")]
pub struct Kernels<E> {
    pub lanes: usize,
    pub depth: usize,
    pub rows: usize,
    pub gemm: unsafe fn(&Gemm<E, E>),
    pub gemm_planes: unsafe fn(&Gemm<E, f32>),
    pub winograd_input: unsafe fn(&Input<E>, usize, usize, usize),
    pub winograd_output: unsafe fn(&Output<E>, usize, usize, usize),
    pub band: unsafe fn(&Band<E>),
    pub depthwise: unsafe fn(&Depthwise<E>),
    pub max_pool: unsafe fn(&MaxPool<E>),
    pub mean: unsafe fn(&Mean<E>),
    pub resume: unsafe fn(&Resume<E>),
    pub import: unsafe fn(&Import<E>),
    pub peak: unsafe fn(usize) -> f32,
    pub peak_work: usize,
}

/// A format for which tables exist.
pub trait Tabled: Element {
    /// The kernels of an instruction set that is there.
    fn kernels(level: Level) -> Kernels<Self>;
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
                // SAFETY: the caller's; the instruction set is there (`Level`).
                unsafe { gemm::run::<S, E, E, M>(g) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn gemm_planes(g: &Gemm<E, f32>) {
                // SAFETY: as above.
                unsafe { gemm::run::<S, E, f32, M>(g) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn winograd_input(i: &Input<E>, row: usize, column: usize, index: usize) {
                // SAFETY: as above.
                unsafe { winograd::input::<S, E>(i, row, column, index) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn winograd_output(o: &Output<E>, row: usize, column: usize, index: usize) {
                // SAFETY: as above.
                unsafe { winograd::output::<S, E>(o, row, column, index) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn band(b: &Band<E>) {
                // SAFETY: as above.
                unsafe { spatial::band::<S, E>(b) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn depthwise(d: &Depthwise<E>) {
                // SAFETY: as above.
                unsafe { spatial::depthwise::<S, E>(d) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn max_pool(p: &MaxPool<E>) {
                // SAFETY: as above.
                unsafe { spatial::max_pool::<S, E>(p) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn mean(m: &Mean<E>) {
                // SAFETY: as above.
                unsafe { spatial::mean::<S, E>(m) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn resume(r: &Resume<E>) {
                // SAFETY: as above.
                unsafe { spatial::resume::<S, E>(r) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn import(i: &Import<E>) {
                // SAFETY: as above.
                unsafe { import::import::<S, E>(i) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn peak(rounds: usize) -> f32 {
                // SAFETY: as above.
                unsafe { <M as Sums<S, E>>::peak(rounds) }
            }

            pub const KERNELS: Kernels<E> = Kernels {
                lanes: <S as Simd>::LANES,
                depth: <M as Sums<S, E>>::DEPTH,
                rows: <M as Sums<S, E>>::ROWS,
                gemm,
                gemm_planes,
                winograd_input,
                winograd_output,
                band,
                depthwise,
                max_pool,
                mean,
                resume,
                import,
                peak,
                peak_work: <M as Sums<S, E>>::PEAK_WORK,
            };
        }
    };
}

compile!(portable_f32, crate::simd::portable::Portable<4>, f32, Vectors);
compile!(portable_bf16, crate::simd::portable::Portable<4>, Bf16, Vectors);
compile!(emulated_bf16, crate::simd::portable::Portable<16>, Bf16, Matrix<amx::Software>);
#[cfg(target_arch = "aarch64")]
compile!(neon_f32, crate::simd::neon::Neon, f32, Vectors);
#[cfg(target_arch = "aarch64")]
compile!(neon_bf16, crate::simd::neon::Neon, Bf16, Vectors);
#[cfg(target_arch = "x86_64")]
compile!(avx2_f32, crate::simd::avx2::Avx2, f32, Vectors, "avx2,fma");
#[cfg(target_arch = "x86_64")]
compile!(avx2_bf16, crate::simd::avx2::Avx2, Bf16, Vectors, "avx2,fma");
#[cfg(target_arch = "x86_64")]
compile!(avx512_f32, crate::simd::avx512::Avx512<false>, f32, Vectors, "avx512f,avx512bw,avx512vl");
#[cfg(target_arch = "x86_64")]
compile!(
    avx512_bf16,
    crate::simd::avx512::Avx512<false>,
    Bf16,
    Vectors,
    "avx512f,avx512bw,avx512vl"
);
#[cfg(target_arch = "x86_64")]
compile!(
    avx512bf16_bf16,
    crate::simd::avx512::Avx512<true>,
    Bf16,
    Vectors,
    "avx512f,avx512bw,avx512vl,avx512bf16"
);
#[cfg(target_arch = "x86_64")]
compile!(
    amx_bf16,
    crate::simd::avx512::Avx512<true>,
    Bf16,
    Matrix<amx::Hardware>,
    "avx512f,avx512bw,avx512vl,avx512bf16"
);

impl Tabled for f32 {
    fn kernels(level: Level) -> Kernels<f32> {
        match level.0 {
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

impl Tabled for Bf16 {
    fn kernels(level: Level) -> Kernels<Bf16> {
        match level.0 {
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
