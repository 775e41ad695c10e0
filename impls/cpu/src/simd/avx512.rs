//! [`Simd`] with AVX-512, with or without bfloat16 dot products: 16 lanes, 32 registers. A GEMM
//! tile of 14 rows uses 28 accumulators, two vectors of weights and one broadcast input, which
//! leaves one register.

use std::arch::x86_64::*;

use super::Simd;

/// The vectors of AVX-512 (F, BW, VL). With `DOT`, the processor also has AVX512_BF16.
#[derive(Clone, Copy)]
pub struct Avx512<const DOT: bool>;

impl<const DOT: bool> Avx512<DOT> {
    /// Rounds each lane to bfloat16, whose bits become the upper half of the lane; the lower half
    /// is 0.
    #[inline(always)]
    unsafe fn round_to_upper_half(v: __m512) -> __m512i {
        // SAFETY: the caller guarantees AVX-512; only registers are used.
        unsafe {
            let bits = _mm512_castps_si512(v);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            let chosen = _mm512_mask_or_epi32(up, nan, bits, _mm512_set1_epi32(0x40_0000));
            _mm512_and_si512(chosen, _mm512_set1_epi32(0xffff_0000_u32 as i32))
        }
    }

    /// Converts each pair to f32: the first values of all pairs, and the second values.
    #[inline(always)]
    unsafe fn widen_pairs(pairs: __m512i) -> [__m512; 2] {
        // SAFETY: the caller guarantees AVX-512; only registers are used.
        unsafe {
            let high = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)), _mm512_castsi512_ps(high)]
        }
    }
}

impl<const DOT: bool> Simd for Avx512<DOT> {
    type V = __m512;
    type Pairs = __m512i;
    const LANES: usize = 16;
    const DOT: bool = DOT;
    const ROWS: usize = 14;
    const PAIR_ROWS: usize = 12;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        // SAFETY: the caller guarantees AVX-512; only registers are used.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        // SAFETY: the caller guarantees AVX-512, and `p` is valid for LANES f32 (contract of
        // `Simd`).
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        // SAFETY: the caller guarantees AVX-512, and `p` is valid for LANES f32 (contract of
        // `Simd`).
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        // SAFETY: the caller guarantees AVX-512, and a prefetch of an invalid address does nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn prefetch_near(p: *const u8) {
        // SAFETY: the caller guarantees AVX-512, and a prefetch of an invalid address does nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller guarantees AVX-512; only registers are used.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller guarantees AVX-512; only registers are used.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller guarantees AVX-512; only registers are used.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller guarantees AVX-512; only registers are used.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the caller guarantees AVX-512; only registers are used.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn fnma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the caller guarantees AVX-512; only registers are used.
        unsafe { _mm512_fnmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller guarantees AVX-512; only registers are used.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller guarantees AVX-512; only registers are used.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max_nan(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller guarantees AVX-512; only registers are used.
        unsafe {
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a);
            _mm512_mask_mov_ps(_mm512_max_ps(a, b), nan, a)
        }
    }
    #[inline(always)]
    unsafe fn pow2(shifted: __m512) -> __m512 {
        // SAFETY: the caller guarantees AVX-512; only registers are used.
        unsafe {
            let bits = _mm512_add_epi32(_mm512_castps_si512(shifted), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(bits))
        }
    }
    #[inline(always)]
    unsafe fn transpose(r: &mut [__m512]) {
        // SAFETY: the caller guarantees AVX-512; only registers are used, and indices of `r` are
        // checked.
        unsafe {
            let pd = |v| _mm512_castps_pd(v);
            let ps = |v| _mm512_castpd_ps(v);
            // Interleave two rows, then four. After that, the four 128-bit quarters of vector 4 i +
            // j hold columns j, 4 + j, 8 + j and 12 + j of rows 4 i to 4 i + 3.
            for i in [0, 2, 4, 6, 8, 10, 12, 14] {
                let (a, b) = (r[i], r[i + 1]);
                (r[i], r[i + 1]) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            }
            for i in [0, 4, 8, 12] {
                let (a, b, c, d) = (pd(r[i]), pd(r[i + 1]), pd(r[i + 2]), pd(r[i + 3]));
                (r[i], r[i + 1]) = (ps(_mm512_unpacklo_pd(a, c)), ps(_mm512_unpackhi_pd(a, c)));
                (r[i + 2], r[i + 3]) = (ps(_mm512_unpacklo_pd(b, d)), ps(_mm512_unpackhi_pd(b, d)));
            }
            for j in 0..4 {
                let (a, b, c, d) = (r[j], r[4 + j], r[8 + j], r[12 + j]);
                let even = _mm512_shuffle_f32x4::<0x88>(a, b);
                let odd = _mm512_shuffle_f32x4::<0xdd>(a, b);
                let other_even = _mm512_shuffle_f32x4::<0x88>(c, d);
                let other_odd = _mm512_shuffle_f32x4::<0xdd>(c, d);
                r[j] = _mm512_shuffle_f32x4::<0x88>(even, other_even);
                r[4 + j] = _mm512_shuffle_f32x4::<0x88>(odd, other_odd);
                r[8 + j] = _mm512_shuffle_f32x4::<0xdd>(even, other_even);
                r[12 + j] = _mm512_shuffle_f32x4::<0xdd>(odd, other_odd);
            }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> __m512 {
        // SAFETY: the caller guarantees AVX-512, and `p` is valid for LANES bfloat16 (contract of
        // `Simd`).
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: __m512) {
        // SAFETY: the caller guarantees AVX-512, with DOT also AVX512_BF16, and `p` is valid for
        // LANES bfloat16. The transmute changes the type of a vector of 16 bfloat16, not its bits.
        // The conversion of AVX512_BF16 treats denormals as zero.
        unsafe {
            if DOT {
                let rounded: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(v));
                return _mm256_storeu_si256(p.cast(), rounded);
            }
            let high = _mm512_srli_epi32::<16>(Self::round_to_upper_half(v));
            _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(high));
        }
    }
    #[inline(always)]
    unsafe fn round_bf16(v: __m512) -> __m512 {
        // SAFETY: the caller guarantees AVX-512, with DOT also AVX512_BF16; the transmute is the
        // one of `store_bf16`.
        unsafe {
            if DOT {
                let rounded: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(v));
                let wide = _mm512_cvtepu16_epi32(rounded);
                return _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide));
            }
            _mm512_castsi512_ps(Self::round_to_upper_half(v))
        }
    }
    #[inline(always)]
    unsafe fn load_pairs(p: *const u16) -> __m512i {
        // SAFETY: the caller guarantees AVX-512, and `p` is valid for LANES pairs (contract of
        // `Simd`).
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn splat_pair(p: *const u16) -> __m512i {
        // SAFETY: the caller guarantees AVX-512, and `p` is valid for one pair; the read is
        // unaligned (contract of `Simd`).
        unsafe { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn dot(acc: __m512, a: __m512i, b: __m512i) -> __m512 {
        // SAFETY: the caller guarantees AVX-512, with DOT also AVX512_BF16. The transmutes change
        // the type of a vector of 32 bfloat16, not its bits.
        unsafe {
            if DOT {
                let as_bf16 = |v: __m512i| std::mem::transmute::<__m512i, __m512bh>(v);
                return _mm512_dpbf16_ps(acc, as_bf16(a), as_bf16(b));
            }
            let (a, b) = (Self::widen_pairs(a), Self::widen_pairs(b));
            _mm512_fmadd_ps(a[1], b[1], _mm512_fmadd_ps(a[0], b[0], acc))
        }
    }
}
