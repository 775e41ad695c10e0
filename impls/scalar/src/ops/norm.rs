//! Batch normalisation with the statistics of training.

use crate::map::Map;
use crate::real::Real;

/// (x - running_mean) / sqrt(running_var + eps) * weight + bias, per channel.
#[derive(Debug, Clone, Copy)]
pub struct BatchNorm<'a> {
    /// `[C]`.
    pub weight: &'a [f32],
    /// `[C]`.
    pub bias: &'a [f32],
    /// `[C]`.
    pub running_mean: &'a [f32],
    /// `[C]`.
    pub running_var: &'a [f32],
    /// Keeps the root away from 0.
    pub eps: f64,
}

impl BatchNorm<'_> {
    /// Normalises [N, C, H, W], in f64.
    pub fn apply<T: Real>(&self, x: &Map<T>) -> Map<T> {
        let channels = self.weight.len();
        assert_eq!(x.c, channels, "channels of a batch normalisation");
        let scale: Vec<f64> = (self.weight.iter().zip(self.running_var))
            .map(|(&w, &var)| f64::from(w) / (f64::from(var) + self.eps).sqrt())
            .collect();
        x.mapped_planes(|plane, v| {
            let c = plane % channels;
            let centred = v.to_f64() - f64::from(self.running_mean[c]);
            T::from_f64(centred * scale[c] + f64::from(self.bias[c]))
        })
    }
}
