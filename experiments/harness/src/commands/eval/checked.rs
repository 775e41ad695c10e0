//! ONNX files in an evaluation: only those that are the network.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use checkpoint::Weights;
use compare::{Comparison, Side};
use record::Verdict;
use spec::{Engine, EngineError, Ignore, Model, Precision, Tap, Tensor};

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

/// A file that ends in a softmax, which forgets the mean of the logits: while it is compared, it is given the
/// right one.
struct Shifted {
    file: onnx::Whole,
    means: Vec<f64>,
    shifting: Arc<AtomicBool>,
}

/// Whether the logarithm of a probability is that of 0.
fn has_zeros(logits: &Tensor) -> bool {
    logits.iter().any(|value| value == f64::NEG_INFINITY)
}

/// The mean of each row.
fn means(logits: &Tensor) -> Vec<f64> {
    let classes = logits.shape.last().copied().unwrap_or(1).max(1);
    let mean = |row: &[f64]| row.iter().sum::<f64>() / row.len() as f64;
    logits.to_f64().chunks(classes).map(mean).collect()
}

impl Engine for Shifted {
    fn describe(&self) -> String {
        self.file.describe()
    }

    fn precision(&self) -> Precision {
        self.file.precision()
    }

    fn forward(&mut self, input: &Tensor, tap: &mut dyn Tap) -> Result<Tensor, EngineError> {
        if !self.shifting.load(Ordering::Relaxed) {
            return self.file.forward(input, tap);
        }
        let own = self.file.forward(input, &mut Ignore)?;
        let classes = own.shape.last().copied().unwrap_or(1).max(1);
        let shifts = means(&own).into_iter().zip(&self.means).map(|(own, right)| right - own);
        let rows = own.to_f64();
        let rows = rows.chunks(classes).zip(shifts);
        let values = rows.flat_map(|(row, by)| row.iter().map(move |value| (value + by) as f32));
        self.file.shown(Tensor::f32(own.shape.clone(), values.collect()), tap)
    }
}

/// The file, if its logits for a clip are those of the network. Its weights alone do not tell: something may
/// stand between them, or after them.
fn checked(
    mut file: onnx::Whole,
    path: &Path,
    model: &Model,
    weights: &Weights,
    device: Device,
) -> Result<Box<dyn Engine>> {
    if !file.comparable {
        return Ok(Box::new(file));
    }
    let (precision, batch) = (file.precision(), file.batch.unwrap_or(2));
    let clip = precision.round(input::load(&InputSource::Formula(0), model, batch)?);
    let load =
        |precision| engines::load(EngineName::REFERENCE, model.clone(), weights, precision, device);
    if file.softmax && has_zeros(&file.forward(&clip, &mut Ignore)?) {
        announce!(
            "{}: some probabilities are rounded to 0, so that its logits are not known and were not compared with \
             the network's; harness diff compares every layer",
            files::printable(&path.display().to_string())
        );
        return Ok(Box::new(file));
    }
    let shifting = Arc::new(AtomicBool::new(file.softmax));
    let engine: Box<dyn Engine> = match file.softmax {
        true => {
            let right = load(Precision::F64)?.forward(&clip, &mut Ignore)?;
            Box::new(Shifted { file, means: means(&right), shifting: shifting.clone() })
        }
        false => Box::new(file),
    };
    let candidate = Side::Engine(engine);
    let mut comparison = Comparison::new(model.clone(), candidate, clip, precision, load)?;
    comparison.selection = models::selection(model, &[model.module(model.output()).name.clone()])?;
    let measured = comparison.measure(&|| ())?;
    let found = comparison.judge(&measured);
    let errors = measured.layers[model.output().0].inherited;
    let path = files::printable(&path.display().to_string());
    let differ = errors.map_or(f64::NAN, |errors| errors.rel_l2);
    match found.verdict {
        Verdict::Diverged => bail!(
            "{path}: its logits are not those of the network: relative L2 {differ:.1e}, more than {precision} explains; \
             harness diff --candidate onnx:{path} finds the place (with these --weights, and its own --size)"
        ),
        Verdict::Incomplete => announce!(
            "{path}: its logits differ from the network's by {differ:.1e} (relative L2) on a clip, which {precision} \
             explains, as it would larger errors; harness diff compares every layer"
        ),
        Verdict::Pass => {}
    }
    shifting.store(false, Ordering::Relaxed);
    match comparison.candidate {
        Side::Engine(engine) => Ok(engine),
        Side::Dump(_) => bail!("internal error: the candidate is a file"),
    }
}
