//! ONNX files in an evaluation: only those that are the network.

use std::path::Path;

use anyhow::{Result, bail};
use checkpoint::Weights;
use compare::{Comparison, Side};
use record::Verdict;
use spec::{Engine, Model};

use super::args::EvalArgs;
use crate::engines::{self, Device, onnx};
use crate::flags::{EngineName, InputSource};
use crate::{input, models};

/// An ONNX file as an engine that is evaluated.
///
/// # Errors
///
/// If the file is not the network with these weights, or cannot be run.
pub(super) fn onnx_file(
    path: &Path,
    args: &EvalArgs,
    model: &Model,
    weights: &Weights,
    device: Device,
) -> Result<Box<dyn Engine>> {
    let file = onnx::Whole::start(&onnx::Recipe {
        path,
        runtime: &args.runtime,
        python: &args.python,
        model,
        weights,
        threads: args.on.threads,
        device: args.on.device.to_string(),
    })?;
    checked(file, path, model, weights, device)
}

/// The file, if its logits for a clip are those of the network. Its weights alone do not tell: something may
/// stand between them, or after them.
fn checked(
    file: onnx::Whole,
    path: &Path,
    model: &Model,
    weights: &Weights,
    device: Device,
) -> Result<Box<dyn Engine>> {
    if !file.comparable {
        return Ok(Box::new(file));
    }
    let (precision, batch) = (file.precision(), file.batch.unwrap_or(1));
    let clip = precision.round(input::load(&InputSource::Formula(0), model, batch)?);
    let load =
        |precision| engines::load(EngineName::REFERENCE, model.clone(), weights, precision, device);
    let candidate = Side::Engine(Box::new(file));
    let mut comparison = Comparison::new(model.clone(), candidate, clip, precision, load)?;
    comparison.selection = models::selection(model, &[model.module(model.output()).name.clone()])?;
    let measured = comparison.measure(&|| ())?;
    let found = comparison.judge(&measured);
    let errors = measured.layers[model.output().0].inherited;
    let path = files::printable(&path.display().to_string());
    let differ = errors.map_or(f64::NAN, |errors| errors.rel_l2);
    match found.verdict {
        Verdict::Diverged => bail!(
            "{path}: its logits are not those of the network: relative L2 {differ:.1e} on a clip, more than \
             {precision} explains; harness diff --candidate onnx:{path} finds the place"
        ),
        Verdict::Incomplete => announce!(
            "{path}: its logits differ from the network's by {differ:.1e} (relative L2) on a clip, which {precision} \
             explains, as it would larger errors; harness diff compares every layer"
        ),
        Verdict::Pass => {}
    }
    match comparison.candidate {
        Side::Engine(engine) => Ok(engine),
        Side::Dump(_) => bail!("internal error: the candidate is a file"),
    }
}
