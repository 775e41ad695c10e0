//! `harness export onnx`: writes the network for other runtimes.

use anyhow::{Result, bail};

use crate::Outcome;
use crate::cli::ExportCommand;
use crate::export;
use crate::files;

/// Runs the command.
pub fn run(command: &ExportCommand) -> Result<Outcome> {
    let ExportCommand::Onnx(args) = command;
    if args.opset < 17 {
        bail!("--opset {}: use 17 or later", args.opset);
    }
    let (model, weights) = super::model_and_weights(&args.model, &args.weights)?;
    if args.softmax && model.fc.is_none() {
        bail!("--softmax needs a classifier, and {} has none", args.weights);
    }
    let bytes = export::onnx(&model, &weights, &args.weights.to_string(), args.options())?;
    files::write(&args.out, &bytes)?;
    eprintln!("{} ({:.1} MB)", args.out.display(), bytes.len() as f64 / 1e6);
    Ok(Outcome::Passed)
}
