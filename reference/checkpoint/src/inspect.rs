//! Compares the tensors of a checkpoint with those that a model needs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;
use spec::ParamSpec;

use super::WeightsError;
use super::error::quoted;
use super::file;
use super::format::Format;
use super::names::Naming;
use super::provenance::{OtherSet, note};
use super::read::choose::Wanted;
use super::survey::Survey;

/// Whether and how the model can use one tensor of a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Verdict {
    /// The model uses the tensor.
    Used,
    /// No forward pass reads the tensor, or it is a classifier and the model has none.
    Ignored,
    /// The model has no such tensor.
    Unknown,
    /// An earlier tensor of the file has the same official name and the same values.
    Same {
        /// The name of the earlier tensor in the file.
        of: String,
    },
    /// An earlier tensor of the file has the same official name but other values.
    Duplicate {
        /// The name of the earlier tensor in the file.
        of: String,
    },
    /// The tensor has another shape than in the model.
    WrongShape {
        /// The shape in the model.
        expected: Vec<usize>,
    },
    /// The numbers are not floats, but for instance `int8`.
    NotFloat {
        /// The number format.
        dtype: String,
    },
    /// A value is NaN or infinite (after the conversion to float32).
    NotFinite {
        /// Flat index of the first such value, in PyTorch's order of dimensions.
        index: usize,
        /// That value: `NaN`, `inf` or `-inf`.
        value: String,
        /// Number of such values.
        count: usize,
    },
    /// A variance is below zero by more than the eps of a batch normalisation makes up for.
    NegativeVariance {
        /// Flat index of the first such value, in PyTorch's order of dimensions.
        index: usize,
        /// That value.
        value: String,
        /// Number of such values.
        count: usize,
    },
    /// The bytes of the tensor cannot be read.
    Unreadable {
        /// The reason, as part of a sentence.
        why: String,
    },
}

impl Verdict {
    /// Whether a model can be loaded from a file with such a tensor.
    pub fn is_fine(&self) -> bool {
        matches!(self, Verdict::Used | Verdict::Ignored | Verdict::Same { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Used => f.write_str("used"),
            Verdict::Ignored => f.write_str("ignored"),
            Verdict::Unknown => f.write_str("is not a tensor of this model"),
            Verdict::Same { of } => write!(f, "holds the same values as `{of}`"),
            Verdict::Duplicate { of } => {
                let of = quoted(of);
                write!(f, "is the same tensor of the model as `{of}`, but has other values")
            }
            Verdict::WrongShape { expected } => {
                write!(f, "has the wrong shape, expected {expected:?}")
            }
            Verdict::NotFloat { dtype } => {
                write!(f, "is stored as {dtype}, {}", not_weights(dtype).0)
            }
            Verdict::NotFinite { index, value, count: 1 } => write!(f, "has {value} at {index}"),
            Verdict::NotFinite { index, value, count } => {
                write!(f, "has {value} at {index}, and {} more such values", count - 1)
            }
            Verdict::NegativeVariance { index, value, count: 1 } => {
                write!(f, "has the variance {value} at {index}")
            }
            Verdict::NegativeVariance { index, value, count } => {
                write!(f, "has the variance {value} at {index}, and {} more below zero", count - 1)
            }
            Verdict::Unreadable { why } => write!(f, "cannot be read: {why}"),
        }
    }
}

/// Why numbers of a format cannot be weights, and what to do, by the prefix of the format's name.
const NOT_WEIGHTS: [(&str, &str, &str); 10] = [
    ("float8", SCALE, "convert it with .to(torch.float32) and its scale"),
    ("float4", SCALE, "convert it with .to(torch.float32) and its scale"),
    ("complex", "but weights are real", "save its real part (.real.clone()) if that is meant"),
    ("q", SCALE, "save it with .dequantize()"),
    ("a quantised", SCALE, "save it with .dequantize()"),
    ("a sparse", "but weights are dense", "save it with .to_dense()"),
    ("a meta", "which has no values", "load the values before saving, then save again"),
    ("a nested", "but weights are dense", "save it with .to_padded_tensor(0.0)"),
    (
        "a wrapped",
        "which needs its own class",
        "save the plain tensor (.full_tensor() or .dequantize())",
    ),
    ("", "which is not a float", "save it as float32; quantised weights must be converted"),
];

const SCALE: &str = "whose scale is stored separately";

/// Why numbers of a format cannot be weights, as the end of a sentence, and what to do.
pub(super) fn not_weights(dtype: &str) -> (&'static str, &'static str) {
    let found = NOT_WEIGHTS.iter().find(|(start, ..)| dtype.starts_with(start));
    found.map_or(("which is not a float", "save it as float32"), |(_, what, advice)| (what, advice))
}

/// What an inspection says about one tensor of a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorInfo {
    /// The name in the file.
    pub name: String,
    /// The official name; `None` for a tensor that no forward pass reads.
    pub canonical: Option<String>,
    /// The shape in the file.
    pub shape: Vec<usize>,
    /// The shape in PyTorch's order of dimensions.
    pub canonical_shape: Vec<usize>,
    /// The number format, such as `float32`.
    pub dtype: String,
    /// Whether and how the model can use the tensor.
    pub verdict: Verdict,
}

/// The result of comparing a checkpoint with the tensors that a model needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// The path of the file.
    pub file: String,
    /// The format, detected from the content.
    pub format: Format,
    /// The naming scheme of the tensors.
    pub naming: Naming,
    /// The key of the set of tensors that was taken, such as `state_dict`; `None` if that is the whole
    /// file.
    pub section: Option<String>,
    /// The other contents of the file, with other sets of weights first.
    pub passed_over: Vec<OtherSet>,
    /// SHA-256 of the file in hexadecimal.
    pub sha256: String,
    /// Every tensor, in the file's order.
    pub tensors: Vec<TensorInfo>,
    /// Official names of tensors that the model needs and the file does not have. The two tensors of
    /// the classifier are not listed if both are absent; see `has_head`.
    pub missing: Vec<String>,
    /// Whether the classifier (`fc`) is in the file. Without it only features can be computed.
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

    /// The tensors because of which the model cannot be loaded.
    pub fn problems(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.iter().filter(|tensor| !tensor.verdict.is_fine())
    }

    /// What was taken from the file and what was passed over, in one sentence; `None` if the file has
    /// no other contents.
    pub fn note(&self) -> Option<String> {
        note(self.section.as_deref(), &self.passed_over)
    }

    /// The number of tensors in each number format.
    pub fn dtypes(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for tensor in &self.tensors {
            *counts.entry(tensor.dtype.as_str()).or_default() += 1;
        }
        counts
    }
}

/// Reads a checkpoint of any format and compares it with the tensors that a model needs (`specs`).
/// Fails only if the file cannot be read at all; problems of single tensors are in the result.
pub fn inspect(path: &Path, specs: &[ParamSpec]) -> Result<Inspection, WeightsError> {
    inspect_set(path, None, specs)
}

/// Like [`inspect`], but takes the set of weights with this key if the file has several.
pub fn inspect_set(
    path: &Path,
    key: Option<&str>,
    specs: &[ParamSpec],
) -> Result<Inspection, WeightsError> {
    let bytes = file::read(path)?;
    inspection(&bytes, &path.display().to_string(), None, &Wanted { specs, key })
}

/// Like [`inspect`], but reads bytes, which messages call `file`. If `format` is `None`, it is detected
/// from the content.
pub fn inspect_bytes(
    bytes: &[u8],
    file: &str,
    format: Option<Format>,
    specs: &[ParamSpec],
) -> Result<Inspection, WeightsError> {
    inspection(bytes, file, format, &Wanted { specs, key: None })
}

fn inspection(
    bytes: &[u8],
    file: &str,
    format: Option<Format>,
    wanted: &Wanted<'_>,
) -> Result<Inspection, WeightsError> {
    let survey = Survey::new(bytes, format, wanted).map_err(|failure| failure.in_file(file))?;
    let tensors = survey.entries.iter().map(|entry| TensorInfo {
        name: entry.raw.name.clone(),
        canonical: entry.canonical.clone(),
        shape: entry.raw.view.shape.clone(),
        canonical_shape: entry.raw.canonical_shape(),
        dtype: entry.raw.number.name().to_owned(),
        verdict: match &entry.verdict {
            Verdict::Used => survey.check_values(entry),
            other => other.clone(),
        },
    });
    Ok(Inspection {
        file: file.to_owned(),
        format: survey.format,
        naming: survey.naming,
        section: survey.checkpoint.section.clone(),
        passed_over: survey.checkpoint.others.clone(),
        sha256: files::sha256(bytes),
        tensors: tensors.collect(),
        has_head: survey.has_head,
        missing: survey.missing.iter().map(|spec| spec.name.clone()).collect(),
    })
}
