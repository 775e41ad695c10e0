//! What kernels run on: a GPU ([`gpu`]), for which [`nvrtc`] compiles them, or the host, which
//! emulates a GPU ([`host`]).

#![allow(unsafe_code, reason = "addresses of device memory carry no lifetime and no length")]

mod cache;
pub mod gpu;
pub mod host;
pub mod nvrtc;

use std::any::Any;

use spec::EngineError;

use crate::kernels::bands::TensorMap;
use crate::kernels::{Machine, Variant};

pub use gpu::Gpu;
pub use host::{Host, Schedule};

/// Memory of a device, which is freed when this is dropped.
pub struct Memory {
    /// Address of the first byte.
    pub address: u64,
    /// Size in bytes.
    pub bytes: usize,
    _owner: Box<dyn Any + Send>,
}

/// A kernel that a device has loaded, by its index there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kernel(usize);

/// One run of a kernel.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The kernel.
    pub kernel: Kernel,
    /// Number of blocks along x, y and z.
    pub grid: [u32; 3],
    /// Neighbours along z that form a cluster; 1 where blocks do not know each other.
    pub cluster: u32,
    /// The bytes of the kernel's one argument, the `Args` of its module.
    pub args: Vec<u8>,
}

/// A tensor of 16-bit values in device memory, of which kernels copy boxes (`hopper.cuh`). The
/// fastest dimension comes first.
#[derive(Debug, Clone, Copy)]
pub struct Tensor {
    /// Address of the first value, a multiple of 16.
    pub address: u64,
    /// Number of values along each dimension.
    pub dims: [u64; 4],
    /// Bytes between neighbours along the last three dimensions, multiples of 16.
    pub strides: [u64; 3],
    /// Values of a box along each dimension, 256 at most, and 64 along the first.
    pub boxes: [u64; 4],
}

/// A sequence of launches that a device can repeat with little overhead.
pub struct Recording(Box<dyn Any + Send>);

/// Something that has memory and runs kernels. The calls on one device take effect in order.
pub trait Device: Send {
    /// The name of the device, for messages and records.
    fn describe(&self) -> String;

    /// The properties that the choice of tiles depends on.
    fn machine(&self) -> Machine;

    /// Compute capability, such as (9, 0) for sm_90.
    fn capability(&self) -> (i32, i32);

    /// Free memory in bytes.
    fn free(&self) -> Result<usize, EngineError>;

    /// Allocates memory, which is not initialised. An emulated GPU fills it with NaN.
    fn alloc(&mut self, bytes: usize) -> Result<Memory, EngineError>;

    /// Copies `bytes` to the device; they may be freed when it returns.
    ///
    /// # Safety
    /// `to` must be an address in [`Memory`] of this device, with at least `bytes.len()` bytes from
    /// there on.
    unsafe fn write(&mut self, to: u64, bytes: &[u8]) -> Result<(), EngineError>;

    /// Copies from the device, after all earlier launches have ended.
    ///
    /// # Safety
    /// `from` must be an address in [`Memory`] of this device, with at least `bytes.len()` bytes
    /// from there on.
    unsafe fn read(&mut self, from: u64, bytes: &mut [u8]) -> Result<(), EngineError>;

    /// Fills memory with a byte.
    ///
    /// # Safety
    /// `to` must be an address in [`Memory`] of this device, with at least `bytes` bytes from there
    /// on.
    unsafe fn fill(&mut self, to: u64, bytes: usize, value: u8) -> Result<(), EngineError>;

    /// Declares that nothing writes to `memory` any more. Kernels may then read it before earlier ones
    /// have ended (`wait_for_earlier_kernels` in `device.cuh`).
    fn freeze(&mut self, memory: &Memory) -> Result<(), EngineError>;

    /// Compiles and loads a kernel, unless it is loaded already.
    fn kernel(&mut self, variant: &Variant) -> Result<Kernel, EngineError>;

    /// Encodes a tensor for kernels that copy boxes of it. Only devices whose
    /// [`Machine::bands`] says so can.
    fn tensor_map(&self, tensor: &Tensor) -> Result<TensorMap, EngineError>;

    /// Starts a kernel. Its part before `wait_for_earlier_kernels` may run before earlier ones have
    /// ended.
    ///
    /// # Safety
    /// `launch.args` must be the `Args` of the kernel, and every address in it must be 0 where that
    /// is allowed, or memory of this device of the type and shape that `Args` documents.
    unsafe fn launch(&mut self, launch: &Launch) -> Result<(), EngineError>;

    /// Records launches without running them; on a GPU as a CUDA graph.
    ///
    /// # Safety
    /// The conditions of [`Device::launch`] must hold whenever the recording is replayed.
    unsafe fn record(&mut self, launches: &[Launch]) -> Result<Recording, EngineError>;

    /// Starts the launches of a recording, which this device must have made.
    fn replay(&mut self, recording: &Recording) -> Result<(), EngineError>;

    /// Waits for the end of all launches, and returns the error of any that failed.
    fn synchronize(&mut self) -> Result<(), EngineError>;
}

/// Whether an environment variable says `on`, which is the default, and not `off`.
fn is_on(variable: &str) -> Result<bool, EngineError> {
    let name = std::env::var(variable).unwrap_or_else(|_| "on".to_owned());
    match name.as_str() {
        "on" => Ok(true),
        "off" => Ok(false),
        other => Err(EngineError::Device(format!("{variable} is `{other}`; it must be on or off"))),
    }
}

/// Whether blocks may form clusters.
fn clusters_chosen() -> Result<bool, EngineError> {
    is_on("HARNESS_CUDA_CLUSTERS")
}

/// An error of this engine.
pub(crate) fn failed(message: impl Into<String>) -> EngineError {
    EngineError::Backend { engine: "cuda", message: message.into() }
}
