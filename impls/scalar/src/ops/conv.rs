//! 2D convolution (cross-correlation, as in every deep-learning library).

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use crate::map::Map;
use crate::real::Real;

/// `y[n, o, i, j]` = `bias[o]` + the sum over c, ky, kx of `weight[o, c, ky, kx]` *
/// `x[n, c, s i + ky - p, s j + kx - p]`, where x is 0 outside the map.
#[derive(Debug, Clone, Copy)]
pub struct Conv<'a, W = f32> {
    /// Weights `[out, in / groups, k, k]`.
    pub weight: &'a [W],
    /// Biases `[out]`, if any.
    pub bias: Option<&'a [W]>,
    /// Number of output channels.
    pub out_channels: usize,
    /// k, the side of the square kernel in pixels.
    pub kernel: usize,
    /// s, the stride in both directions.
    pub stride: usize,
    /// p, the padding: rows and columns of zeros on every side.
    pub padding: usize,
    /// Number of groups. Output channels of group g read the input channels of group g only.
    pub groups: usize,
}

impl<W: Real> Conv<'_, W> {
    /// Convolves maps [N, C, H, W]. The terms of each sum are added in f64 in the order c, ky, kx.
    pub fn apply<T: Real>(&self, x: &Map<T>) -> Map<T> {
        self.check(x.c);
        let (h, w) = (self.out_side(x.h), self.out_side(x.w));
        let mut out = Map::filled([x.n, self.out_channels, h, w], T::ZERO);
        let scan = Scan::new(self, (x.h, x.w), (h, w));
        let wide = scan.arrange(T::widen(&x.data));
        let clip = x.c * scan.plane();
        let workspace = || vec![0.0; h * w];
        out.data.par_chunks_mut(h * w).enumerate().for_each_init(workspace, |sums, (at, plane)| {
            let (n, o) = (at / self.out_channels, at % self.out_channels);
            self.sum_plane(&scan, &wide[n * clip..][..clip], o, sums);
            for (y, &sum) in plane.iter_mut().zip(&*sums) {
                *y = T::from_f64(sum);
            }
        });
        out
    }

    /// Computes the sums of one output plane: channel `o` of one clip [C, H, W], which is arranged as
    /// by [`Scan::arrange`].
    fn sum_plane(&self, scan: &Scan, clip: &[f64], o: usize, sums: &mut [f64]) {
        sums.fill(self.bias.map_or(0.0, |bias| bias[o].to_f64()));
        let positions = self.kernel * self.kernel;
        let plane = scan.plane();
        let (inputs, outputs) = (clip.len() / plane / self.groups, self.out_channels / self.groups);
        let first = o / outputs * inputs;
        for i in 0..inputs {
            let source = &clip[(first + i) * plane..][..plane];
            let kernel = &self.weight[(o * inputs + i) * positions..][..positions];
            for ky in 0..self.kernel {
                for kx in 0..self.kernel {
                    let weight = kernel[ky * self.kernel + kx].to_f64();
                    scan.add(sums, source, (ky, kx), weight);
                }
            }
        }
    }

    fn out_side(&self, side: usize) -> usize {
        (side + 2 * self.padding - self.kernel) / self.stride + 1
    }

    fn check(&self, channels: usize) {
        assert!(
            channels.is_multiple_of(self.groups) && self.out_channels.is_multiple_of(self.groups),
            "{} groups must divide {channels} input channels and {} output channels",
            self.groups,
            self.out_channels
        );
        let expected = self.out_channels * (channels / self.groups) * self.kernel * self.kernel;
        assert_eq!(self.weight.len(), expected, "number of weights of a convolution");
    }
}

/// The geometry of a convolution: how input rows are arranged, and which outputs each kernel
/// position contributes to.
struct Scan {
    /// Height and width of an input plane in pixels.
    input: (usize, usize),
    /// Width of an output row in pixels.
    width: usize,
    stride: usize,
    padding: usize,
    /// For each ky, the output rows whose input row exists.
    rows: Vec<Range<usize>>,
    /// For each kx, the output columns whose input column exists.
    columns: Vec<Range<usize>>,
}

impl Scan {
    fn new<W>(conv: &Conv<'_, W>, input: (usize, usize), output: (usize, usize)) -> Self {
        let (stride, padding) = (conv.stride, conv.padding);
        // A 1x1 kernel reads no neighbours, so the whole plane can be treated as one long row.
        let pointwise = (conv.kernel, stride, padding) == (1, 1, 0);
        let one_row = |(h, w)| if pointwise { (1, h * w) } else { (h, w) };
        let (input, output) = (one_row(input), one_row(output));
        let reach = |inside, outside| -> Vec<Range<usize>> {
            (0..conv.kernel).map(|k| reach(k, stride, padding, inside, outside)).collect()
        };
        let (rows, columns) = (reach(input.0, output.0), reach(input.1, output.1));
        Scan { input, width: output.1, stride, padding, rows, columns }
    }

    /// Number of values in each of the `stride` parts of an arranged row.
    fn part(&self) -> usize {
        self.input.1.div_ceil(self.stride)
    }

    /// Number of values in an arranged plane.
    fn plane(&self) -> usize {
        self.input.0 * self.stride * self.part()
    }

    /// Index of an input column within an arranged row.
    fn place(&self, column: usize) -> usize {
        column % self.stride * self.part() + column / self.stride
    }

    /// Reorders every row so that neighbouring outputs read neighbouring values: for a stride of 2,
    /// first the even columns and then the odd ones.
    fn arrange<'a>(&self, wide: Cow<'a, [f64]>) -> Cow<'a, [f64]> {
        if self.stride == 1 {
            return wide;
        }
        let (width, length) = (self.input.1, self.stride * self.part());
        let mut arranged = vec![0.0; wide.len() / width * length];
        for (to, from) in arranged.chunks_mut(length).zip(wide.chunks(width)) {
            for (column, &value) in from.iter().enumerate() {
                to[self.place(column)] = value;
            }
        }
        Cow::Owned(arranged)
    }

    /// Adds the contribution of one kernel position to every output of the plane.
    fn add(&self, sums: &mut [f64], source: &[f64], (ky, kx): (usize, usize), weight: f64) {
        let columns = self.columns[kx].clone();
        if columns.is_empty() {
            return;
        }
        let left = self.place(columns.start * self.stride + kx - self.padding);
        let length = self.stride * self.part();
        for row in self.rows[ky].clone() {
            let above = (row * self.stride + ky - self.padding) * length;
            let from = &source[above + left..][..columns.len()];
            let to = &mut sums[row * self.width..][columns.clone()];
            for (sum, &x) in to.iter_mut().zip(from) {
                *sum += weight * x;
            }
        }
    }
}

/// The output positions o for which 0 <= stride * o + k - padding < side.
fn reach(k: usize, stride: usize, padding: usize, side: usize, outputs: usize) -> Range<usize> {
    let start = padding.saturating_sub(k).div_ceil(stride);
    let end = (side + padding).saturating_sub(k).div_ceil(stride).min(outputs);
    start.min(end)..end
}
