//! Plain Rust: what any machine can run, and the compiler may vectorize.

use super::{Simd, bf16_bits, bf16_value};

/// Four lanes of plain Rust; products and sums are rounded one by one.
#[derive(Clone, Copy)]
pub struct Portable;

type V = [f32; 4];

#[inline(always)]
fn map(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

impl Simd for Portable {
    type V = V;
    type Pairs = [V; 2];
    const LANES: usize = 4;
    const DOT: bool = false;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> V {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> V {
        // SAFETY: the caller gives a pointer to LANES values.
        unsafe { p.cast::<V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: V) {
        // SAFETY: the caller gives a pointer to LANES values.
        unsafe { p.cast::<V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        map(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: V, b: V) -> V {
        map(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: V, b: V) -> V {
        map(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: V, b: V) -> V {
        map(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn fma(a: V, b: V, c: V) -> V {
        map(map(a, b, |a, b| a * b), c, |p, c| p + c)
    }
    #[inline(always)]
    unsafe fn fnma(a: V, b: V, c: V) -> V {
        map(map(a, b, |a, b| a * b), c, |p, c| c - p)
    }
    #[inline(always)]
    unsafe fn max(a: V, b: V) -> V {
        map(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: V, b: V) -> V {
        map(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn max_nan(a: V, b: V) -> V {
        map(a, b, |a, b| if a > b || a.is_nan() { a } else { b })
    }
    #[inline(always)]
    unsafe fn pow2(shifted: V) -> V {
        map(shifted, shifted, |t, _| f32::from_bits((t.to_bits().wrapping_add(127)) << 23))
    }
    #[inline(always)]
    unsafe fn transpose(rows: &mut [V]) {
        let from: [V; 4] = [rows[0], rows[1], rows[2], rows[3]];
        for (at, row) in rows.iter_mut().enumerate() {
            *row = from.map(|r| r[at]);
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> V {
        // SAFETY: the caller gives a pointer to LANES values.
        unsafe { p.cast::<[u16; 4]>().read_unaligned() }.map(bf16_value)
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: V) {
        // SAFETY: the caller gives a pointer to LANES values.
        unsafe { p.cast::<[u16; 4]>().write_unaligned(v.map(bf16_bits)) }
    }
    #[inline(always)]
    unsafe fn round_bf16(v: V) -> V {
        v.map(|x| bf16_value(bf16_bits(x)))
    }
    #[inline(always)]
    unsafe fn pairs(p: *const u16) -> [V; 2] {
        // SAFETY: the caller gives a pointer to LANES pairs.
        let p = unsafe { p.cast::<[[u16; 2]; 4]>().read_unaligned() };
        [p.map(|pair| bf16_value(pair[0])), p.map(|pair| bf16_value(pair[1]))]
    }
    #[inline(always)]
    unsafe fn splat_pair(p: *const u16) -> [V; 2] {
        // SAFETY: the caller gives a pointer to one pair.
        let pair = unsafe { p.cast::<[u16; 2]>().read_unaligned() };
        [[bf16_value(pair[0]); 4], [bf16_value(pair[1]); 4]]
    }
    #[inline(always)]
    unsafe fn dot(acc: V, a: [V; 2], b: [V; 2]) -> V {
        // SAFETY: plain Rust needs nothing of the machine.
        unsafe { Self::fma(a[1], b[1], Self::fma(a[0], b[0], acc)) }
    }
}
