//! Winograd's minimal filtering for 3x3 convolutions of stride 1 and padding 1: the transforms of
//! the input, the weights and the output. The products between them are GEMMs ([`super::gemm`]).
//!
//! An output tile of M x M pixels needs N x N = (M + 2)^2 multiplications for each input and output
//! channel instead of 9 M^2: for each output pixel, 4 with F(2x2, 3x3) and 2.25 with F(4x4, 3x3)
//! instead of 9. Input tiles are transformed (B^T d B) from a map [height, width, pitch] to [N * N
//! planes, tiles, channels], multiplied by the weights (G g G^T, transformed at load) plane by
//! plane, and transformed back (A^T m A) from [N * N planes, tiles, outputs] to the output map. See
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308.
//!
//! For each finite point p, a row of B^T holds the coefficients of the product of (x - q) over all
//! other finite points q, a column of A^T the powers of p, and a row of G the powers of p divided
//! by the product of (p - q). The last point is infinity. Apart from 0, points come in pairs p and
//! -p, whose even and odd parts are computed once.
//!
//! If one or two rows (with F(2x2), one row) of a map remain below the last whole tile, a short tile
//! computes them: F(2, 3) in place of F(4, 3), or F(1, 3) in place of F(2, 3). Its points are some of
//! those of the whole tile, so it shares the transformed weights of these planes and leaves the others
//! out. The weights hold the norm of the whole tile's points, which the input transform of the short
//! one makes up for: a point p has the factor p^2 - Q^2, and for F(1, 3), p + 1. Likewise for columns.
//!
//! A transform handles one tile and one vector of channels at a time: first along the columns, then
//! along the rows, with lines of at most N = 6 vectors in registers. The N x N intermediate vectors
//! do not fit the registers; they stay in the L1 cache.
//!
//! An infinite or NaN value may spread to all outputs of the tiles that read it, because the
//! transforms subtract. Where the convolution itself gives NaN, the result is NaN.

use crate::element::Element;
use crate::kernels::epilogue::Epilogue;
use crate::simd::Simd;

/// The algorithm, by the size of its output tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tile {
    /// F(2x2, 3x3) with the points 0, 1, -1 and infinity.
    F2,
    /// F(4x4, 3x3) with the points 0, +-[`P`], +-[`Q`] and infinity.
    F4,
}

/// The smaller pair of points of F(4x4, 3x3). On random maps, the largest error with 3/4 and 3/2 is
/// a quarter of the error with the usual points 1 and 2; `scripts/winograd_points.py` compares
/// others.
pub const P: f32 = 0.75;
/// The larger pair of points of F(4x4, 3x3).
pub const Q: f32 = 1.5;

impl Tile {
    /// M: height and width of an output tile, in pixels.
    pub fn side(self) -> usize {
        match self {
            Tile::F2 => 2,
            Tile::F4 => 4,
        }
    }

    /// Number of planes, N * N: the multiplications for each output tile, input and output channel.
    pub fn planes(self) -> usize {
        (self.side() + 2) * (self.side() + 2)
    }

    /// Whether a short tile uses a point, by its position among those of a whole tile.
    pub fn short_tile_uses(self, point: usize) -> bool {
        point <= self.short_side() || point == self.side() + 1
    }

    /// Output pixels of a short tile in one dimension.
    pub fn short_side(self) -> usize {
        match self {
            Tile::F2 => ShortF2::M,
            Tile::F4 => ShortF4::M,
        }
    }

    /// Whether the tile at `row` and `column` of a map is short in rows and in columns.
    pub fn is_short(self, size: (usize, usize), row: usize, column: usize) -> [bool; 2] {
        let left = [size.0 - row * self.side(), size.1 - column * self.side()];
        left.map(|pixels| pixels <= self.short_side())
    }

    /// Number of whole tiles and of short ones (0 or 1, the last) that cover `length` pixels.
    pub fn cover(self, length: usize) -> [usize; 2] {
        let (whole, rest) = (length / self.side(), length % self.side());
        match (1..=self.short_side()).contains(&rest) {
            true => [whole, 1],
            false => [whole + usize::from(rest > 0), 0],
        }
    }

    /// The finite points, in the order of the rows of B^T.
    fn points(self) -> Vec<f64> {
        let (p, q) = (f64::from(P), f64::from(Q));
        match self {
            Tile::F2 => vec![0.0, 1.0, -1.0],
            Tile::F4 => vec![0.0, p, -p, q, -q],
        }
    }

    /// G, the transform of the weights.
    pub fn weight_transform(self) -> WeightTransform {
        let points = self.points();
        let mut rows = [[0.0, 0.0, 1.0]; 6];
        for (row, &p) in rows.iter_mut().zip(&points) {
            let norm: f64 = points.iter().filter(|&&q| q != p).map(|&q| p - q).product();
            *row = [1.0 / norm, p / norm, p * p / norm];
        }
        WeightTransform { rows, n: self.side() + 2 }
    }
}

/// The transform of the weights, G, [N, 3] in f64.
pub struct WeightTransform {
    rows: [[f64; 3]; 6],
    n: usize,
}

impl WeightTransform {
    /// The N * N elements of G g G^T for one 3x3 kernel, row-major.
    pub fn apply(&self, g: &[f64; 9]) -> impl Iterator<Item = f64> + '_ {
        let rows =
            self.rows.map(|r| [0, 1, 2].map(|x| r[0] * g[x] + r[1] * g[3 + x] + r[2] * g[6 + x]));
        (0..self.n * self.n).map(move |at| {
            let (row, column) = (&rows[at / self.n], &self.rows[at % self.n]);
            row[0] * column[0] + row[1] * column[1] + row[2] * column[2]
        })
    }
}

/// One line of a tile: N vectors, of which F(2x2) uses 4 of the 6.
type Line<V> = [V; 6];

/// The one-dimensional transforms, on lines of a tile: B^T x and A^T m.
trait Transform1d {
    /// Output pixels.
    const M: usize;
    /// Output pixels of a whole tile.
    const SIDE: usize;
    /// Input pixels, and number of points.
    const N: usize = Self::M + 2;

    /// The position of a point among those of a whole tile: a short one has the first ones, and the
    /// last one, infinity.
    #[inline(always)]
    fn position(at: usize) -> usize {
        if at + 1 == Self::N { Self::SIDE + 1 } else { at }
    }

    unsafe fn input<S: Simd>(x: Line<S::V>) -> Line<S::V>;
    unsafe fn output<S: Simd>(m: Line<S::V>) -> [S::V; 4];
}

struct F2;
struct F4;
/// F(1, 3) with the points 0, 1 and infinity of F(2, 3).
struct ShortF2;
/// F(2, 3) with the points 0, +-P and infinity of F(4, 3).
struct ShortF4;

impl Transform1d for F2 {
    const M: usize = 2;
    const SIDE: usize = 2;

    #[inline(always)]
    unsafe fn input<S: Simd>(x: Line<S::V>) -> Line<S::V> {
        // SAFETY: the caller has the instruction set; only registers are used.
        unsafe {
            let r = [S::sub(x[2], x[0]), S::add(x[2], x[1]), S::sub(x[2], x[1])];
            [r[0], r[1], r[2], S::sub(x[3], x[1]), x[3], x[3]]
        }
    }

    #[inline(always)]
    unsafe fn output<S: Simd>(m: Line<S::V>) -> [S::V; 4] {
        // SAFETY: the caller has the instruction set; only registers are used.
        unsafe {
            let first = S::add(m[0], S::add(m[1], m[2]));
            let second = S::add(S::sub(m[1], m[2]), m[3]);
            [first, second, second, second]
        }
    }
}

impl Transform1d for F4 {
    const M: usize = 4;
    const SIDE: usize = 4;

    #[inline(always)]
    unsafe fn input<S: Simd>(x: Line<S::V>) -> Line<S::V> {
        const P2: f32 = P * P;
        const Q2: f32 = Q * Q;
        // SAFETY: the caller has the instruction set; only registers are used.
        unsafe {
            let (p2, q2) = (S::splat(P2), S::splat(Q2));
            let (sum, product) = (S::splat(P2 + Q2), S::splat(P2 * Q2));
            let zero = S::fma(x[0], product, S::fnma(x[2], sum, x[4]));
            let infinite = S::fma(x[1], product, S::fnma(x[3], sum, x[5]));
            let (even, odd) = (S::fnma(x[2], q2, x[4]), S::fnma(x[1], q2, x[3]));
            let p = [S::fma(odd, S::splat(P), even), S::fnma(odd, S::splat(P), even)];
            let (even, odd) = (S::fnma(x[2], p2, x[4]), S::fnma(x[1], p2, x[3]));
            let q = [S::fma(odd, S::splat(Q), even), S::fnma(odd, S::splat(Q), even)];
            [zero, p[0], p[1], q[0], q[1], infinite]
        }
    }

    #[inline(always)]
    unsafe fn output<S: Simd>(m: Line<S::V>) -> [S::V; 4] {
        // SAFETY: the caller has the instruction set; only registers are used.
        unsafe {
            let (even_p, odd_p) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
            let (even_q, odd_q) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
            let power =
                |p: f32, q: f32, a: S::V, b: S::V| S::fma(a, S::splat(p), S::mul(b, S::splat(q)));
            [
                S::add(m[0], S::add(even_p, even_q)),
                power(P, Q, odd_p, odd_q),
                power(P * P, Q * Q, even_p, even_q),
                S::add(m[5], power(P * P * P, Q * Q * Q, odd_p, odd_q)),
            ]
        }
    }
}

impl Transform1d for ShortF2 {
    const M: usize = 1;
    const SIDE: usize = 2;

    #[inline(always)]
    unsafe fn input<S: Simd>(x: Line<S::V>) -> Line<S::V> {
        // SAFETY: the caller has the instruction set; only registers are used.
        unsafe {
            let infinite = S::sub(x[2], x[1]);
            [S::sub(x[1], x[0]), S::add(x[1], x[1]), infinite, infinite, infinite, infinite]
        }
    }

    #[inline(always)]
    unsafe fn output<S: Simd>(m: Line<S::V>) -> [S::V; 4] {
        // SAFETY: the caller has the instruction set; only registers are used.
        unsafe { [S::add(m[0], S::add(m[1], m[2])); 4] }
    }
}

impl Transform1d for ShortF4 {
    const M: usize = 2;
    const SIDE: usize = 4;

    #[inline(always)]
    unsafe fn input<S: Simd>(x: Line<S::V>) -> Line<S::V> {
        const P2: f32 = P * P;
        const Q2: f32 = Q * Q;
        // SAFETY: the caller has the instruction set; only registers are used.
        unsafe {
            let zero = S::fnma(x[2], S::splat(Q2), S::mul(x[0], S::splat(P2 * Q2)));
            let infinite = S::fnma(x[1], S::splat(P2), x[3]);
            let even = S::mul(x[2], S::splat(P2 - Q2));
            let odd = S::splat(P * (P2 - Q2));
            let p = [S::fma(x[1], odd, even), S::fnma(x[1], odd, even)];
            [zero, p[0], p[1], infinite, infinite, infinite]
        }
    }

    #[inline(always)]
    unsafe fn output<S: Simd>(m: Line<S::V>) -> [S::V; 4] {
        // SAFETY: the caller has the instruction set; only registers are used.
        unsafe {
            let first = S::add(m[0], S::add(m[1], m[2]));
            let second = S::fma(S::sub(m[1], m[2]), S::splat(P), m[3]);
            [first, second, second, second]
        }
    }
}

/// Calls a function with the transforms of a tile. Whole tiles and those that are short in rows, in
/// columns or in both are apart, so that a caller compiles one kind only.
macro_rules! for_tile {
    (whole, $tile:expr, $function:ident, [$($type:ident),*], [$($argument:expr),*]) => {
        match $tile {
            Tile::F2 => $function::<$($type,)* F2, F2>($($argument),*),
            Tile::F4 => $function::<$($type,)* F4, F4>($($argument),*),
        }
    };
    ($short:expr, $tile:expr, $function:ident, [$($type:ident),*], [$($argument:expr),*]) => {
        match ($tile, $short) {
            (Tile::F2, [true, true]) => $function::<$($type,)* ShortF2, ShortF2>($($argument),*),
            (Tile::F2, [true, _]) => $function::<$($type,)* ShortF2, F2>($($argument),*),
            (Tile::F2, _) => $function::<$($type,)* F2, ShortF2>($($argument),*),
            (Tile::F4, [true, true]) => $function::<$($type,)* ShortF4, ShortF4>($($argument),*),
            (Tile::F4, [true, _]) => $function::<$($type,)* ShortF4, F4>($($argument),*),
            (Tile::F4, _) => $function::<$($type,)* F4, ShortF4>($($argument),*),
        }
    };
}

/// The input transform of one image: its map, and the memory for the transformed tiles.
#[derive(Clone, Copy)]
pub struct Input<E> {
    /// The algorithm.
    pub tile: Tile,
    /// Pixel 0 of the map [height, width, pitch].
    pub image: *const E,
    /// Elements from one pixel of the map to the next.
    pub pitch: usize,
    /// Height and width of the map.
    pub size: (usize, usize),
    /// Number of vectors of channels.
    pub vectors: usize,
    /// `vectors` vectors of zeros, which are read in the place of pixels beyond the map.
    pub zeros: *const E,
    /// One factor for each channel of the image, or null.
    pub gate: *const E,
    /// The transformed tiles [planes, tiles, channels].
    pub out: *mut E,
    /// The transformed tiles of gate * input, in the same layout; only used with a gate.
    pub gated: *mut E,
    /// Elements from one tile to the next.
    pub tile_pitch: usize,
    /// Elements from one plane to the next.
    pub plane_pitch: usize,
}

/// Transforms the tile at `row` and `column`, counted in tiles, and stores it as tile `index`. SHORT
/// says whether it is a short tile: they are rare, and compiled apart, whole ones take fewer
/// instructions.
///
/// # Safety
/// The contract of [`Simd`]. The map, the zeros and the gate are valid for `vectors` vectors, and
/// the outputs for tile `index` of every plane.
#[inline(always)]
pub unsafe fn input<S: Simd, E: Element, const SHORT: bool>(
    i: &Input<E>,
    row: usize,
    column: usize,
    index: usize,
) {
    let short = i.tile.is_short(i.size, row, column);
    // SAFETY: the caller's contract is that of `input_tile`.
    unsafe {
        match SHORT {
            false => for_tile!(whole, i.tile, input_tile, [S, E], [i, row, column, index]),
            true => for_tile!(short, i.tile, input_tile, [S, E], [i, row, column, index]),
        }
    }
}

#[inline(always)]
unsafe fn input_tile<S: Simd, E: Element, R: Transform1d, C: Transform1d>(
    i: &Input<E>,
    row: usize,
    column: usize,
    index: usize,
) {
    let (side, n) = (R::SIDE, R::SIDE + 2);
    let mut sources = [[i.zeros; 6]; 6];
    for dy in 0..R::N {
        for dx in 0..C::N {
            let (y, x) = (row * side + dy, column * side + dx);
            // (y, x) counts from the padding, which is one pixel wide.
            if (1..=i.size.0).contains(&y) && (1..=i.size.1).contains(&x) {
                let pixel = (y - 1) * i.size.1 + x - 1;
                // SAFETY: y - 1 and x - 1 were just checked to lie within the map.
                sources[dy][dx] = unsafe { i.image.add(pixel * i.pitch) };
            }
        }
    }
    // SAFETY: each source is a pixel of the map or the zeros, which the caller guarantees for
    // `vectors` vectors, and the outputs for tile `index`.
    unsafe {
        for vector in 0..i.vectors {
            let c = vector * S::LANES;
            let zero = S::splat(0.0);
            let mut columns = [[zero; 6]; 6];
            for dx in 0..C::N {
                let mut line = [zero; 6];
                for dy in 0..R::N {
                    let source = sources[dy][dx].add(c);
                    line[dy] = E::load::<S>(source);
                    // Prefetch the pixels that only the next tile reads: a hardware prefetcher
                    // cannot track this many streams. The address may lie beyond the map.
                    if dx >= 2 {
                        S::prefetch(source.wrapping_add(side * i.pitch).cast());
                    }
                }
                columns[dx] = R::input::<S>(line);
            }
            let at = index * i.tile_pitch + c;
            for py in 0..R::N {
                let row = R::position(py);
                let mut line = [zero; 6];
                for dx in 0..C::N {
                    line[dx] = columns[dx][py];
                }
                let line = C::input::<S>(line);
                for px in 0..C::N {
                    let column = C::position(px);
                    let to = (row * n + column) * i.plane_pitch + at;
                    E::store::<S>(i.out.add(to), line[px]);
                    if !i.gate.is_null() {
                        let gate = E::load::<S>(i.gate.add(c));
                        E::store::<S>(i.gated.add(to), S::mul(line[px], gate));
                    }
                }
            }
        }
    }
}

/// The output transform of one image: the products, and the epilogue for the output map.
#[derive(Clone, Copy)]
pub struct Output<O> {
    /// The algorithm.
    pub tile: Tile,
    /// The products [planes, tiles, outputs], from the first output of this epilogue on.
    pub products: *const f32,
    /// Elements from one tile to the next.
    pub tile_pitch: usize,
    /// Elements from one plane to the next.
    pub plane_pitch: usize,
    /// Height and width of the map.
    pub size: (usize, usize),
    /// Number of vectors of outputs.
    pub vectors: usize,
    /// Pixel 0 of the image, counted over the whole batch.
    pub pixel: usize,
    /// What is done with the transformed sums.
    pub epilogue: Epilogue<O>,
}

/// Transforms the products of tile `index` to the tile at `row` and `column`, counted in tiles. SHORT
/// is as for [`input`].
///
/// # Safety
/// The contract of [`Simd`]. The products are valid for tile `index` of every plane, and every
/// pointer of the epilogue is null or valid for the pixels of the tile.
#[inline(always)]
pub unsafe fn output<S: Simd, O: Element, const SHORT: bool>(
    o: &Output<O>,
    row: usize,
    column: usize,
    index: usize,
) {
    let short = o.tile.is_short(o.size, row, column);
    // SAFETY: the caller's contract is that of `output_tile`.
    unsafe {
        match SHORT {
            false => for_tile!(whole, o.tile, output_tile, [S, O], [o, row, column, index]),
            true => for_tile!(short, o.tile, output_tile, [S, O], [o, row, column, index]),
        }
    }
}

#[inline(always)]
unsafe fn output_tile<S: Simd, O: Element, R: Transform1d, C: Transform1d>(
    o: &Output<O>,
    row: usize,
    column: usize,
    index: usize,
) {
    // SAFETY: the caller's contract; the epilogue does the same.
    unsafe {
        match o.epilogue.affine_only() {
            Some(epilogue) => {
                let o = Output { epilogue, ..*o };
                output_vectors::<S, O, R, C, true>(&o, row, column, index);
            }
            None => output_vectors::<S, O, R, C, false>(o, row, column, index),
        }
    }
}

/// DIRECT says whether the epilogue is so short that it is worth writing out for each pixel of the tile.
#[inline(always)]
unsafe fn output_vectors<
    S: Simd,
    O: Element,
    R: Transform1d,
    C: Transform1d,
    const DIRECT: bool,
>(
    o: &Output<O>,
    row: usize,
    column: usize,
    index: usize,
) {
    let (side, n) = (R::SIDE, R::SIDE + 2);
    let (top, left) = (row * side, column * side);
    let (height, width) = ((o.size.0 - top).min(R::M), (o.size.1 - left).min(C::M));
    // SAFETY: the caller guarantees the products of this tile. `height` and `width` are clipped to
    // the map, so no pixel beyond it is stored. `spill` holds at most 16 vectors.
    unsafe {
        for vector in 0..o.vectors {
            let c = vector * S::LANES;
            let from = o.products.add(index * o.tile_pitch + c);
            let zero = S::splat(0.0);
            let mut columns = [[zero; 4]; 6];
            for px in 0..C::N {
                let column = C::position(px);
                let mut line = [zero; 6];
                for py in 0..R::N {
                    let row = R::position(py);
                    line[py] = S::load(from.add((row * n + column) * o.plane_pitch));
                }
                columns[px] = R::output::<S>(line);
            }
            let affine = o.epilogue.affine::<S>(c);
            let finish = |v: S::V, dy: usize, dx: usize| {
                let image_pixel = (top + dy) * o.size.1 + left + dx;
                o.epilogue.apply_with::<S>(v, affine, o.pixel + image_pixel, image_pixel, c);
            };
            // 16 is the largest LANES.
            let mut spill = std::mem::MaybeUninit::<[f32; 4 * 4 * 16]>::uninit();
            let spill = spill.as_mut_ptr().cast::<f32>();
            for dy in 0..R::M {
                let mut line = [zero; 6];
                for px in 0..C::N {
                    line[px] = columns[px][dy];
                }
                let line = C::output::<S>(line);
                for dx in 0..C::M {
                    match DIRECT {
                        true if dy < height && dx < width => finish(line[dx], dy, dx),
                        true => {}
                        false => S::store(spill.add((dy * C::M + dx) * S::LANES), line[dx]),
                    }
                }
            }
            if !DIRECT {
                for dy in 0..height {
                    for dx in 0..width {
                        finish(S::load(spill.add((dy * C::M + dx) * S::LANES)), dy, dx);
                    }
                }
            }
        }
    }
}
