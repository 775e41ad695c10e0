//! The engine `torch`.

use std::sync::Arc;

use anyhow::Result;
use checkpoint::Weights;
use spec::{Engine, Model, Precision};
use torch::{Device, Torch};

use crate::flags::DeviceName;

/// The version of libtorch.
pub const VERSION: Option<&str> = Some(torch::LIBTORCH_VERSION);

/// Where the engine runs.
pub type Place = Device;

/// Opens the device; on an emulated GPU, libtorch runs on the CPU.
pub fn open(device: DeviceName, threads: usize) -> Result<Place> {
    torch::threads(threads);
    Ok(match device {
        DeviceName::Cuda(number) => Device::Cuda(number.unwrap_or(0)).open()?,
        DeviceName::Cpu | DeviceName::Emulated => Device::Cpu,
    })
}

/// Loads the engine.
pub fn load(
    model: Arc<Model>,
    weights: &Weights,
    precision: Precision,
    place: Place,
) -> Result<Box<dyn Engine>> {
    Ok(Box::new(Torch::new(model, weights, precision, place)?))
}

/// Loads the engine with its convolutions computed as im2col and a matrix product.
pub fn load_unfolded(
    model: Arc<Model>,
    weights: &Weights,
    precision: Precision,
    place: Place,
) -> Result<Box<dyn Engine>> {
    Ok(Box::new(Torch::new(model, weights, precision, place)?.unfolded()))
}
