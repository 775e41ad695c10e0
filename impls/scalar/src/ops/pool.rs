//! The two poolings: the mean over a map, and the maximum pooling of the stem.

use rayon::prelude::*;

use crate::map::Map;
use crate::real::Real;

/// Mean over each plane, from [N, C, H, W] to [N, C, 1, 1]; summed in f64.
pub fn mean<T: Real>(x: &Map<T>) -> Map<T> {
    let pixels = x.plane() as f64;
    let one = |plane: &[T]| {
        let sum: f64 = plane.iter().map(|v| v.to_f64()).sum();
        T::from_f64(sum / pixels)
    };
    Map::new([x.n, x.c, 1, 1], x.data.par_chunks(x.plane()).map(one).collect())
}

/// Maximum over windows of 3x3 with stride 2, from [N, C, H, W] to [N, C, ceil(H / 2), ceil(W / 2)].
/// The padding of one pixel is never the maximum. A window that holds a NaN gives NaN, as in PyTorch.
pub fn max_3x3_stride_2<T: Real>(x: &Map<T>) -> Map<T> {
    let (h, w) = (x.h.div_ceil(2), x.w.div_ceil(2));
    let mut out = Map::filled([x.n, x.c, h, w], T::ZERO);
    let planes = out.data.par_chunks_mut(h * w).zip(x.data.par_chunks(x.plane()));
    planes.for_each(|(plane, values)| {
        for oy in 0..h {
            for ox in 0..w {
                plane[oy * w + ox] = window_max(values, window(oy, x.h), window(ox, x.w), x.w);
            }
        }
    });
    out
}

/// The half-open range of those input positions among 2 o - 1, 2 o and 2 o + 1 that exist.
fn window(o: usize, side: usize) -> (usize, usize) {
    ((2 * o).saturating_sub(1), (2 * o + 2).min(side))
}

fn window_max<T: Real>(
    plane: &[T],
    (top, bottom): (usize, usize),
    (left, right): (usize, usize),
    width: usize,
) -> T {
    let mut best = plane[top * width + left];
    for y in top..bottom {
        for &v in &plane[y * width + left..y * width + right] {
            if v > best || v.is_nan() {
                best = v;
            }
        }
    }
    best
}
