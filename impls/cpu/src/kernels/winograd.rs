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
    const M: usize;
    unsafe fn input<S: Simd>(x: Line<S::V>) -> Line<S::V>;
    unsafe fn output<S: Simd>(m: Line<S::V>) -> [S::V; 4];
}

struct F2;
struct F4;

impl Transform1d for F2 {
    const M: usize = 2;

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

/// Transforms the tile at `row` and `column`, counted in tiles, and stores it as tile `index`.
///
/// # Safety
/// The contract of [`Simd`]. The map, the zeros and the gate are valid for `vectors` vectors, and
/// the outputs for tile `index` of every plane.
#[inline(always)]
pub unsafe fn input<S: Simd, E: Element>(i: &Input<E>, row: usize, column: usize, index: usize) {
    // SAFETY: the caller's contract is that of `input_tile`.
    unsafe {
        match i.tile {
            Tile::F2 => input_tile::<S, E, F2>(i, row, column, index),
            Tile::F4 => input_tile::<S, E, F4>(i, row, column, index),
        }
    }
}

#[inline(always)]
unsafe fn input_tile<S: Simd, E: Element, L: Transform1d>(
    i: &Input<E>,
    row: usize,
    column: usize,
    index: usize,
) {
    let n = L::M + 2;
    let mut sources = [[i.zeros; 6]; 6];
    for dy in 0..n {
        for dx in 0..n {
            let (y, x) = (row * L::M + dy, column * L::M + dx);
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
            for dx in 0..n {
                let mut line = [zero; 6];
                for dy in 0..n {
                    let source = sources[dy][dx].add(c);
                    line[dy] = E::load::<S>(source);
                    // Prefetch the pixels that only the next tile reads: a hardware prefetcher
                    // cannot track this many streams. The address may lie beyond the map.
                    if dx >= 2 {
                        S::prefetch(source.wrapping_add(L::M * i.pitch).cast());
                    }
                }
                columns[dx] = L::input::<S>(line);
            }
            let at = index * i.tile_pitch + c;
            for py in 0..n {
                let mut line = [zero; 6];
                for dx in 0..n {
                    line[dx] = columns[dx][py];
                }
                let line = L::input::<S>(line);
                for px in 0..n {
                    let to = (py * n + px) * i.plane_pitch + at;
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

/// Transforms the products of tile `index` to the output tile at `row` and `column`, counted in
/// tiles.
///
/// # Safety
/// The contract of [`Simd`]. The products are valid for tile `index` of every plane, and every
/// pointer of the epilogue is null or valid for the pixels of the tile.
#[inline(always)]
pub unsafe fn output<S: Simd, O: Element>(o: &Output<O>, row: usize, column: usize, index: usize) {
    // SAFETY: the caller's contract is that of `output_tile`.
    unsafe {
        match o.tile {
            Tile::F2 => output_tile::<S, O, F2>(o, row, column, index),
            Tile::F4 => output_tile::<S, O, F4>(o, row, column, index),
        }
    }
}

#[inline(always)]
unsafe fn output_tile<S: Simd, O: Element, L: Transform1d>(
    o: &Output<O>,
    row: usize,
    column: usize,
    index: usize,
) {
    let n = L::M + 2;
    let (top, left) = (row * L::M, column * L::M);
    let (height, width) = ((o.size.0 - top).min(L::M), (o.size.1 - left).min(L::M));
    // SAFETY: the caller guarantees the products of this tile. `height` and `width` are clipped to
    // the map, so no pixel beyond it is stored. `spill` holds M * M <= 16 vectors.
    unsafe {
        for vector in 0..o.vectors {
            let c = vector * S::LANES;
            let from = o.products.add(index * o.tile_pitch + c);
            let zero = S::splat(0.0);
            let mut columns = [[zero; 4]; 6];
            for px in 0..n {
                let mut line = [zero; 6];
                for py in 0..n {
                    line[py] = S::load(from.add((py * n + px) * o.plane_pitch));
                }
                columns[px] = L::output::<S>(line);
            }
            // 16 is the largest LANES.
            let mut spill = std::mem::MaybeUninit::<[f32; 4 * 4 * 16]>::uninit();
            let spill = spill.as_mut_ptr().cast::<f32>();
            for dy in 0..L::M {
                let mut line = [zero; 6];
                for px in 0..n {
                    line[px] = columns[px][dy];
                }
                let line = L::output::<S>(line);
                for dx in 0..L::M {
                    S::store(spill.add((dy * L::M + dx) * S::LANES), line[dx]);
                }
            }
            let affine = o.epilogue.affine::<S>(c);
            for dy in 0..height {
                for dx in 0..width {
                    let image_pixel = (top + dy) * o.size.1 + left + dx;
                    let v = S::load(spill.add((dy * L::M + dx) * S::LANES));
                    o.epilogue.apply_with::<S>(v, affine, o.pixel + image_pixel, image_pixel, c);
                }
            }
        }
    }
}
