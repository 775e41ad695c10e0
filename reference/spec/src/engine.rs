//! The trait [`Engine`], through which the network is run, and the trait [`Tap`], through which its
//! activations are observed.

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::module::ModuleId;
use crate::tensor::{Data, Tensor};

/// The number format in which an engine computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// float32, IEEE binary32.
    F32,
    /// float64, IEEE binary64.
    F64,
    /// bfloat16 storage, float32 accumulation.
    Bf16,
    /// IEEE binary32 storage, factors of products rounded to 10 fraction bits, float32 accumulation:
    /// the TF32 mode of NVIDIA's tensor cores.
    Tf32,
    /// IEEE binary16 storage, float32 accumulation.
    F16,
}

impl Precision {
    /// The distance from 1 to the next larger number; for TF32, that of a rounded factor.
    pub fn epsilon(self) -> f64 {
        match self {
            Precision::F32 => f64::from(f32::EPSILON),
            Precision::F64 => f64::EPSILON,
            Precision::Bf16 => f64::from(bf16::EPSILON),
            Precision::Tf32 | Precision::F16 => f64::from(f16::EPSILON),
        }
    }

    /// Rounds every value to this format, so that engines of different precision can be given the
    /// same input.
    pub fn round(self, tensor: Tensor) -> Tensor {
        let Tensor { shape, data } = tensor;
        // float32 values are not rounded by way of float64: half's conversions from float64 ignore its last
        // 32 bits, so that they take some values for half-way cases that are not.
        type Rounds = (fn(f64) -> f32, fn(f32) -> f32);
        let to_f32 = |(from_f64, from_f32): Rounds, data: Data| match data {
            Data::F32(v) => Data::F32(v.into_iter().map(from_f32).collect()),
            Data::F64(v) => Data::F32(v.into_iter().map(from_f64).collect()),
        };
        let data = match (self, data) {
            (Precision::F64, data) => data,
            // TF32 stores float32 values; only the factors of a product are rounded further.
            (Precision::F32 | Precision::Tf32, data) => to_f32((|x| x as f32, |x| x), data),
            (Precision::Bf16, data) => {
                to_f32((|x| bf16::from_f64(x).to_f32(), |x| bf16::from_f32(x).to_f32()), data)
            }
            (Precision::F16, data) => {
                to_f32((|x| f16::from_f64(x).to_f32(), |x| f16::from_f32(x).to_f32()), data)
            }
        };
        Tensor { shape, data }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::F64 => "f64",
            Precision::Bf16 => "bf16",
            Precision::Tf32 => "tf32",
            Precision::F16 => "f16",
        })
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Precision::F32),
            "f64" => Ok(Precision::F64),
            "bf16" => Ok(Precision::Bf16),
            "tf32" => Ok(Precision::Tf32),
            "f16" => Ok(Precision::F16),
            _ => Err(format!("`{text}` is not a precision; use f32, f64, bf16, tf32 or f16")),
        }
    }
}

/// What an engine must do after a tap has observed a module.
#[derive(Debug, Clone, PartialEq)]
pub enum Flow {
    /// Continue with the engine's own value.
    Continue,
    /// Continue with this value instead, which must have the same shape. This is how a module is fed
    /// the reference's input.
    Replace(Tensor),
    /// Compute nothing more and return [`EngineError::Stopped`].
    Stop,
}

/// An observer of the outputs of modules. An engine shows them as they are computed, in the order of
/// [`crate::Model::modules`].
pub trait Tap {
    /// Whether the tap wants the output of this module. Engines copy no other outputs.
    fn wants(&self, id: ModuleId) -> bool;

    /// Receives the output of a module and says how to continue. The shape is [N, C, H, W], except
    /// for `fc` and `avgpool` [N, C], `input` [N, 3, T, H, W] and positional embeddings
    /// [1, 16, H, W].
    fn observe(&mut self, id: ModuleId, value: Tensor) -> Flow;
}

/// A tap that wants no outputs, for a forward pass that is not observed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ignore;

impl Tap for Ignore {
    fn wants(&self, _: ModuleId) -> bool {
        false
    }

    fn observe(&mut self, _: ModuleId, _: Tensor) -> Flow {
        Flow::Continue
    }
}

/// Why an engine could not be made or returned no output.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The tap returned [`Flow::Stop`].
    #[error("stopped by the tap")]
    Stopped,
    /// The input, a weight or a replacement has the wrong shape.
    #[error("{what}: expected shape {expected:?}, got {got:?}")]
    Shape {
        /// The name of the value.
        what: String,
        /// The shape that the model needs.
        expected: Vec<usize>,
        /// The shape that the value has.
        got: Vec<usize>,
    },
    /// The weights lack a tensor of the model.
    #[error("the weights have no tensor {0}")]
    MissingWeight(String),
    /// The device does not exist or cannot be used; the text is the whole message.
    #[error("{0}")]
    Device(String),
    /// The device has too little memory for a batch.
    #[error(
        "a batch of {clips} clips needs {needed} MiB of memory on {device}, but {free} MiB are free; {}",
        match fits { 0 => "not even one clip fits".to_owned(), n => format!("a batch of {n} would fit (--batch-size {n})") }
    )]
    OutOfMemory {
        /// Name of the device.
        device: String,
        /// Number of clips in the batch.
        clips: usize,
        /// Memory that the batch needs, in MiB.
        needed: usize,
        /// Memory that is free, in MiB.
        free: usize,
        /// Number of clips in the largest batch that would fit; 0 if not even one fits.
        fits: usize,
    },
    /// The computation failed, for instance in the library that an engine uses.
    #[error("{engine}: {message}")]
    Backend {
        /// Name of the engine or the library.
        engine: &'static str,
        /// The message of the library.
        message: String,
    },
}

/// Clips of decoded frames, with the statistics to normalise them.
#[derive(Debug, Clone, Copy)]
pub struct Frames<'a> {
    /// The shape [N, T, H, W]: clips, frames of a clip, height and width in pixels.
    pub shape: [usize; 4],
    /// The bytes [N, T, H, W, 3], in the order red, green, blue.
    pub rgb: &'a [u8],
    /// Mean of each colour, in units of a byte (0 to 255).
    pub mean: [f32; 3],
    /// Standard deviation of each colour, in units of a byte.
    pub std: [f32; 3],
}

/// A program that runs the network, loaded with a model and its weights.
pub trait Engine: Send {
    /// Describes the engine by name, precision and device, such as `scalar f32 on cpu`.
    fn describe(&self) -> String;

    /// The precision in which this engine computes.
    fn precision(&self) -> Precision;

    /// Runs clips [N, 3, T, H, W] (N may be 0) and returns the logits [N, classes], or for a model
    /// without a head the pooled features [N, C]. Observing does not change the result.
    fn forward(&mut self, input: &Tensor, tap: &mut dyn Tap) -> Result<Tensor, EngineError>;

    /// Runs decoded frames, which the engine normalises itself as (x - mean) / std in float32. To a
    /// GPU this transfers a quarter of the bytes. Returns `None` if the engine takes normalised clips
    /// only.
    fn forward_frames(&mut self, _: &Frames<'_>) -> Option<Result<Tensor, EngineError>> {
        None
    }

    /// Runs clips as a benchmark times an engine, and returns the seconds as well. They start with the clips
    /// as float32 on the device, and do not include copying the clips there and the output back.
    fn timed(&mut self, input: &Tensor) -> Result<(Tensor, f64), EngineError> {
        let start = Instant::now();
        let output = self.forward(input, &mut Ignore)?;
        Ok((output, start.elapsed().as_secs_f64()))
    }

    /// What a reader of a comparison must know about how the engine was made, one sentence each.
    fn notes(&self) -> Vec<String> {
        vec![]
    }

    /// The first module whose output has another shape than the model's, with that shape. Such modules are not
    /// shown to a tap.
    fn misshapen(&self) -> Option<(ModuleId, &[usize])> {
        None
    }

    /// What the engine was found to contradict, although its values may agree within what rounding explains: for
    /// example a file that states another eps.
    fn contradiction(&self) -> Option<String> {
        None
    }

    /// The engine as one that can be timed step by step; `None` for an engine without such times.
    fn as_profile(&mut self) -> Option<&mut dyn Profile> {
        None
    }
}

/// The measured time of one step of a forward pass.
#[derive(Debug, Clone, PartialEq)]
pub struct StepTime {
    /// Name of a module that the step computes or ends with.
    pub name: String,
    /// The kind of work, such as `expand 1x1`.
    pub kind: &'static str,
    /// Multiply-accumulates of the convolutions that the step computes, for the whole batch, as
    /// many as direct convolutions take.
    pub macs: u64,
    /// Bytes of weights, inputs and outputs of the step, for the whole batch.
    pub bytes: u64,
    /// Elapsed time in seconds; on a GPU the launch is included.
    pub seconds: f64,
    /// The time in seconds that a model of the machine predicts, if the engine has one.
    pub predicted: Option<f64>,
}

/// An engine that can be timed in more detail than by its forward pass.
pub trait Profile: Engine {
    /// Runs clips [N, 3, T, H, W] and returns the time of each step, in the order of execution.
    fn profile(&mut self, input: &Tensor) -> Result<Vec<StepTime>, EngineError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_just_above_half_way_is_rounded_up() {
        // 1 + 2^-8 lies half-way between two bfloat16 numbers, and float32 has 1 + 2^-8 + 2^-23.
        let value = 1.0 + 2f32.powi(-8) + 2f32.powi(-23);
        let rounded = Precision::Bf16.round(Tensor::f32([1], vec![value]));
        assert_eq!(rounded.at(0), 1.0 + 2f64.powi(-7));
    }
}
