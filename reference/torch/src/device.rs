//! Where libtorch computes.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use spec::EngineError;

/// A device that [`Device::open`] has found usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    Cpu,
    /// A CUDA device by its index.
    Cuda(usize),
}

impl Device {
    /// Makes sure that the device is there. For CUDA, libtorch_cuda is loaded here: nothing in the
    /// program refers to it, so the linker leaves it out. Call before other threads start.
    pub fn open(self) -> Result<Self, EngineError> {
        let Device::Cuda(index) = self else { return Ok(self) };
        load_cuda().map_err(|why| {
            EngineError::Device(format!(
                "--device {self}: libtorch's CUDA library cannot be loaded ({why}); run \
                 `scripts/harness --cuda …` on a machine with an NVIDIA GPU, or use --device cpu"
            ))
        })?;
        let count = tch::Cuda::device_count().max(0) as usize;
        if !tch::Cuda::is_available() || index >= count {
            return Err(EngineError::Device(format!(
                "--device {self}: this machine has {count} usable CUDA devices; use --device cpu, \
                 or check the driver with nvidia-smi"
            )));
        }
        Ok(self)
    }
}

/// Caps the threads that libtorch uses inside an operation; 0 leaves its default.
pub fn threads(count: usize) {
    if count > 0 {
        tch::set_num_threads(count as i32);
    }
}

#[allow(unsafe_code)]
fn load_cuda() -> Result<(), String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: the caller is told to call this before other threads start. The variable turns TF32
    // off in cuBLAS and cuDNN: the float32 reference has to be float32.
    unsafe { std::env::set_var("NVIDIA_TF32_OVERRIDE", "0") };
    let beside = option_env!("HARNESS_LIBTORCH_LIB").map(|dir| Path::new(dir).join(CUDA_LIBRARY));
    let name = beside.filter(|path| path.exists()).unwrap_or_else(|| CUDA_LIBRARY.into());
    // SAFETY: loading runs the initialisers of libtorch's own library, which registers its kernels
    // with the libtorch_cpu that is already loaded; the handle is leaked, so it is never unloaded.
    let library = unsafe { Library::open(Some(&name), RTLD_NOW | RTLD_GLOBAL) };
    library.map(std::mem::forget).map_err(|error| one_line(&error))
}

const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// The loader's reason, without the folder that it looked in.
fn one_line(error: &libloading::Error) -> String {
    let text = std::error::Error::source(error).map_or(error.to_string(), |why| why.to_string());
    let short = text.lines().next().unwrap_or("").to_owned();
    match short.rfind('/') {
        Some(at) => short[at + 1..].to_owned(),
        None => short,
    }
}

impl From<Device> for tch::Device {
    fn from(device: Device) -> Self {
        match device {
            Device::Cpu => tch::Device::Cpu,
            Device::Cuda(index) => tch::Device::Cuda(index),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(0) => f.write_str("cuda"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let index = text.strip_prefix("cuda").map(|rest| rest.strip_prefix(':').unwrap_or(rest));
        match (text, index) {
            ("cpu", _) => Ok(Device::Cpu),
            ("cuda", _) => Ok(Device::Cuda(0)),
            (_, Some(index)) if text.starts_with("cuda:") => {
                index.parse().map(Device::Cuda).map_err(|_| bad(text))
            }
            _ => Err(bad(text)),
        }
    }
}

fn bad(text: &str) -> String {
    format!("`{text}` is not a device; use cpu, cuda or cuda:N")
}
