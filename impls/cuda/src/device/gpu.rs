//! A GPU, by way of the CUDA driver, which is loaded at run time.

#![allow(unsafe_code, reason = "calls the CUDA driver")]

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::sys::{
    CUdevice_attribute, CUfunction_attribute, CUgraphInstantiate_flags, CUstreamCaptureMode,
};
use cudarc::driver::{CudaContext, CudaFunction, CudaGraph, CudaStream, DriverError, result, sys};
use cudarc::nvrtc::Ptx;
use spec::EngineError;

use super::nvrtc::Nvrtc;
use super::{Device, Kernel, Launch, Memory, Recording, cache, failed};
use crate::kernels::{HEADERS, Machine, Variant};

/// The oldest driver that serves: the one of CUDA 12.0.
const OLDEST_DRIVER: i32 = 12_000;

/// A GPU.
pub struct Gpu {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    nvrtc: Nvrtc,
    architecture: String,
    name: String,
    capability: (i32, i32),
    machine: Machine,
    loaded: Vec<(CudaFunction, Variant)>,
    known: HashMap<Variant, Kernel>,
}

/// What the driver said, as a sentence.
fn said(error: DriverError) -> EngineError {
    let name = error.error_string().map(|text| text.to_string_lossy().into_owned());
    failed(format!("the CUDA driver: {}", name.unwrap_or_else(|_| error.to_string())))
}

fn refused(message: impl Into<String>) -> EngineError {
    EngineError::Device(message.into())
}

/// Refuses a GPU that is not there, or whose driver is not there or too old, in a sentence; opens
/// nothing.
pub fn find(ordinal: usize) -> Result<(), EngineError> {
    // SAFETY: only tries to load the library.
    if !unsafe { sys::is_culib_present() } {
        return Err(refused(format!(
            "--device cuda:{ordinal}: no NVIDIA driver (libcuda.so.1) was found on this machine; use \
             --device cpu"
        )));
    }
    let mut version = 0;
    // SAFETY: needs no context, and every driver has it.
    let code = unsafe { sys::cuDriverGetVersion(&mut version) };
    code.result().map_err(said)?;
    if version < OLDEST_DRIVER {
        return Err(refused(format!(
            "the NVIDIA driver is for CUDA {}.{} and 12.0 or newer is needed; update it, or use \
             --device cpu",
            version / 1000,
            version % 1000 / 10
        )));
    }
    result::init().map_err(|error| {
        refused(format!("{}; is there a GPU in this machine? use --device cpu", said(error)))
    })?;
    let count = result::device::get_count().map_err(said)?;
    match ordinal < count as usize {
        true => Ok(()),
        false => Err(refused(format!("--device cuda:{ordinal}: this machine has {count} GPUs"))),
    }
}

impl Gpu {
    /// Opens a GPU by number. One that is not there, a driver that is not there or too old, and a
    /// missing NVRTC are refused in a sentence each.
    pub fn open(ordinal: usize) -> Result<Self, EngineError> {
        find(ordinal)?;
        let nvrtc = Nvrtc::load()?;
        let context = CudaContext::new(ordinal).map_err(said)?;
        // SAFETY: all work of this engine goes to one stream, in order.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(said)?;
        let capability = context.compute_capability().map_err(said)?;
        let name = context.name().map_err(said)?;
        if capability < (7, 5) {
            let (major, minor) = capability;
            return Err(refused(format!("{name} is sm_{major}{minor}; sm_75 or newer is needed")));
        }
        let has = |what| context.attribute(what).map(|n| n.max(0) as usize).map_err(said);
        let machine = Machine {
            processors: has(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            shared_bytes: has(
                CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
            )?,
        };
        let architecture = nvrtc.architecture(capability)?;
        let (loaded, known) = (vec![], HashMap::new());
        Ok(Gpu { context, stream, nvrtc, architecture, name, capability, machine, loaded, known })
    }

    /// The driver's version of CUDA, such as 13.0.
    pub fn driver_version(&self) -> Result<String, EngineError> {
        let mut version = 0;
        // SAFETY: writes one number.
        unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(said)?;
        Ok(format!("{}.{}", version / 1000, version % 1000 / 10))
    }

    /// The compiler's version.
    pub fn compiler_version(&self) -> String {
        self.nvrtc.version()
    }

    fn compile(&self, variant: &Variant) -> Result<Vec<u8>, EngineError> {
        let options = self.nvrtc.options(variant, &self.architecture).join(" ");
        let version = self.nvrtc.version();
        let mut inputs = vec![version.as_bytes(), options.as_bytes(), variant.source().as_bytes()];
        inputs.extend(HEADERS.iter().map(|(_, text)| text.as_bytes()));
        let make = || Ok(self.nvrtc.compile(variant, &self.architecture)?.code);
        let path = cache::cached(variant.name(), "cubin", &inputs, make)?;
        std::fs::read(&path).map_err(|error| failed(format!("{}: {error}", path.display())))
    }

    unsafe fn enqueue(&self, launch: &Launch) -> Result<(), DriverError> {
        let (function, variant) = &self.loaded[launch.kernel.0];
        let [x, y, z] = launch.grid;
        let mut params = [launch.args.as_ptr().cast_mut().cast::<c_void>()];
        // SAFETY: the caller's; the driver copies the argument before it returns.
        unsafe {
            let (block, shared) = ((variant.threads(), 1, 1), variant.shared_bytes());
            let stream = self.stream.cu_stream();
            let function = function.cu_function();
            result::launch_kernel(function, (x, y, z), block, shared, stream, &mut params)
        }
    }
}

/// A graph; only used by the thread that has its device.
struct Graph(CudaGraph);

// SAFETY: it moves with the engine and is used by one thread at a time.
unsafe impl Send for Graph {}

struct Owned {
    context: Arc<CudaContext>,
    address: u64,
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: allocated by `alloc`. An error here is told by the next call that fails.
        let _ =
            self.context.bind_to_thread().and_then(|()| unsafe { result::free_sync(self.address) });
    }
}

impl Device for Gpu {
    fn describe(&self) -> String {
        let ordinal = self.context.ordinal();
        format!(
            "cuda:{ordinal} ({}, {}, NVRTC {})",
            self.name,
            self.architecture,
            self.nvrtc.version()
        )
    }

    fn machine(&self) -> Machine {
        self.machine
    }

    fn capability(&self) -> (i32, i32) {
        self.capability
    }

    fn free(&self) -> Result<usize, EngineError> {
        Ok(self.context.mem_get_info().map_err(said)?.0)
    }

    fn alloc(&mut self, bytes: usize) -> Result<Memory, EngineError> {
        self.context.bind_to_thread().map_err(said)?;
        // SAFETY: whoever reads it writes it first.
        let address = unsafe { result::malloc_sync(bytes.max(16)) }.map_err(|error| {
            let free = self.free().unwrap_or(0) >> 20;
            failed(format!("{} MiB of GPU memory, of which {free} are free: {error}", bytes >> 20))
        })?;
        let owner = Owned { context: self.context.clone(), address };
        Ok(Memory { address, bytes, _owner: Box::new(owner) })
    }

    unsafe fn write(&mut self, to: u64, bytes: &[u8]) -> Result<(), EngineError> {
        self.context.bind_to_thread().map_err(said)?;
        // SAFETY: the caller's; waits, so that the bytes may go.
        unsafe { result::memcpy_htod_async(to, bytes, self.stream.cu_stream()) }.map_err(said)?;
        self.synchronize()
    }

    unsafe fn read(&mut self, from: u64, bytes: &mut [u8]) -> Result<(), EngineError> {
        self.context.bind_to_thread().map_err(said)?;
        // SAFETY: the caller's.
        unsafe { result::memcpy_dtoh_async(bytes, from, self.stream.cu_stream()) }.map_err(said)?;
        self.synchronize()
    }

    unsafe fn fill(&mut self, to: u64, bytes: usize, value: u8) -> Result<(), EngineError> {
        self.context.bind_to_thread().map_err(said)?;
        // SAFETY: the caller's.
        unsafe { result::memset_d8_async(to, value, bytes, self.stream.cu_stream()) }.map_err(said)
    }

    fn kernel(&mut self, variant: &Variant) -> Result<Kernel, EngineError> {
        if let Some(kernel) = self.known.get(variant) {
            return Ok(*kernel);
        }
        let code = Ptx::from_binary(self.compile(variant)?);
        let module = self.context.load_module(code).map_err(said)?;
        let function = module.load_function(variant.name()).map_err(said)?;
        let limit = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function.set_attribute(limit, variant.shared_bytes() as i32).map_err(|error| {
            let (kib, name) = (variant.shared_bytes() >> 10, variant.file());
            failed(format!("{name} needs {kib} KiB of shared memory a block: {}", said(error)))
        })?;
        let kernel = Kernel(self.loaded.len());
        self.loaded.push((function, variant.clone()));
        self.known.insert(variant.clone(), kernel);
        Ok(kernel)
    }

    unsafe fn launch(&mut self, launch: &Launch) -> Result<(), EngineError> {
        self.context.bind_to_thread().map_err(said)?;
        // SAFETY: the caller's.
        unsafe { self.enqueue(launch) }.map_err(said)
    }

    unsafe fn record(&mut self, launches: &[Launch]) -> Result<Recording, EngineError> {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).map_err(said)?;
        // SAFETY: the caller's. The capture ends whatever happens.
        let launched = launches.iter().try_for_each(|launch| unsafe { self.enqueue(launch) });
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0));
        launched.map_err(said)?;
        let graph = graph.map_err(said)?.ok_or_else(|| failed("an empty CUDA graph"))?;
        graph.upload().map_err(said)?;
        Ok(Recording(Box::new(Graph(graph))))
    }

    fn replay(&mut self, recording: &Recording) -> Result<(), EngineError> {
        let graph = recording.0.downcast_ref::<Graph>();
        graph.ok_or_else(|| failed("a recording of another device"))?.0.launch().map_err(said)
    }

    fn synchronize(&mut self) -> Result<(), EngineError> {
        self.stream.synchronize().map_err(said)
    }
}
