//! Shows the results on the graph of an ONNX file, in Model Explorer or Netron.

use std::path::Path;

use anyhow::{Context, Result, bail};
use onnx::annotate::{self, Judged, Results};
use onnx::matching::matched;
use onnx::read::{Net, open};
use record::{DiffRecord, Layer};

use super::args::DiffArgs;
use super::plan::Plan;
use crate::flags::Participant;

/// Refuses the flags of viewers if there is no ONNX file to show results on.
pub(super) fn check(args: &DiffArgs) -> Result<()> {
    let asked = [
        ("--model-explorer", &args.onnx.model_explorer),
        ("--annotated-onnx", &args.onnx.annotated_onnx),
    ];
    match (asked.iter().find(|(_, path)| path.is_some()), args.candidate()) {
        (Some(_), Participant::Onnx(_)) | (None, _) => Ok(()),
        (Some((flag, _)), other) => bail!(
            "{flag} shows results on the graph of an ONNX file, but the candidate is {other}; use it with \
             --candidate onnx:FILE"
        ),
    }
}

/// Writes the files that were asked for.
pub(super) fn write(args: &DiffArgs, plan: &Plan, diff: &DiffRecord) -> Result<()> {
    let (explorer, annotated) = (&args.onnx.model_explorer, &args.onnx.annotated_onnx);
    let Participant::Onnx(path) = &plan.candidate else { return Ok(()) };
    if explorer.is_none() && annotated.is_none() {
        return Ok(());
    }
    let net = Net::new(open(path)?)?;
    let found = matched(&net, &plan.model, &plan.weights)?;
    let results: Results = diff.layers.iter().map(|l| (l.name.clone(), judged(l))).collect();
    if let Some(at) = explorer {
        let data = annotate::model_explorer(&net, &found, &plan.model, &results);
        put(at, &serde_json::to_vec_pretty(&data)?)?;
    }
    if let Some(at) = annotated {
        let bytes =
            std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        put(at, &annotate::annotated(&bytes, &net, &found, &plan.model, &results)?)?;
    }
    Ok(())
}

fn judged(layer: &Layer) -> Judged {
    let verdict = layer.verdict.words().to_owned();
    Judged { ratio: layer.introduced.map(|errors| errors.ratio), verdict }
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    files::write(path, bytes).with_context(|| format!("{}: cannot be written", path.display()))?;
    eprintln!("viewer {}", path.display());
    Ok(())
}
