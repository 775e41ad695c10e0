//! The number formats in which activations and weights are stored. Sums are always accumulated in
//! f32.

#![allow(unsafe_code, reason = "vectors of CPU intrinsics")]

use crate::simd::{Simd, bf16_bits, bf16_value};

/// A bfloat16, stored as its 16 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(pub u16);

/// A storage format: f32, or bfloat16, whose products are computed two channels at a time.
///
/// # Safety
/// Every unsafe function has the contract of [`Simd`]; pointers must be valid for as many elements
/// as the function reads or writes, and need no alignment.
#[allow(clippy::missing_safety_doc, reason = "said once, above")]
pub trait Element: Copy + Default + Send + Sync + 'static {
    /// Adjacent channels that one multiply-add takes: 1 in f32, 2 in bfloat16.
    const GROUP: usize;
    /// Whether this is f32, so that sums need no conversion before they are stored.
    const IS_F32: bool;
    /// A vector of weights, [LANES outputs, GROUP channels].
    type Weights<S: Simd>: Copy;

    /// Rounds to the nearest value of this format, ties to even.
    fn from_f32(x: f32) -> Self;
    /// Converts to f32, which is exact.
    fn to_f32(self) -> f32;
    /// Loads LANES elements as f32.
    unsafe fn load<S: Simd>(p: *const Self) -> S::V;
    /// Rounds LANES values to this format and stores them.
    unsafe fn store<S: Simd>(p: *mut Self, v: S::V);
    /// Copies LANES elements, which may not overlap.
    unsafe fn copy<S: Simd>(from: *const Self, to: *mut Self);
    /// Rounds to this format as [`Element::store`] does, and stays in f32.
    unsafe fn round<S: Simd>(v: S::V) -> S::V;
    /// Loads LANES * GROUP weights.
    unsafe fn load_weights<S: Simd>(p: *const Self) -> Self::Weights<S>;
    /// Loads GROUP channels of one pixel and broadcasts them to every output.
    unsafe fn splat<S: Simd>(p: *const Self) -> Self::Weights<S>;
    /// acc + the sum of a * b over the GROUP channels.
    unsafe fn multiply_add<S: Simd>(acc: S::V, a: Self::Weights<S>, b: Self::Weights<S>) -> S::V;
}

impl Element for f32 {
    const GROUP: usize = 1;
    const IS_F32: bool = true;
    type Weights<S: Simd> = S::V;

    fn from_f32(x: f32) -> Self {
        x
    }
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const f32) -> S::V {
        // SAFETY: the caller has the instruction set, and `p` is valid for LANES elements.
        unsafe { S::load(p) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(p: *mut f32, v: S::V) {
        // SAFETY: the caller has the instruction set, and `p` is valid for LANES elements.
        unsafe { S::store(p, v) }
    }
    #[inline(always)]
    unsafe fn copy<S: Simd>(from: *const f32, to: *mut f32) {
        // SAFETY: the caller has the instruction set, and both are valid for LANES elements.
        unsafe { S::store(to, S::load(from)) }
    }
    #[inline(always)]
    unsafe fn round<S: Simd>(v: S::V) -> S::V {
        v
    }
    #[inline(always)]
    unsafe fn load_weights<S: Simd>(p: *const f32) -> S::V {
        // SAFETY: the caller has the instruction set, and `p` is valid for LANES * GROUP elements.
        unsafe { S::load(p) }
    }
    #[inline(always)]
    unsafe fn splat<S: Simd>(p: *const f32) -> S::V {
        // SAFETY: the caller has the instruction set, and `p` is valid for GROUP elements.
        unsafe { S::splat(*p) }
    }
    #[inline(always)]
    unsafe fn multiply_add<S: Simd>(acc: S::V, a: S::V, b: S::V) -> S::V {
        // SAFETY: the caller has the instruction set; only registers are used.
        unsafe { S::fma(a, b, acc) }
    }
}

impl Element for Bf16 {
    const GROUP: usize = 2;
    const IS_F32: bool = false;
    type Weights<S: Simd> = S::Pairs;

    fn from_f32(x: f32) -> Self {
        Bf16(bf16_bits(x))
    }
    fn to_f32(self) -> f32 {
        bf16_value(self.0)
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Bf16) -> S::V {
        // SAFETY: the caller has the instruction set, and `p` is valid for LANES elements.
        unsafe { S::load_bf16(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(p: *mut Bf16, v: S::V) {
        // SAFETY: the caller has the instruction set, and `p` is valid for LANES elements.
        unsafe { S::store_bf16(p.cast(), v) }
    }
    #[inline(always)]
    unsafe fn copy<S: Simd>(from: *const Bf16, to: *mut Bf16) {
        // SAFETY: the caller has the instruction set, and both are valid for LANES elements.
        unsafe { S::copy_bf16(from.cast(), to.cast()) }
    }
    #[inline(always)]
    unsafe fn round<S: Simd>(v: S::V) -> S::V {
        // SAFETY: the caller has the instruction set; only registers are used.
        unsafe { S::round_bf16(v) }
    }
    #[inline(always)]
    unsafe fn load_weights<S: Simd>(p: *const Bf16) -> S::Pairs {
        // SAFETY: the caller has the instruction set, and `p` is valid for LANES * GROUP elements.
        unsafe { S::load_pairs(p.cast()) }
    }
    #[inline(always)]
    unsafe fn splat<S: Simd>(p: *const Bf16) -> S::Pairs {
        // SAFETY: the caller has the instruction set, and `p` is valid for GROUP elements.
        unsafe { S::splat_pair(p.cast()) }
    }
    #[inline(always)]
    unsafe fn multiply_add<S: Simd>(acc: S::V, a: S::Pairs, b: S::Pairs) -> S::V {
        // SAFETY: the caller has the instruction set; only registers are used.
        unsafe { S::dot(acc, a, b) }
    }
}
