//! Winograd's algorithm along the rows of a 7x7 convolution of stride 1 and padding 3: the transforms of the
//! input, the weights and the output. The products between them are GEMMs ([`super::gemm`]).
//!
//! A row of a kernel has 7 taps. They are taken as two parts of 4 taps (the last one is zero), and each part is
//! F(4, 4), which computes 4 outputs of 4 taps with 7 multiplications. As the parts are as far apart as the
//! tiles, both read the same transformed input: the second part reads the tile after that of the first one, and
//! the products of both have the same output transform, so that they are added before it. At the point at
//! infinity the second part has no weights. So 4 outputs take 13 multiplications for each row of the kernel
//! instead of 28.
//!
//! Only rows are transformed, as transforms along both dimensions would double the rounding error. The columns
//! of a kernel stay a convolution: the product for a line of output tiles reads 7 lines of transformed input.
//! See [`super::winograd`] for how the transforms follow from the points, and for infinite values and NaN.

use lower::Activation;

use super::epilogue::{Epilogue, for_usual};
use crate::element::Element;
use crate::simd::Simd;

/// Height and width of the kernel.
pub const KERNEL: usize = 7;
/// Pixels of the border.
const BORDER: usize = KERNEL / 2;
/// Output pixels of a tile.
pub const TILE: usize = 4;
/// Taps of a part of a row.
const TAPS: usize = 4;
/// Parts of a row.
pub const PARTS: usize = 2;
/// Number of points, and of input pixels of a tile.
pub const POINTS: usize = TILE + TAPS - 1;

/// The positive points; the others are their negatives and infinity. `scripts/winograd_points.py` compares
/// them with others.
pub const PAIRS: [f32; 3] = [0.3125, 0.875, 1.625];

const SQUARES: [f32; 3] = [PAIRS[0] * PAIRS[0], PAIRS[1] * PAIRS[1], PAIRS[2] * PAIRS[2]];
const CUBES: [f32; 3] = [PAIRS[0] * SQUARES[0], PAIRS[1] * SQUARES[1], PAIRS[2] * SQUARES[2]];

/// Number of tiles that cover a row of `width` pixels.
pub fn tiles(width: usize) -> usize {
    width.div_ceil(TILE)
}

/// Number of parts of a row that have weights at a point.
pub fn parts(point: usize) -> usize {
    if point + 1 == POINTS { 1 } else { PARTS }
}

/// The transformed weight of part `part` of a row of 7 taps, at a point.
pub fn weight(point: usize, part: usize, taps: impl Fn(usize) -> f64) -> f64 {
    let tap = |at: usize| if part * TAPS + at < KERNEL { taps(part * TAPS + at) } else { 0.0 };
    let finite = PAIRS.map(f64::from).map(|p| [p, -p]).concat();
    let Some(&p) = finite.get(point) else { return tap(TAPS - 1) };
    let norm: f64 = finite.iter().filter(|&&q| q != p).map(|&q| p - q).product();
    (0..TAPS).rev().fold(0.0, |sum, at| sum * p + tap(at)) / norm
}

/// The input transform of lines of one image.
#[derive(Clone, Copy)]
pub struct Input<E> {
    /// Pixel 0 of the map [height, width, pitch].
    pub image: *const E,
    /// Elements from one pixel of the map to the next.
    pub pitch: usize,
    /// Height and width of the map.
    pub size: (usize, usize),
    /// The lines (half-open), counted from the first one of the border.
    pub lines: (usize, usize),
    /// Number of vectors of channels.
    pub vectors: usize,
    /// `vectors` vectors of zeros, which are read in the place of pixels beyond the map.
    pub zeros: *const E,
    /// The transformed tiles [POINTS, lines, tiles + 1, channels], from the first line on.
    pub out: *mut E,
    /// Elements from one point to the next.
    pub point_pitch: usize,
}

/// Transforms all lines.
///
/// # Safety
/// The contract of [`Simd`]. The map and the zeros are valid for `vectors` vectors of each pixel, and `out` for
/// all lines.
#[inline(always)]
pub unsafe fn input<S: Simd, E: Element>(i: &Input<E>) {
    let (channels, count) = (i.vectors * S::LANES, tiles(i.size.1) + 1);
    for line in i.lines.0..i.lines.1 {
        let row = line.wrapping_sub(BORDER);
        for tile in 0..count {
            let mut sources = [i.zeros; POINTS];
            for (dx, source) in sources.iter_mut().enumerate() {
                let column = (tile * TILE + dx).wrapping_sub(BORDER);
                if row < i.size.0 && column < i.size.1 {
                    // SAFETY: the pixel was just checked to lie within the map.
                    *source = unsafe { i.image.add((row * i.size.1 + column) * i.pitch) };
                }
            }
            // SAFETY: each source is a pixel of the map or the zeros, and `out` has this tile.
            unsafe {
                let out = i.out.add(((line - i.lines.0) * count + tile) * channels);
                for at in (0..i.vectors).map(|vector| vector * S::LANES) {
                    let mut x = [S::splat(0.0); POINTS];
                    for (x, source) in x.iter_mut().zip(sources) {
                        *x = E::load::<S>(source.add(at));
                    }
                    for (point, value) in transform_input::<S>(x).into_iter().enumerate() {
                        E::store::<S>(out.add(point * i.point_pitch + at), value);
                    }
                }
            }
        }
    }
}

/// The elementary symmetric sums of two numbers.
const fn sums(x: f32, y: f32) -> [f32; 2] {
    [x + y, x * y]
}

/// B^T x: the row of a point p holds the coefficients of the product of (x - q) over all other points q, which
/// is (x + p) times the even polynomial of the other two pairs.
#[inline(always)]
unsafe fn transform_input<S: Simd>(x: [S::V; POINTS]) -> [S::V; POINTS] {
    const OTHERS: [[f32; 2]; 3] =
        [sums(SQUARES[1], SQUARES[2]), sums(SQUARES[0], SQUARES[2]), sums(SQUARES[0], SQUARES[1])];
    // (z - a) (z - b) (z - c) = z^3 - ALL[0] z^2 + ALL[1] z - ALL[2] with the squares a, b, c.
    const ALL: [f32; 3] = [
        SQUARES[0] + OTHERS[0][0],
        SQUARES[0] * OTHERS[0][0] + OTHERS[0][1],
        SQUARES[0] * OTHERS[0][1],
    ];
    // SAFETY: the caller has the instruction set; only registers are used.
    unsafe {
        let mut out = x;
        for (pair, ([sum, product], p)) in OTHERS.into_iter().zip(PAIRS).enumerate() {
            let (sum, product, p) = (S::splat(sum), S::splat(product), S::splat(p));
            let even = S::fma(x[0], product, S::fnma(x[2], sum, x[4]));
            let odd = S::fma(x[1], product, S::fnma(x[3], sum, x[5]));
            out[2 * pair] = S::fma(even, p, odd);
            out[2 * pair + 1] = S::fnma(even, p, odd);
        }
        let last = S::fnma(x[4], S::splat(ALL[0]), x[6]);
        let last = S::fma(x[2], S::splat(ALL[1]), last);
        out[POINTS - 1] = S::fnma(x[0], S::splat(ALL[2]), last);
        out
    }
}

/// A^T m: output k is the sum of p^k m over the finite points p, and the last one has the point at infinity.
#[inline(always)]
unsafe fn transform_output<S: Simd>(m: [S::V; POINTS]) -> [S::V; TILE] {
    // SAFETY: the caller has the instruction set; only registers are used.
    unsafe {
        let even = [S::add(m[0], m[1]), S::add(m[2], m[3]), S::add(m[4], m[5])];
        let odd = [S::sub(m[0], m[1]), S::sub(m[2], m[3]), S::sub(m[4], m[5])];
        let weighted = |v: [S::V; 3], [x, y, z]: [f32; 3]| {
            let sum = S::fma(v[1], S::splat(y), S::mul(v[0], S::splat(x)));
            S::fma(v[2], S::splat(z), sum)
        };
        [
            S::add(even[0], S::add(even[1], even[2])),
            weighted(odd, PAIRS),
            weighted(even, SQUARES),
            S::add(m[POINTS - 1], weighted(odd, CUBES)),
        ]
    }
}

/// The output transform of lines of one image: the products, and the epilogue for the output map.
#[derive(Clone, Copy)]
pub struct Output<O> {
    /// The products [POINTS, lines, tiles, outputs], from the first line on.
    pub products: *const f32,
    /// Elements from one tile to the next.
    pub tile_pitch: usize,
    /// Elements from one point to the next.
    pub point_pitch: usize,
    /// Height and width of the map.
    pub size: (usize, usize),
    /// The lines (half-open).
    pub lines: (usize, usize),
    /// Number of vectors of outputs.
    pub vectors: usize,
    /// Pixel 0 of the image, counted over the whole batch.
    pub pixel: usize,
    /// What is done with the transformed sums.
    pub epilogue: Epilogue<O>,
}

/// Transforms the products of all lines and applies the epilogue.
///
/// # Safety
/// The contract of [`Simd`]. The products are valid for all lines, and every pointer of the epilogue is null or
/// valid for their pixels.
#[inline(always)]
pub unsafe fn output<S: Simd, O: Element>(o: &Output<O>) {
    let (width, count) = (o.size.1, tiles(o.size.1));
    // SAFETY: the caller's contract; pixels beyond the width are not stored.
    unsafe {
        for_usual!(o.epilogue, |epilogue| {
            for at in (0..o.vectors).map(|vector| vector * S::LANES) {
                let affine = epilogue.affine::<S>(at);
                for tile in 0..(o.lines.1 - o.lines.0) * count {
                    let from = o.products.add(tile * o.tile_pitch + at);
                    let mut m = [S::splat(0.0); POINTS];
                    for (point, m) in m.iter_mut().enumerate() {
                        *m = S::load(from.add(point * o.point_pitch));
                    }
                    let (line, column) = (o.lines.0 + tile / count, tile % count * TILE);
                    for (dx, v) in transform_output::<S>(m).into_iter().enumerate() {
                        if column + dx < width {
                            let pixel = line * width + column + dx;
                            epilogue.apply_with::<S>(v, affine, o.pixel + pixel, pixel, at);
                        }
                    }
                }
            }
        });
    }
}
