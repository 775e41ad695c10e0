//! Plain Rust, which runs on any machine and which the compiler may vectorize.

use super::{Simd, bf16_bits, bf16_value, traffic};

/// Whether accesses are shown to [`traffic`]: 16 lanes only go with the emulated matrix unit.
const fn watched(lanes: usize) -> bool {
    lanes == 16
}

/// L lanes in plain Rust. The functions `fma` and `fnma` round twice, after the product and after
/// the sum.
#[derive(Clone, Copy)]
pub struct Portable<const L: usize>;

#[inline(always)]
fn map<const L: usize>(a: [f32; L], b: [f32; L], f: impl Fn(f32, f32) -> f32) -> [f32; L] {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

impl<const L: usize> Simd for Portable<L> {
    type V = [f32; L];
    type Pairs = [[f32; L]; 2];
    const LANES: usize = L;
    const DOT: bool = false;
    const ROWS: usize = 4;
    const PAIR_ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; L]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        if watched(L) {
            traffic::touch(p.cast(), 4 * L);
        }
        // SAFETY: the caller guarantees that `p` is valid for LANES values; the access is
        // unaligned.
        unsafe { p.cast::<Self::V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        if watched(L) {
            traffic::touch(p.cast(), 4 * L);
        }
        // SAFETY: the caller guarantees that `p` is valid for LANES values; the access is
        // unaligned.
        unsafe { p.cast::<Self::V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
    #[inline(always)]
    unsafe fn prefetch_near(_: *const u8) {}
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        if watched(L) {
            traffic::vector_operations(1);
        }
        map(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        if watched(L) {
            traffic::vector_operations(1);
        }
        map(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        if watched(L) {
            traffic::vector_operations(1);
        }
        map(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        if watched(L) {
            traffic::vector_operations(traffic::DIVISION);
        }
        map(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        if watched(L) {
            traffic::vector_operations(1);
        }
        map(map(a, b, |a, b| a * b), c, |p, c| p + c)
    }
    #[inline(always)]
    unsafe fn fnma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        if watched(L) {
            traffic::vector_operations(1);
        }
        map(map(a, b, |a, b| a * b), c, |p, c| c - p)
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        if watched(L) {
            traffic::vector_operations(1);
        }
        map(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        if watched(L) {
            traffic::vector_operations(1);
        }
        map(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn max_nan(a: Self::V, b: Self::V) -> Self::V {
        if watched(L) {
            traffic::vector_operations(1);
        }
        map(a, b, |a, b| if a > b || a.is_nan() { a } else { b })
    }
    #[inline(always)]
    unsafe fn pow2(shifted: Self::V) -> Self::V {
        if watched(L) {
            traffic::vector_operations(1);
        }
        map(shifted, shifted, |t, _| f32::from_bits((t.to_bits().wrapping_add(127)) << 23))
    }
    #[inline(always)]
    unsafe fn transpose(rows: &mut [Self::V]) {
        let from: [Self::V; L] = std::array::from_fn(|at| rows[at]);
        for (at, row) in rows.iter_mut().enumerate() {
            *row = from.map(|r| r[at]);
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self::V {
        if watched(L) {
            traffic::vector_operations(2);
            traffic::touch(p.cast(), 2 * L);
        }
        // SAFETY: the caller guarantees that `p` is valid for LANES values; the access is
        // unaligned.
        unsafe { p.cast::<[u16; L]>().read_unaligned() }.map(bf16_value)
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: Self::V) {
        if watched(L) {
            traffic::vector_operations(2);
            traffic::touch(p.cast(), 2 * L);
        }
        // SAFETY: the caller guarantees that `p` is valid for LANES values; the access is
        // unaligned.
        unsafe { p.cast::<[u16; L]>().write_unaligned(v.map(bf16_bits)) }
    }
    #[inline(always)]
    unsafe fn copy_bf16(from: *const u16, to: *mut u16) {
        if watched(L) {
            traffic::touch(from.cast(), 2 * L);
            traffic::touch(to.cast(), 2 * L);
        }
        // SAFETY: the caller guarantees that both are valid for LANES values and do not overlap.
        unsafe { from.copy_to_nonoverlapping(to, L) }
    }
    #[inline(always)]
    unsafe fn round_bf16(v: Self::V) -> Self::V {
        if watched(L) {
            traffic::vector_operations(1);
        }
        v.map(|x| bf16_value(bf16_bits(x)))
    }
    #[inline(always)]
    unsafe fn load_pairs(p: *const u16) -> Self::Pairs {
        // SAFETY: the caller guarantees that `p` is valid for LANES pairs; the access is unaligned.
        let p = unsafe { p.cast::<[[u16; 2]; L]>().read_unaligned() };
        [p.map(|pair| bf16_value(pair[0])), p.map(|pair| bf16_value(pair[1]))]
    }
    #[inline(always)]
    unsafe fn splat_pair(p: *const u16) -> Self::Pairs {
        // SAFETY: the caller guarantees that `p` is valid for one pair; the access is unaligned.
        let pair = unsafe { p.cast::<[u16; 2]>().read_unaligned() };
        [[bf16_value(pair[0]); L], [bf16_value(pair[1]); L]]
    }
    #[inline(always)]
    unsafe fn dot(acc: Self::V, a: Self::Pairs, b: Self::Pairs) -> Self::V {
        // SAFETY: `fma` is plain Rust here and works on values only.
        unsafe { Self::fma(a[1], b[1], Self::fma(a[0], b[0], acc)) }
    }
}
