//! `harness export onnx`: writes the network as an ONNX file.

use anyhow::{Result, bail};
use checkpoint::Weights;
use spec::{Config, Model};

use super::args::{ExportCommand, Format, OnnxArgs};
use super::int8;
use crate::models;
use crate::outcome::Outcome;
use onnx::Plan;

/// Runs `harness export`.
pub fn run(command: &ExportCommand) -> Result<Outcome> {
    let ExportCommand::Onnx(args) = command;
    if args.calibrate.is_some() && args.precision != Format::Int8 {
        bail!("--calibrate: only int8 is calibrated; add --precision int8, or leave it out");
    }
    let flags = models::completed(&args.model, &args.weights, &Config::default());
    let model = Model::new(flags.config()?)?;
    // Planning fails for what cannot be exported, before the weights are made or read.
    let plan = Plan::new(&model, args.options())?;
    let weights = Weights::load(&args.weights, model.parameters())?;
    let plan = if weights.has_head() { plan } else { backbone(args, &model)? };
    let float = plan.fill(&weights)?;
    let bytes = match args.precision {
        Format::Float(_) => float,
        Format::Int8 => int8::quantised(args, &model, &float)?,
    };
    crate::disk::write(&args.out, &bytes)?;
    announce!("{} ({:.1} MB)", args.out.display(), bytes.len() as f64 / 1e6);
    Ok(Outcome::Passed)
}

/// Plans the file for a checkpoint without a classifier.
fn backbone(args: &OnnxArgs, model: &Model) -> Result<Plan> {
    let weights = &args.weights;
    if args.softmax {
        bail!(
            "{weights}: --softmax needs a classifier, but this backbone has none (there is no \
             fc.weight); leave out --softmax to export its features"
        );
    }
    let plan = Plan::new(&Model::backbone(model.config.clone())?, args.options())?;
    announce!(
        "{weights}: a backbone without a classifier (there is no fc.weight); the output is \
         `features`, not `logits`"
    );
    Ok(plan)
}
