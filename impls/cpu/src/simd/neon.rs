//! [`Simd`] with NEON, which every 64-bit Arm processor has: 4 lanes, 32 registers. A GEMM tile of
//! 14 rows uses 28 accumulators, two vectors of weights and one broadcast input, which leaves one
//! register.

use std::arch::aarch64::*;

use super::Simd;

/// The vectors of NEON.
#[derive(Clone, Copy)]
pub struct Neon;

/// Rounds each lane to bfloat16, whose bits become the upper half of the lane; the lower half is 0.
#[inline(always)]
fn round_to_upper_half(v: float32x4_t) -> uint32x4_t {
    // SAFETY: every 64-bit Arm processor has NEON; only registers are used.
    unsafe {
        let bits = vreinterpretq_u32_f32(v);
        let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
        let up = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
        let quiet = vorrq_u32(bits, vdupq_n_u32(0x40_0000));
        let chosen = vbslq_u32(vceqq_f32(v, v), up, quiet);
        vandq_u32(chosen, vdupq_n_u32(0xffff_0000))
    }
}

/// Converts each pair to f32: the first values of all pairs, and the second values.
#[inline(always)]
fn widen_pairs(pairs: uint32x4_t) -> [float32x4_t; 2] {
    // SAFETY: every 64-bit Arm processor has NEON; only registers are used.
    unsafe {
        let second = vandq_u32(pairs, vdupq_n_u32(0xffff_0000));
        [vreinterpretq_f32_u32(vshlq_n_u32::<16>(pairs)), vreinterpretq_f32_u32(second)]
    }
}

impl Simd for Neon {
    type V = float32x4_t;
    type Pairs = [float32x4_t; 2];
    const LANES: usize = 4;
    const DOT: bool = false;
    const ROWS: usize = 14;
    const PAIR_ROWS: usize = 12;

    #[inline(always)]
    unsafe fn splat(x: f32) -> float32x4_t {
        // SAFETY: every 64-bit Arm processor has NEON; only registers are used.
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> float32x4_t {
        // SAFETY: every 64-bit Arm processor has NEON, and `p` is valid for LANES f32 (contract of
        // `Simd`).
        unsafe { vld1q_f32(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: float32x4_t) {
        // SAFETY: every 64-bit Arm processor has NEON, and `p` is valid for LANES f32 (contract of
        // `Simd`).
        unsafe { vst1q_f32(p, v) }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        // SAFETY: a prefetch of an invalid address does nothing.
        unsafe {
            std::arch::asm!("prfm pldl2keep, [{}]", in(reg) p,
                options(nostack, readonly, preserves_flags));
        }
    }
    #[inline(always)]
    unsafe fn prefetch_near(p: *const u8) {
        // SAFETY: a prefetch of an invalid address does nothing.
        unsafe {
            std::arch::asm!("prfm pldl1keep, [{}]", in(reg) p,
                options(nostack, readonly, preserves_flags));
        }
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: every 64-bit Arm processor has NEON; only registers are used.
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: every 64-bit Arm processor has NEON; only registers are used.
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: every 64-bit Arm processor has NEON; only registers are used.
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: every 64-bit Arm processor has NEON; only registers are used.
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: every 64-bit Arm processor has NEON; only registers are used.
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn fnma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: every 64-bit Arm processor has NEON; only registers are used.
        unsafe { vfmsq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // FMAX would return NaN where either is NaN; the comparison selects `b` there.
        // SAFETY: every 64-bit Arm processor has NEON; only registers are used.
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: every 64-bit Arm processor has NEON; only registers are used.
        unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
    }
    #[inline(always)]
    unsafe fn max_nan(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: every 64-bit Arm processor has NEON; only registers are used.
        unsafe { vmaxq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn pow2(shifted: float32x4_t) -> float32x4_t {
        // SAFETY: every 64-bit Arm processor has NEON; only registers are used.
        unsafe {
            let bits = vaddq_u32(vreinterpretq_u32_f32(shifted), vdupq_n_u32(127));
            vreinterpretq_f32_u32(vshlq_n_u32::<23>(bits))
        }
    }
    #[inline(always)]
    unsafe fn transpose(r: &mut [float32x4_t]) {
        // SAFETY: every 64-bit Arm processor has NEON; only registers are used, and indices of `r`
        // are checked.
        unsafe {
            let wide = |v| vreinterpretq_f64_f32(v);
            let narrow = |v| vreinterpretq_f32_f64(v);
            // Each pair of rows gives one vector with columns 0 and 2, and one with columns 1 and
            // 3.
            let (a, b) = (wide(vtrn1q_f32(r[0], r[1])), wide(vtrn2q_f32(r[0], r[1])));
            let (c, d) = (wide(vtrn1q_f32(r[2], r[3])), wide(vtrn2q_f32(r[2], r[3])));
            (r[0], r[2]) = (narrow(vtrn1q_f64(a, c)), narrow(vtrn2q_f64(a, c)));
            (r[1], r[3]) = (narrow(vtrn1q_f64(b, d)), narrow(vtrn2q_f64(b, d)));
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> float32x4_t {
        // SAFETY: every 64-bit Arm processor has NEON, and `p` is valid for LANES bfloat16
        // (contract of `Simd`).
        unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(p))) }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: float32x4_t) {
        // SAFETY: every 64-bit Arm processor has NEON, and `p` is valid for LANES bfloat16
        // (contract of `Simd`).
        unsafe { vst1_u16(p, vshrn_n_u32::<16>(round_to_upper_half(v))) }
    }
    #[inline(always)]
    unsafe fn round_bf16(v: float32x4_t) -> float32x4_t {
        // SAFETY: every 64-bit Arm processor has NEON; only registers are used.
        unsafe { vreinterpretq_f32_u32(round_to_upper_half(v)) }
    }
    #[inline(always)]
    unsafe fn load_pairs(p: *const u16) -> [float32x4_t; 2] {
        // SAFETY: every 64-bit Arm processor has NEON, and `p` is valid for LANES pairs (contract
        // of `Simd`); a load of bytes needs no alignment.
        unsafe { widen_pairs(vreinterpretq_u32_u8(vld1q_u8(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn splat_pair(p: *const u16) -> [float32x4_t; 2] {
        // SAFETY: every 64-bit Arm processor has NEON, and `p` is valid for one pair; the read is
        // unaligned (contract of `Simd`).
        unsafe { widen_pairs(vdupq_n_u32(p.cast::<u32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn dot(acc: float32x4_t, a: [float32x4_t; 2], b: [float32x4_t; 2]) -> float32x4_t {
        // SAFETY: every 64-bit Arm processor has NEON; only registers are used.
        unsafe { vfmaq_f32(vfmaq_f32(acc, a[0], b[0]), a[1], b[1]) }
    }
}
