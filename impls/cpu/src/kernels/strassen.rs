//! Strassen's algorithm for the matrix product of a 1x1 convolution: 7 products of half the size in every
//! dimension in place of 8, and sums of blocks before and after them.
//!
//! The rows of A [pixels, channels] are taken in pairs of adjacent pixels of an image, 2 i and 2 i + 1; the
//! channels and the outputs are cut into a low and a high half. So A has four blocks, A11 (pixel 2 i, low
//! channels), A12 (pixel 2 i, high), A21 and A22 (pixel 2 i + 1), and likewise B (low channels, low outputs)
//! and the result C. In an image of an odd number of pixels, the last pair has a second pixel of zeros, which
//! is not stored.
//!
//! ```text
//! M1 = (A11 - A22) (B11 - B22)    C11 = M1 + M4 - M5 + M7
//! M2 = (A21 - A22) B11            C12 = M3 + M5
//! M3 = A11 (B12 + B22)            C21 = M2 + M4
//! M4 = A22 (B11 + B21)            C22 = M1 - M2 + M3 + M6
//! M5 = (A12 - A11) B22
//! M6 = (A21 - A11) (B11 + B12)
//! M7 = (A12 - A22) (B21 + B22)
//! ```
//!
//! These are the formulas of Strassen, "Gaussian Elimination is not Optimal" (1969), with the signs of A12, A22,
//! B21 and B22 changed. So only differences of inputs occur: inputs that come from a ReLU are not negative, and
//! their differences are smaller than their sums, and so are the rounding errors. The formulas of Winograd have
//! three sums less, but a larger rounding error. The sums of weights are made at load, in float64.
//!
//! An infinite or NaN value may spread to all outputs of its pair of pixels, because the sums subtract. Where
//! the convolution itself gives NaN, the result is NaN.

use lower::Activation;

use super::epilogue::{Epilogue, for_usual};
use crate::element::Element;
use crate::simd::Simd;

/// Number of products.
pub const PRODUCTS: usize = 7;

/// A sum of at most two blocks: the first one, and a sign and the second one.
#[derive(Debug, Clone, Copy)]
pub struct Sum {
    /// The first block, by its half of the rows and of the columns.
    pub first: [usize; 2],
    /// 1 or -1 and the second block.
    pub second: Option<(i8, [usize; 2])>,
}

const fn one(first: [usize; 2]) -> Sum {
    Sum { first, second: None }
}

const fn two(first: [usize; 2], sign: i8, second: [usize; 2]) -> Sum {
    Sum { first, second: Some((sign, second)) }
}

/// The second factors of the products M1 to M7, as sums of blocks of B.
pub const WEIGHTS: [Sum; PRODUCTS] = [
    two([0, 0], -1, [1, 1]),
    one([0, 0]),
    two([0, 1], 1, [1, 1]),
    two([0, 0], 1, [1, 0]),
    one([1, 1]),
    two([0, 0], 1, [0, 1]),
    two([1, 0], 1, [1, 1]),
];

/// The products whose first factor is a block of A itself, and that block.
pub const COPIES: [(usize, [usize; 2]); 2] = [(2, [0, 0]), (3, [1, 1])];

/// The first factors of the products for pairs of pixels of one image.
#[derive(Clone, Copy)]
pub struct Input<E> {
    /// Pixel 0 of the map [pixels, pitch].
    pub image: *const E,
    /// Elements from one pixel of the map to the next.
    pub pitch: usize,
    /// Number of pixels of the image.
    pub pixels: usize,
    /// The pairs (half-open).
    pub pairs: (usize, usize),
    /// Vectors in half of the channels.
    pub vectors: usize,
    /// 2 * `vectors` vectors of zeros, which are read in the place of the pixel beyond an odd number.
    pub zeros: *const E,
    /// One factor for each channel, or null.
    pub gate: *const E,
    /// Whether [`COPIES`] are made. If not, the products read the map.
    pub copies: bool,
    /// The factors [PRODUCTS, pairs, vectors], from the first pair on.
    pub out: *mut E,
    /// Elements from one pair of `out` to the next.
    pub pair_pitch: usize,
    /// Elements from one factor of `out` to the next.
    pub product_pitch: usize,
}

/// Adds the blocks of A.
///
/// # Safety
/// The contract of [`Simd`]. The image is valid for 2 * `vectors` vectors of each of its pixels, the zeros
/// and the gate too, and `out` for `vectors` vectors of every factor of each pair.
#[inline(always)]
pub unsafe fn input<S: Simd, E: Element>(i: &Input<E>) {
    // SAFETY: the caller's contract is the same.
    unsafe {
        match i.gate.is_null() {
            true => add_blocks::<S, E, false>(i),
            false => add_blocks::<S, E, true>(i),
        }
    }
}

/// GATED says whether there is a gate.
#[inline(always)]
unsafe fn add_blocks<S: Simd, E: Element, const GATED: bool>(i: &Input<E>) {
    let half = i.vectors * S::LANES;
    for pair in i.pairs.0..i.pairs.1 {
        // SAFETY: the caller's contract. The second pixel is only read if the image has it.
        unsafe {
            let first = i.image.add(2 * pair * i.pitch);
            let second = if 2 * pair + 1 < i.pixels { first.add(i.pitch) } else { i.zeros };
            let out = i.out.add((pair - i.pairs.0) * i.pair_pitch);
            for at in (0..i.vectors).map(|vector| vector * S::LANES) {
                let load = |row: *const E, at: usize| {
                    let value = E::load::<S>(row.add(at));
                    if GATED { S::mul(value, E::load::<S>(i.gate.add(at))) } else { value }
                };
                let (a11, a12) = (load(first, at), load(first, half + at));
                let (a21, a22) = (load(second, at), load(second, half + at));
                let store =
                    |product: usize, v| E::store::<S>(out.add(product * i.product_pitch + at), v);
                store(0, S::sub(a11, a22));
                store(1, S::sub(a21, a22));
                store(4, S::sub(a12, a11));
                store(5, S::sub(a21, a11));
                store(6, S::sub(a12, a22));
                if i.copies {
                    store(2, a11);
                    store(3, a22);
                }
            }
        }
    }
}

/// The results of pairs of pixels of one image, for some of the outputs.
#[derive(Clone, Copy)]
pub struct Output<O> {
    /// The products f32 [PRODUCTS, pairs, vectors], from the first pair on.
    pub products: *const f32,
    /// Elements from one pair to the next.
    pub pair_pitch: usize,
    /// Elements from one product to the next.
    pub product_pitch: usize,
    /// The pairs (half-open).
    pub pairs: (usize, usize),
    /// Number of pixels of the image.
    pub pixels: usize,
    /// Pixel 0 of the image, counted over the whole batch.
    pub pixel: usize,
    /// Number of vectors of outputs of each product.
    pub vectors: usize,
    /// The first output of the low half that is computed, and the one of the high half.
    pub channels: [usize; 2],
    /// What is done with the sums.
    pub epilogue: Epilogue<O>,
}

/// Adds the products to the blocks of C and applies the epilogue.
///
/// # Safety
/// The contract of [`Simd`]. The products are valid for all pairs, and every pointer of the epilogue is null
/// or valid for these pixels and for `vectors` vectors of outputs from both `channels` on.
#[inline(always)]
pub unsafe fn output<S: Simd, O: Element>(o: &Output<O>) {
    // SAFETY: the caller's contract; the second pixel of a pair is only stored if the image has it.
    unsafe {
        for_usual!(o.epilogue, |epilogue| {
            for at in (0..o.vectors).map(|vector| vector * S::LANES) {
                let [low, high] = o.channels.map(|channel| channel + at);
                let affine = [epilogue.affine::<S>(low), epilogue.affine::<S>(high)];
                for pair in o.pairs.0..o.pairs.1 {
                    let from = o.products.add((pair - o.pairs.0) * o.pair_pitch + at);
                    let m: [S::V; PRODUCTS] = products::<S>(from, o.product_pitch);
                    let pixel = 2 * pair;
                    let finish = |v: S::V, half: usize, pixel: usize| {
                        let channel = [low, high][half];
                        epilogue.apply_with::<S>(v, affine[half], o.pixel + pixel, pixel, channel);
                    };
                    finish(S::add(S::sub(S::add(m[0], m[3]), m[4]), m[6]), 0, pixel);
                    finish(S::add(m[2], m[4]), 1, pixel);
                    if pixel + 1 < o.pixels {
                        finish(S::add(m[1], m[3]), 0, pixel + 1);
                        finish(S::add(S::add(S::sub(m[0], m[1]), m[2]), m[5]), 1, pixel + 1);
                    }
                }
            }
        });
    }
}

/// Prefetches a share of what [`output`] reads and writes: part `part` of [`PRODUCTS`].
///
/// # Safety
/// The contract of [`Simd`].
#[inline(always)]
pub unsafe fn prefetch<S: Simd, O: Element>(o: &Output<O>, part: usize) {
    let (from, to) = o.pairs;
    let share = |part: usize| from + (to - from) * part / PRODUCTS;
    let (from, to) = (share(part), share(part + 1));
    let pixel = o.pixel + 2 * from;
    for channel in o.channels {
        let at = pixel * o.epilogue.pitch + channel;
        // SAFETY: the caller has the instruction set, and a prefetch of any address is harmless.
        unsafe { o.epilogue.prefetch::<S>(at, 2 * (to - from), o.vectors) };
    }
}

/// Loads one vector of every product.
#[inline(always)]
unsafe fn products<S: Simd>(from: *const f32, pitch: usize) -> [S::V; PRODUCTS] {
    // SAFETY: the caller guarantees a vector of every product.
    unsafe {
        let mut m = [S::splat(0.0); PRODUCTS];
        for (at, m) in m.iter_mut().enumerate() {
            *m = S::load(from.add(at * pitch));
        }
        m
    }
}
