//! Matrix products with an epilogue, the hot path: out = epilogue(A B), or epilogue(A B + A' B').
//!
//! A is [rows, pitch], where each row is an output pixel and its first `k` elements are input
//! channels. B is [k, outputs], packed into panels of [`PANEL`] vectors of outputs
//! ([`crate::pack`]). The product is cut into tiles of up to [`ProductKernel::ROWS`] rows and one
//! panel, whose sums are f32: in [`super::vectors`] with vector instructions or in [`super::tiles`]
//! with a matrix unit. Those modules explain their register block and the order of their loops. Then
//! the epilogue is applied to the tile while it is in the L1 cache.

use crate::element::Element;
use crate::kernels::epilogue::Epilogue;
use crate::simd::Simd;

/// Vectors of outputs in a panel of packed weights, the width of the register block.
pub const PANEL: usize = 2;

/// The factors of one product: A [rows, pitch] and the packed weights B [parts * k, outputs]. A row
/// of A is `k` adjacent elements, or several such parts (`parts`), such as the lines that a 3x3
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

/// The rows of A: lines of `width` output pixels with `gap` rows between them that belong to no
/// pixel, such as those of the border in a band. Their sums are computed or left out, but never
/// stored.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// Number of lines.
    pub lines: usize,
    /// Output pixels in a line.
    pub width: usize,
    /// Rows between two lines.
    pub gap: usize,
}

impl Rows {
    /// Rows that are all output pixels.
    pub fn dense(rows: usize) -> Self {
        Rows { lines: 1, width: rows, gap: 0 }
    }

    /// Number of rows from the first pixel to the last, with the gaps between.
    pub fn total(&self) -> usize {
        (self.lines * (self.width + self.gap)).saturating_sub(self.gap)
    }

    /// The pixel of a row, counted from the first one; None for a row in a gap.
    #[inline(always)]
    pub fn pixel(&self, row: usize) -> Option<usize> {
        let (line, at) = match self.lines {
            1 => (0, row),
            _ => (row / (self.width + self.gap), row % (self.width + self.gap)),
        };
        (at < self.width).then_some(line * self.width + at)
    }
}

/// out = epilogue(A B + A' B'), for some of the rows and some of the outputs.
#[derive(Clone, Copy)]
pub struct Gemm<E, O> {
    /// A and B.
    pub first: Operand<E>,
    /// A' and B', which are accumulated into the same sums.
    pub second: Option<Operand<E>>,
    /// The rows of A.
    pub rows: Rows,
    /// The pixel of row 0, counted over the whole batch.
    pub pixel: usize,
    /// The pixel of row 0, counted within its image. If the epilogue has an `addend`, all rows
    /// belong to that image.
    pub image_pixel: usize,
    /// Whether vector kernels stream the weights, whatever their size: each panel is read once and the
    /// next one is prefetched. Winograd layers do this because the weights of the next plane follow in
    /// memory.
    pub stream: bool,
    /// First vector of outputs, and the one after the last. Both are multiples of [`PANEL`], except
    /// at the end of the matrix.
    pub vectors: (usize, usize),
    /// What is done with the sums.
    pub epilogue: Epilogue<O>,
}

/// How products are computed: the loops over tiles, and the sums of a tile.
///
/// # Safety
/// The contract of [`Simd`]; the machine has the matrix unit if the implementation uses one.
#[allow(clippy::missing_safety_doc, reason = "said once, above")]
pub trait ProductKernel<S: Simd, E: Element> {
    /// Rows of the largest tile, the height of the register block.
    const ROWS: usize;
    /// Input channels that are accumulated into a vector of outputs in the time of one vector
    /// instruction. The choice of algorithms ([`crate::plan::choose`]) uses it.
    const K_PER_INSTRUCTION: usize;
    /// If a pixel of a map takes a multiple of the first number of bytes, the second is added to it.
    /// The rows of a tile are pixels; they would otherwise lie in few sets of the L1 cache.
    const PADDING: [usize; 2];
    /// Multiply-adds in a round of [`ProductKernel::peak`].
    const PEAK_MACS: usize;

    /// Computes all rows and vectors. A is valid for all `rows`, with the gaps, B for the panels of
    /// `vectors`, and every pointer of the epilogue is null or valid for these pixels and outputs.
    unsafe fn run<O: Element>(g: &Gemm<E, O>);
    /// Executes `rounds` rounds of multiply-adds without memory accesses, and returns a number that
    /// depends on all of them.
    unsafe fn peak(rounds: usize) -> f32;
}
