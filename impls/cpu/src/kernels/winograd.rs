//! Winograd's minimal filtering for 3x3 convolutions of stride 1 and padding 1.
//!
//! An output tile of M x M pixels needs N x N = (M + 2)^2 products for each pair of channels instead
//! of 9 M^2: F(2x2) 4 instead of 9 for each output, F(4x4) 2.25. Input tiles are transformed (B^T d
//! B), multiplied plane by plane as GEMMs, and transformed back (A^T m A); the weights (G g G^T) were
//! transformed at load. Lavin and Gray, arXiv 1509.09308.
//!
//! For the finite points p, a row of B^T holds the coefficients of the product of (x - q) over all
//! other points q, a column of A the powers of p, a row of G the powers of p over the product of
//! (p - q). The last point is infinity. Points come in pairs +-p, which share their even and odd
//! parts.
//!
//! An infinite or NaN value may spread over the tiles that read it, for the transforms subtract; where
//! the convolution itself has a NaN, there is one.

use crate::element::Element;
use crate::kernels::epilogue::Epilogue;
use crate::simd::Simd;

/// Size of the output tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tile {
    /// F(2x2, 3x3), points 0, 1, -1.
    F2,
    /// F(4x4, 3x3), points 0, +-[`P`], +-[`Q`].
    F4,
}

/// The smaller pair of points of F(4x4). Over random maps the largest error with 3/4 and 3/2 is a
/// quarter of that with the usual 1 and 2 (`scripts/winograd_points.py` tries others).
pub const P: f32 = 0.75;
/// The larger pair of points of F(4x4).
pub const Q: f32 = 1.5;

impl Tile {
    /// M: pixels of an output tile in each direction.
    pub fn side(self) -> usize {
        match self {
            Tile::F2 => 2,
            Tile::F4 => 4,
        }
    }

    /// Planes: products for each output tile and pair of channels.
    pub fn planes(self) -> usize {
        (self.side() + 2) * (self.side() + 2)
    }

    /// The finite points.
    fn points(self) -> Vec<f64> {
        let (p, q) = (f64::from(P), f64::from(Q));
        match self {
            Tile::F2 => vec![0.0, 1.0, -1.0],
            Tile::F4 => vec![0.0, p, -p, q, -q],
        }
    }

    /// G.
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

/// The transform of the weights, in f64.
pub struct WeightTransform {
    rows: [[f64; 3]; 6],
    n: usize,
}

impl WeightTransform {
    /// The planes of G g G^T for one kernel [3, 3].
    pub fn apply(&self, g: &[f64; 9]) -> impl Iterator<Item = f64> + '_ {
        let rows =
            self.rows.map(|r| [0, 1, 2].map(|x| r[0] * g[x] + r[1] * g[3 + x] + r[2] * g[6 + x]));
        (0..self.n * self.n).map(move |at| {
            let (row, column) = (&rows[at / self.n], &self.rows[at % self.n]);
            row[0] * column[0] + row[1] * column[1] + row[2] * column[2]
        })
    }
}

/// A line of up to 6 vectors.
type Line<V> = [V; 6];

/// One-dimensional transforms.
trait Lines {
    const M: usize;
    unsafe fn input<S: Simd>(x: Line<S::V>) -> Line<S::V>;
    unsafe fn output<S: Simd>(m: Line<S::V>) -> [S::V; 4];
}

struct F2;
struct F4;

impl Lines for F2 {
    const M: usize = 2;

    #[inline(always)]
    unsafe fn input<S: Simd>(x: Line<S::V>) -> Line<S::V> {
        // SAFETY: the caller keeps the contract of `Simd`.
        unsafe {
            let r = [S::sub(x[2], x[0]), S::add(x[2], x[1]), S::sub(x[2], x[1])];
            [r[0], r[1], r[2], S::sub(x[3], x[1]), x[3], x[3]]
        }
    }

    #[inline(always)]
    unsafe fn output<S: Simd>(m: Line<S::V>) -> [S::V; 4] {
        // SAFETY: the caller keeps the contract of `Simd`.
        unsafe {
            let first = S::add(m[0], S::add(m[1], m[2]));
            let second = S::add(S::sub(m[1], m[2]), m[3]);
            [first, second, second, second]
        }
    }
}

impl Lines for F4 {
    const M: usize = 4;

    #[inline(always)]
    unsafe fn input<S: Simd>(x: Line<S::V>) -> Line<S::V> {
        const P2: f32 = P * P;
        const Q2: f32 = Q * Q;
        // SAFETY: the caller keeps the contract of `Simd`.
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
        // SAFETY: the caller keeps the contract of `Simd`.
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

/// Where a tile of the input comes from and goes to.
#[derive(Clone, Copy)]
pub struct Input<E> {
    /// Which transform.
    pub tile: Tile,
    /// Pixel 0 of the image.
    pub image: *const E,
    /// Elements from one pixel to the next.
    pub stride: usize,
    /// Height and width of the map.
    pub size: (usize, usize),
    /// Vectors of channels.
    pub vectors: usize,
    /// `vectors` vectors of zeros, which surround the map.
    pub zeros: *const E,
    /// The gate of each channel of the image, or null.
    pub gate: *const E,
    /// Transformed tiles [planes, tiles, channels].
    pub out: *mut E,
    /// The same of gate * input; only with a gate.
    pub gated: *mut E,
    /// Elements from one tile to the next.
    pub tile_stride: usize,
    /// Elements from one plane to the next.
    pub plane_stride: usize,
}

/// Transforms the tile at row and column (in tiles) into place `index`.
///
/// # Safety
/// The contract of [`Simd`]; pointers hold what [`Input`] says.
#[inline(always)]
pub unsafe fn input<S: Simd, E: Element>(i: &Input<E>, row: usize, column: usize, index: usize) {
    // SAFETY: the caller's.
    unsafe {
        match i.tile {
            Tile::F2 => input_tile::<S, E, F2>(i, row, column, index),
            Tile::F4 => input_tile::<S, E, F4>(i, row, column, index),
        }
    }
}

#[inline(always)]
unsafe fn input_tile<S: Simd, E: Element, L: Lines>(
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
            // Coordinates are one too large: the padding is one pixel.
            if (1..=i.size.0).contains(&y) && (1..=i.size.1).contains(&x) {
                let pixel = (y - 1) * i.size.1 + x - 1;
                // SAFETY: the pixel lies in the map.
                sources[dy][dx] = unsafe { i.image.add(pixel * i.stride) };
            }
        }
    }
    // SAFETY: the caller's; sources are pixels of the map or zeros.
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
                    // What the next tile reads beside that, for which no prefetcher has as many
                    // streams: the address may lie beyond the map.
                    if dx >= 2 {
                        S::prefetch(source.wrapping_add(L::M * i.stride).cast());
                    }
                }
                columns[dx] = L::input::<S>(line);
            }
            let at = index * i.tile_stride + c;
            for py in 0..n {
                let mut line = [zero; 6];
                for dx in 0..n {
                    line[dx] = columns[dx][py];
                }
                let line = L::input::<S>(line);
                for px in 0..n {
                    let to = (py * n + px) * i.plane_stride + at;
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

/// Where products come from and what becomes of them.
#[derive(Clone, Copy)]
pub struct Output<O> {
    /// Which transform.
    pub tile: Tile,
    /// Products [planes, tiles, outputs] from the first output of this epilogue on.
    pub products: *const f32,
    /// Elements from one tile to the next.
    pub tile_stride: usize,
    /// Elements from one plane to the next.
    pub plane_stride: usize,
    /// Height and width of the map.
    pub size: (usize, usize),
    /// Vectors of outputs.
    pub vectors: usize,
    /// Pixel 0 of the image, of all images.
    pub pixel: usize,
    /// What becomes of the sums.
    pub epilogue: Epilogue<O>,
}

/// Transforms the products at place `index` back to the tile at row and column (in tiles).
///
/// # Safety
/// The contract of [`Simd`]; pointers hold what [`Output`] says.
#[inline(always)]
pub unsafe fn output<S: Simd, O: Element>(o: &Output<O>, row: usize, column: usize, index: usize) {
    // SAFETY: the caller's.
    unsafe {
        match o.tile {
            Tile::F2 => output_tile::<S, O, F2>(o, row, column, index),
            Tile::F4 => output_tile::<S, O, F4>(o, row, column, index),
        }
    }
}

#[inline(always)]
unsafe fn output_tile<S: Simd, O: Element, L: Lines>(
    o: &Output<O>,
    row: usize,
    column: usize,
    index: usize,
) {
    let n = L::M + 2;
    let (top, left) = (row * L::M, column * L::M);
    let (height, width) = ((o.size.0 - top).min(L::M), (o.size.1 - left).min(L::M));
    // SAFETY: the caller's; pixels beyond the map are not stored.
    unsafe {
        for vector in 0..o.vectors {
            let c = vector * S::LANES;
            let from = o.products.add(index * o.tile_stride + c);
            let zero = S::splat(0.0);
            let mut columns = [[zero; 4]; 6];
            for px in 0..n {
                let mut line = [zero; 6];
                for py in 0..n {
                    line[py] = S::load(from.add((py * n + px) * o.plane_stride));
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
                    let place = (top + dy) * o.size.1 + left + dx;
                    let v = S::load(spill.add((dy * L::M + dx) * S::LANES));
                    o.epilogue.finish_with::<S>(v, affine, o.pixel + place, place, c);
                }
            }
        }
    }
}
