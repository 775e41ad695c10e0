//! Matrix products with an epilogue, the hot path: out = epilogue(A B), or epilogue(A B + A' B').
//!
//! A is [rows, pitch], where each row is an output pixel and its first `k` elements are input
//! channels. B is [k, outputs], packed into panels of [`PANEL`] vectors of outputs
//! ([`crate::pack`]). The product is cut into tiles of up to [`MicroKernel::ROWS`] rows and one
//! panel. A micro-kernel accumulates a tile in f32, in [`super::vectors`] with vector instructions
//! or in [`super::tiles`] with a matrix unit; those modules explain the size of their register
//! block. Then the epilogue is applied to the tile while it is in the L1 cache.

use crate::element::Element;
use crate::kernels::epilogue::Epilogue;
use crate::simd::Simd;

/// Vectors of outputs in a panel of packed weights, the width of the register block.
pub const PANEL: usize = 2;

/// Number of f32 in the largest tile over all instruction sets: LANES * ROWS * PANEL.
const SPILL: usize = 16 * 32 * PANEL;

/// The factors of one product: A [rows, pitch] and the packed weights B [parts * k, outputs]. A row
/// of A is one stretch of `k` elements, or several of them (`parts`), such as the lines that a 3x3
/// convolution reads.
#[derive(Clone, Copy)]
pub struct Operand<E> {
    /// Row 0 of A.
    pub a: *const E,
    /// Elements from one row of A to the next.
    pub pitch: usize,
    /// Elements in a part, a multiple of the format's GROUP; `parts * k` is the length of the sums.
    pub k: usize,
    /// Number of parts in a row.
    pub parts: usize,
    /// Elements from one part of a row of A to the next.
    pub part_pitch: usize,
    /// The packed weights, from output 0 on.
    pub b: *const E,
}

impl<E> Operand<E> {
    /// An operand whose rows have one part.
    pub fn rows(a: *const E, pitch: usize, k: usize, b: *const E) -> Self {
        Operand { a, pitch, k, parts: 1, part_pitch: 0, b }
    }

    /// Length of the sums: the channels of all parts.
    pub fn channels(&self) -> usize {
        self.parts * self.k
    }
}

/// out = epilogue(A B + A' B'), for some of the rows and some of the outputs.
#[derive(Clone, Copy)]
pub struct Gemm<E, O> {
    /// A and B.
    pub first: Operand<E>,
    /// A' and B', which are accumulated into the same sums.
    pub second: Option<Operand<E>>,
    /// Number of rows of A, each an output pixel.
    pub rows: usize,
    /// The pixel of row 0, counted over the whole batch.
    pub pixel: usize,
    /// The pixel of row 0, counted within its image. If the epilogue has an `addend`, all rows
    /// belong to that image.
    pub image_pixel: usize,
    /// Whether to stream the weights, whatever their size: each panel is read once and the next one
    /// is prefetched. Winograd layers do this because the weights of the next plane follow in
    /// memory.
    pub stream: bool,
    /// First vector of outputs, and the one after the last. Both are multiples of [`PANEL`], except
    /// at the end of the matrix.
    pub vectors: (usize, usize),
    /// What is done with the sums.
    pub epilogue: Epilogue<O>,
}

/// Bytes of weights that stay in the L2 cache while the rows are computed.
const RESIDENT: usize = 256 * 1024;

/// Computes all rows and vectors.
///
/// If the weights fit the L2 cache, the inner loop goes over the panels, so that the input of a
/// tile is read once and its output is written at once. Otherwise the inner loop goes over the
/// rows, so that each panel is read from memory once.
///
/// # Safety
/// The contract of [`Simd`]. A is valid for `rows` rows, B for the panels of `vectors`, and every
/// pointer of the epilogue is null or valid for these pixels and outputs.
#[inline(always)]
pub unsafe fn run<S: Simd, E: Element, O: Element, M: MicroKernel<S, E>>(g: &Gemm<E, O>) {
    let k = g.first.channels() + g.second.map_or(0, |second| second.channels());
    let weights = k * (g.vectors.1 - g.vectors.0) * S::LANES * size_of::<E>();
    let (tiles, panels) = (g.rows.div_ceil(M::ROWS), (g.vectors.1 - g.vectors.0).div_ceil(PANEL));
    let stream = g.stream || weights > RESIDENT;
    let mut unit = M::prepare();
    for at in 0..tiles * panels {
        let (index, panel) = match stream {
            true => (at % tiles, at / tiles),
            false => (at / panels, at % panels),
        };
        let (row, height) = rows_of(g.rows, tiles, index);
        let vector = g.vectors.0 + panel * PANEL;
        let width = PANEL.min(g.vectors.1 - vector);
        let tile = OutputTile { index, tiles, row, height, vector, width, stream };
        // SAFETY: the caller's contract; `row + height <= rows` by `rows_of`, and `vector + width`
        // is at most the end of `vectors`.
        unsafe { run_tile::<S, E, O, M>(g, &tile, &mut unit) };
    }
}

/// First row and height of a tile. Heights are as equal as possible: two tiles of 8 rows are faster
/// than 14 and 2.
#[inline(always)]
fn rows_of(rows: usize, tiles: usize, index: usize) -> (usize, usize) {
    let (height, taller) = (rows / tiles, rows % tiles);
    (index * height + index.min(taller), height + usize::from(index < taller))
}

/// One tile of the output, and its position among the tiles of a product.
pub struct OutputTile {
    /// Index of this tile along the rows (`0..tiles`).
    pub index: usize,
    /// Number of tiles along the rows.
    pub tiles: usize,
    /// First row of the tile.
    pub row: usize,
    /// Number of rows, up to [`MicroKernel::ROWS`].
    pub height: usize,
    /// First vector of outputs of the tile.
    pub vector: usize,
    /// Number of vectors of outputs, up to [`PANEL`].
    pub width: usize,
    /// Whether to prefetch the next panel: the weights do not stay in the cache.
    pub stream: bool,
}

/// The micro-kernel: how the sums of one tile are accumulated.
///
/// # Safety
/// The contract of [`Simd`]; the machine has the matrix unit if the implementation uses one.
#[allow(clippy::missing_safety_doc, reason = "said once, above")]
pub trait MicroKernel<S: Simd, E: Element> {
    /// Rows of the largest tile, the height of the register block.
    const ROWS: usize;
    /// Input channels that are accumulated into a vector of outputs in the time of one vector
    /// instruction. The choice of algorithms ([`crate::plan::choose`]) uses it.
    const K_PER_INSTRUCTION: usize;
    /// Multiply-adds in a round of [`MicroKernel::peak`].
    const PEAK_MACS: usize;

    /// Prepares the unit; called once for each product. Dropping the value releases the unit.
    fn prepare() -> Self;
    /// Computes the sums of a tile over both operands and stores them at `out` as f32 [height,
    /// pitch], with `width` vectors in each row.
    unsafe fn compute(
        &mut self,
        first: &Operand<E>,
        second: Option<&Operand<E>>,
        tile: &OutputTile,
        out: *mut f32,
        pitch: usize,
    );
    /// Executes `rounds` rounds of multiply-adds without memory accesses, and returns a number that
    /// depends on all of them.
    unsafe fn peak(rounds: usize) -> f32;
}

/// Computes one tile and applies the epilogue.
#[inline(always)]
unsafe fn run_tile<S: Simd, E: Element, O: Element, M: MicroKernel<S, E>>(
    g: &Gemm<E, O>,
    tile: &OutputTile,
    unit: &mut M,
) {
    let pixel = g.pixel + tile.row;
    let mut spill = std::mem::MaybeUninit::<[f32; SPILL]>::uninit();
    let spill = spill.as_mut_ptr().cast::<f32>();
    let second = g.second.as_ref();
    // SAFETY: the tile lies within the rows and outputs for which the caller guarantees all
    // pointers, and `spill` has SPILL elements, which covers the largest tile.
    unsafe {
        if g.epilogue.is_plain() && O::IS_F32 {
            let at = pixel * g.epilogue.pitch + tile.vector * S::LANES;
            let out = g.epilogue.out.add(at).cast::<f32>();
            return unit.compute(&g.first, second, tile, out, g.epilogue.pitch);
        }
        // For bfloat16, whose maps are half as large, prefetching was measured to cost more than it
        // gains.
        for i in 0..if O::IS_F32 { tile.height } else { 0 } {
            let at = (pixel + i) * g.epilogue.pitch + tile.vector * S::LANES;
            g.epilogue.prefetch::<S>(at, tile.width);
        }
        unit.compute(&g.first, second, tile, spill, PANEL * S::LANES);
        for j in 0..tile.width {
            let channel = (tile.vector + j) * S::LANES;
            let affine = g.epilogue.affine::<S>(channel);
            for i in 0..tile.height {
                let v = S::load(spill.add((i * PANEL + j) * S::LANES));
                let image_pixel = g.image_pixel + tile.row + i;
                g.epilogue.apply_with::<S>(v, affine, pixel + i, image_pixel, channel);
            }
        }
    }
}
