//! The flags for what computes.

use std::fmt;
use std::str::FromStr;

use clap::Args;

/// The flags that say on what the engines run.
#[derive(Debug, Clone, Args)]
pub struct DeviceArgs {
    /// Device of the engines torch and cuda: cpu, cuda or cuda:N. With `emulated`, the engine cuda runs
    /// on an emulated GPU, which is slow, and torch runs on the CPU.
    #[arg(long, default_value_t = DeviceName::Cpu)]
    pub device: DeviceName,
    /// Number of threads of every engine; 0 uses all cores.
    #[arg(long, default_value_t = 0, value_parser = threads)]
    pub threads: usize,
    /// Instruction set of the engine cpu: portable, avx2, avx512, avx512bf16, amx, neon or
    /// amx-emulated [default: the best that the CPU has].
    #[arg(long)]
    pub isa: Option<cpu::Isa>,
}

/// The most threads that are accepted on any machine.
const MOST_THREADS: usize = 256;

/// A number of threads.
pub fn threads(text: &str) -> Result<usize, String> {
    let count: usize = text.parse().map_err(|_| "it must be a whole number".to_owned())?;
    let most = std::thread::available_parallelism().map_or(1, |n| n.get()).max(MOST_THREADS);
    match count <= most {
        true => Ok(count),
        false => Err(format!("it must be at most {most} on this machine")),
    }
}

#[cfg(test)]
#[test]
fn a_number_of_threads_has_a_limit() {
    assert_eq!(threads("0"), Ok(0));
    assert_eq!(threads("256"), Ok(256));
    assert!(threads("100000").is_err() && threads("-1").is_err());
}

/// A device by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceName {
    /// The CPU.
    Cpu,
    /// The GPU with this number; without one, the first.
    Cuda(Option<usize>),
    /// A GPU that the CPU emulates.
    Emulated,
}

impl DeviceName {
    /// Whether the engine cuda can run on this device.
    pub fn is_gpu(self) -> bool {
        self != DeviceName::Cpu
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceName::Cpu => f.write_str("cpu"),
            DeviceName::Cuda(None) => f.write_str("cuda"),
            DeviceName::Cuda(Some(number)) => write!(f, "cuda:{number}"),
            DeviceName::Emulated => f.write_str("emulated"),
        }
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix("cuda:").map(str::parse);
        match (text, number) {
            ("cpu", _) => Ok(DeviceName::Cpu),
            ("cuda", _) => Ok(DeviceName::Cuda(None)),
            ("emulated", _) => Ok(DeviceName::Emulated),
            (_, Some(Ok(number))) => Ok(DeviceName::Cuda(Some(number))),
            _ => Err(format!("`{text}` is not a device; use cpu, cuda, cuda:N or emulated")),
        }
    }
}
