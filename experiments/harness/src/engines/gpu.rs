//! The engine `cuda`, on a GPU or on the emulated one.

use std::sync::Arc;

use anyhow::{Result, bail};
use checkpoint::Weights;
use cuda::Cuda;
use cuda::device::Host;
use spec::{Engine, Model, Precision};

use crate::flags::DeviceName;

/// The number of multiprocessors of the emulated GPU: that of an H200.
const EMULATED_MULTIPROCESSORS: usize = 132;

/// Fails if the device is a GPU that is not there.
pub fn check(device: DeviceName) -> Result<()> {
    match device {
        DeviceName::Cpu => Ok(()),
        DeviceName::Cuda(number) => Ok(cuda::device::gpu::find(number.unwrap_or(0))?),
        DeviceName::Emulated => Ok(Host::new(EMULATED_MULTIPROCESSORS).map(drop)?),
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
        DeviceName::Emulated => {
            let host = Box::new(Host::new(EMULATED_MULTIPROCESSORS)?);
            Ok(Cuda::new(model, weights, precision, host)?)
        }
        DeviceName::Cpu => {
            bail!("the engine `cuda` needs a GPU; add --device cuda, or use the engine cpu")
        }
    }
}
