//! The device on which libtorch computes.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use spec::EngineError;

/// A device of libtorch; [`Device::open`] checks that it is usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// The CUDA device with this index.
    Cuda(usize),
}

impl Device {
    /// Checks that the device is usable, and fails with [`EngineError::Device`] if it is not. For CUDA
    /// this loads libtorch_cuda, which the linker leaves out because nothing in the program refers to
    /// it. Call this before other threads start, because it sets an environment variable.
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

    /// Waits until the device has finished its work; a CPU always has.
    pub(crate) fn synchronize(self) {
        if let Device::Cuda(index) = self {
            tch::Cuda::synchronize(index as i64);
        }
    }
}

/// Limits the number of threads that libtorch uses inside an operation; 0 keeps its default.
pub fn threads(count: usize) {
    if count > 0 {
        tch::set_num_threads(count as i32);
    }
}

#[allow(unsafe_code)]
fn load_cuda() -> Result<(), String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // The variable turns TF32 off in cuBLAS and cuDNN: the float32 reference must be float32.
    // SAFETY: no other thread reads or writes the environment at this time, because the contract of
    // `Device::open`, the only caller, is that it runs before other threads start.
    unsafe { std::env::set_var("NVIDIA_TF32_OVERRIDE", "0") };
    let built = option_env!("HARNESS_LIBTORCH_LIB").map(|dir| Path::new(dir).join(CUDA_LIBRARY));
    let name = built.filter(|path| path.exists()).unwrap_or_else(|| CUDA_LIBRARY.into());
    // SAFETY: the only code that loading runs is the initialisers of libtorch's own library, which
    // register its kernels with the libtorch_cpu that is already loaded. The handle is leaked below,
    // so the library is never unloaded and its code stays valid.
    let library = unsafe { Library::open(Some(&name), RTLD_NOW | RTLD_GLOBAL) };
    library.map(std::mem::forget).map_err(|error| one_line(&error))
}

const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// The first line of the loader's message, without the folder that it searched.
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
                index.parse().map(Device::Cuda).map_err(|_| not_a_device(text))
            }
            _ => Err(not_a_device(text)),
        }
    }
}

fn not_a_device(text: &str) -> String {
    format!("`{text}` is not a device; use cpu, cuda or cuda:N")
}
