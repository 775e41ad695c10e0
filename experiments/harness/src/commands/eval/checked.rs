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

/// A file that ends in a softmax. Its logarithms are the logits less the logarithm of the sum of their exponentials,
/// which is added while it is compared.
struct Logits {
    file: onnx::Whole,
    /// The right logits.
    right: Tensor,
    adding: Arc<AtomicBool>,
}

/// The logits of probabilities, of which the logarithms are given. A probability that is rounded to 0 is taken for
/// the right one where that is too small for the format.
fn logits(logarithms: &Tensor, right: &Tensor, format: Precision) -> Tensor {
    let smallest = match format {
        Precision::F16 => 6e-8f64.ln(),
        _ => f64::from(f32::MIN_POSITIVE).ln(),
    };
    let classes = logarithms.shape.last().copied().unwrap_or(1).max(1);
    let (own, right) = (logarithms.to_f64(), right.to_f64());
    let mut values = vec![];
    for (own, right) in own.chunks(classes).zip(right.chunks(classes)) {
        let sum = log_sum_exp(right);
        let rounded_away = |x: f64, r: f64| x == f64::NEG_INFINITY && r - sum < smallest;
        let logit = |(&x, &r): (&f64, &f64)| if rounded_away(x, r) { r } else { x + sum };
        values.extend(own.iter().zip(right).map(logit).map(|value| value as f32));
    }
    Tensor::f32(logarithms.shape.clone(), values)
}

fn log_sum_exp(row: &[f64]) -> f64 {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + row.iter().map(|value| (value - largest).exp()).sum::<f64>().ln()
}

impl Engine for Logits {
    fn describe(&self) -> String {
        self.file.describe()
    }

    fn precision(&self) -> Precision {
        self.file.precision()
    }

    fn forward(&mut self, input: &Tensor, tap: &mut dyn Tap) -> Result<Tensor, EngineError> {
        if !self.adding.load(Ordering::Relaxed) {
            return self.file.forward(input, tap);
        }
        let logarithms = self.file.forward(input, &mut Ignore)?;
        let logits = logits(&logarithms, &self.right, self.file.precision());
        self.file.shown(logits, tap)
    }
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
    let (precision, batch) = (file.precision(), file.batch.unwrap_or(2));
    let clip = precision.round(input::load(&InputSource::Formula(0), model, batch)?);
    let load =
        |precision| engines::load(EngineName::REFERENCE, model.clone(), weights, precision, device);
    let adding = Arc::new(AtomicBool::new(true));
    let engine: Box<dyn Engine> = match file.softmax {
        true => {
            let right = load(Precision::F64)?.forward(&clip, &mut Ignore)?;
            Box::new(Logits { file, right, adding: adding.clone() })
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
    adding.store(false, Ordering::Relaxed);
    match comparison.candidate {
        Side::Engine(engine) => Ok(engine),
        Side::Dump(_) => bail!("internal error: the candidate is a file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_give_the_logits_again_and_only_small_ones_may_be_zero() {
        let right = Tensor::f64([2, 3], vec![1.0, 2.0, -1.0, 0.0, -20.0, 3.0]);
        let rows = right.to_f64();
        let logarithm = |at: usize| rows[at] - log_sum_exp(&rows[at / 3 * 3..][..3]);
        let mut logarithms: Vec<f32> = (0..6).map(|at| logarithm(at) as f32).collect();
        let of = |logarithms: &[f32], format| {
            logits(&Tensor::f32([2, 3], logarithms.to_vec()), &right, format).to_f64()
        };
        let near = |a: &[f64]| a.iter().zip(&rows).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near(&of(&logarithms, Precision::F32)));
        // exp(-23) is 0 in float16, and is not in float32.
        logarithms[4] = f32::NEG_INFINITY;
        assert!(near(&of(&logarithms, Precision::F16)));
        assert!(!near(&of(&logarithms, Precision::F32)));
        logarithms[0] = f32::NEG_INFINITY;
        assert!(!near(&of(&logarithms, Precision::F16)));
    }
}
