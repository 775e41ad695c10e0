//! The engine `cuda`, on a GPU or on the emulated one.

use std::sync::Arc;

use anyhow::{Result, bail};
use checkpoint::Weights;
use cuda::Cuda;
use cuda::device::Host;
use spec::{Engine, Model, Precision};

use crate::flags::DeviceName;

/// The number of multiprocessors of the emulated GPU, unless `$HARNESS_EMULATED_MULTIPROCESSORS` sets
/// another: that of an H200. With few, a small batch runs as a large one does on a real GPU.
const EMULATED_MULTIPROCESSORS: usize = 132;

/// An emulated GPU.
fn emulated() -> Result<Host> {
    let multiprocessors = match std::env::var("HARNESS_EMULATED_MULTIPROCESSORS") {
        Err(_) => EMULATED_MULTIPROCESSORS,
        Ok(text) => match text.parse() {
            Ok(number @ 1..=1024) => number,
            _ => bail!(
                "HARNESS_EMULATED_MULTIPROCESSORS is `{text}`; it must be a number from 1 to 1024"
            ),
        },
    };
    Ok(Host::new(multiprocessors)?)
}

/// Fails if the device is a GPU that is not there.
pub fn check(device: DeviceName) -> Result<()> {
    match device {
        DeviceName::Cpu => Ok(()),
        DeviceName::Cuda(number) => Ok(cuda::device::gpu::find(number.unwrap_or(0))?),
        DeviceName::Emulated => emulated().map(drop),
    }
}

/// The name of the GPU that computes; `None` for the CPU. The emulated one is called that.
pub fn name(device: DeviceName) -> Option<String> {
    match device {
        DeviceName::Cpu => None,
        DeviceName::Cuda(number) => cuda::device::gpu::name(number.unwrap_or(0)).ok(),
        DeviceName::Emulated => Some("emulated by the CPU".to_owned()),
    }
}

/// Loads the engine.
pub fn load(
    model: Arc<Model>,
    weights: &Weights,
    precision: Precision,
    device: DeviceName,
) -> Result<Box<dyn Engine>> {
    Ok(Box::new(open(model, weights, precision, device)?))
}

/// Loads the engine with its own type, which tells more about the device than an [`Engine`] does.
pub fn open(
    model: Arc<Model>,
    weights: &Weights,
    precision: Precision,
    device: DeviceName,
) -> Result<Cuda> {
    match device {
        DeviceName::Cuda(number) => Ok(cuda::load(model, weights, precision, number.unwrap_or(0))?),
        DeviceName::Emulated => Ok(Cuda::new(model, weights, precision, Box::new(emulated()?))?),
        DeviceName::Cpu => {
            bail!("the engine `cuda` needs a GPU; add --device cuda, or use the engine cpu")
        }
    }
}
