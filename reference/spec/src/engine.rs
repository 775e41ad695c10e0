//! How an implementation is run and observed.

use std::fmt;
use std::str::FromStr;

use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::module::ModuleId;
use crate::tensor::{Data, Tensor};

/// The number format in which an engine computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// IEEE binary32.
    F32,
    /// IEEE binary64.
    F64,
    /// bfloat16 storage, float32 accumulation.
    Bf16,
    /// binary32 storage, factors rounded to 10 bits of fraction, float32 accumulation: what NVIDIA's
    /// tensor cores make of float32.
    Tf32,
    /// IEEE binary16 storage, float32 accumulation.
    F16,
}

impl Precision {
    /// Spacing of the numbers just above 1.
    pub fn epsilon(self) -> f64 {
        match self {
            Precision::F32 => f64::from(f32::EPSILON),
            Precision::F64 => f64::EPSILON,
            Precision::Bf16 => f64::from(bf16::EPSILON),
            Precision::Tf32 | Precision::F16 => f64::from(f16::EPSILON),
        }
    }

    /// Rounds every value to this format, so that engines of different precision can be fed the
    /// same numbers.
    pub fn round(self, tensor: Tensor) -> Tensor {
        let Tensor { shape, data } = tensor;
        let to_f32 = |round: fn(f64) -> f32, data: Data| match data {
            Data::F32(v) => Data::F32(v.into_iter().map(|x| round(f64::from(x))).collect()),
            Data::F64(v) => Data::F32(v.into_iter().map(round).collect()),
        };
        let data = match (self, data) {
            (Precision::F64, data) => data,
            // TF32 stores float32; only the factors of a product lose bits.
            (Precision::F32 | Precision::Tf32, data) => to_f32(|x| x as f32, data),
            (Precision::Bf16, data) => to_f32(|x| bf16::from_f64(x).to_f32(), data),
            (Precision::F16, data) => to_f32(|x| f16::from_f64(x).to_f32(), data),
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

/// What an engine does after a module was observed.
#[derive(Debug, Clone, PartialEq)]
pub enum Flow {
    /// Go on with the value as it is.
    Continue,
    /// Go on with this value instead (same shape): the next module is fed the reference's input.
    Replace(Tensor),
    /// Nothing after this is wanted: return [`EngineError::Stopped`].
    Stop,
}

/// Sees the output of modules as they are computed, in the order of [`crate::Model::modules`].
pub trait Tap {
    /// Whether the output of this module is wanted; engines copy nothing for the others.
    fn wants(&self, id: ModuleId) -> bool;

    /// Sees the output: [N, C, H, W], or [N, C] for `fc` and `avgpool`, [N, 3, T, H, W] for `input`,
    /// [1, 16, H, W] for a positional embedding.
    fn observe(&mut self, id: ModuleId, value: Tensor) -> Flow;
}

/// A tap that wants nothing.
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

/// Why an engine gave no output.
#[derive(Debug, Error)]
pub enum EngineError {
    /// A tap answered [`Flow::Stop`].
    #[error("stopped by the observer")]
    Stopped,
    /// The input or a replaced value has the wrong shape.
    #[error("{what}: expected shape {expected:?}, got {got:?}")]
    Shape {
        /// Which value.
        what: String,
        /// The shape that the model has there.
        expected: Vec<usize>,
        /// The shape that came.
        got: Vec<usize>,
    },
    /// The weights lack a tensor of the model.
    #[error("the weights have no tensor {0}")]
    MissingWeight(String),
    /// The device is not there or not usable.
    #[error("{0}")]
    Device(String),
    /// The device has too little memory for a batch.
    #[error(
        "{clips} clips at once need {needed} MiB of {device}'s memory and {free} MiB are free; {}",
        match fits { 0 => "not even one clip fits".to_owned(), n => format!("a batch of {n} would fit (--batch-size {n})") }
    )]
    OutOfMemory {
        /// Which device.
        device: String,
        /// The batch.
        clips: usize,
        /// MiB that it needs.
        needed: usize,
        /// MiB that are free.
        free: usize,
        /// The largest batch that would fit.
        fits: usize,
    },
    /// The library under the engine failed.
    #[error("{engine}: {message}")]
    Backend {
        /// Which engine.
        engine: &'static str,
        /// What it said.
        message: String,
    },
}

/// Clips as decoded frames.
#[derive(Debug, Clone, Copy)]
pub struct Frames<'a> {
    /// N, T, H, W.
    pub shape: [usize; 4],
    /// Bytes [N, T, H, W, 3]: red, green, blue.
    pub rgb: &'a [u8],
    /// Mean of each colour.
    pub mean: [f32; 3],
    /// Standard deviation of each colour.
    pub std: [f32; 3],
}

/// An implementation of the network, loaded with a model and its weights.
pub trait Engine: Send {
    /// Name, precision and device in words, such as `scalar f32 on cpu`.
    fn describe(&self) -> String;

    /// The precision in which this engine computes.
    fn precision(&self) -> Precision;

    /// Runs a clip [N, 3, T, H, W] (N may be 0) and returns the logits [N, classes], or the pooled
    /// features [N, C] of a model without a head. Observing does not change the result.
    fn forward(&mut self, input: &Tensor, tap: &mut dyn Tap) -> Result<Tensor, EngineError>;

    /// Runs decoded frames, which the engine normalises itself, (x - mean) / std in float32: on a GPU a
    /// quarter of the bytes have to get there. None from an engine that takes normalised clips only.
    fn forward_frames(&mut self, _: &Frames<'_>) -> Option<Result<Tensor, EngineError>> {
        None
    }
}
