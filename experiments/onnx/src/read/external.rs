//! Tensors whose values lie in another file next to the ONNX file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::printable;
use super::tensor::{count, element_bytes};
use crate::proto::{GraphProto, TensorProto};

/// The most bytes that all tensors together may take in memory: more than the largest network needs.
const MOST: u64 = 8 << 30;

/// The value of `data_location` for a tensor in another file.
const EXTERNAL: i32 = 1;

/// Moves all external values into the graph.
pub fn load(graph: &mut GraphProto, folder: &Path) -> Result<()> {
    let mut files = HashMap::new();
    let mut total = 0;
    let constants = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
    let tensors = constants.filter_map(|attribute| attribute.t.as_mut());
    for tensor in graph.initializer.iter_mut().chain(tensors) {
        if tensor.data_location == EXTERNAL {
            let shown = printable(&tensor.name);
            read(tensor, folder, &mut files, &mut total)
                .with_context(|| format!("the values of tensor `{shown}` cannot be read"))?;
        }
    }
    Ok(())
}

fn read(
    tensor: &mut TensorProto,
    folder: &Path,
    files: &mut HashMap<PathBuf, File>,
    total: &mut u64,
) -> Result<()> {
    let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| &e.value);
    let number = |key: &str| entry(key).map_or(Ok(0), |text| text.parse::<u64>());
    let location = entry("location").context("the file does not say in which file they are")?;
    let offset = number("offset").context("their offset is not a number")?;
    let wanted = (count(tensor)? as u64).saturating_mul(element_bytes(tensor.data_type)? as u64);
    let stated = match entry("length") {
        Some(text) => text.parse::<u64>().context("their length is not a number")?,
        None => wanted,
    };
    if stated != wanted {
        bail!("their shape {:?} needs {wanted} bytes, but the file states {stated}", tensor.dims);
    }
    let path = inside(folder, location)?;
    let shown = printable(location);
    if !files.contains_key(&path) {
        // Opening a pipe might never end.
        if path.exists() && !path.is_file() {
            bail!("`{shown}` next to the ONNX file is not a regular file; copy it there");
        }
        let opened = File::open(&path).with_context(|| {
            format!("the file `{shown}` next to the ONNX file cannot be opened; copy it there")
        })?;
        files.insert(path.clone(), opened);
    }
    let Some(file) = files.get_mut(&path) else { bail!("`{shown}` is not open") };
    let size = file.metadata()?.len();
    if offset.checked_add(wanted).is_none_or(|end| end > size) {
        bail!(
            "they are bytes {offset} to {} of `{shown}`, which has {size} bytes; copy the whole file",
            offset.saturating_add(wanted)
        );
    }
    *total = total.saturating_add(wanted);
    if *total > MOST {
        bail!("the external tensors take more than {} GiB together", MOST >> 30);
    }
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = vec![0; usize::try_from(wanted)?];
    file.read_exact(&mut bytes).with_context(|| format!("`{shown}` cannot be read"))?;
    tensor.raw_data = bytes;
    tensor.external_data.clear();
    tensor.data_location = 0;
    Ok(())
}

/// The path of a file in the folder; an error for any path that leads out of it.
fn inside(folder: &Path, location: &str) -> Result<PathBuf> {
    let relative = Path::new(location);
    let plain =
        relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    let path = folder.join(relative);
    let shown = printable(location);
    if !plain || location.is_empty() || location.contains('\0') {
        bail!("the file `{shown}` is not in the folder of the ONNX file, so it is not read");
    }
    let real = |path: &Path| path.canonicalize();
    match (real(folder), real(&path)) {
        (Ok(folder), Ok(file)) if !file.starts_with(&folder) => {
            bail!("the file `{shown}` is a link that leads out of the folder, so it is not read")
        }
        _ => Ok(path),
    }
}
