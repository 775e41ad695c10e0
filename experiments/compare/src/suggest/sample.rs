//! Samples of tensors, by which arrays are compared with modules without holding either in memory.

use spec::Tensor;

/// At most this many values of a tensor are kept. The correlation of independent values then scatters
/// by about 0.01.
pub const SAMPLE: usize = 8192;

/// Values at fixed positions of a tensor, which depend on its number of values only.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample(pub Vec<f64>);

/// Index of the n-th sampled value among `len`: one at a reproducible place in each of [`SAMPLE`] equal
/// parts, so that no period of the layout repeats in the sample.
pub fn position(n: usize, len: usize) -> usize {
    if len <= SAMPLE {
        return n;
    }
    let hash = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40;
    let (from, to) = (n * len / SAMPLE, (n + 1) * len / SAMPLE);
    from + hash as usize % (to - from).max(1)
}

impl Sample {
    /// The sample of a tensor.
    pub fn of(tensor: &Tensor) -> Self {
        let len = tensor.len();
        Sample((0..len.min(SAMPLE)).map(|n| tensor.at(position(n, len))).collect())
    }

    /// max(x, 0) of every value.
    pub fn relu(&self) -> Self {
        Sample(self.0.iter().map(|x| x.max(0.0)).collect())
    }

    /// The sum of two samples of tensors of one shape.
    pub fn plus(&self, other: &Sample) -> Option<Self> {
        let same = self.0.len() == other.0.len();
        same.then(|| Sample(self.0.iter().zip(&other.0).map(|(a, b)| a + b).collect()))
    }

    /// Whether the values are finite.
    pub fn is_finite(&self) -> bool {
        self.0.iter().all(|x| x.is_finite())
    }

    /// Whether two samples hold the same bits.
    pub fn same_bits(&self, other: &Sample) -> bool {
        let bits = |sample: &Sample| -> Vec<u64> { sample.0.iter().map(|x| x.to_bits()).collect() };
        self.0.len() == other.0.len() && bits(self) == bits(other)
    }

    /// Pearson's correlation of two samples: 1 if one is the other times a positive factor plus an
    /// offset. It is 0 where it is not defined: for NaN, infinity and constant values, except that two
    /// equal samples correlate.
    pub fn correlation(&self, other: &Sample) -> f64 {
        if self.0.len() != other.0.len() {
            return 0.0;
        }
        if self == other {
            return 1.0;
        }
        let count = self.0.len() as f64;
        let mean = |sample: &Sample| sample.0.iter().sum::<f64>() / count;
        let (a, b) = (mean(self), mean(other));
        let (mut dot, mut left, mut right) = (0.0, 0.0, 0.0);
        for (x, y) in self.0.iter().zip(&other.0) {
            dot += (x - a) * (y - b);
            left += (x - a) * (x - a);
            right += (y - b) * (y - b);
        }
        let found = dot / (left * right).sqrt();
        if found.is_finite() { found } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_ascend_and_stay_inside() {
        for len in [1, SAMPLE, SAMPLE + 1, 3 * SAMPLE + 7, 1 << 20] {
            let all: Vec<usize> = (0..len.min(SAMPLE)).map(|n| position(n, len)).collect();
            assert!(all.is_sorted() && all[all.len() - 1] < len, "{len}");
        }
    }

    #[test]
    fn a_correlation_ignores_factor_and_offset_and_is_never_nan() {
        let sample =
            |f: fn(f64) -> f64| Sample((0..100).map(|n| f((f64::from(n) * 0.7).sin())).collect());
        let own = sample(|x| x);
        assert!((own.correlation(&sample(|x| 3.0 * x + 1.0)) - 1.0).abs() < 1e-12);
        assert!((own.correlation(&sample(|x| -x)) + 1.0).abs() < 1e-12);
        assert_eq!(own.correlation(&sample(|_| f64::NAN)), 0.0);
        assert_eq!(own.correlation(&sample(|_| 2.0)), 0.0);
        assert_eq!(own.correlation(&Sample(vec![1.0])), 0.0);
    }
}
