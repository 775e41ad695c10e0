//! NVRTC, NVIDIA's run-time compiler. It is loaded when it is first needed, and works without a
//! GPU.

#![allow(unsafe_code, reason = "calls a C library that is loaded at run time")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;

use libloading::{Library, Symbol};
use spec::EngineError;

use super::failed;
use crate::kernels::Variant;

/// A kernel that NVRTC has compiled.
pub struct Compiled {
    /// A cubin, or PTX where the compiler does not know the architecture yet.
    pub code: Vec<u8>,
    /// Messages of the compiler and the assembler, with the use of registers.
    pub log: String,
}

/// What one thread of a kernel uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// Number of registers.
    pub registers: u32,
    /// Bytes of loads and stores that spill registers to memory.
    pub spilled: u32,
}

impl Compiled {
    /// Reads the log of the assembler; None if it does not state the resources, as for PTX.
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

/// The loaded compiler.
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

/// Names of the library, the newest first.
const NAMES: [&str; 2] = ["libnvrtc.so.13", "libnvrtc.so.12"];

/// Folders in which the compiler may be: `$HARNESS_NVRTC`, a wheel next to libtorch, a CUDA
/// toolkit.
fn folders() -> Vec<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let wheel = set("LIBTORCH").map(|torch| torch.join("../nvidia/cu13/lib"));
    let toolkit = set("CUDA_HOME").map(|home| home.join("lib64"));
    let default = Some(PathBuf::from("/usr/local/cuda/lib64"));
    [set("HARNESS_NVRTC"), wheel, toolkit, default].into_iter().flatten().collect()
}

impl Nvrtc {
    /// Loads the compiler from the folder `$HARNESS_NVRTC`, from a wheel next to `$LIBTORCH`, from
    /// a CUDA toolkit, or from the search path of the loader.
    pub fn load() -> Result<Self, EngineError> {
        let in_folders =
            folders().into_iter().flat_map(|folder| NAMES.map(|name| folder.join(name)));
        let mut all = in_folders.filter(|path| path.exists()).chain(NAMES.map(PathBuf::from));
        let found = all.find_map(|path| open(&path));
        let library = found.ok_or_else(|| {
            failed(
                "NVRTC, which compiles the kernels, was not found (libnvrtc.so.13 or .12); run \
                 `scripts/setup --cuda`, or set HARNESS_NVRTC to the folder that holds it",
            )
        })?;
        let mut nvrtc = Nvrtc { library, version: (0, 0) };
        let (mut major, mut minor) = (0, 0);
        // SAFETY: `Version` is the signature of nvrtcVersion, and both pointers are valid.
        let code = unsafe { nvrtc.get::<Version>("nvrtcVersion")?(&mut major, &mut minor) };
        nvrtc.check("nvrtcVersion", code)?;
        nvrtc.version = (major, minor);
        Ok(nvrtc)
    }

    /// The version of NVRTC, such as 13.0.
    pub fn version(&self) -> String {
        format!("{}.{}", self.version.0, self.version.1)
    }

    fn get<F>(&self, name: &str) -> Result<Symbol<'_, F>, EngineError> {
        // SAFETY: every caller passes the signature that NVIDIA documents for the function.
        unsafe { self.library.get(name.as_bytes()) }.map_err(|error| {
            failed(format!(
                "the loaded NVRTC has no function {name}: {error}; use NVRTC 12.0 or newer"
            ))
        })
    }

    fn check(&self, what: &str, code: c_int) -> Result<(), EngineError> {
        match code {
            0 => Ok(()),
            code => Err(failed(format!(
                "NVRTC {}: {what} failed with the error code {code}",
                self.version()
            ))),
        }
    }

    /// The newest architecture that the compiler supports, 90 for sm_90.
    fn newest(&self) -> Result<c_int, EngineError> {
        let mut count = 0;
        // SAFETY: `Count` and `List` are the signatures of the functions. The second writes as many
        // integers as the first has returned, and `all` has that length.
        unsafe {
            let code = self.get::<Count>("nvrtcGetNumSupportedArchs")?(&mut count);
            self.check("nvrtcGetNumSupportedArchs", code)?;
            let mut all = vec![0; count.max(0) as usize];
            let code = self.get::<List>("nvrtcGetSupportedArchs")?(all.as_mut_ptr());
            self.check("nvrtcGetSupportedArchs", code)?;
            Ok(all.into_iter().max().unwrap_or(0))
        }
    }

    /// The architecture to compile for on a GPU of this compute capability. Only `sm_90a` has the
    /// instructions of Hopper's tensor cores, which no newer GPU has. If the compiler is too old for
    /// the GPU, that is the newest PTX, which the driver compiles further.
    pub fn architecture(&self, (major, minor): (i32, i32)) -> Result<String, EngineError> {
        let (wanted, newest) = (major * 10 + minor, self.newest()?);
        Ok(match wanted {
            90 => "sm_90a".to_owned(),
            _ if wanted <= newest => format!("sm_{wanted}"),
            _ => format!("compute_{newest}"),
        })
    }

    /// The command-line options for compiling a kernel.
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
        let headers = variant.headers();
        let (names, sources) = headers.iter().map(|(name, text)| (*name, text.as_ref())).unzip();
        let (names, sources) = (texts(names)?, texts(sources)?);
        let options = texts(options.iter().map(String::as_str).collect())?;
        let (source, name) = (text(variant.source())?, text(variant.file())?);
        let pointers = |all: &[CString]| all.iter().map(|t| t.as_ptr()).collect::<Vec<_>>();
        let (names, sources) = (pointers(&names), pointers(&sources));
        let mut program: Program = ptr::null_mut();
        // SAFETY: the types are the signatures of the functions. All strings and lists of pointers
        // to them are alive until the end of this function. The program is destroyed once, after
        // its last use.
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

    /// The result of a compilation that returned `code`.
    ///
    /// # Safety
    /// `program` must be a program that was created and not yet destroyed.
    unsafe fn result(
        &self,
        program: Program,
        variant: &Variant,
        architecture: &str,
        code: c_int,
    ) -> Result<Compiled, EngineError> {
        // SAFETY: the caller guarantees the program, and each pair of names is a size and its
        // content.
        unsafe {
            let log = self.output(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog")?;
            let log = String::from_utf8_lossy(&log).trim_end_matches('\0').to_owned();
            if code != 0 {
                let (file, version) = (variant.file(), self.version());
                let what = format!("NVRTC {version} failed to compile {file} for {architecture}");
                return Err(failed(format!("{what}:\n{log}")));
            }
            let code = match architecture.starts_with("sm_") {
                true => self.output(program, "nvrtcGetCUBINSize", "nvrtcGetCUBIN")?,
                false => self.output(program, "nvrtcGetPTXSize", "nvrtcGetPTX")?,
            };
            Ok(Compiled { code, log })
        }
    }

    /// A log or a binary of a program: `size` is the name of the function that returns its length,
    /// `get` of the one that copies it.
    ///
    /// # Safety
    /// `program` must be a program that was created and not yet destroyed, and `get` must write
    /// exactly as many bytes as `size` returns.
    unsafe fn output(
        &self,
        program: Program,
        size: &str,
        get: &str,
    ) -> Result<Vec<u8>, EngineError> {
        let mut bytes = 0;
        // SAFETY: the caller guarantees the program. `output` has the length that `size` has
        // returned, which `get` writes.
        unsafe {
            self.check(size, self.get::<Size>(size)?(program, &mut bytes))?;
            let mut output = vec![0u8; bytes];
            self.check(get, self.get::<Get>(get)?(program, output.as_mut_ptr().cast()))?;
            Ok(output)
        }
    }
}

/// Loads the library. It loads its built-ins itself, but only from the search path of the loader,
/// so they are loaded from its folder first.
fn open(path: &Path) -> Option<Library> {
    // SAFETY: loading runs the initialisers of NVIDIA's libraries, which have no precondition.
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
