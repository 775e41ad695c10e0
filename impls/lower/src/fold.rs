//! Learned values as a plan needs them: checked, folded, and in float64, so that they are rounded
//! only once, when they are packed.

use std::sync::Arc;

use checkpoint::{Param, Weights};
use spec::model::{BatchNorm, Conv, Linear};
use spec::{EngineError, Model};

/// The weights of a model, of which [`Params::new`] has checked names and shapes. The weights of a
/// convolution are removed when they are taken, so that a model is not held twice while it is
/// packed.
pub struct Params(Weights);

/// Weight [out_channels, in_channels / groups, kernel, kernel] and bias of a convolution.
pub struct Kernel {
    weight: Arc<Param>,
    bias: Option<Arc<Param>>,
    /// Positions in the kernel: its height times its width.
    positions: usize,
    /// Input channels of a group.
    channels: usize,
}

impl Kernel {
    /// The weight for an output channel, an input channel and a position in the kernel, in row-major
    /// order.
    pub fn at(&self, output: usize, channel: usize, position: usize) -> f64 {
        let row = output * self.channels + channel;
        f64::from(self.weight.data[row * self.positions + position])
    }

    /// The bias of an output channel; 0 where the convolution has none.
    pub fn bias(&self, output: usize) -> f64 {
        self.bias.as_ref().map_or(0.0, |bias| f64::from(bias.data[output]))
    }
}

/// y = x * scale + shift: a batch normalisation with its running statistics.
pub struct Affine {
    /// One factor for each channel.
    pub scale: Vec<f64>,
    /// One summand for each channel.
    pub shift: Vec<f64>,
}

impl Params {
    /// Checks that the weights have every tensor of the model. A missing tensor is
    /// [`EngineError::MissingWeight`], one of another shape is [`EngineError::Shape`].
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

    /// The values of a tensor. Fails if it was taken.
    pub fn get(&self, name: &str) -> Result<&[f32], EngineError> {
        let found = self.0.get(name).ok_or_else(|| EngineError::MissingWeight(name.to_owned()))?;
        Ok(&found.data)
    }

    /// Takes the weights of a convolution; a second call fails.
    pub fn kernel(&mut self, conv: &Conv) -> Result<Kernel, EngineError> {
        let bias = match conv.bias {
            true => Some(self.take(&format!("{}.bias", conv.name))?),
            false => None,
        };
        let weight = self.take(&format!("{}.weight", conv.name))?;
        let channels = conv.in_channels / conv.groups;
        Ok(Kernel { weight, bias, positions: conv.kernel * conv.kernel, channels })
    }

    /// Takes the weights of a dense layer as those of a 1x1 convolution; a second call fails.
    pub fn dense(&mut self, fc: &Linear) -> Result<Kernel, EngineError> {
        let bias = Some(self.take(&format!("{}.bias", fc.name))?);
        let weight = self.take(&format!("{}.weight", fc.name))?;
        Ok(Kernel { weight, bias, positions: 1, channels: fc.in_features })
    }

    fn take(&mut self, name: &str) -> Result<Arc<Param>, EngineError> {
        self.0.take(name).ok_or_else(|| EngineError::MissingWeight(name.to_owned()))
    }

    /// A batch normalisation as scale and shift.
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

    /// The batch normalisation of a convolution's output, with the convolution's bias folded into
    /// the shift.
    pub fn affine_of(&self, kernel: &Kernel, bn: &BatchNorm) -> Result<Affine, EngineError> {
        let mut affine = self.affine(bn)?;
        for (c, shift) in affine.shift.iter_mut().enumerate() {
            *shift += kernel.bias(c) * affine.scale[c];
        }
        Ok(affine)
    }
}
