//! Learned values as the plan needs them, in f64 until they are rounded once.

use checkpoint::Weights;
use spec::model::{BatchNorm, Conv};
use spec::{EngineError, Model};

/// The weights of a model, checked.
pub struct Params<'a>(&'a Weights);

/// A convolution's weight [out, in, k, k] and bias.
#[derive(Clone, Copy)]
pub struct Kernel<'a> {
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    taps: usize,
    inner: usize,
}

impl Kernel<'_> {
    /// Weight of an output, an input channel and a tap (row-major).
    pub fn at(&self, output: usize, channel: usize, tap: usize) -> f64 {
        f64::from(self.weight[(output * self.inner + channel) * self.taps + tap])
    }

    /// A 3x3 kernel.
    pub fn taps(&self, output: usize, channel: usize) -> [f64; 9] {
        std::array::from_fn(|tap| self.at(output, channel, tap))
    }

    /// The bias of an output, 0 where there is none.
    pub fn bias(&self, output: usize) -> f64 {
        self.bias.map_or(0.0, |bias| f64::from(bias[output]))
    }
}

/// y = x * scale + shift, what a batch normalisation with running statistics is.
pub struct Affine {
    /// Of each channel.
    pub scale: Vec<f64>,
    /// Of each channel.
    pub shift: Vec<f64>,
}

impl<'a> Params<'a> {
    /// Refuses weights that lack a tensor of the model or have it in another shape.
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

    /// A tensor by name.
    pub fn get(&self, name: &str) -> Result<&'a [f32], EngineError> {
        let found = self.0.get(name).ok_or_else(|| EngineError::MissingWeight(name.to_owned()))?;
        Ok(&found.data)
    }

    /// A convolution's.
    pub fn kernel(&self, conv: &Conv) -> Result<Kernel<'a>, EngineError> {
        let bias = match conv.bias {
            true => Some(self.get(&format!("{}.bias", conv.name))?),
            false => None,
        };
        let weight = self.get(&format!("{}.weight", conv.name))?;
        let inner = conv.in_channels / conv.groups;
        Ok(Kernel { weight, bias, taps: conv.kernel * conv.kernel, inner })
    }

    /// A normalisation as scale and shift.
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

    /// A normalisation of a convolution's output, with the convolution's bias taken in.
    pub fn affine_of(&self, kernel: &Kernel<'_>, bn: &BatchNorm) -> Result<Affine, EngineError> {
        let mut affine = self.affine(bn)?;
        for (c, shift) in affine.shift.iter_mut().enumerate() {
            *shift += kernel.bias(c) * affine.scale[c];
        }
        Ok(affine)
    }
}
