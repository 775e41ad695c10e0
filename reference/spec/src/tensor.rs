//! The tensor that engines and comparisons exchange.

/// The values of a tensor, in the precision in which they are stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Single precision. Engines that compute in a half format return float32, which is exact.
    F32(Vec<f32>),
    /// Double precision, as in float64 engines and dumps.
    F64(Vec<f64>),
}

impl Data {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(v) => v.len(),
            Data::F64(v) => v.len(),
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values converted to float64, which is exact.
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Data::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::F64(v) => v.clone(),
        }
    }

    /// The values rounded once to float32.
    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            Data::F32(v) => v.clone(),
            Data::F64(v) => v.iter().map(|&x| x as f32).collect(),
        }
    }
}

/// A dense, row-major tensor. Activations are [N, C, H, W], the input is [N, 3, T, H, W].
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// The extent of each dimension.
    pub shape: Vec<usize>,
    /// The values; their number is the product of the extents.
    pub data: Data,
}

impl Tensor {
    /// Makes a float32 tensor. Panics if the number of values does not match the shape, because that is
    /// a bug in the caller.
    pub fn f32(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Self {
        let shape = shape.into();
        assert_eq!(
            shape.iter().product::<usize>(),
            data.len(),
            "number of values for shape {shape:?}"
        );
        Tensor { shape, data: Data::F32(data) }
    }

    /// Makes a float64 tensor. Panics if the number of values does not match the shape, because that is
    /// a bug in the caller.
    pub fn f64(shape: impl Into<Vec<usize>>, data: Vec<f64>) -> Self {
        let shape = shape.into();
        assert_eq!(
            shape.iter().product::<usize>(),
            data.len(),
            "number of values for shape {shape:?}"
        );
        Tensor { shape, data: Data::F64(data) }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no values, as in a batch of 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value at a flat index, widened to float64, which is exact.
    pub fn at(&self, index: usize) -> f64 {
        match &self.data {
            Data::F32(v) => f64::from(v[index]),
            Data::F64(v) => v[index],
        }
    }

    /// All values, widened to float64.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = f64> + '_ {
        (0..self.len()).map(|index| self.at(index))
    }

    /// The values converted to float64, which is exact.
    pub fn to_f64(&self) -> Vec<f64> {
        self.data.to_f64()
    }

    /// The values rounded once to float32.
    pub fn to_f32(&self) -> Vec<f32> {
        self.data.to_f32()
    }
}

/// The relative L2 distance ‖got - want‖ / ‖want‖: 0 if both are equal, NaN if either holds a NaN, and
/// infinite if the lengths differ.
pub fn relative_l2(got: &[f64], want: &[f64]) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    let error: f64 = got.iter().zip(want).map(|(g, w)| (g - w) * (g - w)).sum();
    let norm: f64 = want.iter().map(|w| w * w).sum();
    if error == 0.0 { 0.0 } else { (error / norm).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::relative_l2;

    #[test]
    fn the_distance_is_relative_and_no_nan_or_missing_value_is_close() {
        assert_eq!(relative_l2(&[1.0, 2.0, 5.0], &[1.0, 2.0, 2.0]), 1.0);
        assert_eq!(relative_l2(&[0.0], &[0.0]), 0.0);
        assert_eq!(relative_l2(&[1.0], &[0.0]), f64::INFINITY);
        assert_eq!(relative_l2(&[1.0], &[1.0, 1.0]), f64::INFINITY);
        assert!(relative_l2(&[f64::NAN], &[1.0]).is_nan());
    }
}
