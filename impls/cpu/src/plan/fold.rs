//! Weights and folded normalisations, in f64 until they are packed and rounded once.

use std::sync::Arc;

use checkpoint::{Param, Weights};
use spec::model::{BatchNorm, Conv, Linear};
use spec::{EngineError, Model};

/// The weights of a model, checked against its description. The weights of a convolution are
/// removed when they are taken for packing, so that a large model is not held twice.
pub struct Params(Weights);

/// The weight [out, in / groups, k, k] and the bias `[out]` of a convolution.
pub struct Kernel {
    weight: Arc<Param>,
    bias: Option<Arc<Param>>,
    taps: usize,
    inner: usize,
}

impl Kernel {
    /// The weight for an output, an input channel and a tap (taps are row-major).
    pub fn at(&self, output: usize, channel: usize, tap: usize) -> f64 {
        f64::from(self.weight.data[(output * self.inner + channel) * self.taps + tap])
    }

    /// The nine taps of a 3x3 kernel.
    pub fn taps(&self, output: usize, channel: usize) -> [f64; 9] {
        std::array::from_fn(|tap| self.at(output, channel, tap))
    }

    /// The bias of an output; 0 if the convolution has none.
    pub fn bias(&self, output: usize) -> f64 {
        self.bias.as_ref().map_or(0.0, |bias| f64::from(bias.data[output]))
    }
}

/// y = x * scale + shift, to which a batch normalisation with running statistics reduces.
pub struct Affine {
    /// Scale of each channel.
    pub scale: Vec<f64>,
    /// Shift of each channel.
    pub shift: Vec<f64>,
}

impl Params {
    /// Checks the weights: a missing tensor is [`EngineError::MissingWeight`], one of another shape
    /// [`EngineError::Shape`].
    pub fn new(model: &Model, weights: Weights) -> Result<Self, EngineError> {
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
        }
        Ok(Params(weights))
    }

    /// The values of a tensor by name. Fails if it was taken.
    pub fn get(&self, name: &str) -> Result<&[f32], EngineError> {
        let found = self.0.get(name).ok_or_else(|| EngineError::MissingWeight(name.to_owned()))?;
        Ok(&found.data)
    }

    /// Takes the weights of `conv`; a second call fails, because packing consumes them.
    pub fn kernel(&mut self, conv: &Conv) -> Result<Kernel, EngineError> {
        let bias = match conv.bias {
            true => Some(self.take(&format!("{}.bias", conv.name))?),
            false => None,
        };
        let weight = self.take(&format!("{}.weight", conv.name))?;
        let inner = conv.in_channels / conv.groups;
        Ok(Kernel { weight, bias, taps: conv.kernel * conv.kernel, inner })
    }

    /// Takes the weights of a dense layer as those of a 1x1 convolution; a second call fails.
    pub fn dense(&mut self, fc: &Linear) -> Result<Kernel, EngineError> {
        let bias = Some(self.take(&format!("{}.bias", fc.name))?);
        let weight = self.take(&format!("{}.weight", fc.name))?;
        Ok(Kernel { weight, bias, taps: 1, inner: fc.in_features })
    }

    fn take(&mut self, name: &str) -> Result<Arc<Param>, EngineError> {
        self.0.take(name).ok_or_else(|| EngineError::MissingWeight(name.to_owned()))
    }

    /// The scale and shift of a normalisation.
    pub fn affine(&self, bn: &BatchNorm) -> Result<Affine, EngineError> {
        let leaf = |name: &str| self.get(&format!("{}.{name}", bn.name));
        let (weight, bias) = (leaf("weight")?, leaf("bias")?);
        let (mean, var) = (leaf("running_mean")?, leaf("running_var")?);
        let scale: Vec<f64> = (0..bn.channels)
            .map(|c| f64::from(weight[c]) / (f64::from(var[c]) + bn.eps).sqrt())
            .collect();
        let shift =
            (0..bn.channels).map(|c| f64::from(bias[c]) - f64::from(mean[c]) * scale[c]).collect();
        Ok(Affine { scale, shift })
    }

    /// The scale and shift of a normalisation after a convolution, with the convolution's bias
    /// included.
    pub fn affine_of(&self, kernel: &Kernel, bn: &BatchNorm) -> Result<Affine, EngineError> {
        let mut affine = self.affine(bn)?;
        for (c, shift) in affine.shift.iter_mut().enumerate() {
            *shift += kernel.bias(c) * affine.scale[c];
        }
        Ok(affine)
    }
}
