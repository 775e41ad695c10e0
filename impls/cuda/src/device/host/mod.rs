//! The host as an emulated GPU: g++ compiles the same `.cu` files with `emulate.hpp`, and links them
//! with `emulator.cpp`, which is compiled once.

#![allow(unsafe_code, reason = "loads compiled kernels and calls them")]

mod guarded;

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Weak};

use libloading::Library;
use lower::{Activation, Stage};
use spec::EngineError;

use self::guarded::Pages;
use super::{Device, Kernel, Launch, Memory, Recording, Tensor, cache, clusters_chosen, failed};
use crate::kernels::args::SIGMOID_HALF;
use crate::kernels::bands::TensorMap;
use crate::kernels::fields::{fields, offsets};
use crate::kernels::tile::BandSupport;
use crate::kernels::{HEADERS, Machine, Variant};

/// Name and text of the files that turn a kernel into a program of the host.
const SOURCES: [(&str, &str); 5] = [
    ("emulate.hpp", include_str!("emulate.hpp")),
    (EMULATOR, include_str!("emulator.cpp")),
    ("fibers.hpp", include_str!("fibers.hpp")),
    ("hopper.hpp", include_str!("hopper.hpp")),
    ("warp.hpp", include_str!("warp.hpp")),
];

/// The file that is compiled for itself.
const EMULATOR: &str = "emulator.cpp";

/// Marks a tensor map of this device, as in `hopper.hpp`.
const TENSOR_MAGIC: u64 = 0x7465_6e73_6f72_4d61;

/// The order in which threads run, and when asynchronous copies arrive. A kernel whose result
/// depends on it has a race.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Schedule {
    /// 0: threads and blocks run forward; 1: backward; more: the seed of a random order.
    pub order: u32,
    /// Whether copies arrive when they are issued instead of when they are waited for.
    pub eager: bool,
}

/// The schedules under which tests run a kernel; it must give the same bits under all of them.
pub const SCHEDULES: [Schedule; 5] = [
    Schedule { order: 0, eager: false },
    Schedule { order: 1, eager: true },
    Schedule { order: 1, eager: false },
    Schedule { order: 2, eager: false },
    Schedule { order: 3, eager: true },
];

/// The same layout as `emulate::Launch` in `emulate.hpp`.
#[repr(C)]
struct LaunchParams {
    grid: [c_int; 3],
    cluster: c_int,
    threads: c_int,
    shared_bytes: c_int,
    order: c_int,
    eager: c_int,
    memories: c_int,
    memory: u64,
}

fields!(LaunchParams { grid, cluster, threads, shared_bytes, order, eager, memories, memory });

/// The same layout as `emulate::Memory` in `emulate.hpp`.
#[repr(C)]
struct MemoryRange {
    first: *mut u8,
    bytes: u64,
}

/// `emulate_launch` of a compiled kernel: parameters, argument, and where bank conflicts are
/// counted. Returns null or an error message.
type EntryPoint =
    unsafe extern "C" fn(*const LaunchParams, *const c_void, *mut c_long) -> *const c_char;

struct Loaded {
    entry: EntryPoint,
    variant: Variant,
}

/// An emulated GPU.
pub struct Host {
    /// The schedule of later launches.
    pub schedule: Schedule,
    /// The number of multiprocessors that it reports.
    pub multiprocessors: usize,
    /// How it runs convolutions in half precision.
    pub bands: BandSupport,
    /// Whether its blocks can form clusters.
    pub clusters: bool,
    /// Whether it runs two 1x1 convolutions in one kernel.
    pub pairs: bool,
    /// The free memory in bytes that it reports.
    pub memory: usize,
    /// Bank conflicts of `ldmatrix` in all launches so far.
    pub conflicts: u64,
    /// Gets the name and text of each source and returns the text to compile, to plant a fault.
    edit: Option<fn(&str, &str) -> String>,
    /// What was allocated and not frozen.
    allocated: Vec<Weak<Pages>>,
    loaded: Vec<Loaded>,
    known: HashMap<Variant, Kernel>,
}

/// Flags of the host compiler. It must not contract a multiplication and an addition, because the
/// kernels state where they fuse the two.
const FLAGS: [&str; 4] = ["-std=c++17", "-fPIC", "-ffp-contract=off", "-DEMULATE"];

/// More flags for a kernel.
const KERNEL_FLAGS: [&str; 4] = [
    "-shared",
    "-O1",
    "-fsanitize=alignment,bounds,integer-divide-by-zero",
    "-fsanitize-undefined-trap-on-error",
];

/// More flags for the emulator.
const EMULATOR_FLAGS: [&str; 2] = ["-c", "-O3"];

/// The C++ compiler: `$CXX`, or g++.
fn compiler() -> String {
    std::env::var("CXX").unwrap_or_else(|_| "g++".to_owned())
}

/// The file that is compiled: the kernel, and assertions that its numbers have the same meaning in
/// C++ as in Rust.
fn main_file(variant: &Variant) -> String {
    let mut text = format!("#include \"{}\"\n#include \"epilogue.cuh\"\n", variant.file());
    let mut same = |what: String, number: usize| {
        text +=
            &format!("static_assert({what} == {number}, \"{what} differs from the Rust side\");\n");
    };
    for (field, offset) in variant.offsets() {
        same(format!("__builtin_offsetof(KernelArgs, {field})"), offset);
    }
    for (field, offset) in offsets::<LaunchParams>() {
        same(format!("__builtin_offsetof(emulate::Launch, {field})"), offset);
    }
    for stage in Stage::OBSERVABLE {
        same(format!("{stage:?}").to_uppercase(), stage as usize);
    }
    for activation in [Activation::Identity, Activation::Relu, Activation::Sigmoid] {
        same(format!("{activation:?}").to_uppercase(), activation as usize);
    }
    same("SIGMOID_HALF".to_owned(), SIGMOID_HALF as usize);
    text
}

/// The name of [`main_file`].
const MAIN: &str = "main.cpp";

impl Host {
    /// An emulated GPU with a number of multiprocessors. Fails if there is no C++ compiler, or if
    /// the machine is not x86-64 with Linux.
    pub fn new(multiprocessors: usize) -> Result<Self, EngineError> {
        if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
            return Err(failed("the emulation of a GPU needs x86-64 and Linux; use --device cpu"));
        }
        let found = Command::new(compiler()).arg("--version").output();
        if !found.is_ok_and(|output| output.status.success()) {
            let compiler = compiler();
            return Err(failed(format!(
                "the emulation of a GPU needs a C++ compiler, and `{compiler} --version` failed; \
                 install g++, or set CXX"
            )));
        }
        Ok(Host {
            schedule: Schedule::default(),
            multiprocessors,
            bands: BandSupport::chosen()?,
            clusters: clusters_chosen()?,
            pairs: true,
            memory: usize::MAX,
            conflicts: 0,
            edit: None,
            allocated: vec![],
            loaded: vec![],
            known: HashMap::new(),
        })
    }

    /// Replaces the text of each source file by `edit(name, text)` before it is compiled.
    pub fn edited(self, edit: fn(&str, &str) -> String) -> Self {
        Host { edit: Some(edit), ..self }
    }

    fn text(&self, name: &str, text: &str) -> String {
        self.edit.map_or_else(|| text.to_owned(), |edit| edit(name, text))
    }

    /// Path of the shared library of a kernel, from the cache if it was compiled before.
    fn compile(&self, variant: &Variant) -> Result<PathBuf, EngineError> {
        let (emulator, main) = (self.emulator()?, main_file(variant));
        let own = [(MAIN, main.as_str()), (variant.file(), variant.source())];
        let sources = self.sources(own.into_iter().chain(HEADERS));
        let mut flags = variant.defines();
        flags.extend(KERNEL_FLAGS.map(str::to_owned));
        flags.push(emulator.display().to_string());
        compiled((variant.name(), "so"), MAIN, &sources, &flags)
    }

    /// Path of the object file of the emulator, likewise.
    fn emulator(&self) -> Result<PathBuf, EngineError> {
        compiled(("emulator", "o"), EMULATOR, &self.sources([]), &EMULATOR_FLAGS.map(str::to_owned))
    }

    /// Names and texts of some files and of [`SOURCES`], edited.
    fn sources<'a>(&self, files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Source<'a>> {
        let edited = |(name, text)| (name, self.text(name, text));
        files.into_iter().chain(SOURCES).map(edited).collect()
    }
}

/// Name and text of a file.
type Source<'a> = (&'a str, String);

/// Compiles the file `main` of `sources` to a file with this name and extension in the cache, unless
/// it is there. Flags name other inputs by their path in the cache, which holds their hash.
fn compiled(
    (name, extension): (&str, &str),
    main: &str,
    sources: &[Source],
    flags: &[String],
) -> Result<PathBuf, EngineError> {
    let compiler = compiler();
    let version = Command::new(&compiler).arg("--version").output();
    let version = version.map(|output| output.stdout).unwrap_or_default();
    let joined = (FLAGS.join(" "), flags.join(" "));
    let mut inputs: Vec<&[u8]> =
        vec![compiler.as_bytes(), &version, joined.0.as_bytes(), joined.1.as_bytes()];
    inputs.extend(sources.iter().flat_map(|(name, text)| [name.as_bytes(), text.as_bytes()]));
    cache::cached(name, extension, &inputs, || {
        let broken = |error| failed(format!("cannot run the compilation of a kernel: {error}"));
        let folder = files::Folder::new().map_err(broken)?;
        for (name, text) in sources {
            std::fs::write(folder.path().join(name), text).map_err(broken)?;
        }
        let made = folder.path().join("made");
        let output = Command::new(&compiler)
            .args(FLAGS)
            .arg(folder.path().join(main))
            .args(flags)
            .arg("-o")
            .arg(&made)
            .output()
            .map_err(broken)?;
        if !output.status.success() {
            let log = String::from_utf8_lossy(&output.stderr);
            return Err(failed(format!("{compiler} failed to compile {name}:\n{log}")));
        }
        std::fs::read(made).map_err(broken)
    })
}

impl Device for Host {
    fn describe(&self) -> String {
        "an emulated GPU".to_owned()
    }

    fn machine(&self) -> Machine {
        let Host { multiprocessors, bands, clusters, pairs, .. } = *self;
        Machine { multiprocessors, shared_bytes: 227 << 10, bands, clusters, pairs }
    }

    fn capability(&self) -> (i32, i32) {
        (9, 0)
    }

    fn free(&self) -> Result<usize, EngineError> {
        Ok(self.memory)
    }

    fn alloc(&mut self, bytes: usize) -> Result<Memory, EngineError> {
        let pages = Pages::new(bytes).map_err(|error| failed(error.to_string()))?;
        let pages = Arc::new(pages);
        self.allocated.push(Arc::downgrade(&pages));
        let address = pages.start() as u64;
        let memory = Memory { address, bytes, _owner: Box::new(pages) };
        // SAFETY: `pages` has `bytes` writable bytes from `address` on.
        unsafe { self.fill(address, bytes, 0xff)? };
        Ok(memory)
    }

    unsafe fn write(&mut self, to: u64, bytes: &[u8]) -> Result<(), EngineError> {
        // SAFETY: the caller guarantees `bytes.len()` bytes behind `to`. They are mapped by
        // `Pages`, so they do not overlap with `bytes`.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len()) };
        Ok(())
    }

    unsafe fn read(&mut self, from: u64, bytes: &mut [u8]) -> Result<(), EngineError> {
        let to = bytes.as_mut_ptr();
        // SAFETY: the caller guarantees `bytes.len()` bytes behind `from`. They are mapped by
        // `Pages`, so they do not overlap with `bytes`.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to, bytes.len()) };
        Ok(())
    }

    unsafe fn fill(&mut self, to: u64, bytes: usize, value: u8) -> Result<(), EngineError> {
        // SAFETY: the caller guarantees `bytes` bytes behind `to`.
        unsafe { std::ptr::write_bytes(to as *mut u8, value, bytes) };
        Ok(())
    }

    fn freeze(&mut self, memory: &Memory) -> Result<(), EngineError> {
        let of =
            |pages: &Weak<Pages>| pages.upgrade().filter(|p| p.start() as u64 == memory.address);
        let at = self.allocated.iter().position(|pages| of(pages).is_some());
        let at = at.ok_or_else(|| failed("internal error: the memory is not of this device"))?;
        let pages = self.allocated.swap_remove(at).upgrade();
        let frozen = pages.map_or(Ok(()), |pages| pages.freeze());
        frozen.map_err(|error| failed(error.to_string()))
    }

    fn kernel(&mut self, variant: &Variant) -> Result<Kernel, EngineError> {
        if let Some(kernel) = self.known.get(variant) {
            return Ok(*kernel);
        }
        let path = self.compile(variant)?;
        let broken =
            |error| failed(format!("cannot load the compiled kernel {}: {error}", path.display()));
        // SAFETY: `compile` made the file from our sources, under a hash of them. It runs nothing
        // when it is loaded, and the KERNEL macro of emulate.hpp defines `emulate_launch` with this
        // signature.
        let entry = unsafe {
            let library = Library::new(&path).map_err(broken)?;
            let entry = *library.get::<EntryPoint>(b"emulate_launch\0").map_err(broken)?;
            // The library must stay loaded: it installs signal handlers, which are never removed.
            std::mem::forget(library);
            entry
        };
        let kernel = Kernel(self.loaded.len());
        self.loaded.push(Loaded { entry, variant: variant.clone() });
        self.known.insert(variant.clone(), kernel);
        Ok(kernel)
    }

    /// The fields that `emulate::Tensor` in `hopper.hpp` reads.
    fn tensor_map(&self, tensor: &Tensor) -> Result<TensorMap, EngineError> {
        let Tensor { address, dims, strides, boxes } = tensor;
        let aligned = address % 16 == 0 && strides.iter().all(|stride| stride % 16 == 0);
        let fits = boxes.iter().all(|side| (1..=256).contains(side)) && boxes[0] * 2 <= 128;
        if !aligned || !fits || dims.contains(&0) {
            return Err(failed(format!("{tensor:?} cannot be described to a GPU")));
        }
        let mut words = [0; 16];
        words[..2].copy_from_slice(&[TENSOR_MAGIC, *address]);
        words[2..6].copy_from_slice(dims);
        words[6..9].copy_from_slice(strides);
        words[9..13].copy_from_slice(boxes);
        Ok(TensorMap { words })
    }

    unsafe fn launch(&mut self, launch: &Launch) -> Result<(), EngineError> {
        let loaded = &self.loaded[launch.kernel.0];
        let variant = &loaded.variant;
        if launch.args.len() != variant.args_bytes() {
            let (name, got) = (variant.file(), launch.args.len());
            return Err(failed(format!(
                "{name}: the argument has {got} bytes, and the kernel expects {}",
                variant.args_bytes()
            )));
        }
        self.allocated.retain(|pages| pages.strong_count() > 0);
        let live: Vec<Arc<Pages>> = self.allocated.iter().filter_map(Weak::upgrade).collect();
        let range = |pages: &Arc<Pages>| {
            let (first, bytes) = pages.inner();
            MemoryRange { first, bytes: bytes as u64 }
        };
        let memory: Vec<MemoryRange> = live.iter().map(range).collect();
        let params = LaunchParams {
            grid: launch.grid.map(|side| side as c_int),
            cluster: launch.cluster as c_int,
            threads: variant.threads() as c_int,
            shared_bytes: variant.shared_bytes() as c_int,
            order: self.schedule.order as c_int,
            eager: c_int::from(self.schedule.eager),
            memories: memory.len() as c_int,
            memory: memory.as_ptr() as u64,
        };
        let mut conflicts = 0;
        // SAFETY: the caller guarantees the addresses in the argument, whose size is checked above.
        // The function copies it. `live` holds the pages of `memory`, which the function makes
        // inaccessible for a while. Its message is valid until the next launch of this thread, and is
        // copied here.
        let message = unsafe {
            let message = (loaded.entry)(&params, launch.args.as_ptr().cast(), &mut conflicts);
            (!message.is_null()).then(|| CStr::from_ptr(message).to_string_lossy().into_owned())
        };
        self.conflicts += conflicts as u64;
        match message {
            None => Ok(()),
            Some(message) => Err(failed(format!("{}: {message}", variant.file()))),
        }
    }

    unsafe fn record(&mut self, launches: &[Launch]) -> Result<Recording, EngineError> {
        Ok(Recording(Box::new(launches.to_vec())))
    }

    fn replay(&mut self, recording: &Recording) -> Result<(), EngineError> {
        let launches = recording.0.downcast_ref::<Vec<Launch>>();
        for launch in launches.into_iter().flatten() {
            // SAFETY: the caller of `record` guaranteed the conditions of `launch` for every
            // replay.
            unsafe { self.launch(launch)? };
        }
        Ok(())
    }

    fn synchronize(&mut self) -> Result<(), EngineError> {
        Ok(())
    }
}
