//! The names of engines, and of dumps in their place.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use spec::Precision;

use super::LiveName;

/// An engine of this harness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineName {
    /// The engine `scalar`: plain loops.
    Scalar,
    /// The engine `cpu`: our fast one for CPUs.
    Cpu,
    /// The engine `cuda`: our fast one for NVIDIA GPUs.
    Cuda,
    /// The engine `torch`: libtorch.
    Torch,
}

impl EngineName {
    /// The default reference: `torch`, or `scalar` in a build without libtorch.
    pub const REFERENCE: EngineName =
        if cfg!(feature = "libtorch") { EngineName::Torch } else { EngineName::Scalar };

    const ALL: [EngineName; 4] =
        [EngineName::Scalar, EngineName::Cpu, EngineName::Cuda, EngineName::Torch];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            EngineName::Scalar => "scalar",
            EngineName::Cpu => "cpu",
            EngineName::Cuda => "cuda",
            EngineName::Torch => "torch",
        }
    }

    /// Whether the bits of a clip's logits are the same in every batch, so that clips of several videos can
    /// share one. libtorch chooses its algorithms by the size of the batch.
    pub fn mixes_clips(self) -> bool {
        self != EngineName::Torch
    }

    fn by_name(text: &str) -> Option<EngineName> {
        EngineName::ALL.into_iter().find(|engine| engine.name() == text)
    }
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EngineName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || match text.split_once(':') {
            Some(("npz", _)) => format!(
                "`{text}` is a dump, which cannot be run; name an engine: scalar, cpu, cuda or torch"
            ),
            Some(("onnx", _)) => format!(
                "`{text}` is an ONNX file, which only diff and eval take; name an engine: scalar, cpu, cuda or \
                 torch"
            ),
            Some(("python", _)) => format!(
                "`{text}` is a live model, which only diff --candidate takes; name an engine: scalar, cpu, \
                 cuda or torch"
            ),
            _ => format!("`{text}` is not an engine; use scalar, cpu, cuda or torch"),
        };
        EngineName::by_name(text).ok_or_else(unknown)
    }
}

/// What `eval` evaluates: an engine, with a precision if it is named (`cpu:bf16`), or an ONNX file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvalEngine {
    /// An engine of this harness and its precision.
    Own(EngineName, Precision),
    /// An ONNX file, which a runtime runs.
    Onnx(PathBuf),
}

impl fmt::Display for EvalEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EvalEngine::Own(name, precision) => write!(f, "{name}:{precision}"),
            EvalEngine::Onnx(path) => write!(f, "onnx:{}", path.display()),
        }
    }
}

impl From<EngineName> for EvalEngine {
    fn from(name: EngineName) -> Self {
        EvalEngine::Own(name, Precision::F32)
    }
}

impl FromStr for EvalEngine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("onnx", file)) if !file.is_empty() => Ok(EvalEngine::Onnx(file.into())),
            Some((name, precision)) if EngineName::by_name(name).is_some() => {
                Ok(EvalEngine::Own(name.parse()?, precision.parse()?))
            }
            _ => text.parse::<EngineName>().map(EvalEngine::from),
        }
    }
}

/// One side of a comparison: an engine, a dump, a live model, or an ONNX file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Participant {
    /// An engine, which is run.
    Engine(EngineName),
    /// A dump in an npz file.
    Npz(PathBuf),
    /// A live model, which Python runs.
    Python(LiveName),
    /// An ONNX file, which a runtime runs.
    Onnx(PathBuf),
}

impl Participant {
    /// The path of a dump; `None` for what is run.
    pub fn dump(&self) -> Option<&PathBuf> {
        match self {
            Participant::Npz(path) => Some(path),
            Participant::Engine(_) | Participant::Python(_) | Participant::Onnx(_) => None,
        }
    }
}

impl fmt::Display for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Participant::Engine(engine) => engine.fmt(f),
            Participant::Npz(path) => write!(f, "npz:{}", path.display()),
            Participant::Python(live) => write!(f, "python:{live}"),
            Participant::Onnx(path) => write!(f, "onnx:{}", path.display()),
        }
    }
}

impl FromStr for Participant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(engine) = EngineName::by_name(text) {
            return Ok(Participant::Engine(engine));
        }
        match text.split_once(':') {
            Some((kind @ ("npz" | "onnx" | "python"), file)) if file.starts_with("~/") => {
                Err(format!("the shell does not replace ~ behind `{kind}:`; write $HOME instead"))
            }
            Some(("npz", file)) if !file.is_empty() => Ok(Participant::Npz(file.into())),
            Some(("python", live)) => live.parse().map(Participant::Python),
            Some(("onnx", file)) if !file.is_empty() => Ok(Participant::Onnx(file.into())),
            _ => Err(match Path::new(text).extension().and_then(|kind| kind.to_str()) {
                Some(kind @ ("npz" | "onnx")) => {
                    format!("`{text}` is not an engine; did you mean {kind}:{text}?")
                }
                Some("safetensors" | "pth" | "pt" | "ckpt" | "msgpack") => {
                    format!("`{text}` is not an engine; did you mean --weights {text}?")
                }
                _ => format!(
                    "`{text}` is not an engine; use scalar, cpu, cuda, torch, npz:FILE, onnx:FILE \
                     or python:FILE:FUNCTION"
                ),
            }),
        }
    }
}
