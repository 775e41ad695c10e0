//! [`Simd`] with AVX2 and FMA: 8 lanes, 16 registers. A GEMM tile of 6 rows uses 12 accumulators,
//! two vectors of weights and one broadcast input, which leaves one register.

use std::arch::x86_64::*;

use super::Simd;

/// The vectors of x86-64 with AVX2 and FMA (processors since 2013).
#[derive(Clone, Copy)]
pub struct Avx2;

impl Avx2 {
    /// Rounds each lane to bfloat16, whose bits become the upper half of the lane; the lower half
    /// is 0.
    #[inline(always)]
    unsafe fn round_to_upper_half(v: __m256) -> __m256i {
        // SAFETY: the caller guarantees AVX2; only registers are used.
        unsafe {
            let bits = _mm256_castps_si256(v);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            let chosen = _mm256_blendv_epi8(up, quiet, nan);
            _mm256_and_si256(chosen, _mm256_set1_epi32(0xffff_0000_u32 as i32))
        }
    }

    /// Converts each pair to f32: the first values of all pairs, and the second values.
    #[inline(always)]
    unsafe fn widen_pairs(pairs: __m256i) -> [__m256; 2] {
        // SAFETY: the caller guarantees AVX2; only registers are used.
        unsafe {
            let high = _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32 as i32));
            [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)), _mm256_castsi256_ps(high)]
        }
    }
}

impl Simd for Avx2 {
    type V = __m256;
    type Pairs = [__m256; 2];
    const LANES: usize = 8;
    const DOT: bool = false;
    const ROWS: usize = 6;
    const PAIR_ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        // SAFETY: the caller guarantees AVX2 and FMA; only registers are used.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m256 {
        // SAFETY: the caller guarantees AVX2 and FMA, and `p` is valid for LANES f32 (contract of
        // `Simd`).
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m256) {
        // SAFETY: the caller guarantees AVX2 and FMA, and `p` is valid for LANES f32 (contract of
        // `Simd`).
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        // SAFETY: the caller guarantees AVX2, and a prefetch of an invalid address does nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn prefetch_near(p: *const u8) {
        // SAFETY: the caller guarantees AVX2, and a prefetch of an invalid address does nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller guarantees AVX2 and FMA; only registers are used.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller guarantees AVX2 and FMA; only registers are used.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller guarantees AVX2 and FMA; only registers are used.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller guarantees AVX2 and FMA; only registers are used.
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the caller guarantees AVX2 and FMA; only registers are used.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn fnma(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the caller guarantees AVX2 and FMA; only registers are used.
        unsafe { _mm256_fnmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller guarantees AVX2 and FMA; only registers are used.
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller guarantees AVX2 and FMA; only registers are used.
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max_nan(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller guarantees AVX2 and FMA; only registers are used.
        unsafe { _mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a)) }
    }
    #[inline(always)]
    unsafe fn pow2(shifted: __m256) -> __m256 {
        // SAFETY: the caller guarantees AVX2 and FMA; only registers are used.
        unsafe {
            let bits = _mm256_add_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(bits))
        }
    }
    #[inline(always)]
    unsafe fn transpose(r: &mut [__m256]) {
        // SAFETY: the caller guarantees AVX2 and FMA; only registers are used, and indices of `r`
        // are checked.
        unsafe {
            let pd = |v| _mm256_castps_pd(v);
            let ps = |v| _mm256_castpd_ps(v);
            // Interleave two rows, then four. After that, the two 128-bit halves of vector 4 i + j
            // hold columns j and 4 + j of rows 4 i to 4 i + 3.
            for i in [0, 2, 4, 6] {
                let (a, b) = (r[i], r[i + 1]);
                (r[i], r[i + 1]) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            }
            for i in [0, 4] {
                let (a, b, c, d) = (pd(r[i]), pd(r[i + 1]), pd(r[i + 2]), pd(r[i + 3]));
                (r[i], r[i + 1]) = (ps(_mm256_unpacklo_pd(a, c)), ps(_mm256_unpackhi_pd(a, c)));
                (r[i + 2], r[i + 3]) = (ps(_mm256_unpacklo_pd(b, d)), ps(_mm256_unpackhi_pd(b, d)));
            }
            for j in 0..4 {
                let (a, b) = (r[j], r[4 + j]);
                r[j] = _mm256_permute2f128_ps::<0x20>(a, b);
                r[4 + j] = _mm256_permute2f128_ps::<0x31>(a, b);
            }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> __m256 {
        // SAFETY: the caller guarantees AVX2 and FMA, and `p` is valid for LANES bfloat16 (contract
        // of `Simd`).
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: __m256) {
        // SAFETY: the caller guarantees AVX2 and FMA, and `p` is valid for LANES bfloat16 (contract
        // of `Simd`).
        unsafe {
            let high = _mm256_srli_epi32::<16>(Self::round_to_upper_half(v));
            let packed = _mm256_packus_epi32(high, high);
            let both = _mm256_permute4x64_epi64::<0b00_00_10_00>(packed);
            _mm_storeu_si128(p.cast(), _mm256_castsi256_si128(both));
        }
    }
    #[inline(always)]
    unsafe fn round_bf16(v: __m256) -> __m256 {
        // SAFETY: the caller guarantees AVX2 and FMA; only registers are used.
        unsafe { _mm256_castsi256_ps(Self::round_to_upper_half(v)) }
    }
    #[inline(always)]
    unsafe fn load_pairs(p: *const u16) -> [__m256; 2] {
        // SAFETY: the caller guarantees AVX2 and FMA, and `p` is valid for LANES pairs (contract of
        // `Simd`).
        unsafe { Self::widen_pairs(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn splat_pair(p: *const u16) -> [__m256; 2] {
        // SAFETY: the caller guarantees AVX2 and FMA, and `p` is valid for one pair; the read is
        // unaligned (contract of `Simd`).
        unsafe { Self::widen_pairs(_mm256_set1_epi32(p.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn dot(acc: __m256, a: [__m256; 2], b: [__m256; 2]) -> __m256 {
        // SAFETY: the caller guarantees AVX2 and FMA; only registers are used.
        unsafe { _mm256_fmadd_ps(a[1], b[1], _mm256_fmadd_ps(a[0], b[0], acc)) }
    }
}
