//! The SqueezeTime forward pass on libtorch, written from the paper (arXiv 2405.08344, section 3).
//! It is the reference that every other engine is compared with.
//!
//! `network` is the forward pass, to be read next to the paper; `train` trains a network with it;
//! `device` opens the device; `tensors` copies values to and from libtorch. Without the feature
//! `libtorch` the crate is empty.
#![cfg(feature = "libtorch")]

mod device;
mod network;
pub mod resize;
mod tensors;
pub mod train;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use spec::{Engine, EngineError, Frames, Ignore, Kind, Model, Precision, Tap, Tensor};

pub use device::{Device, threads};

/// The version of libtorch that this crate is built for.
pub const LIBTORCH_VERSION: &str = "2.11.0";

/// The libtorch engine: a model with its weights on a device, in one precision.
pub struct Torch {
    model: Arc<Model>,
    weights: HashMap<String, tch::Tensor>,
    precision: Precision,
    device: Device,
    unfold: bool,
}

impl Torch {
    /// Copies the weights to the device. In bf16 and f16 the convolutions and the classifier have
    /// weights in the half format and the batch normalisations in float32, as in libtorch's mixed
    /// precision. Fails with [`EngineError::MissingWeight`] if a tensor is missing.
    pub fn new(
        model: Arc<Model>,
        weights: &checkpoint::Weights,
        precision: Precision,
        device: Device,
    ) -> Result<Self, EngineError> {
        let mut tensors = HashMap::new();
        for wanted in model.parameters() {
            let param = weights
                .get(&wanted.name)
                .ok_or_else(|| EngineError::MissingWeight(wanted.name.clone()))?;
            let owner = wanted.name.rsplit_once('.').and_then(|(name, _)| model.find(name));
            let normalisation = owner.is_some_and(|module| module.kind == Kind::BatchNorm);
            let kind = match precision {
                Precision::F64 => tch::Kind::Double,
                Precision::Bf16 if !normalisation => tch::Kind::BFloat16,
                Precision::F16 if !normalisation => tch::Kind::Half,
                _ => tch::Kind::Float,
            };
            let tensor = tensors::of_param(param, kind, device)?;
            tensors.insert(wanted.name.clone(), tensor);
        }
        Ok(Torch { model, weights: tensors, precision, device, unfold: false })
    }

    /// Returns the same engine with convolutions computed as im2col and a matrix product. The order
    /// of the sums is then another, which shows how much of a difference is due to rounding.
    pub fn unfolded(self) -> Self {
        Torch { unfold: true, ..self }
    }
}

impl Engine for Torch {
    fn describe(&self) -> String {
        format!("libtorch {} on {}", self.precision, self.device)
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn forward(&mut self, input: &Tensor, tap: &mut dyn Tap) -> Result<Tensor, EngineError> {
        let _no_grad = tch::no_grad_guard();
        self.run(tap).run(input)
    }

    fn timed(&mut self, input: &Tensor) -> Result<(Tensor, f64), EngineError> {
        let _no_grad = tch::no_grad_guard();
        let batch = network::batch_of(&self.model, input)?;
        let clip = tensors::staged(input, self.precision, self.device)?;
        self.device.synchronize();
        let start = Instant::now();
        let clip = tensors::converted(&clip, self.precision)?;
        let output = self.run(&mut Ignore).run_clip(clip, batch)?;
        // Copying the logits has waited for the device.
        Ok((output, start.elapsed().as_secs_f64()))
    }

    fn forward_frames(&mut self, frames: &Frames<'_>) -> Option<Result<Tensor, EngineError>> {
        // On the CPU a lookup table is faster; see `video::normalize`.
        matches!(self.device, Device::Cuda(_)).then(|| self.run_frames(frames))
    }
}

impl Torch {
    /// Like [`Engine::forward_frames`], but on any device.
    pub fn run_frames(&self, frames: &Frames<'_>) -> Result<Tensor, EngineError> {
        let _no_grad = tch::no_grad_guard();
        let clip = tensors::normalised(frames, self.precision, self.device)?;
        self.run(&mut Ignore).run_clip(clip, frames.shape[0])
    }

    /// A forward pass that is about to be run.
    fn run<'a>(&'a self, tap: &'a mut dyn Tap) -> network::Run<'a> {
        network::Run::new(&self.model, &self.weights, self.precision, self.device, tap)
            .unfolded_if(self.unfold)
    }
}
