//! The import of a clip: space-to-depth for the stem, with conversion to the storage format.
//!
//! A clip f32 [3 T, H, W] becomes a map [ceil(H / 2), ceil(W / 2), pitch] whose pixels are cells of
//! 2x2 pixels of the clip. Blocks of LANES planes x LANES pixels are loaded and transposed in
//! registers, so that both the loads and the stores are whole vectors. A block takes LANES
//! registers (8 of 16 on AVX2, 16 of 32 on AVX-512); the others are free for the transposition.

use crate::element::Element;
use crate::simd::Simd;

/// Row and column of the four pixels of a cell, in the order of their channels. On cells, the
/// kernels of the stem have a nonzero third row only for the first and second pixel, and a nonzero
/// third column only for the second and third. Both are contiguous ranges of channels in this
/// order, so that Winograd can skip the others ([`crate::pack::ThirdTapChannels`]).
pub const CELL: [(usize, usize); 4] = [(0, 1), (0, 0), (1, 0), (1, 1)];

/// The inverse of [`CELL`]: the index of a pixel in the cell, by row and column.
const CELL_INDEX: [[usize; 2]; 2] = [[1, 0], [2, 3]];

/// A clip f32 [3 T, H, W] becomes a map [ceil(H / 2), ceil(W / 2), 4 * 3 T] of 2x2 cells, where
/// channel = index of the pixel in its cell (in the order of [`CELL`]) * 3 T + plane. On this map
/// the stem's 5x5 convolution of stride 2 and padding 2 is a 3x3 convolution of stride 1 and
/// padding 1.
#[derive(Clone, Copy)]
pub struct Import<E> {
    /// The clip, [planes, size].
    pub clip: *const f32,
    /// Planes of the clip, 3 T.
    pub planes: usize,
    /// Height and width of the clip.
    pub size: (usize, usize),
    /// The rows of the output to compute (half-open).
    pub rows: (usize, usize),
    /// Pixel 0 of the output.
    pub out: *mut E,
    /// Elements from one pixel of the output to the next.
    pub pitch: usize,
}

/// Computes all rows. Pixels of a cell beyond the clip, and the channels that pad the pitch, are
/// zero.
///
/// # Safety
/// The contract of [`Simd`]; `clip` is valid for [planes, size] and `out` for all rows.
#[inline(always)]
pub unsafe fn import<S: Simd, E: Element>(i: &Import<E>) {
    let width = i.size.1.div_ceil(2);
    for row in i.rows.0..i.rows.1 {
        // SAFETY: the caller guarantees that `out` is valid for this row.
        let out = unsafe { i.out.add(row * width * i.pitch) };
        let ragged = 2 * row + 1 >= i.size.0 || i.size.1 % 2 == 1 || i.pitch > 4 * i.planes;
        if ragged {
            // SAFETY: `out` is valid for `width * pitch` elements; zero bits are 0 in both formats.
            unsafe { out.write_bytes(0, width * i.pitch) };
        }
        for dy in 0..2 {
            if 2 * row + dy < i.size.0 {
                // SAFETY: the row `2 * row + dy` was just checked to lie within the clip.
                unsafe { import_row::<S, E>(i, 2 * row + dy, dy, out) };
            }
        }
    }
}

/// Distance of the prefetch in pixels; beyond the end of a row, the next row of the plane follows.
const AHEAD: usize = 64;

/// Distributes row `y` of the clip to the cells: blocks of LANES planes x LANES pixels are
/// transposed in registers, and the remaining values are copied one by one.
#[inline(always)]
unsafe fn import_row<S: Simd, E: Element>(i: &Import<E>, y: usize, dy: usize, out: *mut E) {
    let (height, width) = i.size;
    let whole = |length: usize| length / S::LANES * S::LANES;
    let cell_offset = |x: usize| (x / 2) * i.pitch + CELL_INDEX[dy][x % 2] * i.planes;
    for x0 in (0..whole(width)).step_by(S::LANES) {
        for p0 in (0..whole(i.planes)).step_by(S::LANES) {
            // SAFETY: `x0 + LANES <= width`, `p0 + LANES <= planes` and `y < height`, so loads lie
            // within the clip and stores within the row of `out`. 16 is the largest LANES.
            unsafe {
                let mut block = [S::splat(0.0); 16];
                let block = &mut block[..S::LANES];
                for (plane, row) in block.iter_mut().enumerate() {
                    let from = i.clip.add(((p0 + plane) * height + y) * width + x0);
                    // More planes are read in parallel than a hardware prefetcher can track. The
                    // address may lie beyond the clip.
                    S::prefetch(from.wrapping_add(AHEAD).cast());
                    *row = S::load(from);
                }
                S::transpose(block);
                for (x, values) in block.iter().enumerate() {
                    E::store::<S>(out.add(cell_offset(x0 + x) + p0), *values);
                }
            }
        }
    }
    for x in 0..width {
        let first = if x < whole(width) { whole(i.planes) } else { 0 };
        for plane in first..i.planes {
            // SAFETY: `plane < planes`, `y < height` and `x < width`, as for the blocks.
            unsafe {
                let value = *i.clip.add((plane * height + y) * width + x);
                *out.add(cell_offset(x) + plane) = E::from_f32(value);
            }
        }
    }
}
