//! A GPU, through the CUDA driver, which is loaded at run time.

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
use super::{
    Device, Kernel, Launch, Memory, Recording, Tensor, cache, clusters_chosen, failed, is_on,
};
use crate::kernels::bands::TensorMap;
use crate::kernels::tile::BandSupport;
use crate::kernels::{Machine, Variant};

/// The oldest driver that is supported, that of CUDA 12.0, as `cuDriverGetVersion` numbers it.
const OLDEST_DRIVER: i32 = 12_000;

/// The first driver that keeps early starts in graphs, that of CUDA 12.3.
const DRIVER_WITH_EARLY_STARTS: i32 = 12_030;

/// Drivers up to [`LAST_DRIVER_WITH_BIT`] set the bit for tensors of fewer bytes than this.
const SMALL_TENSOR: u64 = 131_072;

/// The last driver that sets a reserved bit of small tensor maps, that of CUDA 13.1.
const LAST_DRIVER_WITH_BIT: i32 = 13_010;

/// A GPU with its compiler and the kernels that it has loaded.
pub struct Gpu {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    nvrtc: Nvrtc,
    architecture: String,
    name: String,
    capability: (i32, i32),
    machine: Machine,
    driver: i32,
    /// Whether a kernel may start before the one before it has ended; it then waits for that itself
    /// (`wait_for_earlier_kernels` in `device.cuh`).
    early: bool,
    /// Bands gave wrong results, and only these are left.
    limited: Option<BandSupport>,
    /// Whether clusters gave wrong results.
    without_clusters: bool,
    loaded: Vec<(CudaFunction, Variant)>,
    known: HashMap<Variant, Kernel>,
}

/// An error of the driver with its description.
fn driver_error(error: DriverError) -> EngineError {
    let name = error.error_string().map(|text| text.to_string_lossy().into_owned());
    failed(format!("the CUDA driver: {}", name.unwrap_or_else(|_| error.to_string())))
}

fn refused(message: impl Into<String>) -> EngineError {
    EngineError::Device(message.into())
}

/// The version of CUDA that the driver supports, as `cuDriverGetVersion` numbers it. The library
/// must be present.
fn driver_version() -> Result<i32, EngineError> {
    let mut version = 0;
    // SAFETY: the function needs no context and writes one integer to the pointer, which is valid.
    let code = unsafe { sys::cuDriverGetVersion(&mut version) };
    code.result().map_err(driver_error)?;
    Ok(version)
}

/// Checks, without opening it, that the GPU exists and that its driver is new enough. Fails with
/// [`EngineError::Device`].
pub fn find(ordinal: usize) -> Result<(), EngineError> {
    // SAFETY: this only tries to load libcuda, whose initialisers have no precondition.
    if !unsafe { sys::is_culib_present() } {
        return Err(refused(format!(
            "--device cuda:{ordinal}: no NVIDIA driver (libcuda.so.1) was found on this machine; \
             install one, or use --device cpu"
        )));
    }
    let version = driver_version()?;
    if version < OLDEST_DRIVER {
        return Err(refused(format!(
            "the NVIDIA driver supports CUDA {}.{}, and 12.0 or newer is needed; update the \
             driver, or use --device cpu",
            version / 1000,
            version % 1000 / 10
        )));
    }
    result::init().map_err(|error| {
        refused(format!(
            "{}; check that this machine has an NVIDIA GPU, or use --device cpu",
            driver_error(error)
        ))
    })?;
    let count = result::device::get_count().map_err(driver_error)?;
    match ordinal < count as usize {
        true => Ok(()),
        false => Err(refused(format!(
            "--device cuda:{ordinal}: this machine has {count} GPUs, numbered from 0"
        ))),
    }
}

/// The name of a GPU, such as `NVIDIA H100 80GB HBM3`, without opening it. Fails as [`find`] does.
pub fn name(ordinal: usize) -> Result<String, EngineError> {
    find(ordinal)?;
    let device = result::device::get(ordinal as i32).map_err(driver_error)?;
    result::device::get_name(device).map_err(driver_error)
}

impl Gpu {
    /// Opens the GPU with the number `ordinal`. Fails as [`find`] does, for a GPU older than sm_75,
    /// and if NVRTC is missing.
    pub fn open(ordinal: usize) -> Result<Self, EngineError> {
        find(ordinal)?;
        let nvrtc = Nvrtc::load()?;
        let context = CudaContext::new(ordinal).map_err(driver_error)?;
        // SAFETY: event tracking orders work on several streams. This engine uses one stream only,
        // which orders its work itself.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(driver_error)?;
        let capability = context.compute_capability().map_err(driver_error)?;
        let name = context.name().map_err(driver_error)?;
        if capability < (7, 5) {
            let (major, minor) = capability;
            return Err(refused(format!(
                "{name} has compute capability {major}.{minor}, and 7.5 or newer is needed; use \
                 --device cpu"
            )));
        }
        let attribute =
            |what| context.attribute(what).map(|n| n.max(0) as usize).map_err(driver_error);
        let machine = Machine {
            multiprocessors: attribute(
                CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
            )?,
            shared_bytes: attribute(
                CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
            )?,
            bands: if capability == (9, 0) { BandSupport::chosen()? } else { BandSupport::Off },
            clusters: attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH)? > 0
                && clusters_chosen()?,
            pairs: true,
        };
        let architecture = nvrtc.architecture(capability)?;
        let driver = driver_version()?;
        let able = capability >= (9, 0) && driver >= DRIVER_WITH_EARLY_STARTS;
        Ok(Gpu {
            context,
            stream,
            nvrtc,
            architecture,
            name,
            capability,
            machine,
            driver,
            early: able && is_on("HARNESS_CUDA_EARLY_STARTS")?,
            limited: None,
            without_clusters: false,
            loaded: vec![],
            known: HashMap::new(),
        })
    }

    /// Runs only some convolutions in bands from now on, because others gave wrong results, and says
    /// so in [`Device::describe`].
    pub fn limit_bands(&mut self, support: BandSupport) {
        self.machine.bands = support;
        self.limited = Some(support);
    }

    /// Runs no clusters from now on, because they gave wrong results, and says so in
    /// [`Device::describe`].
    pub fn leave_clusters(&mut self) {
        self.machine.clusters = false;
        self.without_clusters = true;
    }

    /// Runs each 1x1 convolution by itself from now on, because two in one kernel gave wrong results, and says so in
    /// [`Device::describe`].
    pub fn leave_pairs(&mut self) {
        self.machine.pairs = false;
    }

    /// An error after a launch. It may be that of a kernel for Hopper, without which the engine runs,
    /// too.
    fn after_launch(&self, error: DriverError) -> EngineError {
        let error = driver_error(error);
        match self.machine.bands {
            BandSupport::Off => error,
            _ => failed(format!(
                "{error}; if it happens again, set HARNESS_CUDA_BANDS=off, which leaves out the \
                 kernels for Hopper"
            )),
        }
    }

    /// The version of CUDA that the driver supports, such as 13.0.
    pub fn driver_version(&self) -> Result<String, EngineError> {
        Ok(format!("{}.{}", self.driver / 1000, self.driver % 1000 / 10))
    }

    /// The version of NVRTC, such as 13.0.
    pub fn compiler_version(&self) -> String {
        self.nvrtc.version()
    }

    /// The cubin or PTX of a kernel, from the cache if it was compiled before.
    fn compile(&self, variant: &Variant) -> Result<Vec<u8>, EngineError> {
        let options = self.nvrtc.options(variant, &self.architecture).join(" ");
        let version = self.nvrtc.version();
        let mut inputs = vec![version.as_bytes(), options.as_bytes(), variant.source().as_bytes()];
        let headers = variant.headers();
        inputs.extend(headers.iter().map(|(_, text)| text.as_bytes()));
        let make = || Ok(self.nvrtc.compile(variant, &self.architecture)?.code);
        let path = cache::cached(variant.name(), "cubin", &inputs, make)?;
        std::fs::read(&path).map_err(|error| {
            failed(format!("cannot read the compiled kernel {}: {error}", path.display()))
        })
    }

    /// Puts a launch on the stream.
    ///
    /// # Safety
    /// As [`Device::launch`].
    unsafe fn enqueue(&self, launch: &Launch) -> Result<(), DriverError> {
        let (function, variant) = &self.loaded[launch.kernel.0];
        let [x, y, z] = launch.grid;
        let mut params = [launch.args.as_ptr().cast_mut().cast::<c_void>()];
        // SAFETY: the caller guarantees that the argument is the kernel's. `params` points to it,
        // and the driver copies it before the call returns.
        unsafe {
            let attribute = |id, value| sys::CUlaunchAttribute { id, pad: [0; 4], value };
            let cluster = attribute(
                sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
                sys::CUlaunchAttributeValue {
                    clusterDim: sys::CUlaunchAttributeValue_union__bindgen_ty_1 {
                        x: 1,
                        y: 1,
                        z: launch.cluster,
                    },
                },
            );
            let early = attribute(
                sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
                sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
            );
            let wanted = [(launch.cluster > 1).then_some(cluster), self.early.then_some(early)];
            let mut attributes: Vec<_> = wanted.into_iter().flatten().collect();
            let config = sys::CUlaunchConfig {
                gridDimX: x,
                gridDimY: y,
                gridDimZ: z,
                blockDimX: variant.threads(),
                blockDimY: 1,
                blockDimZ: 1,
                sharedMemBytes: variant.shared_bytes(),
                hStream: self.stream.cu_stream(),
                attrs: attributes.as_mut_ptr(),
                numAttrs: attributes.len() as u32,
            };
            let (function, none) = (function.cu_function(), std::ptr::null_mut());
            sys::cuLaunchKernelEx(&config, function, params.as_mut_ptr(), none).result()
        }
    }
}

/// A CUDA graph. Only the thread that owns its device uses it.
struct Graph(CudaGraph);

// SAFETY: a graph is not bound to a thread, but must not be used by two at once. `Device::replay`
// takes `&mut self`, so it is used by the one thread that owns the device.
unsafe impl Send for Graph {}

/// Frees device memory when it is dropped.
struct Owned {
    context: Arc<CudaContext>,
    address: u64,
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: `alloc` allocated the address in this context, and only this value frees it. An
        // error is ignored, because the next call on the device reports it.
        let _ =
            self.context.bind_to_thread().and_then(|()| unsafe { result::free_sync(self.address) });
    }
}

impl Device for Gpu {
    fn describe(&self) -> String {
        let ordinal = self.context.ordinal();
        let limited = match self.limited {
            None => "",
            Some(BandSupport::Off) => ", in tiles: bands gave wrong results",
            Some(BandSupport::Flat) => ", all but 1x1 in tiles: bands gave wrong results",
            Some(_) => ", with a map of the clip: bands of planes gave wrong results",
        };
        let without =
            if self.without_clusters { ", without clusters: they gave wrong results" } else { "" };
        let single = if self.machine.pairs {
            ""
        } else {
            ", each 1x1 convolution by itself: two in one kernel gave wrong results"
        };
        format!(
            "cuda:{ordinal} ({}, {}, NVRTC {}{limited}{without}{single})",
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
        Ok(self.context.mem_get_info().map_err(driver_error)?.0)
    }

    fn alloc(&mut self, bytes: usize) -> Result<Memory, EngineError> {
        self.context.bind_to_thread().map_err(driver_error)?;
        // SAFETY: the memory is not initialised; `Device::alloc` says so, and kernels and copies,
        // not Rust, access it.
        let address = unsafe { result::malloc_sync(bytes.max(16)) }.map_err(|error| {
            let free = self.free().unwrap_or(0) >> 20;
            failed(format!(
                "cannot allocate {} MiB of GPU memory, {free} MiB are free: {error}; use a smaller \
                 batch",
                bytes >> 20
            ))
        })?;
        let owner = Owned { context: self.context.clone(), address };
        Ok(Memory { address, bytes, _owner: Box::new(owner) })
    }

    unsafe fn write(&mut self, to: u64, bytes: &[u8]) -> Result<(), EngineError> {
        self.context.bind_to_thread().map_err(driver_error)?;
        // SAFETY: the caller guarantees the bytes behind `to`. `synchronize` below waits for the
        // copy, so `bytes` outlives it.
        unsafe { result::memcpy_htod_async(to, bytes, self.stream.cu_stream()) }
            .map_err(driver_error)?;
        self.synchronize()
    }

    unsafe fn read(&mut self, from: u64, bytes: &mut [u8]) -> Result<(), EngineError> {
        self.context.bind_to_thread().map_err(driver_error)?;
        // SAFETY: the caller guarantees the bytes behind `from`. `synchronize` below waits for the
        // copy, so `bytes` outlives it.
        unsafe { result::memcpy_dtoh_async(bytes, from, self.stream.cu_stream()) }
            .map_err(driver_error)?;
        self.synchronize()
    }

    unsafe fn fill(&mut self, to: u64, bytes: usize, value: u8) -> Result<(), EngineError> {
        self.context.bind_to_thread().map_err(driver_error)?;
        // SAFETY: the caller guarantees the bytes behind `to`.
        unsafe { result::memset_d8_async(to, value, bytes, self.stream.cu_stream()) }
            .map_err(driver_error)
    }

    fn freeze(&mut self, _memory: &Memory) -> Result<(), EngineError> {
        Ok(())
    }

    fn kernel(&mut self, variant: &Variant) -> Result<Kernel, EngineError> {
        if let Some(kernel) = self.known.get(variant) {
            return Ok(*kernel);
        }
        let code = Ptx::from_binary(self.compile(variant)?);
        let module = self.context.load_module(code).map_err(driver_error)?;
        let function = module.load_function(variant.name()).map_err(driver_error)?;
        if let Some(expected) = variant.registers() {
            let got = function.num_regs().map_err(driver_error)?;
            if got != expected as i32 {
                let name = variant.file();
                return Err(failed(format!(
                    "NVRTC {} gave {name} {got} registers for each thread, and it needs {expected}; \
                     set HARNESS_CUDA_BANDS=off, which leaves out the kernels for Hopper",
                    self.nvrtc.version()
                )));
            }
        }
        let limit = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function.set_attribute(limit, variant.shared_bytes() as i32).map_err(|error| {
            let (kib, name) = (variant.shared_bytes() >> 10, variant.file());
            failed(format!(
                "{name} needs {kib} KiB of shared memory for each block, and this GPU has less: {}",
                driver_error(error)
            ))
        })?;
        let kernel = Kernel(self.loaded.len());
        self.loaded.push((function, variant.clone()));
        self.known.insert(variant.clone(), kernel);
        Ok(kernel)
    }

    fn tensor_map(&self, tensor: &Tensor) -> Result<TensorMap, EngineError> {
        self.context.bind_to_thread().map_err(driver_error)?;
        let Tensor { address, dims, strides, boxes } = tensor;
        let (boxes, steps) = (boxes.map(|side| side as u32), [1u32; 4]);
        let mut encoded = sys::CUtensorMap_st { opaque: [0; 16] };
        // SAFETY: every pointer is to an array of the rank's length, or one shorter for the strides,
        // and to a map that is writable and aligned by its type. The driver only encodes the
        // address; it reads no memory there.
        let code = unsafe {
            sys::cuTensorMapEncodeTiled(
                &mut encoded,
                sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_UINT16,
                4,
                *address as *mut c_void,
                dims.as_ptr(),
                strides.as_ptr(),
                boxes.as_ptr(),
                steps.as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
                sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        code.result().map_err(|error| {
            failed(format!("cannot describe {tensor:?} to the GPU: {}", driver_error(error)))
        })?;
        let mut words = encoded.opaque;
        // CUTLASS does the same: drivers up to CUDA 13.1 set a bit for small tensors that Hopper
        // reserves.
        if strides[2] * dims[3] < SMALL_TENSOR && self.driver <= LAST_DRIVER_WITH_BIT {
            words[1] &= !(1 << 21);
        }
        Ok(TensorMap { words })
    }

    unsafe fn launch(&mut self, launch: &Launch) -> Result<(), EngineError> {
        self.context.bind_to_thread().map_err(driver_error)?;
        // SAFETY: the caller gives the guarantees of `launch`, which are those of `enqueue`.
        unsafe { self.enqueue(launch) }.map_err(driver_error)
    }

    unsafe fn record(&mut self, launches: &[Launch]) -> Result<Recording, EngineError> {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).map_err(driver_error)?;
        // SAFETY: the caller gives the guarantees of `launch` for every replay. An error does not
        // return before the capture has ended.
        let launched = launches.iter().try_for_each(|launch| unsafe { self.enqueue(launch) });
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0));
        launched.map_err(driver_error)?;
        let graph = graph
            .map_err(driver_error)?
            .ok_or_else(|| failed("the CUDA graph of a batch is empty"))?;
        graph.upload().map_err(driver_error)?;
        Ok(Recording(Box::new(Graph(graph))))
    }

    fn replay(&mut self, recording: &Recording) -> Result<(), EngineError> {
        let graph = recording.0.downcast_ref::<Graph>();
        graph
            .ok_or_else(|| failed("internal error: the recording belongs to another device"))?
            .0
            .launch()
            .map_err(driver_error)
    }

    fn synchronize(&mut self) -> Result<(), EngineError> {
        self.stream.synchronize().map_err(|error| self.after_launch(error))
    }
}
