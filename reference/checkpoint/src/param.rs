//! [`Param`], one tensor of weights.

use spec::Data;

/// A tensor of weights. Every engine uses the float32 values, except in float64. If a checkpoint stores
/// float64 values that float32 cannot represent, they are kept in addition, for engines in float64.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// Shape in PyTorch's order: convolutions [out, in, kh, kw], linear layers [out, in], positional
    /// embeddings [1, 16, h, w].
    pub shape: Vec<usize>,
    /// The values in float32, row-major.
    pub data: Vec<f32>,
    /// The values before rounding to `data`, if rounding changed any. A value of `data` that is not
    /// the rounded exact value was changed later and takes precedence.
    exact: Option<Vec<f64>>,
}

impl Param {
    /// Makes a tensor of float32 values, row-major.
    pub fn new(shape: Vec<usize>, data: Vec<f32>) -> Self {
        Param { shape, data, exact: None }
    }

    /// Makes a tensor from row-major values in the precision of the checkpoint.
    pub fn of(shape: Vec<usize>, data: Data) -> Self {
        match data {
            Data::F32(data) => Param::new(shape, data),
            Data::F64(exact) => {
                let data: Vec<f32> = exact.iter().map(|&x| x as f32).collect();
                let changed =
                    exact.iter().zip(&data).any(|(&x, &y)| x.is_finite() && f64::from(y) != x);
                Param { shape, data, exact: changed.then_some(exact) }
            }
        }
    }

    /// Whether there are values that float32 cannot represent.
    pub fn is_double(&self) -> bool {
        self.exact.is_some()
    }

    /// The values in the precision of the checkpoint, row-major and exact.
    pub fn to_f64(&self) -> Vec<f64> {
        let wide = self.data.iter().map(|&y| f64::from(y));
        let Some(exact) = &self.exact else { return wide.collect() };
        let unchanged = |x: f64, y: f64| (x as f32).to_bits() == (y as f32).to_bits();
        let both = wide.enumerate().map(|(at, y)| match exact.get(at) {
            Some(&x) if unchanged(x, y) => x,
            _ => y,
        });
        both.collect()
    }

    /// Changes the values with a function of the shape and the row-major values. The new values of a
    /// float32 tensor are rounded to float32; those of a tensor with float64 values are kept in
    /// float64 as well.
    pub fn edit(&mut self, change: impl FnOnce(&[usize], &mut [f64])) {
        let mut values = self.to_f64();
        change(&self.shape, &mut values);
        let shape = std::mem::take(&mut self.shape);
        *self = match self.is_double() {
            true => Param::of(shape, Data::F64(values)),
            false => Param::new(shape, values.iter().map(|&x| x as f32).collect()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float64_values_are_kept_if_float32_cannot_represent_them() {
        let plain = Param::of(vec![2], Data::F64(vec![0.5, -2.0]));
        assert_eq!((plain.is_double(), plain.data.as_slice()), (false, &[0.5, -2.0][..]));
        let mut exact = Param::of(vec![2], Data::F64(vec![0.1, -2.0]));
        assert_eq!(exact.data, [0.1, -2.0]);
        assert_eq!(exact.to_f64(), [0.1, -2.0]);
        exact.data[0] = 7.0;
        assert_eq!(exact.to_f64(), [7.0, -2.0], "a value changed in float32 takes precedence");
        assert_eq!(Param::new(vec![1], vec![0.1]).to_f64(), [f64::from(0.1f32)]);
    }

    #[test]
    fn an_edit_changes_both_copies() {
        let double = |_: &[usize], values: &mut [f64]| values.iter_mut().for_each(|x| *x *= 3.0);
        let mut exact = Param::of(vec![1], Data::F64(vec![0.1]));
        exact.edit(double);
        assert_eq!((exact.to_f64(), exact.data), (vec![0.1 * 3.0], vec![(0.1 * 3.0) as f32]));
        let mut plain = Param::new(vec![1], vec![0.1]);
        plain.edit(double);
        assert_eq!(plain.data, [(f64::from(0.1f32) * 3.0) as f32]);
        assert_eq!(plain.to_f64(), [f64::from(plain.data[0])]);
    }
}
