//! The hot path: rows of pixels times packed weights, cut into tiles, and what becomes of the sums.
//! The sums of a tile are made in [`super::vectors`] or, by a matrix unit, in [`super::tiles`].

use crate::element::Element;
use crate::kernels::epilogue::Epilogue;
use crate::simd::Simd;

/// Vectors of output channels in a panel of packed weights.
pub const PANEL: usize = 2;

/// Largest LANES * ROWS * PANEL over all instruction sets: f32 in a spilled tile.
const SPILL: usize = 16 * 32 * PANEL;

/// One product: pixels [rows, stride] times weights [parts, channels, outputs]. Weights are packed in
/// panels of [`PANEL`] vectors of outputs (see [`crate::pack`]).
#[derive(Clone, Copy)]
pub struct Operand<E> {
    /// Row 0.
    pub a: *const E,
    /// Elements from one row to the next.
    pub stride: usize,
    /// Channels of a part, a multiple of the element's group.
    pub k: usize,
    /// Parts: stretches of channels, such as the lines that a kernel reads.
    pub parts: usize,
    /// Elements from one part of a row to the next.
    pub part: usize,
    /// Packed weights from output 0 on.
    pub b: *const E,
}

impl<E> Operand<E> {
    /// Rows in one part.
    pub fn rows(a: *const E, stride: usize, k: usize, b: *const E) -> Self {
        Operand { a, stride, k, parts: 1, part: 0, b }
    }

    /// Channels of all parts.
    pub fn channels(&self) -> usize {
        self.parts * self.k
    }
}

/// out[row, vector] = epilogue(sum over both operands), for some rows and vectors of outputs.
#[derive(Clone, Copy)]
pub struct Gemm<E, O> {
    /// The product.
    pub first: Operand<E>,
    /// Another one into the same sums.
    pub second: Option<Operand<E>>,
    /// Rows of `a`, each an output pixel.
    pub rows: usize,
    /// The pixel of row 0, of all images.
    pub pixel: usize,
    /// The pixel of row 0 in its image; all rows belong to it where the epilogue has a `post`.
    pub place: usize,
    /// Whether the weights come from afar whatever their number: they are read once, and those of the
    /// next product lie behind them.
    pub stream: bool,
    /// First and last + 1 vector of outputs; both are multiples of [`PANEL`], or the last is the end.
    pub vectors: (usize, usize),
    /// What becomes of the sums.
    pub epilogue: Epilogue<O>,
}

/// Bytes of weights that stay in the second cache level while rows go by.
const RESIDENT: usize = 256 * 1024;

/// Computes all rows and vectors.
///
/// Few weights stay in the cache: then a tile of rows takes all panels, so that its input is read
/// once and its output written in one go. Otherwise a panel takes all rows.
///
/// # Safety
/// The contract of [`Simd`]; operands hold `rows` and `vectors` as said, the epilogue's pointers all
/// their pixels.
#[inline(always)]
pub unsafe fn run<S: Simd, E: Element, O: Element, M: Sums<S, E>>(g: &Gemm<E, O>) {
    let k = g.first.channels() + g.second.map_or(0, |second| second.channels());
    let weights = k * (g.vectors.1 - g.vectors.0) * S::LANES * size_of::<E>();
    let (tiles, panels) = (g.rows.div_ceil(M::ROWS), (g.vectors.1 - g.vectors.0).div_ceil(PANEL));
    let stream = g.stream || weights > RESIDENT;
    let mut unit = M::ready();
    for at in 0..tiles * panels {
        let (tile, panel) = match stream {
            true => (at % tiles, at / tiles),
            false => (at / panels, at % panels),
        };
        let (row, height) = rows_of(g.rows, tiles, tile);
        let vector = g.vectors.0 + panel * PANEL;
        let width = PANEL.min(g.vectors.1 - vector);
        let place = Place { tile, tiles, row, height, vector, width, stream };
        // SAFETY: handed on from the caller; the tiles cover rows and vectors exactly.
        unsafe { tile_at::<S, E, O, M>(g, &place, &mut unit) };
    }
}

/// First row and height of a tile, as even as can be: two tiles of 8 are better than 14 and 2.
#[inline(always)]
fn rows_of(rows: usize, tiles: usize, tile: usize) -> (usize, usize) {
    let (low, more) = (rows / tiles, rows % tiles);
    (tile * low + tile.min(more), low + usize::from(tile < more))
}

/// A tile.
pub struct Place {
    /// The how manieth along the rows, of how many.
    pub tile: usize,
    /// Tiles along the rows.
    pub tiles: usize,
    /// First row.
    pub row: usize,
    /// Rows.
    pub height: usize,
    /// First vector of outputs.
    pub vector: usize,
    /// Vectors, up to [`PANEL`].
    pub width: usize,
    /// Whether the next panel has to come from afar.
    pub stream: bool,
}

/// How the sums of a tile are made.
///
/// # Safety
/// The contract of [`Simd`], and the machine has what the implementation needs.
#[allow(clippy::missing_safety_doc, reason = "said once, above")]
pub trait Sums<S: Simd, E: Element> {
    /// Rows of the largest tile.
    const ROWS: usize;
    /// Channels of a vector of outputs that are multiplied in the time of one vector instruction.
    const DEPTH: usize;
    /// Multiply-adds of a round of [`Sums::peak`].
    const PEAK_WORK: usize;

    /// Made once for each product; what it holds is let go when it is dropped.
    fn ready() -> Self;
    /// The sums over both operands, stored as f32 at `out` with `stride` from row to row.
    unsafe fn sums(
        &mut self,
        first: &Operand<E>,
        second: Option<&Operand<E>>,
        place: &Place,
        out: *mut f32,
        stride: usize,
    );
    /// So many rounds of multiply-adds without memory, and a number that depends on all of them.
    unsafe fn peak(rounds: usize) -> f32;
}

/// One tile with its epilogue.
#[inline(always)]
unsafe fn tile_at<S: Simd, E: Element, O: Element, M: Sums<S, E>>(
    g: &Gemm<E, O>,
    place: &Place,
    unit: &mut M,
) {
    let pixel = g.pixel + place.row;
    let mut spill = std::mem::MaybeUninit::<[f32; SPILL]>::uninit();
    let spill = spill.as_mut_ptr().cast::<f32>();
    let second = g.second.as_ref();
    // SAFETY: the caller's; SPILL covers the largest tile.
    unsafe {
        if g.epilogue.is_plain() && O::IS_F32 {
            let at = pixel * g.epilogue.stride + place.vector * S::LANES;
            let out = g.epilogue.out.add(at).cast::<f32>();
            return unit.sums(&g.first, second, place, out, g.epilogue.stride);
        }
        // Maps of bfloat16 are half as large and come in time: measured, asking costs more there.
        for i in 0..if O::IS_F32 { place.height } else { 0 } {
            let at = (pixel + i) * g.epilogue.stride + place.vector * S::LANES;
            g.epilogue.prefetch::<S>(at, place.width);
        }
        unit.sums(&g.first, second, place, spill, PANEL * S::LANES);
        for j in 0..place.width {
            let channel = (place.vector + j) * S::LANES;
            let affine = g.epilogue.affine::<S>(channel);
            for i in 0..place.height {
                let v = S::load(spill.add((i * PANEL + j) * S::LANES));
                let row = g.place + place.row + i;
                g.epilogue.finish_with::<S>(v, affine, pixel + i, row, channel);
            }
        }
    }
}
