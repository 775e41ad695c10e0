//! Loads engines by name. What needs a feature of the build is in `gpu` and `libtorch`, which stand-ins
//! replace in a build without it.

#[cfg(feature = "cuda")]
pub mod gpu;
#[cfg(not(feature = "cuda"))]
#[path = "no_gpu.rs"]
pub mod gpu;
#[cfg(feature = "libtorch")]
pub mod libtorch;
#[cfg(not(feature = "libtorch"))]
#[path = "no_libtorch.rs"]
pub mod libtorch;

pub mod live;
pub mod onnx;
pub mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, bail};
use checkpoint::Weights;
use compare::rounded::{self, Rounded};
use spec::{Engine, Model, Precision};

use crate::flags::{DeviceArgs, DeviceName, EngineName};

/// What the engines run on, known to exist.
#[derive(Debug, Clone, Copy)]
pub struct Device {
    /// The device of the engine `torch`.
    pub torch: libtorch::Place,
    /// The options of the engine `cpu`.
    cpu: cpu::Options,
    /// The device of the engine `cuda`.
    gpu: DeviceName,
}

impl Device {
    /// The same device with another instruction set and another algorithm for the engine `cpu`.
    pub fn with_cpu(self, isa: Option<cpu::Isa>, convolution: cpu::Convolution) -> Self {
        Device { cpu: cpu::Options { isa, convolution, ..self.cpu }, ..self }
    }
}

/// Checks that the device and the instruction set exist, and sets the number of threads. Call it before
/// anything starts a thread pool.
pub fn open_device(on: &DeviceArgs) -> Result<Device> {
    cap_threads(on.threads);
    check_isa(on.isa)?;
    gpu::check(on.device)?;
    let cpu = cpu::Options { isa: on.isa, threads: on.threads, ..cpu::Options::default() };
    Ok(Device { torch: libtorch::open(on.device, on.threads)?, cpu, gpu: on.device })
}

/// Fails if the CPU lacks the instruction set.
pub fn check_isa(isa: Option<cpu::Isa>) -> Result<()> {
    match isa {
        Some(isa) if isa.detect().is_none() => {
            let best = cpu::DetectedIsa::best().isa();
            bail!("--isa {isa}: this CPU does not have it; its best is {best}")
        }
        _ => Ok(()),
    }
}

/// Sets the number of threads of our own engines; 0 keeps one for each core.
fn cap_threads(count: usize) {
    if count > 0 {
        // This fails only if the pool exists already, which keeps its size: each command calls it once.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(count).build_global();
    }
}

/// Loads an engine with a model and its weights; fails if the engine lacks the precision.
pub fn load(
    name: EngineName,
    model: Model,
    weights: &Weights,
    precision: Precision,
    device: Device,
) -> Result<Box<dyn Engine>> {
    let model = Arc::new(model);
    match name {
        EngineName::Scalar => match precision {
            Precision::F32 => Ok(Box::new(scalar::Scalar::<f32>::new(model, weights)?)),
            Precision::F64 => Ok(Box::new(scalar::Scalar::<f64>::new(model, weights)?)),
            other => bail!(
                "the engine `scalar` computes in f32 or f64, not in {other}; use the engine torch, \
                 cpu or cuda"
            ),
        },
        EngineName::Cpu => Ok(cpu::load(model, weights.clone(), precision, device.cpu)?),
        EngineName::Cuda => gpu::load(model, weights, precision, device.gpu),
        EngineName::Torch => libtorch::load(model, weights, precision, device.torch),
    }
}

/// Loads an engine as the truth or the comparison run of a comparison. Unlike [`load`] it gives `scalar` the
/// half formats, too, by rounding the weights and the output of every module.
pub fn load_reference(
    name: EngineName,
    model: Model,
    weights: &Weights,
    precision: Precision,
    device: Device,
) -> Result<Box<dyn Engine>> {
    let half = matches!(precision, Precision::Bf16 | Precision::F16);
    if half && name == EngineName::Scalar {
        let weights = rounded::weights(weights, precision);
        let engine = load(name, model, &weights, Precision::F32, device)?;
        return Ok(Box::new(Rounded { engine, precision }));
    }
    load(name, model, weights, precision, device)
}

/// The precisions in which an engine computes; `None` if only loading it can tell.
pub fn precisions(name: EngineName) -> Option<&'static [Precision]> {
    match name {
        EngineName::Scalar => Some(&[Precision::F32, Precision::F64]),
        EngineName::Cpu => Some(&[Precision::F32, Precision::Bf16]),
        EngineName::Cuda | EngineName::Torch => None,
    }
}

/// The versions of the programs that take part in a run, for its record.
pub fn versions() -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    versions.insert("harness".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    versions.insert("rustc".to_owned(), env!("HARNESS_RUSTC").to_owned());
    if let Some(version) = libtorch::VERSION {
        versions.insert("libtorch".to_owned(), version.to_owned());
    }
    versions
}
