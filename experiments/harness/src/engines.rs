//! Loads engines by name.

use std::sync::Arc;

use anyhow::{Result, bail};
use checkpoint::Weights;
use spec::{Engine, Model, Precision};

use crate::cli::{DeviceArgs, Participant};
use compare::rounded::{self, Rounded};

/// A device and an instruction set that were found to be usable.
#[derive(Debug, Clone, Copy)]
pub struct Device {
    /// The device of the engine `torch`.
    #[cfg(feature = "libtorch")]
    pub torch: torch::Device,
    /// How the engine `cpu` runs.
    cpu: cpu::Options,
    /// Where the engine `cuda` runs.
    gpu: Gpu,
}

impl Device {
    /// This device with another instruction set and convolution algorithm for the engine `cpu`.
    pub fn with_cpu(self, isa: Option<cpu::Isa>, convolution: cpu::Convolution) -> Self {
        Device { cpu: cpu::Options { isa, convolution, ..self.cpu }, ..self }
    }
}

/// Where the engine `cuda` runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gpu {
    None,
    Number(usize),
    Emulated,
}

/// Number of multiprocessors of the emulated GPU, the same as of an H200.
#[cfg(feature = "cuda")]
const EMULATED_MULTIPROCESSORS: usize = 132;

impl Gpu {
    /// Reads `cpu`, `cuda`, `cuda:N` or `emulated`.
    fn parse(text: &str) -> Result<Self> {
        let number = text.strip_prefix("cuda:").map(str::parse);
        match (text, number) {
            ("cpu", _) => Ok(Gpu::None),
            ("cuda", _) => Ok(Gpu::Number(0)),
            ("emulated", _) => Ok(Gpu::Emulated),
            (_, Some(Ok(number))) => Ok(Gpu::Number(number)),
            _ => bail!("--device {text}: this is not a device; use cpu, cuda, cuda:N or emulated"),
        }
    }

    /// Fails if the GPU cannot be opened.
    fn check(self) -> Result<()> {
        match self {
            Gpu::None => Ok(()),
            #[cfg(feature = "cuda")]
            Gpu::Number(number) => Ok(cuda::device::gpu::find(number)?),
            #[cfg(feature = "cuda")]
            Gpu::Emulated => Ok(cuda::device::Host::new(EMULATED_MULTIPROCESSORS).map(drop)?),
            #[cfg(not(feature = "cuda"))]
            _ => bail!("--device cuda: this harness was built without CUDA; use --device cpu"),
        }
    }
}

/// Whether `--device` names a GPU or the emulated one; the default candidate is then `cuda`.
pub fn has_gpu(on: &DeviceArgs) -> bool {
    Gpu::parse(&on.device).is_ok_and(|gpu| gpu != Gpu::None)
}

/// Checks that the device and the instruction set exist, and sets the number of threads. Call it before
/// anything starts a thread pool.
pub fn open_device(on: &DeviceArgs) -> Result<Device> {
    cap_threads(on.threads);
    check_isa(on.isa)?;
    let cpu = cpu::Options { isa: on.isa, threads: on.threads, ..cpu::Options::default() };
    let gpu = Gpu::parse(&on.device)?;
    gpu.check()?;
    Ok(Device {
        #[cfg(feature = "libtorch")]
        torch: open_torch(gpu, on.threads)?,
        cpu,
        gpu,
    })
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

#[cfg(feature = "libtorch")]
fn open_torch(gpu: Gpu, threads: usize) -> Result<torch::Device> {
    torch::threads(threads);
    Ok(match gpu {
        Gpu::Number(number) => torch::Device::Cuda(number).open()?,
        Gpu::None | Gpu::Emulated => torch::Device::Cpu,
    })
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
            other => bail!("the engine `scalar` computes in f32 or f64, not in {other}"),
        },
        Participant::Cpu => Ok(cpu::load(model, weights.clone(), precision, device.cpu)?),
        Participant::Cuda => load_cuda(model, weights, precision, device),
        Participant::Torch => load_torch(model, weights, precision, device),
        Participant::Npz(path) => {
            bail!("npz:{} is a dump, which cannot be run; name an engine", path.display())
        }
    }
}

/// Loads an engine as the truth or the yardstick of a comparison. Unlike with [`load`], `scalar` also has
/// bf16 and f16 here: the weights and the output of every module are rounded.
pub fn load_reference(
    name: &Participant,
    model: Model,
    weights: &Weights,
    precision: Precision,
    device: Device,
) -> Result<Box<dyn Engine>> {
    let half = matches!(precision, Precision::Bf16 | Precision::F16);
    if half && *name == Participant::Scalar {
        let weights = rounded::weights(weights, precision);
        let engine = load(name, model, &weights, Precision::F32, device)?;
        return Ok(Box::new(Rounded { engine, precision }));
    }
    load(name, model, weights, precision, device)
}

#[cfg(feature = "cuda")]
fn load_cuda(
    model: Arc<Model>,
    weights: &Weights,
    precision: Precision,
    device: Device,
) -> Result<Box<dyn Engine>> {
    Ok(Box::new(open_cuda(model, weights, precision, device)?))
}

/// Loads the engine `cuda` as its own type, for what the trait [`Engine`] does not offer.
#[cfg(feature = "cuda")]
pub fn open_cuda(
    model: Arc<Model>,
    weights: &Weights,
    precision: Precision,
    device: Device,
) -> Result<cuda::Cuda> {
    match device.gpu {
        Gpu::Number(number) => Ok(cuda::load(model, weights, precision, number)?),
        Gpu::Emulated => {
            let host = Box::new(cuda::device::Host::new(EMULATED_MULTIPROCESSORS)?);
            Ok(cuda::Cuda::new(model, weights, precision, host)?)
        }
        Gpu::None => {
            bail!("the engine `cuda` needs a GPU; add --device cuda, or use the engine cpu")
        }
    }
}

#[cfg(not(feature = "cuda"))]
fn load_cuda(_: Arc<Model>, _: &Weights, _: Precision, _: Device) -> Result<Box<dyn Engine>> {
    bail!("this harness was built without CUDA; use the engine cpu, or build with the feature cuda")
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

/// Loads the engine `torch` with its convolutions computed as products of im2col matrices.
#[cfg(feature = "libtorch")]
pub fn load_unfolded(
    model: Model,
    weights: &Weights,
    precision: Precision,
    device: Device,
) -> Result<Box<dyn Engine>> {
    Ok(Box::new(torch::Torch::new(Arc::new(model), weights, precision, device.torch)?.unfolded()))
}

/// Loads the engine `torch` with its convolutions computed as products of im2col matrices.
#[cfg(not(feature = "libtorch"))]
pub fn load_unfolded(
    model: Model,
    w: &Weights,
    p: Precision,
    d: Device,
) -> Result<Box<dyn Engine>> {
    load_torch(Arc::new(model), w, p, d)
}

/// The versions that a record keeps, by program.
pub fn versions() -> std::collections::BTreeMap<String, String> {
    let mut versions = std::collections::BTreeMap::new();
    versions.insert("harness".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    versions.insert("rustc".to_owned(), env!("HARNESS_RUSTC").to_owned());
    #[cfg(feature = "libtorch")]
    versions.insert("libtorch".to_owned(), torch::LIBTORCH_VERSION.to_owned());
    versions
}
