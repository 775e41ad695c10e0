//! Writes checkpoints, with the names of the bare PyTorch network.

mod npz;
mod pth;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use serde::Serialize;

use super::error::Failure;
use super::{Param, Weights, WeightsError};

/// A checkpoint format that can be written. The names are those of the bare PyTorch network
/// (`conv1.weight`, `fc.weight`), the numbers are float32, and the shapes are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutFormat {
    /// Hugging Face's safetensors format.
    Safetensors,
    /// numpy's zip archive of arrays, not compressed.
    Npz,
    /// PyTorch's zip archive with `{'state_dict': …}`, for `torch.load`.
    Pth,
}

/// The extensions of file names and their formats.
const ENDINGS: [(&str, OutFormat); 4] = [
    ("safetensors", OutFormat::Safetensors),
    ("npz", OutFormat::Npz),
    ("pth", OutFormat::Pth),
    ("pt", OutFormat::Pth),
];

impl OutFormat {
    /// The format for the extension of a path, in upper or lower case; `None` for other extensions.
    pub fn by_ending(path: &Path) -> Option<OutFormat> {
        let ending = path.extension()?.to_str()?;
        let found = ENDINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(ending));
        found.map(|(_, format)| *format)
    }
}

/// Writes weights to a file. They are first written to a partial file in the same folder, so that a
/// file of this name is always either complete or unchanged.
pub fn write(weights: &Weights, path: &Path, format: OutFormat) -> Result<(), WeightsError> {
    if path.is_dir() {
        let failure = Failure::new("this is a folder", "give a file in it");
        return Err(failure.in_file(&path.display().to_string()));
    }
    let partial = partial_path(path);
    let written = fill(weights, &partial, format).and_then(|()| fs::rename(&partial, path));
    written.map_err(|why| {
        // If the partial file cannot be removed either, the first error is the one to report.
        let _ = fs::remove_file(&partial);
        Failure::io(path, "written", &why)
    })
}

fn partial_path(path: &Path) -> PathBuf {
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
    let bytes: Vec<_> =
        params(weights).map(|(name, param)| (name, param, little_endian_bytes(param))).collect();
    let mut views = Vec::with_capacity(bytes.len());
    for (name, param, bytes) in &bytes {
        let view = TensorView::new(safetensors::Dtype::F32, param.shape.clone(), bytes);
        views.push((*name, view.map_err(std::io::Error::other)?));
    }
    // The safetensors reader for PyTorch requires this entry.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let file = safetensors::serialize(views, Some(metadata)).map_err(std::io::Error::other)?;
    out.write_all(&file)
}

/// The names and tensors, sorted by name.
fn params(weights: &Weights) -> impl Iterator<Item = (&str, &Param)> {
    weights.names().filter_map(|name| Some((name, weights.get(name)?)))
}

/// The float32 values as little-endian bytes.
fn little_endian_bytes(param: &Param) -> Vec<u8> {
    param.data.iter().flat_map(|x| x.to_le_bytes()).collect()
}
