//! The learned parameters, whose names and shapes are checked once, at load.

use std::collections::HashMap;

use checkpoint::Weights;
use spec::model::{BatchNorm, Conv, Linear, PosEmbedding};
use spec::{EngineError, Model};

use crate::ops::{conv, linear, norm};
use crate::real::Real;

/// Every tensor of the model's state dict under its official name, in the engine's precision. Values
/// that a checkpoint stores as float64 keep that precision when `T` is f64.
#[derive(Debug, Clone)]
pub struct Params<T>(HashMap<String, Vec<T>>);

impl<T: Real> Params<T> {
    /// Copies the tensors that the model needs. Fails if one is missing or has another shape.
    pub fn new(model: &Model, weights: &Weights) -> Result<Self, EngineError> {
        let mut params = HashMap::new();
        for wanted in model.parameters() {
            let missing = || EngineError::MissingWeight(wanted.name.clone());
            let found = weights.get(&wanted.name).ok_or_else(missing)?;
            if found.shape != wanted.shape {
                return Err(EngineError::Shape {
                    what: wanted.name.clone(),
                    expected: wanted.shape.clone(),
                    got: found.shape.clone(),
                });
            }
            params.insert(wanted.name.clone(), T::param(found));
        }
        Ok(Params(params))
    }

    fn get(&self, name: &str) -> Result<&[T], EngineError> {
        let found = self.0.get(name).ok_or_else(|| EngineError::MissingWeight(name.to_owned()))?;
        Ok(found)
    }

    fn leaf(&self, module: &str, leaf: &str) -> Result<&[T], EngineError> {
        self.get(&format!("{module}.{leaf}"))
    }

    /// The convolution of a module, with its weights and bias.
    pub fn conv(&self, module: &Conv) -> Result<conv::Conv<'_, T>, EngineError> {
        let bias = module.bias.then(|| self.leaf(&module.name, "bias")).transpose()?;
        Ok(conv::Conv {
            weight: self.leaf(&module.name, "weight")?,
            bias,
            out_channels: module.out_channels,
            kernel: module.kernel,
            stride: module.stride,
            padding: module.padding,
            groups: module.groups,
        })
    }

    /// The batch normalisation of a module, with its parameters and statistics.
    pub fn batch_norm(&self, module: &BatchNorm) -> Result<norm::BatchNorm<'_, T>, EngineError> {
        Ok(norm::BatchNorm {
            weight: self.leaf(&module.name, "weight")?,
            bias: self.leaf(&module.name, "bias")?,
            running_mean: self.leaf(&module.name, "running_mean")?,
            running_var: self.leaf(&module.name, "running_var")?,
            eps: module.eps,
        })
    }

    /// The linear layer of a module, with its weights and bias.
    pub fn linear(&self, module: &Linear) -> Result<linear::Linear<'_, T>, EngineError> {
        Ok(linear::Linear {
            weight: self.leaf(&module.name, "weight")?,
            bias: self.leaf(&module.name, "bias")?,
        })
    }

    /// The positional embedding [1, 16, p, p] as it was learned, before any resize.
    pub fn pos_embed(&self, module: &PosEmbedding) -> Result<&[T], EngineError> {
        self.get(&module.name)
    }
}
