//! What a checkpoint holds, held against what a model needs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::error::quoted;
use super::file;
use super::format::Format;
use super::names::Naming;
use super::provenance::{OtherSet, note};
use super::read::choose::Wanted;
use super::survey::Survey;
use super::{ParamSpec, WeightsError};

/// What became of one tensor of a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Verdict {
    /// The model takes it.
    Used,
    /// No forward pass reads it, or this model has no classifier.
    Ignored,
    /// The model has no such tensor.
    Unknown,
    /// An earlier tensor of the file has the same official name and the same values.
    Same {
        /// The earlier one's name in the file.
        of: String,
    },
    /// An earlier tensor of the file has the same official name and other values.
    Duplicate {
        /// The earlier one's name in the file.
        of: String,
    },
    /// It has another shape than in the model.
    WrongShape {
        /// Shape in the model.
        expected: Vec<usize>,
    },
    /// Its numbers are no floats: `int8`.
    NotFloat {
        /// The format.
        dtype: String,
    },
    /// A value is NaN or infinite (after the conversion to float32).
    NotFinite {
        /// Place of the first, in PyTorch's order.
        index: usize,
        /// `NaN`, `inf` or `-inf`.
        value: String,
        /// How many there are.
        count: usize,
    },
    /// Its bytes cannot be read.
    Unreadable {
        /// Why.
        why: String,
    },
}

impl Verdict {
    /// Whether a model can be loaded in spite of it.
    pub fn is_fine(&self) -> bool {
        matches!(self, Verdict::Used | Verdict::Ignored | Verdict::Same { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Used => f.write_str("used"),
            Verdict::Ignored => f.write_str("ignored"),
            Verdict::Unknown => f.write_str("is unknown to this model"),
            Verdict::Same { of } => write!(f, "holds the same values as `{of}`"),
            Verdict::Duplicate { of } => {
                let of = quoted(of);
                write!(f, "is the same tensor of the model as `{of}`, with other values")
            }
            Verdict::WrongShape { expected } => {
                write!(f, "has a wrong shape, expected {expected:?}")
            }
            Verdict::NotFloat { dtype } => {
                write!(f, "is stored as {dtype}, {}", not_weights(dtype).0)
            }
            Verdict::NotFinite { index, value, count: 1 } => write!(f, "has {value} at {index}"),
            Verdict::NotFinite { index, value, count } => {
                write!(f, "has {value} at {index}, and {} more such values", count - 1)
            }
            Verdict::Unreadable { why } => write!(f, "cannot be read: {why}"),
        }
    }
}

/// Why numbers of a format cannot be weights, and what to do, by how its name begins.
const NOT_WEIGHTS: [(&str, &str, &str); 10] = [
    ("float8", "whose scale stands apart", "convert it with .to(torch.float32) and its scale"),
    ("float4", "whose scale stands apart", "convert it with .to(torch.float32) and its scale"),
    ("complex", "and weights are real", "save its real part (.real.clone()) if that is meant"),
    ("q", "whose scale stands apart", "save it with .dequantize()"),
    ("a quantised", "whose scale stands apart", "save it with .dequantize()"),
    ("a sparse", "and weights are dense", "save it with .to_dense()"),
    (
        "a meta",
        "so that there is nothing to read",
        "load the values before saving, then save again",
    ),
    ("a nested", "and weights are dense", "save it with .to_padded_tensor(0.0)"),
    (
        "a wrapped",
        "in a class of its own",
        "save the plain tensor (.full_tensor() or .dequantize())",
    ),
    ("", "which is no float", "save it as float32; a quantised one has to be converted"),
];

/// What is said of a number format that weights cannot have, and what to do.
pub(super) fn not_weights(dtype: &str) -> (&'static str, &'static str) {
    let found = NOT_WEIGHTS.iter().find(|(start, ..)| dtype.starts_with(start));
    found.map_or(("which is no float", "save it as float32"), |(_, what, advice)| (what, advice))
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorInfo {
    /// As the file names it.
    pub name: String,
    /// The official name; none for what no forward pass reads.
    pub canonical: Option<String>,
    /// The shape as it is stored.
    pub shape: Vec<usize>,
    /// The shape in PyTorch's order of dimensions.
    pub canonical_shape: Vec<usize>,
    /// The number format: `float32`.
    pub dtype: String,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What a checkpoint holds, held against what a model needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// The file.
    pub file: String,
    /// Its format, by content.
    pub format: Format,
    /// Whose names it uses.
    pub naming: Naming,
    /// The key of the set that was taken: `state_dict`; none where it is the whole file.
    pub section: Option<String>,
    /// What else the file holds, with other sets of weights first.
    pub passed_over: Vec<OtherSet>,
    /// SHA-256 of the file in hexadecimal.
    pub sha256: String,
    /// Every tensor, in the file's order.
    pub tensors: Vec<TensorInfo>,
    /// Official names of tensors that the model needs and the file has not. The classifier's are
    /// not among them if both are absent: see `has_head`.
    pub missing: Vec<String>,
    /// Whether the classifier (`fc`) is in the file. A backbone alone serves for features only.
    pub has_head: bool,
}

impl Inspection {
    /// Whether the model can be loaded from the file.
    pub fn is_loadable(&self) -> bool {
        let mut verdicts = self.tensors.iter().map(|tensor| &tensor.verdict);
        self.missing.is_empty()
            && verdicts.clone().any(|verdict| *verdict == Verdict::Used)
            && verdicts.all(Verdict::is_fine)
    }

    /// Tensors that the model cannot take.
    pub fn problems(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.iter().filter(|tensor| !tensor.verdict.is_fine())
    }

    /// What was taken of the file and what was passed over, in one sentence; none where the file
    /// holds nothing else.
    pub fn note(&self) -> Option<String> {
        note(self.section.as_deref(), &self.passed_over)
    }

    /// How many tensors are stored in which number format.
    pub fn dtypes(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for tensor in &self.tensors {
            *counts.entry(tensor.dtype.as_str()).or_default() += 1;
        }
        counts
    }
}

/// Reads a checkpoint of any format and holds it against what a model needs (`specs`). Fails only
/// where the file cannot be read at all; what is wrong with single tensors is in the result.
pub fn inspect(path: &Path, specs: &[ParamSpec]) -> Result<Inspection, WeightsError> {
    inspect_set(path, None, specs)
}

/// Like [`inspect`], of several sets of weights in the file the one with this key.
pub fn inspect_set(
    path: &Path,
    key: Option<&str>,
    specs: &[ParamSpec],
) -> Result<Inspection, WeightsError> {
    let bytes = file::read(path)?;
    found(&bytes, &path.display().to_string(), None, &Wanted { specs, key })
}

/// Like [`inspect`], on bytes that messages call `file`, in a given format or the one that the
/// content shows.
pub fn inspect_bytes(
    bytes: &[u8],
    file: &str,
    format: Option<Format>,
    specs: &[ParamSpec],
) -> Result<Inspection, WeightsError> {
    found(bytes, file, format, &Wanted { specs, key: None })
}

fn found(
    bytes: &[u8],
    file: &str,
    format: Option<Format>,
    wanted: &Wanted<'_>,
) -> Result<Inspection, WeightsError> {
    let survey = Survey::new(bytes, format, wanted).map_err(|fault| fault.at(file))?;
    let tensors = survey.entries.iter().map(|entry| TensorInfo {
        name: entry.raw.name.clone(),
        canonical: entry.canonical.clone(),
        shape: entry.raw.view.shape.clone(),
        canonical_shape: entry.raw.canonical_shape(),
        dtype: entry.raw.number.name().to_owned(),
        verdict: match &entry.verdict {
            Verdict::Used => survey.look(&entry.raw),
            other => other.clone(),
        },
    });
    Ok(Inspection {
        file: file.to_owned(),
        format: survey.format,
        naming: survey.naming,
        section: survey.checkpoint.section.clone(),
        passed_over: survey.checkpoint.others.clone(),
        sha256: file::sha256(bytes),
        tensors: tensors.collect(),
        has_head: survey.has_head,
        missing: survey.missing.iter().map(|spec| spec.name.clone()).collect(),
    })
}
