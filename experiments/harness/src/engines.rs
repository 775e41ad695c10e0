//! Loads engines by name.

use std::sync::Arc;

use anyhow::{Result, bail};
use spec::weights::Weights;
use spec::{Engine, Model, Precision};

use crate::cli::{DeviceArgs, Participant};

/// The device of the libtorch engines, found usable.
#[cfg(feature = "libtorch")]
pub type Device = torch::Device;

/// Without libtorch there is only the processor.
#[cfg(not(feature = "libtorch"))]
#[derive(Debug, Clone, Copy)]
pub struct Device;

/// Checks that a device is there; call before other threads start.
#[cfg(feature = "libtorch")]
pub fn open_device(on: &DeviceArgs) -> Result<Device> {
    let device: Device = on.device.parse().map_err(anyhow::Error::msg)?;
    cap_threads(on.threads);
    torch::threads(on.threads);
    Ok(device.open()?)
}

/// Without libtorch only the processor can be asked for.
#[cfg(not(feature = "libtorch"))]
pub fn open_device(on: &DeviceArgs) -> Result<Device> {
    cap_threads(on.threads);
    if on.device != "cpu" {
        bail!("--device {}: this harness was built without libtorch; use --device cpu", on.device);
    }
    Ok(Device)
}

/// Caps the threads of our own engines; 0 leaves one for each core.
fn cap_threads(count: usize) {
    if count > 0 {
        // A pool that exists already keeps its size; this is the first call of a command.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(count).build_global();
    }
}

/// Loads an engine with a description and weights.
pub fn load(
    name: &Participant,
    model: Model,
    weights: &Weights,
    precision: Precision,
    device: Device,
) -> Result<Box<dyn Engine>> {
    let model = Arc::new(model);
    match name {
        Participant::Scalar => match precision {
            Precision::F32 => Ok(Box::new(scalar::Scalar::<f32>::new(model, weights)?)),
            Precision::F64 => Ok(Box::new(scalar::Scalar::<f64>::new(model, weights)?)),
            Precision::Bf16 => bail!("the engine `scalar` computes in f32 or f64, not in bf16"),
        },
        Participant::Torch => load_torch(model, weights, precision, device),
        Participant::Npz(path) => {
            bail!("npz:{} is a dump, which cannot be run; name an engine", path.display())
        }
    }
}

#[cfg(feature = "libtorch")]
fn load_torch(
    model: Arc<Model>,
    weights: &Weights,
    precision: Precision,
    device: Device,
) -> Result<Box<dyn Engine>> {
    Ok(Box::new(torch::Torch::new(model, weights, precision, device)?))
}

#[cfg(not(feature = "libtorch"))]
fn load_torch(_: Arc<Model>, _: &Weights, _: Precision, _: Device) -> Result<Box<dyn Engine>> {
    bail!("this harness was built without libtorch; use scalar, or build with the default features")
}

/// Versions that belong into a record.
pub fn versions() -> std::collections::BTreeMap<String, String> {
    let mut versions = std::collections::BTreeMap::new();
    versions.insert("harness".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    versions.insert("rustc".to_owned(), env!("HARNESS_RUSTC").to_owned());
    #[cfg(feature = "libtorch")]
    versions.insert("libtorch".to_owned(), torch::LIBTORCH_VERSION.to_owned());
    versions
}
