//! Batch normalisation in inference mode, with the running statistics from training.

use crate::map::Map;
use crate::real::Real;

/// (x - running_mean) / sqrt(running_var + eps) * weight + bias, for each channel.
#[derive(Debug, Clone, Copy)]
pub struct BatchNorm<'a, W = f32> {
    /// Scale of each channel, `[C]`.
    pub weight: &'a [W],
    /// Shift of each channel, `[C]`.
    pub bias: &'a [W],
    /// Mean of each channel during training, `[C]`.
    pub running_mean: &'a [W],
    /// Variance of each channel during training, `[C]`.
    pub running_var: &'a [W],
    /// Added to the variance, so that the square root is never 0.
    pub eps: f64,
}

impl<W: Real> BatchNorm<'_, W> {
    /// Normalises maps [N, C, H, W]; computes in f64 and rounds once.
    pub fn apply<T: Real>(&self, x: &Map<T>) -> Map<T> {
        let channels = self.weight.len();
        assert_eq!(x.c, channels, "channels of a batch normalisation");
        let scale: Vec<f64> = (self.weight.iter().zip(self.running_var))
            .map(|(&w, &var)| w.to_f64() / (var.to_f64() + self.eps).sqrt())
            .collect();
        x.mapped_planes(|plane, v| {
            let c = plane % channels;
            let centred = v.to_f64() - self.running_mean[c].to_f64();
            T::from_f64(centred * scale[c] + self.bias[c].to_f64())
        })
    }
}
