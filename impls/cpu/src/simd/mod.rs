//! Vectors of f32 in each instruction set, behind one trait, so that every kernel is written once.
//!
//! All operations are `#[inline(always)]` and end up in functions with the right `target_feature`
//! (see [`crate::isa`]); nothing else may call them.

#![allow(unsafe_code, reason = "CPU intrinsics")]

pub mod amx;
#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
#[cfg(target_arch = "aarch64")]
pub mod neon;
pub mod portable;

/// One instruction set.
///
/// # Safety
/// Every function may be called only on a machine that has the instruction set, and from a function
/// compiled with it. Pointers must be valid for [`Simd::LANES`] values; no alignment is needed.
#[allow(clippy::missing_safety_doc, reason = "said once, above")]
pub trait Simd: Copy + 'static {
    /// [`Simd::LANES`] numbers.
    type V: Copy;
    /// As many pairs of bfloat16, as the weights of a dot product.
    type Pairs: Copy;
    /// f32 in a vector.
    const LANES: usize;
    /// Whether pairs of bfloat16 are multiplied by one instruction.
    const DOT: bool;
    /// Rows of the largest GEMM tile, two vectors wide, that fits the registers: `2 * ROWS`
    /// accumulators, two weights and one splat.
    const ROWS: usize;

    /// x in all lanes.
    unsafe fn splat(x: f32) -> Self::V;
    /// LANES numbers.
    unsafe fn load(p: *const f32) -> Self::V;
    /// Stores LANES numbers.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// Asks for the cache line at an address, which need not be valid, in the second cache level.
    unsafe fn prefetch(p: *const u8);
    /// a + b.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// a - b.
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// a * b.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// a / b.
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// a * b + c.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// c - a * b.
    unsafe fn fnma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; `b` where one of them is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` where one of them is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// The larger, NaN where one of them is NaN.
    unsafe fn max_nan(a: Self::V, b: Self::V) -> Self::V;
    /// 2^n for a number 1.5 * 2^23 + n with -127 < n < 128, whose low bits hold n.
    unsafe fn pow2(shifted: Self::V) -> Self::V;
    /// Swaps rows and columns of LANES vectors.
    unsafe fn transpose(rows: &mut [Self::V]);
    /// Widens bfloat16.
    unsafe fn load_bf16(p: *const u16) -> Self::V;
    /// Rounds to the nearest bfloat16, ties to even; NaN stays NaN.
    unsafe fn store_bf16(p: *mut u16, v: Self::V);
    /// Rounds as [`Simd::store_bf16`] does, in place.
    unsafe fn round_bf16(v: Self::V) -> Self::V;
    /// [`Simd::LANES`] pairs.
    unsafe fn pairs(p: *const u16) -> Self::Pairs;
    /// One pair in all places.
    unsafe fn splat_pair(p: *const u16) -> Self::Pairs;
    /// acc + a0 * b0 + a1 * b1 in each lane.
    unsafe fn dot(acc: Self::V, a: Self::Pairs, b: Self::Pairs) -> Self::V;
}

/// The bits of the nearest bfloat16, ties to even; NaN stays NaN.
#[inline(always)]
pub fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// The value of a bfloat16.
#[inline(always)]
pub fn bf16_value(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}
