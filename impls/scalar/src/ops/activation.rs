//! Element-wise non-linearities.

use crate::map::Map;
use crate::real::Real;

/// max(x, 0). NaN stays NaN, as in PyTorch: a maximum that drops NaN would hide an error of an
/// earlier module.
pub fn relu<T: Real>(x: &Map<T>) -> Map<T> {
    x.mapped(|v| if v <= T::ZERO { T::ZERO } else { v })
}

/// 1 / (1 + exp(-x)), computed in f64 and rounded once.
pub fn sigmoid<T: Real>(x: &Map<T>) -> Map<T> {
    x.mapped(|v| T::from_f64(1.0 / (1.0 + (-v.to_f64()).exp())))
}
