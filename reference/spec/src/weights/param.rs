//! One tensor of weights.

use crate::tensor::Data;

/// A tensor of weights. Every engine computes with float32 values; where a checkpoint stores
/// float64 ones that no float32 holds, those are kept beside them for a comparison in float64.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// Shape in PyTorch's order: OIHW, dense [out, in], positional embedding [1, T, h, w].
    pub shape: Vec<usize>,
    /// The values, row-major.
    pub data: Vec<f32>,
    /// What `data` was rounded from, where that changed a value. A value of `data` that is not its
    /// rounding has been changed since, and counts.
    exact: Option<Vec<f64>>,
}

impl Param {
    /// A tensor of float32 values, row-major.
    pub fn new(shape: Vec<usize>, data: Vec<f32>) -> Self {
        Param { shape, data, exact: None }
    }

    /// A tensor in the precision that it is stored in.
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

    /// Whether there are values that no float32 holds.
    pub fn is_double(&self) -> bool {
        self.exact.is_some()
    }

    /// The values as the checkpoint stores them, row-major; exact.
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

    /// Changes the values, given with the shape, row-major. Those of a tensor in float32 are rounded
    /// to float32 again, those of one with float64 values stay in float64 too.
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
    fn float64_values_are_kept_where_they_say_more() {
        let plain = Param::of(vec![2], Data::F64(vec![0.5, -2.0]));
        assert_eq!((plain.is_double(), plain.data.as_slice()), (false, &[0.5, -2.0][..]));
        let mut exact = Param::of(vec![2], Data::F64(vec![0.1, -2.0]));
        assert_eq!(exact.data, [0.1, -2.0]);
        assert_eq!(exact.to_f64(), [0.1, -2.0]);
        exact.data[0] = 7.0;
        assert_eq!(exact.to_f64(), [7.0, -2.0], "what was changed in float32 counts");
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
