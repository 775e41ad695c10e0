//! Loads engines by name.

use std::sync::Arc;

use anyhow::{Result, bail};
use spec::weights::Weights;
use spec::{Engine, Model, Precision};

use crate::cli::{DeviceArgs, Participant};

/// What computes, found usable.
#[derive(Debug, Clone, Copy)]
pub struct Device {
    /// The device of the libtorch engines.
    #[cfg(feature = "libtorch")]
    pub torch: torch::Device,
    /// How the engine `cpu` runs.
    cpu: cpu::Options,
}

/// Checks that a device and an instruction set are there; call before other threads start.
pub fn open_device(on: &DeviceArgs) -> Result<Device> {
    cap_threads(on.threads);
    check_isa(on.isa)?;
    let cpu = cpu::Options { isa: on.isa, threads: on.threads, ..cpu::Options::default() };
    #[cfg(feature = "libtorch")]
    {
        let device: torch::Device = on.device.parse().map_err(anyhow::Error::msg)?;
        torch::threads(on.threads);
        Ok(Device { torch: device.open()?, cpu })
    }
    #[cfg(not(feature = "libtorch"))]
    {
        if on.device != "cpu" {
            let device = &on.device;
            bail!("--device {device}: this harness was built without libtorch; use --device cpu");
        }
        Ok(Device { cpu })
    }
}

/// Refuses an instruction set that this processor lacks.
pub fn check_isa(isa: Option<cpu::Isa>) -> Result<()> {
    if let Some(isa) = isa
        && isa.detect().is_none()
    {
        let best = cpu::Level::best().isa();
        bail!("--isa {isa}: this processor does not have it; its best is {best}");
    }
    Ok(())
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
        Participant::Cpu => Ok(cpu::load(model, weights, precision, device.cpu)?),
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
    Ok(Box::new(torch::Torch::new(model, weights, precision, device.torch)?))
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
