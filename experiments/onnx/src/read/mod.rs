//! Reads an ONNX file that somebody else wrote. Nothing that the file states is trusted: sizes are
//! compared with the bytes that are there, paths of external data stay in the file's folder, and every
//! value must be computed before it is read.

mod external;
mod fold;
mod net;
mod quantised;
mod tensor;

use std::path::Path;

use anyhow::{Context, Result, bail};
use prost::Message;

use crate::proto::ModelProto;

pub use net::{Net, NodeId, ValueId, attribute, is_called_logits};
pub use quantised::{Quantiser, without_quantisers};
pub use tensor::{Constant, format_of};

/// The largest file that is read, in bytes: protocol buffers cannot be larger.
const LARGEST: u64 = i32::MAX as u64;

/// Reads a file with its external data.
///
/// # Errors
///
/// If the file cannot be read, is not ONNX, holds no graph, or refers to external data that are missing,
/// too short or outside its folder.
pub fn open(path: &Path) -> Result<ModelProto> {
    let shown = || printable(&path.display().to_string());
    let found = std::fs::metadata(path).with_context(|| format!("{} cannot be read", shown()))?;
    // Reading a device or a pipe might never end.
    if !found.is_file() {
        bail!("{} is not a regular file; name a .onnx file", shown());
    }
    let size = found.len();
    if size > LARGEST {
        bail!(
            "{} has {size} bytes, but an ONNX file has at most {LARGEST}; larger models keep their \
             weights in a second file (external data)",
            shown()
        );
    }
    let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", shown()))?;
    let mut model = ModelProto::decode(bytes.as_slice()).map_err(|error| {
        anyhow::anyhow!("{} is not an ONNX file: {error}; give a .onnx file", shown())
    })?;
    drop(bytes);
    let Some(graph) = &mut model.graph else {
        bail!("{} holds no graph, so it is not an ONNX file of a network", shown());
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    external::load(graph, folder.unwrap_or(Path::new(".")))
        .with_context(|| format!("{} cannot be used", shown()))?;
    Ok(model)
}

/// A name from a file without control characters, and not longer than a line.
pub fn printable(name: &str) -> String {
    const LONGEST: usize = 80;
    let mut shown: String = name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if shown.chars().count() > LONGEST {
        shown = shown.chars().take(LONGEST - 1).collect();
        shown.push('…');
    }
    shown
}
