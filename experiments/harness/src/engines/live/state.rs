//! Whether a live model has the weights that it is compared with.

use std::path::Path;

use anyhow::{Context, Result, bail};
use checkpoint::{Param, Source, Weights};
use serde_json::json;
use spec::{Precision, Tensor, relative_l2};

use super::Recipe;
use crate::engines::worker::Worker;

/// Compares the weights of the live model with those of the comparison. Returns a remark on what differs, or
/// on why nothing could be compared.
///
/// # Errors
///
/// If more than half of the tensors differ: then the comparison would be one of two sets of weights.
pub fn compare(recipe: &Recipe<'_>, worker: &mut Worker, path: &Path) -> Result<Option<String>> {
    worker.ask(&json!({"kind": "state", "path": path}), &[])?;
    let bytes = std::fs::read(path).context("the weights of the live model cannot be read")?;
    // Its names are those of any checkpoint, with `state dict` in place of the file in messages.
    let specs = recipe.model.parameters();
    let theirs = match Weights::from_bytes(&bytes, "the model's state dict", None, specs) {
        Ok(theirs) => theirs,
        Err(why) => return Ok(Some(format!("the model's weights were not checked: {why}"))),
    };
    let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    let mut differ = names.iter().filter_map(|name| {
        let (ours, theirs) = (recipe.weights.get(name)?, theirs.get(name)?);
        difference(ours, theirs).map(|how| format!("{name} differs{how}"))
    });
    let Some(first) = differ.next() else {
        let source = recipe.source;
        return Ok(Some(format!("the model's {} tensors are those of {source}", names.len())));
    };
    let count = 1 + differ.count();
    let said = format!(
        "the model's weights are not those of {}: {first}, and so do {} of {} others",
        recipe.source,
        count - 1,
        names.len() - 1
    );
    if 2 * count > names.len() {
        let name = recipe.name;
        match recipe.source {
            Source::Formula(_) => bail!(
                "{name}: {said}; give the checkpoint that the model loads with --weights FILE, or let the \
                 function load the weights at the path that it is given"
            ),
            Source::File { .. } => {
                bail!(
                    "{name}: {said}; give the checkpoint that the model loads with --weights FILE"
                )
            }
        }
    }
    Ok(Some(said))
}

/// How two tensors differ, in words; `None` if they are the same, or the same but for the rounding to a half
/// format in which the live model keeps its weights.
fn difference(ours: &Param, theirs: &Param) -> Option<String> {
    let same = |format: Option<Precision>| {
        let tensor = Tensor::f32(ours.shape.clone(), ours.data.clone());
        let rounded = format.map_or(tensor.clone(), |format| format.round(tensor)).to_f32();
        rounded == theirs.data
    };
    if [None, Some(Precision::Bf16), Some(Precision::F16)].into_iter().any(same) {
        return None;
    }
    let relative = relative_l2(&theirs.to_f64(), &ours.to_f64());
    Some(format!(" (relative L2 {relative:.1e})"))
}
