//! Feature maps.

use rayon::prelude::*;

use crate::real::Real;

/// Feature maps [N, C, H, W], row-major; a vector per clip has H = W = 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Map<T> {
    /// Clips.
    pub n: usize,
    /// Channels.
    pub c: usize,
    /// Height, at least 1.
    pub h: usize,
    /// Width, at least 1.
    pub w: usize,
    /// The values.
    pub data: Vec<T>,
}

impl<T: Real> Map<T> {
    /// Wraps values of shape [n, c, h, w]. Panics if their number is not n * c * h * w or a map is
    /// empty: that is a fault in the caller.
    pub fn new([n, c, h, w]: [usize; 4], data: Vec<T>) -> Self {
        assert!(h > 0 && w > 0, "a map of {h}x{w} pixels");
        assert_eq!(data.len(), n * c * h * w, "values for a map [{n}, {c}, {h}, {w}]");
        Map { n, c, h, w, data }
    }

    /// A map of one value everywhere.
    pub fn filled(shape: [usize; 4], value: T) -> Self {
        Map::new(shape, vec![value; shape.iter().product()])
    }

    /// `[n, c, h, w]`.
    pub fn shape(&self) -> [usize; 4] {
        [self.n, self.c, self.h, self.w]
    }

    /// Pixels in one plane.
    pub fn plane(&self) -> usize {
        self.h * self.w
    }

    /// A map of the same shape whose value is a function of the value here.
    pub fn mapped(&self, f: impl Fn(T) -> T + Sync) -> Self {
        self.mapped_planes(|_, x| f(x))
    }

    /// As [`Map::mapped`], with the index n * C + c of the plane.
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
