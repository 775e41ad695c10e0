//! From the clip to what the stem reads.

use crate::element::Element;
use crate::simd::Simd;

/// Row and column of the pixels of a cell, in their order. The 3x3 kernels have a last row on the
/// first two, a last column on the second and third: both are neighbours, so that the others can be
/// left out.
pub const CELL: [(usize, usize); 4] = [(0, 1), (0, 0), (1, 0), (1, 1)];

/// Places in the order of [`CELL`], by row and column.
const PLACE: [[usize; 2]; 2] = [[1, 0], [2, 3]];

/// A clip [3 T, H, W] of f32 becomes a map [ceil(H / 2), ceil(W / 2), 4 * 3 T]: the pixels of each
/// 2x2 cell side by side in the order of [`CELL`], channel = place in it * 3 T + plane. On it the
/// stem's 5x5 convolution of stride 2 and padding 2 is a 3x3 convolution of stride 1 and padding 1.
#[derive(Clone, Copy)]
pub struct Import<E> {
    /// The clip.
    pub clip: *const f32,
    /// Planes of it, 3 T.
    pub planes: usize,
    /// Height and width of the clip.
    pub size: (usize, usize),
    /// First and last + 1 row of the output.
    pub rows: (usize, usize),
    /// The output's pixel 0.
    pub out: *mut E,
    /// Elements from one pixel of the output to the next.
    pub stride: usize,
}

/// Fills all rows; what lies beyond the clip, and the padding of the stride, is zero.
///
/// # Safety
/// `clip` holds [planes, size], `out` all rows.
#[inline(always)]
pub unsafe fn import<S: Simd, E: Element>(i: &Import<E>) {
    let width = i.size.1.div_ceil(2);
    for row in i.rows.0..i.rows.1 {
        // SAFETY: the caller gives room for the row.
        let out = unsafe { i.out.add(row * width * i.stride) };
        let ragged = 2 * row + 1 >= i.size.0 || i.size.1 % 2 == 1 || i.stride > 4 * i.planes;
        if ragged {
            // SAFETY: as above; all bits zero is 0 in both formats.
            unsafe { out.write_bytes(0, width * i.stride) };
        }
        for dy in 0..2 {
            if 2 * row + dy < i.size.0 {
                // SAFETY: the row lies in the clip.
                unsafe { half_row::<S, E>(i, 2 * row + dy, dy, out) };
            }
        }
    }
}

/// Pixels that are asked for ahead: the next row follows in the plane.
const AHEAD: usize = 64;

/// One row of pixels of the clip, spread over the cells: blocks of LANES planes and pixels are
/// transposed in registers, the rest goes one by one.
#[inline(always)]
unsafe fn half_row<S: Simd, E: Element>(i: &Import<E>, y: usize, dy: usize, out: *mut E) {
    let (height, width) = i.size;
    let whole = |length: usize| length / S::LANES * S::LANES;
    let place = |x: usize| (x / 2) * i.stride + PLACE[dy][x % 2] * i.planes;
    for x0 in (0..whole(width)).step_by(S::LANES) {
        for p0 in (0..whole(i.planes)).step_by(S::LANES) {
            // SAFETY: planes, y and pixels lie in the clip, the cells in the output's row. 16 is the
            // largest LANES.
            unsafe {
                let mut block = [S::splat(0.0); 16];
                let block = &mut block[..S::LANES];
                for (plane, row) in block.iter_mut().enumerate() {
                    let from = i.clip.add(((p0 + plane) * height + y) * width + x0);
                    // More planes are read side by side than a prefetcher follows. The address may
                    // lie beyond the clip.
                    S::prefetch(from.wrapping_add(AHEAD).cast());
                    *row = S::load(from);
                }
                S::transpose(block);
                for (x, values) in block.iter().enumerate() {
                    E::store::<S>(out.add(place(x0 + x) + p0), *values);
                }
            }
        }
    }
    for x in 0..width {
        let first = if x < whole(width) { whole(i.planes) } else { 0 };
        for plane in first..i.planes {
            // SAFETY: as above.
            unsafe {
                let value = *i.clip.add((plane * height + y) * width + x);
                *out.add(place(x) + plane) = E::from_f32(value);
            }
        }
    }
}
