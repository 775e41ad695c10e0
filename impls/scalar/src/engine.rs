//! [`Scalar`], which implements [`spec::Engine`].

use std::sync::Arc;

use checkpoint::Weights;
use spec::{Engine, EngineError, Model, Precision, Tap, Tensor};

use crate::map::Map;
use crate::network::Walk;
use crate::params::Params;
use crate::real::Real;
use crate::tap::Probe;

/// The scalar engine: a model with its weights, in precision `T` (f32 or f64).
#[derive(Debug, Clone)]
pub struct Scalar<T> {
    model: Arc<Model>,
    params: Params<T>,
}

impl<T: Real> Scalar<T> {
    /// Copies the weights that the model needs. Fails with [`EngineError::MissingWeight`] if a tensor
    /// is missing and with [`EngineError::Shape`] if it has another shape.
    pub fn new(model: Arc<Model>, weights: &Weights) -> Result<Self, EngineError> {
        let params = Params::new(&model, weights)?;
        Ok(Scalar { model, params })
    }

    /// Reinterprets clips [N, 3, T, H, W] as maps [N, 3 T, H, W]: the same values in the same order,
    /// so that channel index = colour * T + frame.
    fn clip(&self, input: &Tensor) -> Result<Map<T>, EngineError> {
        let n = input.shape.first().copied().unwrap_or(0);
        let expected = self.model.input_shape(n);
        let [_, colours, frames, h, w] = input.shape[..] else {
            return Err(wrong_shape(expected, input));
        };
        if input.shape != expected {
            return Err(wrong_shape(expected, input));
        }
        Ok(Map::new([n, colours * frames, h, w], T::values(input)))
    }
}

fn wrong_shape(expected: Vec<usize>, input: &Tensor) -> EngineError {
    EngineError::Shape { what: "input".to_owned(), expected, got: input.shape.clone() }
}

impl<T: Real> Engine for Scalar<T> {
    fn describe(&self) -> String {
        format!("scalar {} on cpu", T::PRECISION)
    }

    fn precision(&self) -> Precision {
        T::PRECISION
    }

    fn forward(&mut self, input: &Tensor, tap: &mut dyn Tap) -> Result<Tensor, EngineError> {
        let clip = self.clip(input)?;
        let n = clip.n;
        let walk = Walk::new(&self.model, &self.params, Probe::new(&self.model, tap));
        let output = walk.run(clip)?;
        let shape = self.model.module(self.model.output()).batch_shape(n);
        Ok(T::tensor(shape, output.data))
    }
}
