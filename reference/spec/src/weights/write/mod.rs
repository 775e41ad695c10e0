//! Checkpoints to files, with the names of the bare PyTorch network.

mod npz;
mod pth;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use serde::Serialize;

use super::error::Fault;
use super::{Param, Weights, WeightsError};

/// A format that is written. The names are those of the bare PyTorch network (`conv1.weight`,
/// `fc.weight`), the numbers float32, the shapes PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutFormat {
    /// Hugging Face safetensors.
    Safetensors,
    /// numpy's archive of arrays, not compressed.
    Npz,
    /// PyTorch's zip archive with `{'state_dict': …}`, for `torch.load`.
    Pth,
}

/// Endings of file names.
const ENDINGS: [(&str, OutFormat); 4] = [
    ("safetensors", OutFormat::Safetensors),
    ("npz", OutFormat::Npz),
    ("pth", OutFormat::Pth),
    ("pt", OutFormat::Pth),
];

impl OutFormat {
    /// The format that a file's ending asks for, in any case.
    pub fn by_ending(path: &Path) -> Option<OutFormat> {
        let ending = path.extension()?.to_str()?;
        let found = ENDINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(ending));
        found.map(|(_, format)| *format)
    }
}

/// Writes weights to a file. They are written beside it first, so that a file of that name is
/// whole or as it was.
pub fn write(weights: &Weights, path: &Path, format: OutFormat) -> Result<(), WeightsError> {
    if path.is_dir() {
        let fault = Fault::new("this is a folder", "name a file in it");
        return Err(fault.at(&path.display().to_string()));
    }
    let beside = beside(path);
    let written = fill(weights, &beside, format).and_then(|()| fs::rename(&beside, path));
    written.map_err(|why| {
        // Nothing is left to be done if it cannot be removed either: the error says enough.
        let _ = fs::remove_file(&beside);
        Fault::io(path, "written", &why)
    })
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.partial", std::process::id()))
}

fn fill(weights: &Weights, path: &Path, format: OutFormat) -> std::io::Result<()> {
    let mut out = BufWriter::new(File::create_new(path)?);
    match format {
        OutFormat::Safetensors => safetensors(weights, &mut out)?,
        OutFormat::Npz => npz::write(weights, &mut out)?,
        OutFormat::Pth => pth::write(weights, &mut out)?,
    }
    out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
}

fn safetensors(weights: &Weights, out: &mut (impl Write + Seek)) -> std::io::Result<()> {
    let bytes: Vec<_> = params(weights).map(|(name, param)| (name, param, little(param))).collect();
    let mut views = Vec::with_capacity(bytes.len());
    for (name, param, bytes) in &bytes {
        let view = TensorView::new(safetensors::Dtype::F32, param.shape.clone(), bytes);
        views.push((*name, view.map_err(std::io::Error::other)?));
    }
    // PyTorch's reader asks for this entry.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let file = safetensors::serialize(views, Some(metadata)).map_err(std::io::Error::other)?;
    out.write_all(&file)
}

/// Names and tensors, in the order of the names.
fn params(weights: &Weights) -> impl Iterator<Item = (&str, &Param)> {
    weights.names().filter_map(|name| Some((name, weights.get(name)?)))
}

/// The values as little-endian bytes.
fn little(param: &Param) -> Vec<u8> {
    param.data.iter().flat_map(|x| x.to_le_bytes()).collect()
}
