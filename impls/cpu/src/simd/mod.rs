//! Vectors of f32 behind one trait, [`Simd`], with one implementation for each instruction set, so
//! that every kernel is written once.
//!
//! All operations are `#[inline(always)]` and are inlined into functions that have the right
//! `target_feature` (see [`crate::isa`]); nothing else may call them.

#![allow(unsafe_code, reason = "CPU intrinsics")]

pub mod amx;
#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
#[cfg(target_arch = "aarch64")]
pub mod neon;
pub mod portable;
pub mod traffic;

/// The vector operations of one instruction set.
///
/// # Safety
/// Every function may be called only on a machine that has the instruction set, and from a function
/// that was compiled with it. Pointers must be valid for [`Simd::LANES`] values (pairs of values
/// for [`Simd::load_pairs`], one pair for [`Simd::splat_pair`]) and need no alignment.
#[allow(clippy::missing_safety_doc, reason = "said once, above")]
pub trait Simd: Copy + 'static {
    /// A vector of [`Simd::LANES`] f32.
    type V: Copy;
    /// A vector of [`Simd::LANES`] pairs of bfloat16, the factors of [`Simd::dot`].
    type Pairs: Copy;
    /// Number of f32 in a vector.
    const LANES: usize;
    /// Whether one instruction computes [`Simd::dot`].
    const DOT: bool;
    /// Rows of the largest GEMM tile whose register block fits the registers: `2 * ROWS`
    /// accumulators, two vectors of weights and one broadcast input.
    const ROWS: usize;
    /// The same for [`Simd::Pairs`] that take two registers each, where [`Simd::DOT`] is false.
    const PAIR_ROWS: usize;

    /// Broadcasts `x` to all lanes.
    unsafe fn splat(x: f32) -> Self::V;
    /// Loads LANES values.
    unsafe fn load(p: *const f32) -> Self::V;
    /// Stores LANES values.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// Prefetches the cache line at `p` into the L2 cache; the address need not be valid.
    unsafe fn prefetch(p: *const u8);
    /// Prefetches the cache line at `p` into the L1 cache; the address need not be valid.
    unsafe fn prefetch_near(p: *const u8);
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
    /// The larger value; `b` where either is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller value; `b` where either is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// The larger value; NaN where either is NaN.
    unsafe fn max_nan(a: Self::V, b: Self::V) -> Self::V;
    /// 2^n, given 1.5 * 2^23 + n with -127 < n < 128: the low bits of that number hold the integer
    /// n.
    unsafe fn pow2(shifted: Self::V) -> Self::V;
    /// Transposes a block of LANES x LANES values in place; `rows` has LANES vectors.
    unsafe fn transpose(rows: &mut [Self::V]);
    /// Loads LANES bfloat16 and converts them to f32.
    unsafe fn load_bf16(p: *const u16) -> Self::V;
    /// Rounds to the nearest bfloat16, ties to even, and stores LANES of them; NaN stays NaN.
    unsafe fn store_bf16(p: *mut u16, v: Self::V);
    /// Copies LANES bfloat16, which may not overlap.
    #[inline(always)]
    unsafe fn copy_bf16(from: *const u16, to: *mut u16) {
        // SAFETY: the caller guarantees that both are valid for LANES values and do not overlap.
        unsafe { from.copy_to_nonoverlapping(to, Self::LANES) }
    }
    /// Rounds to bfloat16 as [`Simd::store_bf16`] does, and stays in f32.
    unsafe fn round_bf16(v: Self::V) -> Self::V;
    /// Loads [`Simd::LANES`] pairs of bfloat16.
    unsafe fn load_pairs(p: *const u16) -> Self::Pairs;
    /// Loads one pair of bfloat16 and broadcasts it.
    unsafe fn splat_pair(p: *const u16) -> Self::Pairs;
    /// acc + a0 * b0 + a1 * b1 in each lane, for the pairs (a0, a1) and (b0, b1).
    unsafe fn dot(acc: Self::V, a: Self::Pairs, b: Self::Pairs) -> Self::V;
}

/// Returns `value` and hides from the compiler how it was computed, so that it is kept in a register of its
/// own. Only x86 has addresses with a scaled index, for which this is meant; elsewhere nothing is hidden.
#[inline(always)]
pub fn opaque(value: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        let mut value = value;
        // SAFETY: no instruction is executed.
        unsafe {
            std::arch::asm!("/* {0} */", inout(reg) value,
                options(pure, nomem, nostack, preserves_flags));
        }
        value
    }
    #[cfg(not(target_arch = "x86_64"))]
    value
}

/// Like [`opaque`], for a pointer. The result may access the same memory as `pointer`.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block, reason = "the block has no instruction")]
pub fn opaque_pointer<T>(pointer: *const T) -> *const T {
    #[cfg(target_arch = "x86_64")]
    {
        let mut pointer = pointer;
        // SAFETY: no instruction is executed.
        unsafe {
            std::arch::asm!("/* {0} */", inout(reg) pointer,
                options(pure, nomem, nostack, preserves_flags));
        }
        pointer
    }
    #[cfg(not(target_arch = "x86_64"))]
    pointer
}

/// The bits of the bfloat16 nearest to `x`, ties to even; NaN stays NaN.
#[inline(always)]
pub fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// The value of the bfloat16 with these bits.
#[inline(always)]
pub fn bf16_value(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}
