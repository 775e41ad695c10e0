//! Whether a live model has the weights that it is compared with.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use checkpoint::{Param, Source, Weights};
use serde_json::json;
use spec::{Precision, Tensor, relative_l2};

use super::Recipe;
use super::probe::Shown;
use crate::engines::worker::Worker;

/// Compares the weights of the live model with those of the comparison. Returns a remark on what differs, or
/// on why nothing could be compared. `shown` are the modules with names of their own; otherwise the names of the
/// weights are known by themselves.
///
/// # Errors
///
/// If more than half of the tensors differ: then the comparison would be one of two sets of weights.
pub fn compare(
    recipe: &Recipe<'_>,
    worker: &mut Worker,
    shown: &[Shown],
    path: &Path,
) -> Result<Option<String>> {
    let ours = |shown: &Shown| recipe.model.module(shown.id).name.clone();
    let names: BTreeMap<&str, String> =
        shown.iter().map(|shown| (shown.name.as_str(), ours(shown))).collect();
    worker.ask(&json!({"kind": "state", "path": path, "names": names}), &[])?;
    let bytes = std::fs::read(path).context("the weights of the live model cannot be read")?;
    // Its names are those of any checkpoint, with `state dict` in place of the file in messages.
    let specs = recipe.model.parameters();
    let theirs = match Weights::from_bytes(&bytes, "the model's state dict", None, specs) {
        Ok(theirs) => theirs,
        Err(why) => return Ok(Some(format!("the model's weights were not checked: {why}"))),
    };
    let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    let pairs =
        names.iter().filter_map(|name| Some((recipe.weights.get(name)?, theirs.get(name)?)));
    let rounded = pairs.filter_map(|(ours, theirs)| rounded_to(ours, theirs)).next();
    let mut differ = names.iter().filter_map(|name| {
        let (ours, theirs) = (recipe.weights.get(name)?, theirs.get(name)?);
        difference(ours, theirs).map(|how| format!("{name} differs{how}"))
    });
    let Some(first) = differ.next() else {
        let source = recipe.source;
        let rounded = rounded.map_or(String::new(), |format| format!(", rounded to {format}"));
        let count = names.len();
        return Ok(Some(format!("the model's {count} tensors are those of {source}{rounded}")));
    };
    let count = 1 + differ.count();
    let said = format!(
        "the model's weights are not those of {}: {first}, and so do {} of the {} others",
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

/// The half format to which a tensor was rounded, if it is not the same without that.
fn rounded_to(ours: &Param, theirs: &Param) -> Option<Precision> {
    let rounded = |format: &Precision| {
        let tensor = Tensor::f32(ours.shape.clone(), ours.data.clone());
        format.round(tensor).to_f32() == theirs.data
    };
    let halves = [Precision::Bf16, Precision::F16];
    (ours.data != theirs.data).then(|| halves.into_iter().find(rounded)).flatten()
}

/// How two tensors differ, in words; `None` if they are the same, or the same but for the rounding to a half
/// format in which the live model keeps its weights.
fn difference(ours: &Param, theirs: &Param) -> Option<String> {
    if ours.data == theirs.data || rounded_to(ours, theirs).is_some() {
        return None;
    }
    let relative = relative_l2(&theirs.to_f64(), &ours.to_f64());
    Some(format!(" (relative L2 {relative:.1e})"))
}
