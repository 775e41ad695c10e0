//! The fully connected layer of the classifier.

use rayon::prelude::*;

use crate::map::Map;
use crate::real::Real;

/// y = W x + b for each clip.
#[derive(Debug, Clone, Copy)]
pub struct Linear<'a, W = f32> {
    /// W, `[out, in]`.
    pub weight: &'a [W],
    /// b, `[out]`.
    pub bias: &'a [W],
}

impl<W: Real> Linear<'_, W> {
    /// Maps features [N, in, 1, 1] to outputs [N, out, 1, 1].
    pub fn apply<T: Real>(&self, x: &Map<T>) -> Map<T> {
        assert_eq!((x.h, x.w), (1, 1), "a linear layer reads maps of one pixel");
        let outputs = self.bias.len();
        assert_eq!(self.weight.len(), outputs * x.c, "values of a weight [{outputs}, {}]", x.c);
        let mut out = Map::filled([x.n, outputs, 1, 1], T::ZERO);
        let wide = T::widen(&x.data);
        out.data.par_iter_mut().enumerate().for_each(|(index, y)| {
            let (n, o) = (index / outputs, index % outputs);
            let features = &wide[n * x.c..][..x.c];
            let row = &self.weight[o * x.c..][..x.c];
            let products = features.iter().zip(row).map(|(&v, &w)| v * w.to_f64());
            *y = T::from_f64(self.bias[o].to_f64() + products.sum::<f64>());
        });
        out
    }
}
