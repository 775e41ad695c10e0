//! Writes the smallest reproduction: the flag `--repro`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use ndarray::{ArrayD, IxDyn};
use ndarray_npy::WriteNpyExt;
use record::{DiffRecord, Layer, LayerVerdict};
use spec::{Data, Tensor};

use super::plan::Plan;
use compare::repro::reproduce;
use compare::{Comparison, Measurements};

/// Writes the reproduction of the first layer with too much own error, or of the one that the verdict names. Without such a layer it
/// says so on stderr and writes nothing.
pub(super) fn write(
    folder: &Path,
    plan: &Plan,
    comparison: &mut Comparison,
    measured: &Measurements,
    diff: &DiffRecord,
) -> Result<()> {
    let wrong = |layer: &&Layer| {
        layer.verdict == LayerVerdict::Diverged
            && layer.introduced.is_some()
            && !measured.right_candidate
    };
    let named = |layer: &&Layer| wrong(layer) && diff.first_divergent.as_ref() == Some(&layer.name);
    let layer = diff.layers.iter().find(named).or_else(|| diff.layers.iter().find(wrong));
    let module = layer.and_then(|layer| comparison.model.find(&layer.name));
    let Some(id) = module.map(|module| module.id) else {
        announce!(
            "--repro {}: no layer of the candidate has too much own error here, so nothing was written",
            folder.display()
        );
        return Ok(());
    };
    clear(folder)?;
    let made = reproduce(comparison, &plan.weights, measured, id)?;
    for (path, tensor) in &made.arrays {
        let path = folder.join(path);
        let failed = || format!("{}: cannot be written", path.display());
        files::write(&path, &npy(tensor)?).with_context(failed)?;
    }
    let check = folder.join("check.py");
    files::write(&check, made.check.as_bytes())
        .with_context(|| format!("{}: cannot be written", check.display()))?;
    announce!("reproduction {}", check.display());
    Ok(())
}

/// Refuses a folder that holds something else than an earlier reproduction.
pub(super) fn check(folder: &Path) -> Result<()> {
    if folder.is_file() {
        bail!("--repro {}: this is a file; name a folder", folder.display());
    }
    let Ok(mut entries) = std::fs::read_dir(folder) else { return Ok(()) };
    if entries.next().is_none() {
        return Ok(());
    }
    if !folder.join("check.py").is_file() || !folder.join("expected.npy").is_file() {
        bail!(
            "--repro {}: the folder is not empty and holds no earlier reproduction; name a new folder",
            folder.display()
        );
    }
    Ok(())
}

/// Removes an earlier reproduction.
fn clear(folder: &Path) -> Result<()> {
    check(folder)?;
    for part in ["inputs", "weights"] {
        let old = folder.join(part);
        if old.is_dir() {
            std::fs::remove_dir_all(&old)
                .with_context(|| format!("{}: cannot be replaced", old.display()))?;
        }
    }
    Ok(())
}

/// The bytes of an npy file.
fn npy(tensor: &Tensor) -> Result<Vec<u8>> {
    let shape = IxDyn(&tensor.shape);
    let mut bytes = vec![];
    match &tensor.data {
        Data::F32(values) => {
            ArrayD::from_shape_vec(shape, values.clone())?.write_npy(&mut bytes)?
        }
        Data::F64(values) => {
            ArrayD::from_shape_vec(shape, values.clone())?.write_npy(&mut bytes)?
        }
    }
    Ok(bytes)
}
