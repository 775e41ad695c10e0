//! What kernels run on: a GPU ([`gpu`], compiled by [`nvrtc`]) or a host that emulates one ([`host`]).

#![allow(unsafe_code, reason = "memory and kernels of a device are reached by address")]

mod cache;
pub mod gpu;
pub mod host;
pub mod nvrtc;

use std::any::Any;

use spec::EngineError;

use crate::kernels::{Machine, Variant};

pub use gpu::Gpu;
pub use host::{Host, Schedule};

/// Memory of a device, given back when it is dropped.
pub struct Memory {
    /// Its first byte.
    pub address: u64,
    /// Its size.
    pub bytes: usize,
    _owner: Box<dyn Any + Send>,
}

/// A kernel that a device has loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kernel(usize);

/// One run of a kernel.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Which.
    pub kernel: Kernel,
    /// Blocks.
    pub grid: [u32; 3],
    /// The bytes of the kernel's one argument.
    pub args: Vec<u8>,
}

/// Launches that a device has prepared to run again and again.
pub struct Recording(Box<dyn Any + Send>);

/// Something that runs kernels. All calls of one device take effect in order.
pub trait Device: Send {
    /// Name, in words.
    fn describe(&self) -> String;

    /// What it has, for the choice of tiles.
    fn machine(&self) -> Machine;

    /// Compute capability, such as (9, 0) for sm_90.
    fn capability(&self) -> (i32, i32);

    /// Free bytes of memory.
    fn free(&self) -> Result<usize, EngineError>;

    /// Memory of at least one byte; emulated, it is filled with NaN.
    fn alloc(&mut self, bytes: usize) -> Result<Memory, EngineError>;

    /// Copies to the device.
    ///
    /// # Safety
    /// As many bytes belong to the device there.
    unsafe fn write(&mut self, to: u64, bytes: &[u8]) -> Result<(), EngineError>;

    /// Copies from the device, after all that was launched.
    ///
    /// # Safety
    /// As many bytes belong to the device there.
    unsafe fn read(&mut self, from: u64, bytes: &mut [u8]) -> Result<(), EngineError>;

    /// Fills memory with a byte.
    ///
    /// # Safety
    /// As many bytes belong to the device there.
    unsafe fn fill(&mut self, to: u64, bytes: usize, value: u8) -> Result<(), EngineError>;

    /// Compiles and loads a kernel, or finds it loaded.
    fn kernel(&mut self, variant: &Variant) -> Result<Kernel, EngineError>;

    /// Runs a kernel.
    ///
    /// # Safety
    /// The argument is the kernel's, and every address in it is as its `.rs` file says.
    unsafe fn launch(&mut self, launch: &Launch) -> Result<(), EngineError>;

    /// Prepares launches to run again and again: a CUDA graph.
    ///
    /// # Safety
    /// As [`Device::launch`], whenever the recording is replayed.
    unsafe fn record(&mut self, launches: &[Launch]) -> Result<Recording, EngineError>;

    /// Runs prepared launches of this device.
    fn replay(&mut self, recording: &Recording) -> Result<(), EngineError>;

    /// Waits for all that was launched, and tells what failed.
    fn synchronize(&mut self) -> Result<(), EngineError>;
}

/// An error of this engine in one sentence.
pub(crate) fn failed(message: impl Into<String>) -> EngineError {
    EngineError::Backend { engine: "cuda", message: message.into() }
}
