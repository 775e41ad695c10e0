//! Feature maps in float64 and the operations of the network on them, in plain loops. They compute what
//! one module would give with a mistake. Verdicts do not depend on them, only explanations do.

use rayon::prelude::*;
use spec::{Precision, Tensor};

/// Feature maps [N, C, H, W]. Vectors have H = W = 1, and a clip is [N, 3 T, H, W].
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// The extents N, C, H and W.
    pub shape: [usize; 4],
    /// The values, row-major.
    pub data: Vec<f64>,
}

/// A window that slides over a map. The padding may differ on the two sides of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Height and width of the window in pixels.
    pub kernel: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// Rows of padding above the map.
    pub top: usize,
    /// Columns of padding left of the map.
    pub left: usize,
    /// Height and width of the output, which determine the padding below and right of the map.
    pub out: (usize, usize),
}

/// The channels of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    /// Number of output channels.
    pub out: usize,
    /// Number of input channels that one output channel reads.
    pub each: usize,
    /// Number of groups.
    pub groups: usize,
}

impl Map {
    /// The values of a module's output [N, C, H, W] or [N, C], or of a clip [N, 3, T, H, W].
    pub fn of(tensor: &Tensor) -> Map {
        let shape = match tensor.shape[..] {
            [n, c, t, h, w] => [n, c * t, h, w],
            [n, c, h, w] => [n, c, h, w],
            [n, c] => [n, c, 1, 1],
            _ => [1, tensor.len(), 1, 1],
        };
        Map { shape, data: tensor.to_f64() }
    }

    /// The values as a tensor of this shape, rounded to a precision.
    pub fn tensor(&self, shape: Vec<usize>, precision: Precision) -> Tensor {
        precision.round(Tensor::f64(shape, self.data.clone()))
    }

    /// Number of pixels of one plane.
    fn area(&self) -> usize {
        self.shape[2] * self.shape[3]
    }

    /// Applies a function to each value.
    pub fn each(&self, f: impl Fn(f64) -> f64 + Sync) -> Map {
        Map { shape: self.shape, data: self.data.par_iter().map(|&x| f(x)).collect() }
    }

    /// Applies a function to the values of two maps. An axis of 1 is broadcast.
    pub fn broadcast(&self, other: &Map, f: impl Fn(f64, f64) -> f64) -> Map {
        let mut shape = self.shape;
        for (extent, of_other) in shape.iter_mut().zip(other.shape) {
            *extent = (*extent).max(of_other);
        }
        let steps = |map: &Map| {
            let [_, c, h, w] = map.shape;
            let strides = [c * h * w, h * w, w, 1];
            std::array::from_fn(|i| if map.shape[i] == 1 { 0 } else { strides[i] })
        };
        let (a, b): ([usize; 4], [usize; 4]) = (steps(self), steps(other));
        let mut data = Vec::with_capacity(shape.iter().product());
        for n in 0..shape[0] {
            for c in 0..shape[1] {
                for y in 0..shape[2] {
                    for x in 0..shape[3] {
                        let at = |s: [usize; 4]| n * s[0] + c * s[1] + y * s[2] + x * s[3];
                        data.push(f(self.data[at(a)], other.data[at(b)]));
                    }
                }
            }
        }
        Map { shape, data }
    }

    /// Applies a function of the channel's index and the value to each value of a map [N, C, H, W].
    fn by_channel(&self, f: impl Fn(usize, f64) -> f64) -> Map {
        let mut out = self.clone();
        let (area, channels) = (self.area().max(1), self.shape[1].max(1));
        for (plane, values) in out.data.chunks_mut(area).enumerate() {
            values.iter_mut().for_each(|x| *x = f(plane % channels, *x));
        }
        out
    }

    /// Convolution with a weight [out, each, k, k] and an optional bias `[out]`.
    pub fn conv(
        &self,
        weight: &[f64],
        bias: Option<&[f64]>,
        channels: Channels,
        window: Window,
    ) -> Map {
        let [n, c, h, w] = self.shape;
        let Window { kernel, stride, top, left, out: (oh, ow) } = window;
        let mut out = vec![0.0; n * channels.out * oh * ow];
        let per_group = channels.out / channels.groups.max(1);
        out.par_chunks_mut((oh * ow).max(1)).enumerate().for_each(|(plane, sums)| {
            let (clip, o) = (plane / channels.out, plane % channels.out);
            sums.fill(bias.map_or(0.0, |bias| bias[o]));
            let first = o / per_group.max(1) * channels.each;
            for i in 0..channels.each {
                let from = (clip * c + first + i) * h * w;
                let map = &self.data[from..from + h * w];
                for ky in 0..kernel {
                    for kx in 0..kernel {
                        let factor = weight[((o * channels.each + i) * kernel + ky) * kernel + kx];
                        for y in 0..oh {
                            let Some(row) = inside(y * stride + ky, top, h) else { continue };
                            for x in 0..ow {
                                if let Some(column) = inside(x * stride + kx, left, w) {
                                    sums[y * ow + x] += factor * map[row * w + column];
                                }
                            }
                        }
                    }
                }
            }
        });
        Map { shape: [n, channels.out, oh, ow], data: out }
    }

    /// The largest value under the window. Padding does not count, and NaN is the largest.
    pub fn max_pool(&self, window: Window) -> Map {
        let [n, c, h, w] = self.shape;
        let Window { kernel, stride, top, left, out: (oh, ow) } = window;
        let mut data = Vec::with_capacity(n * c * oh * ow);
        for map in self.data.chunks(self.area().max(1)) {
            for y in 0..oh {
                for x in 0..ow {
                    let mut top_value = f64::NEG_INFINITY;
                    for row in (0..kernel).filter_map(|ky| inside(y * stride + ky, top, h)) {
                        for column in (0..kernel).filter_map(|kx| inside(x * stride + kx, left, w))
                        {
                            let value = map[row * w + column];
                            let larger = value > top_value || value.is_nan();
                            top_value = if larger { value } else { top_value };
                        }
                    }
                    data.push(top_value);
                }
            }
        }
        Map { shape: [n, c, oh, ow], data }
    }

    /// Batch normalisation: (x - mean) / sqrt(var + eps) * weight + bias for each channel.
    pub fn norm(&self, [weight, bias, mean, var]: [&[f64]; 4], eps: f64) -> Map {
        self.by_channel(|c, x| (x - mean[c]) / (var[c] + eps).sqrt() * weight[c] + bias[c])
    }

    /// Mean and (biased) variance of each channel over batch and map.
    pub fn statistics(&self) -> (Vec<f64>, Vec<f64>) {
        let (area, channels) = (self.area().max(1), self.shape[1].max(1));
        let count = (self.data.len() / channels).max(1) as f64;
        let sums = |f: &dyn Fn(usize, f64) -> f64| {
            let mut sums = vec![0.0; channels];
            for (plane, values) in self.data.chunks(area).enumerate() {
                let c = plane % channels;
                sums[c] += values.iter().map(|&x| f(c, x)).sum::<f64>();
            }
            sums.iter_mut().for_each(|sum| *sum /= count);
            sums
        };
        let mean = sums(&|_, x| x);
        let var = sums(&|c, x| (x - mean[c]) * (x - mean[c]));
        (mean, var)
    }

    /// Reduces each plane to one value: [N, C, H, W] to [N, C, 1, 1].
    pub fn global_pool(&self, f: impl Fn(&[f64]) -> f64) -> Map {
        let data = self.data.chunks(self.area().max(1)).map(f).collect();
        Map { shape: [self.shape[0], self.shape[1], 1, 1], data }
    }

    /// x W^T + bias for vectors x [N, C, 1, 1], a weight W [out, C] and a bias `[out]`.
    pub fn dense(&self, weight: &[f64], bias: &[f64]) -> Map {
        let inner = self.shape[1].max(1);
        let mut data = Vec::with_capacity(self.shape[0] * bias.len());
        for x in self.data.chunks(inner) {
            for (row, bias) in weight.chunks(inner).zip(bias) {
                data.push(bias + row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>());
            }
        }
        Map { shape: [self.shape[0], bias.len(), 1, 1], data }
    }

    /// Softmax over the channels of vectors [N, C, 1, 1].
    pub fn softmax(&self) -> Map {
        let mut out = self.clone();
        for row in out.data.chunks_mut(self.shape[1].max(1)) {
            let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            row.iter_mut().for_each(|x| *x = (*x - top).exp());
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|x| *x /= sum);
        }
        out
    }

    /// Reorders the planes of each clip: plane c of the result is plane `from(c)` of this map.
    pub fn planes(&self, from: impl Fn(usize) -> usize) -> Map {
        let (area, channels) = (self.area(), self.shape[1].max(1));
        let mut data = Vec::with_capacity(self.data.len());
        for clip in self.data.chunks((channels * area).max(1)) {
            for c in 0..channels {
                let at = from(c) * area;
                data.extend_from_slice(&clip[at..at + area]);
            }
        }
        Map { shape: self.shape, data }
    }

    /// As `by_channel`, for a clip, whose channels are planes: one colour of one frame each.
    pub fn by_plane(&self, f: impl Fn(usize, f64) -> f64) -> Map {
        self.by_channel(f)
    }
}

/// Converts an index along an axis of the padded map to one of the map; None if it lies in the padding.
fn inside(at: usize, before: usize, extent: usize) -> Option<usize> {
    at.checked_sub(before).filter(|&at| at < extent)
}

/// The padding before an axis of `size` pixels by the SAME rule of XLA and TensorFlow, which puts the
/// smaller half before the axis and the larger half after it.
pub fn same_padding(size: usize, kernel: usize, stride: usize) -> usize {
    let stride = stride.max(1);
    let reach = (size.div_ceil(stride).saturating_sub(1)) * stride + kernel;
    reach.saturating_sub(size) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f64]) -> Map {
        Map { shape: [1, 1, 1, values.len()], data: values.to_vec() }
    }

    /// `tf.nn.max_pool(…, 3, 2, 'SAME')` and `lax.reduce_window(…, 'SAME')` pad 1 after the last of
    /// an even number of pixels and 1 on each side of an odd number.
    #[test]
    fn same_padding_puts_the_smaller_half_first() {
        assert_eq!(same_padding(6, 3, 2), 0);
        assert_eq!(same_padding(7, 3, 2), 1);
        assert_eq!(same_padding(224, 5, 2), 1);
        assert_eq!(same_padding(225, 5, 2), 2);
        assert_eq!(same_padding(9, 2, 2), 0);
        assert_eq!(same_padding(8, 3, 1), 1);
    }

    #[test]
    fn the_window_of_a_max_pool_starts_where_its_padding_says() {
        let map = row(&[1.0, 5.0, 2.0, 7.0, 3.0, 4.0]);
        let pool = |left| {
            let window = Window { kernel: 3, stride: 2, top: 1, left, out: (1, 3) };
            map.max_pool(window).data
        };
        assert_eq!(pool(1), [5.0, 7.0, 7.0]);
        assert_eq!(pool(0), [5.0, 7.0, 4.0]);
    }

    #[test]
    fn a_convolution_is_a_cross_correlation_with_zeros_around() {
        let window = Window { kernel: 3, stride: 1, top: 1, left: 1, out: (1, 3) };
        let channels = Channels { out: 1, each: 1, groups: 1 };
        let weight = [0.0, 0.0, 0.0, 1.0, 10.0, 100.0, 0.0, 0.0, 0.0];
        let out = row(&[1.0, 2.0, 3.0]).conv(&weight, Some(&[0.5]), channels, window);
        assert_eq!(out.data, [210.5, 321.5, 32.5]);
    }

    #[test]
    fn groups_read_their_own_channels() {
        let map = Map { shape: [1, 2, 1, 1], data: vec![3.0, 5.0] };
        let window = Window { kernel: 1, stride: 1, top: 0, left: 0, out: (1, 1) };
        let depthwise = Channels { out: 2, each: 1, groups: 2 };
        assert_eq!(map.conv(&[2.0, 4.0], None, depthwise, window).data, [6.0, 20.0]);
    }

    #[test]
    fn a_gate_is_broadcast_over_the_map_and_an_embedding_over_the_batch() {
        let map = Map { shape: [2, 1, 1, 2], data: vec![1.0, 2.0, 3.0, 4.0] };
        let gate = Map { shape: [2, 1, 1, 1], data: vec![10.0, 100.0] };
        assert_eq!(map.broadcast(&gate, |x, g| x * g).data, [10.0, 20.0, 300.0, 400.0]);
        let embedding = Map { shape: [1, 1, 1, 2], data: vec![0.5, 0.25] };
        assert_eq!(map.broadcast(&embedding, |x, e| x + e).data, [1.5, 2.25, 3.5, 4.25]);
    }
}
