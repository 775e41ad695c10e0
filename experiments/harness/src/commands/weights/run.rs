//! `harness weights`: lists the tensors of a checkpoint, and converts it to another format.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use checkpoint::{Inspection, OtherSet, OutFormat, Source, TensorInfo};
use spec::{Config, Model, ParamSpec};

use super::args::WeightsCommand;
use crate::flags::ModelArgs;
use crate::models;
use crate::outcome::Outcome;
use crate::publish;

/// Inspects or converts a checkpoint.
pub fn run(command: &WeightsCommand) -> Result<Outcome> {
    match command {
        WeightsCommand::Inspect { file, model } => inspect(file, model),
        WeightsCommand::Convert { file, out, model } => convert(file, out, model),
    }
}

fn parameters(model: &ModelArgs, source: &Source) -> Result<Vec<ParamSpec>> {
    let model = models::completed(model, source, &Config::default());
    Ok(Model::new(model.config()?)?.parameters().to_vec())
}

/// Lists the tensors; fails with exit code 1 if the model cannot be loaded from them.
fn inspect(file: &Path, model: &ModelArgs) -> Result<Outcome> {
    if let Some(seed) = seed(file) {
        return of_formula(seed, model);
    }
    let (path, key) = set(file)?;
    let source = Source::File { path: path.clone(), key: key.clone() };
    let parameters = parameters(model, &source)?;
    let found = checkpoint::inspect_set(&path, key.as_deref(), &parameters)?;
    publish::print(&listing(&found));
    Ok(if found.is_loadable() { Outcome::Passed } else { Outcome::Failed })
}

/// The seed of `formula:SEED`, if no file has this name.
fn seed(file: &Path) -> Option<u64> {
    match file.to_str().filter(|_| !file.exists())?.parse() {
        Ok(Source::Formula(seed)) => Some(seed),
        _ => None,
    }
}

/// Lists the tensors that the formula makes, which are always those of the model.
fn of_formula(seed: u64, model: &ModelArgs) -> Result<Outcome> {
    let parameters = parameters(model, &Source::Formula(seed))?;
    let mut lines = vec![format!("{:60} {:16} dtype", "tensor", "shape")];
    lines.extend(
        parameters.iter().map(|spec| format!("{:60} {:16} F32", spec.name, extents(&spec.shape))),
    );
    let count = parameters.len();
    lines
        .push(format!("\n{count} tensors ({count} F32); made by the formula with the seed {seed}"));
    publish::print(&lines.join("\n"));
    Ok(Outcome::Passed)
}

/// Splits `FILE::KEY` into the file and the key.
fn set(file: &Path) -> Result<(PathBuf, Option<String>)> {
    // A path that is not valid UTF-8 cannot carry a `::KEY`.
    match file.to_str().filter(|_| !file.exists()).map(str::parse) {
        Some(Ok(Source::File { path, key })) => Ok((path, key)),
        Some(Err(why)) => bail!("{why}"),
        _ => Ok((file.to_owned(), None)),
    }
}

fn listing(found: &Inspection) -> String {
    let mut lines = vec![format!("{:60} {:16} {:9} {}", "tensor", "shape", "dtype", "")];
    lines.extend(found.tensors.iter().map(|tensor| {
        let note = if tensor.verdict.is_fine() { "" } else { "(see below)" };
        format!("{:60} {:16} {:9} {note}", tensor.name, extents(&tensor.shape), tensor.dtype)
    }));
    let dtypes: Vec<String> =
        found.dtypes().iter().map(|(dtype, count)| format!("{count} {dtype}")).collect();
    lines.push(format!(
        "\n{} tensors ({}); format {}, names of {}",
        found.tensors.len(),
        dtypes.join(", "),
        found.format,
        found.naming
    ));
    lines.push(format!("sha256 {}", found.sha256));
    lines.extend(found.note());
    lines.extend(several("passed over", found.passed_over.iter().map(other).collect()));
    if !found.has_head {
        lines.push(
            "no classifier: this is a backbone, which gives features and no logits".to_owned(),
        );
    }
    lines.extend(several("missing", found.missing.to_vec()));
    let problem = |tensor: &TensorInfo| format!("{} {}", tensor.name, tensor.verdict);
    lines.extend(several("not usable", found.problems().map(problem).collect()));
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

/// A set of weights that was not used, such as `ema (119 tensors, 119 as the model has them)`.
fn other(set: &OtherSet) -> String {
    let count = match set.tensors {
        1 => "1 tensor".to_owned(),
        n => format!("{n} tensors"),
    };
    match set.fits {
        0 => format!("{} ({count})", set.key),
        fits => format!("{} ({count}, {fits} as the model has them)", set.key),
    }
}

fn extents(shape: &[usize]) -> String {
    match shape {
        [] => "scalar".to_owned(),
        _ => shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
    }
}

/// The first 20 items of a list under a heading; nothing if the list is empty.
fn several(what: &str, items: Vec<String>) -> Vec<String> {
    if items.is_empty() {
        return vec![];
    }
    let mut lines = vec![format!("{} {what}:", items.len())];
    lines.extend(items.iter().take(20).map(|item| format!("  {item}")));
    if items.len() > 20 {
        lines.push(format!("  … and {} more", items.len() - 20));
    }
    lines
}

/// Writes the weights in the format of the file's ending.
fn convert(file: &Source, out: &Path, model: &ModelArgs) -> Result<Outcome> {
    if let Source::File { path: from, .. } = file
        && from == out
    {
        bail!("--out {}: this is the checkpoint itself; name another file", out.display());
    }
    let format = OutFormat::by_ending(out).with_context(|| {
        format!("--out {}: the ending is not .safetensors, .npz or .pth", out.display())
    })?;
    let weights = models::load_weights(file, &parameters(model, file)?)?;
    checkpoint::write(&weights, out, format)?;
    publish::print(&format!("{} tensors in {}", weights.names().count(), out.display()));
    Ok(Outcome::Passed)
}
