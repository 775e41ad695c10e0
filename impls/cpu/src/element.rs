//! The number formats in which activations and weights are stored. Sums are always f32.

#![allow(unsafe_code, reason = "vectors of CPU intrinsics")]

use crate::simd::{Simd, bf16_bits, bf16_value};

/// bfloat16 by its bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(pub u16);

/// A storage format: f32, or bfloat16 whose products are taken in pairs.
///
/// # Safety
/// The contract of [`Simd`] holds for every unsafe function.
#[allow(clippy::missing_safety_doc, reason = "said once, above")]
pub trait Element: Copy + Default + Send + Sync + 'static {
    /// Neighbouring channels that one multiplication takes.
    const GROUP: usize;
    /// Whether this is f32, so that sums are stored as they are.
    const IS_F32: bool;
    /// A vector of weights: LANES outputs times GROUP channels.
    type Weights<S: Simd>: Copy;

    /// Rounds to this format.
    fn from_f32(x: f32) -> Self;
    /// Widens, which is exact.
    fn to_f32(self) -> f32;
    /// LANES numbers.
    unsafe fn load<S: Simd>(p: *const Self) -> S::V;
    /// Rounds and stores LANES numbers.
    unsafe fn store<S: Simd>(p: *mut Self, v: S::V);
    /// Rounds as a store would.
    unsafe fn round<S: Simd>(v: S::V) -> S::V;
    /// LANES * GROUP weights.
    unsafe fn weights<S: Simd>(p: *const Self) -> Self::Weights<S>;
    /// GROUP channels of one pixel, the same for every output.
    unsafe fn splat<S: Simd>(p: *const Self) -> Self::Weights<S>;
    /// acc + the sum over the group of a * b.
    unsafe fn multiply<S: Simd>(acc: S::V, a: Self::Weights<S>, b: Self::Weights<S>) -> S::V;
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
        // SAFETY: the caller keeps the trait's contract.
        unsafe { S::load(p) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(p: *mut f32, v: S::V) {
        // SAFETY: the caller keeps the trait's contract.
        unsafe { S::store(p, v) }
    }
    #[inline(always)]
    unsafe fn round<S: Simd>(v: S::V) -> S::V {
        v
    }
    #[inline(always)]
    unsafe fn weights<S: Simd>(p: *const f32) -> S::V {
        // SAFETY: the caller keeps the trait's contract.
        unsafe { S::load(p) }
    }
    #[inline(always)]
    unsafe fn splat<S: Simd>(p: *const f32) -> S::V {
        // SAFETY: the caller keeps the trait's contract.
        unsafe { S::splat(*p) }
    }
    #[inline(always)]
    unsafe fn multiply<S: Simd>(acc: S::V, a: S::V, b: S::V) -> S::V {
        // SAFETY: the caller keeps the trait's contract.
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
        // SAFETY: the caller keeps the trait's contract.
        unsafe { S::load_bf16(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(p: *mut Bf16, v: S::V) {
        // SAFETY: the caller keeps the trait's contract.
        unsafe { S::store_bf16(p.cast(), v) }
    }
    #[inline(always)]
    unsafe fn round<S: Simd>(v: S::V) -> S::V {
        // SAFETY: the caller keeps the trait's contract.
        unsafe { S::round_bf16(v) }
    }
    #[inline(always)]
    unsafe fn weights<S: Simd>(p: *const Bf16) -> S::Pairs {
        // SAFETY: the caller keeps the trait's contract.
        unsafe { S::pairs(p.cast()) }
    }
    #[inline(always)]
    unsafe fn splat<S: Simd>(p: *const Bf16) -> S::Pairs {
        // SAFETY: the caller keeps the trait's contract.
        unsafe { S::splat_pair(p.cast()) }
    }
    #[inline(always)]
    unsafe fn multiply<S: Simd>(acc: S::V, a: S::Pairs, b: S::Pairs) -> S::V {
        // SAFETY: the caller keeps the trait's contract.
        unsafe { S::dot(acc, a, b) }
    }
}
