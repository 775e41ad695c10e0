//! Writes checkpoints, with the names of the bare PyTorch network.

mod npz;
mod pth;

use std::collections::HashMap;
use std::io::{BufWriter, Seek, Write};
use std::path::Path;

use files::NamedTempFile;
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

/// Writes weights to a file, which is always either complete or unchanged.
pub fn write(weights: &Weights, path: &Path, format: OutFormat) -> Result<(), WeightsError> {
    if path.is_dir() {
        let failure = Failure::new("this is a folder", "give a file in it");
        return Err(failure.in_file(&path.display().to_string()));
    }
    files::write_with(path, |file| fill(weights, file, format))
        .map_err(|why| Failure::io(path, "written", &why))
}

fn fill(weights: &Weights, file: &mut NamedTempFile, format: OutFormat) -> std::io::Result<()> {
    let mut out = BufWriter::new(file);
    match format {
        OutFormat::Safetensors => safetensors(weights, &mut out)?,
        OutFormat::Npz => npz::write(weights, &mut out)?,
        OutFormat::Pth => pth::write(weights, &mut out)?,
    }
    out.flush()
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
