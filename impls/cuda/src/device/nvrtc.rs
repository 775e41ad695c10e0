//! NVIDIA's run-time compiler, loaded when it is first needed. It needs no GPU.

#![allow(unsafe_code, reason = "calls a C library that is loaded at run time")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;

use libloading::{Library, Symbol};
use spec::EngineError;

use super::failed;
use crate::kernels::{HEADERS, Variant};

/// A compiled kernel.
pub struct Compiled {
    /// A cubin, or PTX where the compiler does not know the architecture yet.
    pub code: Vec<u8>,
    /// What the compiler and the assembler said: registers, spills.
    pub log: String,
}

/// What a kernel takes of a multiprocessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of a thread that went to memory for want of registers.
    pub spilled: u32,
}

impl Compiled {
    /// What the assembler said about the kernel; None if it said nothing.
    pub fn resources(&self) -> Option<Resources> {
        let before = |end: &str| {
            let (head, _) = self.log.split_once(end)?;
            head.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let spilled: u32 = before(" bytes spill stores")?;
        let loads: u32 = before(" bytes spill loads")?;
        Some(Resources { registers: before(" registers")?, spilled: spilled + loads })
    }
}

/// The compiler.
pub struct Nvrtc {
    library: Library,
    version: (c_int, c_int),
}

type Program = *mut c_void;
type Names = *const *const c_char;
type Create =
    unsafe extern "C" fn(*mut Program, *const c_char, *const c_char, c_int, Names, Names) -> c_int;
type Compile = unsafe extern "C" fn(Program, c_int, Names) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;
type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Get = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
type Count = unsafe extern "C" fn(*mut c_int) -> c_int;
type List = unsafe extern "C" fn(*mut c_int) -> c_int;

const NAMES: [&str; 2] = ["libnvrtc.so.13", "libnvrtc.so.12"];

/// Folders in which a wheel or a toolkit puts the compiler.
fn folders() -> Vec<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let beside = set("LIBTORCH").map(|torch| torch.join("../nvidia/cu13/lib"));
    let toolkit = set("CUDA_HOME").map(|home| home.join("lib64"));
    let default = Some(PathBuf::from("/usr/local/cuda/lib64"));
    [set("HARNESS_NVRTC"), beside, toolkit, default].into_iter().flatten().collect()
}

impl Nvrtc {
    /// Loads the compiler: from the folder `$HARNESS_NVRTC`, from beside `$LIBTORCH`, from a CUDA
    /// toolkit, or from where the loader looks.
    pub fn load() -> Result<Self, EngineError> {
        let inside = folders().into_iter().flat_map(|folder| NAMES.map(|name| folder.join(name)));
        let mut all = inside.filter(|path| path.exists()).chain(NAMES.map(PathBuf::from));
        let found = all.find_map(|path| open(&path));
        let library = found.ok_or_else(|| {
            failed(
                "NVRTC (libnvrtc.so.13 or .12), which compiles the kernels, was not found; run \
                 `scripts/setup --cuda`, or set HARNESS_NVRTC to the folder that has it",
            )
        })?;
        let mut nvrtc = Nvrtc { library, version: (0, 0) };
        let (mut major, mut minor) = (0, 0);
        // SAFETY: the signature is NVRTC's.
        let code = unsafe { nvrtc.get::<Version>("nvrtcVersion")?(&mut major, &mut minor) };
        nvrtc.check("nvrtcVersion", code)?;
        nvrtc.version = (major, minor);
        Ok(nvrtc)
    }

    /// Its version, such as 13.0.
    pub fn version(&self) -> String {
        format!("{}.{}", self.version.0, self.version.1)
    }

    fn get<F>(&self, name: &str) -> Result<Symbol<'_, F>, EngineError> {
        // SAFETY: every caller names a type that is the function's.
        unsafe { self.library.get(name.as_bytes()) }.map_err(|error| {
            failed(format!("this NVRTC has no {name}: {error}; use 12.0 or newer"))
        })
    }

    fn check(&self, what: &str, code: c_int) -> Result<(), EngineError> {
        match code {
            0 => Ok(()),
            code => Err(failed(format!("NVRTC {}: {what} failed with {code}", self.version()))),
        }
    }

    /// The newest architecture that it knows, as 90 for sm_90.
    fn newest(&self) -> Result<c_int, EngineError> {
        let mut count = 0;
        // SAFETY: the signatures are NVRTC's; the list has room for so many.
        unsafe {
            let code = self.get::<Count>("nvrtcGetNumSupportedArchs")?(&mut count);
            self.check("nvrtcGetNumSupportedArchs", code)?;
            let mut all = vec![0; count.max(0) as usize];
            let code = self.get::<List>("nvrtcGetSupportedArchs")?(all.as_mut_ptr());
            self.check("nvrtcGetSupportedArchs", code)?;
            Ok(all.into_iter().max().unwrap_or(0))
        }
    }

    /// The name under which a GPU of this capability is compiled for: itself, or PTX of the newest
    /// that is known, which the driver then compiles.
    pub fn architecture(&self, (major, minor): (i32, i32)) -> Result<String, EngineError> {
        let (wanted, newest) = (major * 10 + minor, self.newest()?);
        Ok(if wanted <= newest { format!("sm_{wanted}") } else { format!("compute_{newest}") })
    }

    /// Options of a compilation.
    pub fn options(&self, variant: &Variant, architecture: &str) -> Vec<String> {
        let mut options = vec![
            format!("--gpu-architecture={architecture}"),
            "--std=c++17".to_owned(),
            "--ptxas-options=-v".to_owned(),
        ];
        options.extend(variant.defines());
        options
    }

    /// Compiles a kernel for an architecture such as `sm_90`.
    pub fn compile(&self, variant: &Variant, architecture: &str) -> Result<Compiled, EngineError> {
        let options = self.options(variant, architecture);
        let text = |text: &str| CString::new(text).map_err(|error| failed(error.to_string()));
        let texts = |all: Vec<&str>| all.into_iter().map(text).collect::<Result<Vec<_>, _>>();
        let headers = HEADERS.iter().filter(|(name, _)| name.ends_with(".cuh"));
        let (names, sources): (Vec<_>, Vec<_>) = headers.copied().unzip();
        let (names, sources) = (texts(names)?, texts(sources)?);
        let options = texts(options.iter().map(String::as_str).collect())?;
        let (source, name) = (text(variant.source())?, text(variant.file())?);
        let pointers = |all: &[CString]| all.iter().map(|t| t.as_ptr()).collect::<Vec<_>>();
        let (names, sources) = (pointers(&names), pointers(&sources));
        let mut program: Program = ptr::null_mut();
        // SAFETY: the signatures are NVRTC's, every text and list outlives the calls, and the program
        // is destroyed once, after its last use.
        unsafe {
            let create = self.get::<Create>("nvrtcCreateProgram")?;
            let (count, sources, names) = (names.len() as c_int, sources.as_ptr(), names.as_ptr());
            let code = create(&mut program, source.as_ptr(), name.as_ptr(), count, sources, names);
            self.check("nvrtcCreateProgram", code)?;
            let listed = pointers(&options);
            let compile = self.get::<Compile>("nvrtcCompileProgram")?;
            let code = compile(program, listed.len() as c_int, listed.as_ptr());
            let result = self.result(program, variant, architecture, code);
            self.get::<Destroy>("nvrtcDestroyProgram")?(&mut program);
            result
        }
    }

    /// # Safety
    /// The program lives.
    unsafe fn result(
        &self,
        program: Program,
        variant: &Variant,
        architecture: &str,
        code: c_int,
    ) -> Result<Compiled, EngineError> {
        // SAFETY: the caller's.
        unsafe {
            let log = self.output(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog")?;
            let log = String::from_utf8_lossy(&log).trim_end_matches('\0').to_owned();
            if code != 0 {
                let (file, version) = (variant.file(), self.version());
                let what = format!("NVRTC {version} refuses {file} for {architecture}");
                return Err(failed(format!("{what}:\n{log}")));
            }
            let code = match architecture.starts_with("sm_") {
                true => self.output(program, "nvrtcGetCUBINSize", "nvrtcGetCUBIN")?,
                false => self.output(program, "nvrtcGetPTXSize", "nvrtcGetPTX")?,
            };
            Ok(Compiled { code, log })
        }
    }

    /// # Safety
    /// The program lives, and the functions are a size and what has that size.
    unsafe fn output(
        &self,
        program: Program,
        size: &str,
        get: &str,
    ) -> Result<Vec<u8>, EngineError> {
        let mut bytes = 0;
        // SAFETY: the caller's.
        unsafe {
            self.check(size, self.get::<Size>(size)?(program, &mut bytes))?;
            let mut output = vec![0u8; bytes];
            self.check(get, self.get::<Get>(get)?(program, output.as_mut_ptr().cast()))?;
            Ok(output)
        }
    }
}

/// Loads the library and, before it, the built-ins that it would look for on the loader's path only.
fn open(path: &Path) -> Option<Library> {
    // SAFETY: NVIDIA's libraries do nothing of note when they are loaded.
    unsafe {
        if let Some(folder) = path.parent().filter(|folder| folder.is_dir()) {
            for entry in folder.read_dir().ok()?.flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if name.starts_with("libnvrtc-builtins.so")
                    && let Ok(builtins) = Library::new(entry.path())
                {
                    std::mem::forget(builtins);
                }
            }
        }
        Library::new(path).ok()
    }
}
