//! [`Map`], the tensor type that all operations of this crate read and write.

use rayon::prelude::*;

use crate::real::Real;

/// Feature maps [N, C, H, W], row-major. A vector for each clip is a map with H = W = 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Map<T> {
    /// N, the number of clips.
    pub n: usize,
    /// C, the number of channels.
    pub c: usize,
    /// H, the height in pixels, at least 1.
    pub h: usize,
    /// W, the width in pixels, at least 1.
    pub w: usize,
    /// The values, `n * c * h * w` of them, in the order [N, C, H, W].
    pub data: Vec<T>,
}

impl<T: Real> Map<T> {
    /// Wraps values of shape [n, c, h, w]. Panics if their number is not n * c * h * w or if h or w
    /// is 0, because that is a bug in the caller.
    pub fn new([n, c, h, w]: [usize; 4], data: Vec<T>) -> Self {
        assert!(h > 0 && w > 0, "a map must have at least one pixel, got {h}x{w}");
        assert_eq!(data.len(), n * c * h * w, "number of values of a map [{n}, {c}, {h}, {w}]");
        Map { n, c, h, w, data }
    }

    /// A map that holds `value` everywhere.
    pub fn filled(shape: [usize; 4], value: T) -> Self {
        Map::new(shape, vec![value; shape.iter().product()])
    }

    /// The shape `[n, c, h, w]`.
    pub fn shape(&self) -> [usize; 4] {
        [self.n, self.c, self.h, self.w]
    }

    /// Number of pixels in one plane, H * W.
    pub fn plane(&self) -> usize {
        self.h * self.w
    }

    /// Applies `f` to every value and returns a map of the same shape.
    pub fn mapped(&self, f: impl Fn(T) -> T + Sync) -> Self {
        self.mapped_planes(|_, x| f(x))
    }

    /// Like [`Map::mapped`], but `f` also gets the index n * C + c of the plane.
    pub fn mapped_planes(&self, f: impl Fn(usize, T) -> T + Sync) -> Self {
        let mut data = vec![T::ZERO; self.data.len()];
        let planes = data.par_chunks_mut(self.plane()).zip(self.data.par_chunks(self.plane()));
        planes.enumerate().for_each(|(index, (out, values))| {
            for (y, &x) in out.iter_mut().zip(values) {
                *y = f(index, x);
            }
        });
        Map::new(self.shape(), data)
    }
}
