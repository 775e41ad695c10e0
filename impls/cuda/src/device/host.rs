//! A host that emulates a GPU (`kernels/emulate.hpp`): the same `.cu` files, compiled by g++.

#![allow(unsafe_code, reason = "loads compiled kernels and calls them")]

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::process::Command;

use libloading::Library;
use spec::EngineError;

use super::{Device, Kernel, Launch, Memory, Recording, cache, failed};
use crate::kernels::{HEADERS, Machine, Variant};

/// How the threads of a block are ordered, and when asynchronous copies arrive. A kernel whose result
/// depends on it has a race.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Schedule {
    /// 0: threads and blocks forward; 1: backward; more: a seed for a random order.
    pub order: u32,
    /// Copies arrive at once instead of when they are waited for.
    pub eager: bool,
}

/// The schedules under which a kernel must give the same bits.
pub const SCHEDULES: [Schedule; 5] = [
    Schedule { order: 0, eager: false },
    Schedule { order: 1, eager: true },
    Schedule { order: 1, eager: false },
    Schedule { order: 2, eager: false },
    Schedule { order: 3, eager: true },
];

/// As `emulate::Launch` in `kernels/emulate.hpp`.
#[repr(C)]
struct Grid {
    grid: [c_int; 3],
    threads: c_int,
    shared_bytes: c_int,
    order: c_int,
    eager: c_int,
    unused: c_int,
}

type Entry = unsafe extern "C" fn(*const Grid, *const c_void, *mut c_long) -> *const c_char;

struct Loaded {
    entry: Entry,
    variant: Variant,
}

/// The emulation.
pub struct Host {
    /// The schedule of what is launched from now on.
    pub schedule: Schedule,
    /// Multiprocessors that it claims to have.
    pub processors: usize,
    /// Bytes that it claims to have free.
    pub memory: usize,
    /// Reads of `ldmatrix` so far that met in a bank of shared memory.
    pub conflicts: u64,
    /// Changes the sources before they are compiled: to prove that a fault is noticed.
    edit: Option<fn(&str, &str) -> String>,
    loaded: Vec<Loaded>,
    known: HashMap<Variant, Kernel>,
}

/// Flags of the host compiler. Nothing may be contracted: the kernels say themselves what is fused.
const FLAGS: [&str; 9] = [
    "-std=c++17",
    "-O2",
    "-fPIC",
    "-shared",
    "-ffp-contract=off",
    "-fsanitize=alignment,bounds,integer-divide-by-zero",
    "-fsanitize-undefined-trap-on-error",
    "-DEMULATE",
    "-xc++",
];

fn compiler() -> String {
    std::env::var("CXX").unwrap_or_else(|_| "g++".to_owned())
}

impl Host {
    /// The emulation with so many multiprocessors; fails where there is no C++ compiler or the machine
    /// is not x86-64.
    pub fn new(processors: usize) -> Result<Self, EngineError> {
        if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
            return Err(failed("the emulation of a GPU runs on Linux on x86-64"));
        }
        let found = Command::new(compiler()).arg("--version").output();
        if !found.is_ok_and(|output| output.status.success()) {
            let compiler = compiler();
            return Err(failed(format!(
                "the emulation of a GPU needs a C++ compiler ({compiler})"
            )));
        }
        Ok(Host {
            schedule: Schedule::default(),
            processors,
            memory: usize::MAX,
            conflicts: 0,
            edit: None,
            loaded: vec![],
            known: HashMap::new(),
        })
    }

    /// Changes each source (name, text) before it is compiled.
    pub fn edited(self, edit: fn(&str, &str) -> String) -> Self {
        Host { edit: Some(edit), ..self }
    }

    fn text(&self, name: &str, text: &str) -> String {
        self.edit.map_or_else(|| text.to_owned(), |edit| edit(name, text))
    }

    fn compile(&self, variant: &Variant) -> Result<std::path::PathBuf, EngineError> {
        let (compiler, defines) = (compiler(), variant.defines());
        let files: Vec<(&str, String)> = std::iter::once((variant.file(), variant.source()))
            .chain(HEADERS)
            .map(|(name, text)| (name, self.text(name, text)))
            .collect();
        let version = Command::new(&compiler).arg("--version").output();
        let version = version.map(|output| output.stdout).unwrap_or_default();
        let joined = (FLAGS.join(" "), defines.join(" "));
        let mut inputs: Vec<&[u8]> =
            vec![compiler.as_bytes(), &version, joined.0.as_bytes(), joined.1.as_bytes()];
        inputs.extend(files.iter().flat_map(|(name, text)| [name.as_bytes(), text.as_bytes()]));
        cache::cached(variant.name(), "so", &inputs, || {
            let broken = |error| failed(format!("a kernel cannot be compiled here: {error}"));
            let folder = tempfile::tempdir().map_err(broken)?;
            for (name, text) in &files {
                std::fs::write(folder.path().join(name), text).map_err(broken)?;
            }
            let made = folder.path().join("kernel.so");
            let output = Command::new(&compiler)
                .args(FLAGS)
                .args(&defines)
                .arg(folder.path().join(variant.file()))
                .arg("-o")
                .arg(&made)
                .output()
                .map_err(broken)?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                return Err(failed(format!("{compiler} refuses {}:\n{said}", variant.file())));
            }
            std::fs::read(made).map_err(broken)
        })
    }
}

impl Device for Host {
    fn describe(&self) -> String {
        "an emulated GPU".to_owned()
    }

    fn machine(&self) -> Machine {
        Machine { processors: self.processors, shared_bytes: 227 << 10 }
    }

    fn capability(&self) -> (i32, i32) {
        (9, 0)
    }

    fn free(&self) -> Result<usize, EngineError> {
        Ok(self.memory)
    }

    fn alloc(&mut self, bytes: usize) -> Result<Memory, EngineError> {
        let pages = guarded::Pages::new(bytes).map_err(|error| failed(error.to_string()))?;
        let address = pages.start() as u64;
        let memory = Memory { address, bytes, _owner: Box::new(pages) };
        // SAFETY: it was just made.
        unsafe { self.fill(address, bytes, 0xff)? };
        Ok(memory)
    }

    unsafe fn write(&mut self, to: u64, bytes: &[u8]) -> Result<(), EngineError> {
        // SAFETY: the caller's.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len()) };
        Ok(())
    }

    unsafe fn read(&mut self, from: u64, bytes: &mut [u8]) -> Result<(), EngineError> {
        let to = bytes.as_mut_ptr();
        // SAFETY: the caller's.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to, bytes.len()) };
        Ok(())
    }

    unsafe fn fill(&mut self, to: u64, bytes: usize, value: u8) -> Result<(), EngineError> {
        // SAFETY: the caller's.
        unsafe { std::ptr::write_bytes(to as *mut u8, value, bytes) };
        Ok(())
    }

    fn kernel(&mut self, variant: &Variant) -> Result<Kernel, EngineError> {
        if let Some(kernel) = self.known.get(variant) {
            return Ok(*kernel);
        }
        let path = self.compile(variant)?;
        let broken = |error| failed(format!("{} cannot be loaded: {error}", path.display()));
        // SAFETY: the file was compiled from our sources under a key of them; it runs nothing when
        // it is loaded, and exports this one function.
        let entry = unsafe {
            let library = Library::new(&path).map_err(broken)?;
            let entry = *library.get::<Entry>(b"emulate_launch\0").map_err(broken)?;
            // Its signal handlers stay, so it must stay, too.
            std::mem::forget(library);
            entry
        };
        let kernel = Kernel(self.loaded.len());
        self.loaded.push(Loaded { entry, variant: variant.clone() });
        self.known.insert(variant.clone(), kernel);
        Ok(kernel)
    }

    unsafe fn launch(&mut self, launch: &Launch) -> Result<(), EngineError> {
        let loaded = &self.loaded[launch.kernel.0];
        let variant = &loaded.variant;
        if launch.args.len() != variant.args_bytes() {
            let (name, got) = (variant.file(), launch.args.len());
            return Err(failed(format!("{name}: {got} bytes of arguments")));
        }
        let grid = Grid {
            grid: launch.grid.map(|side| side as c_int),
            threads: variant.threads() as c_int,
            shared_bytes: variant.shared_bytes() as c_int,
            order: self.schedule.order as c_int,
            eager: c_int::from(self.schedule.eager),
            unused: 0,
        };
        let mut conflicts = 0;
        // SAFETY: the caller's; the function copies the argument, and its message is static.
        let message = unsafe {
            let message = (loaded.entry)(&grid, launch.args.as_ptr().cast(), &mut conflicts);
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
            // SAFETY: whoever recorded it has promised.
            unsafe { self.launch(launch)? };
        }
        Ok(())
    }

    fn synchronize(&mut self) -> Result<(), EngineError> {
        Ok(())
    }
}

/// Memory between pages that cannot be touched, so that a kernel that leaves it is noticed.
mod guarded {
    use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

    /// Pages of which the last byte is the last of the memory, to 16 bytes.
    pub struct Pages {
        base: *mut u8,
        whole: usize,
        start: *mut u8,
    }

    // SAFETY: plain memory that this value owns.
    unsafe impl Send for Pages {}

    impl Pages {
        pub fn new(bytes: usize) -> std::io::Result<Self> {
            let page = rustix::param::page_size();
            let inner = bytes.max(1).next_multiple_of(page);
            let whole = inner + 2 * page;
            // SAFETY: new memory at no fixed place, of which the inner pages are then opened.
            unsafe {
                let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
                let base = mmap_anonymous(std::ptr::null_mut(), whole, ProtFlags::empty(), flags)?;
                let base = base.cast::<u8>();
                let pages = Pages {
                    base,
                    whole,
                    start: base.add(page + inner - bytes.next_multiple_of(16)),
                };
                let open = MprotectFlags::READ | MprotectFlags::WRITE;
                mprotect(base.add(page).cast(), inner, open)?;
                Ok(pages)
            }
        }

        pub fn start(&self) -> *mut u8 {
            self.start
        }
    }

    impl Drop for Pages {
        fn drop(&mut self) {
            // SAFETY: mapped by `new`; a failure would leave it mapped, which harms nobody.
            let _ = unsafe { munmap(self.base.cast(), self.whole) };
        }
    }
}
