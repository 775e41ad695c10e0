//! Learned values as the plan needs them: checked, folded, and in float64, so that they are rounded
//! only once.

use checkpoint::Weights;
use spec::model::{BatchNorm, Conv};
use spec::{EngineError, Model};

/// The weights of a model, of which [`Params::new`] has checked names and shapes.
pub struct Params<'a>(&'a Weights);

/// Weight [out_channels, in_channels / groups, kernel, kernel] and bias of a convolution.
#[derive(Clone, Copy)]
pub struct Kernel<'a> {
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    /// Pixels of the kernel.
    pixels: usize,
    /// Input channels of a group.
    channels: usize,
}

impl Kernel<'_> {
    /// The weight for an output channel, an input channel and a pixel of the kernel in row-major
    /// order.
    pub fn at(&self, output: usize, channel: usize, pixel: usize) -> f64 {
        f64::from(self.weight[(output * self.channels + channel) * self.pixels + pixel])
    }

    /// The bias of an output channel; 0 where the convolution has none.
    pub fn bias(&self, output: usize) -> f64 {
        self.bias.map_or(0.0, |bias| f64::from(bias[output]))
    }
}

/// y = x * scale + shift: a batch normalisation with its running statistics.
pub struct Affine {
    /// One factor for each channel.
    pub scale: Vec<f64>,
    /// One summand for each channel.
    pub shift: Vec<f64>,
}

impl<'a> Params<'a> {
    /// Checks that the weights have every tensor of the model. A missing tensor is
    /// [`EngineError::MissingWeight`], one of another shape is [`EngineError::Shape`].
    pub fn new(model: &Model, weights: &'a Weights) -> Result<Self, EngineError> {
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

    /// The values of a tensor.
    pub fn get(&self, name: &str) -> Result<&'a [f32], EngineError> {
        let found = self.0.get(name).ok_or_else(|| EngineError::MissingWeight(name.to_owned()))?;
        Ok(&found.data)
    }

    /// The weight and bias of a convolution.
    pub fn kernel(&self, conv: &Conv) -> Result<Kernel<'a>, EngineError> {
        let bias = match conv.bias {
            true => Some(self.get(&format!("{}.bias", conv.name))?),
            false => None,
        };
        let weight = self.get(&format!("{}.weight", conv.name))?;
        let channels = conv.in_channels / conv.groups;
        Ok(Kernel { weight, bias, pixels: conv.kernel * conv.kernel, channels })
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
    pub fn affine_of(&self, kernel: &Kernel<'_>, bn: &BatchNorm) -> Result<Affine, EngineError> {
        let mut affine = self.affine(bn)?;
        for (c, shift) in affine.shift.iter_mut().enumerate() {
            *shift += kernel.bias(c) * affine.scale[c];
        }
        Ok(affine)
    }
}
