//! An ONNX file that is only run, for its logits: what `eval` measures. Nothing is added to the file or taken
//! from it, so quantised files run with their quantisers, and the runtime may fuse what it likes.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use checkpoint::Weights;
use onnx::matching::{self, Clip};
use onnx::read::{Net, open, printable, without_quantisers};
use spec::{Engine, EngineError, Flow, ModuleId, Precision, Tap, Tensor};

use super::{Recipe, failed, output_index, runtime::Runtime};

/// A file with its runtime, which keeps the network loaded.
pub struct Whole {
    runtime: Runtime,
    path: PathBuf,
    called: String,
    input: String,
    output: usize,
    /// The output is probabilities, whose logarithms are the logits but for a constant.
    pub softmax: bool,
    /// The file computes in floats, so that its output is that of the network, up to rounding.
    pub comparable: bool,
    clip: Clip,
    /// Clips in a batch, if the file allows one number only.
    pub batch: Option<usize>,
    precision: Precision,
    classes: usize,
    head: ModuleId,
}

impl Whole {
    /// Reads a file and starts its runtime. The file must be the network with these weights; what differs is
    /// announced.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is another network or states another eps or other weights, or if the runtime
    /// cannot be started.
    pub fn start(recipe: &Recipe<'_>) -> Result<Self> {
        let called = printable(&recipe.path.display().to_string());
        let unusable = || format!("{called} cannot be used");
        let file = open(recipe.path).with_context(unusable)?;
        let bytes = std::fs::read(recipe.path).with_context(unusable)?;
        let digest = files::sha256(&bytes);
        let net = Net::new(file.clone()).with_context(unusable)?;
        let (plain, quantisers) = without_quantisers(Net::new(file)?).with_context(unusable)?;
        let matched = |weights: &Weights| {
            matching::matched(&plain, recipe.model, weights)
                .with_context(|| format!("{called} cannot be evaluated"))
        };
        let found = match quantisers.is_empty() {
            true => matched(recipe.weights)?,
            false => matched(
                &matching::requantised(&plain, recipe.model, recipe.weights, &|_| None)?.weights,
            )?,
        };
        announce!("{called}: {}", found.remarks.join("; "));
        if let Some(other) = &found.contradiction {
            bail!(
                "{called}: {}, so that its accuracy is that of another network; harness diff --candidate \
                 onnx:FILE shows what that changes",
                other
            );
        }
        let last = net.producer(net.output).map(|id| net.node(id).op_type.as_str());
        let name = recipe.path.file_name().unwrap_or_default().to_string_lossy();
        let runtime = Runtime::start(recipe)?;
        let kind = match quantisers.len() {
            0 => found.precision.to_string(),
            _ => "quantised".to_owned(),
        };
        Ok(Whole {
            called: format!("{} {kind} in {} ({digest:.8})", printable(&name), runtime.called),
            path: std::path::absolute(recipe.path)?,
            input: net.name(net.input).to_owned(),
            output: output_index(&net),
            softmax: last == Some("Softmax"),
            comparable: quantisers.is_empty(),
            clip: found.clip,
            batch: matching::fixed_batch(&net),
            precision: found.precision,
            classes: recipe.model.config.classes,
            head: recipe.model.output(),
            runtime,
        })
    }

    /// The logits of some clips, of no more than the file takes at once.
    fn logits(&mut self, clips: &Tensor) -> Result<Vec<f32>> {
        let given = self.clip.arranged(clips);
        let answers = self.runtime.run_kept(&self.path, &self.input, &given)?;
        let (output, _) =
            answers.get(self.output).context("the runtime returned too few outputs")?;
        let wanted = [clips.shape[0], self.classes];
        if output.shape != wanted {
            bail!("its output has shape {:?}, but {wanted:?} is needed", output.shape);
        }
        let mut logits = output.to_f32();
        if self.softmax {
            // The softmax of the logarithms is the probabilities again.
            logits.iter_mut().for_each(|p| *p = p.ln());
        }
        Ok(logits)
    }

    fn all(&mut self, clips: &Tensor) -> Result<Tensor> {
        let count = clips.shape[0];
        let at_once = self.batch.unwrap_or(count).max(1);
        let mut logits = vec![];
        for first in (0..count).step_by(at_once) {
            logits.extend(self.logits(&part(clips, first, at_once))?);
        }
        logits.truncate(count * self.classes);
        Ok(Tensor::f32([count, self.classes], logits))
    }
}

/// `count` clips from clip `first` on; after the last one it is repeated.
fn part(clips: &Tensor, first: usize, count: usize) -> Tensor {
    let (all, values) = (clips.shape[0], clips.to_f32());
    let one = values.len() / all.max(1);
    let clip = |at: usize| &values[at.min(all - 1) * one..][..one];
    let mut shape = clips.shape.clone();
    shape[0] = count;
    Tensor::f32(shape, (first..first + count).flat_map(clip).copied().collect())
}

impl Engine for Whole {
    fn describe(&self) -> String {
        self.called.clone()
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    /// Shows a tap the logits only.
    fn forward(&mut self, input: &Tensor, tap: &mut dyn Tap) -> Result<Tensor, EngineError> {
        let logits = self.all(input).map_err(failed)?;
        self.shown(logits, tap)
    }
}

impl Whole {
    /// Shows logits to a tap.
    pub fn shown(&self, logits: Tensor, tap: &mut dyn Tap) -> Result<Tensor, EngineError> {
        if !tap.wants(self.head) {
            return Ok(logits);
        }
        match tap.observe(self.head, logits.clone()) {
            Flow::Continue => Ok(logits),
            Flow::Stop => Err(EngineError::Stopped),
            Flow::Replace(other) => Ok(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_clip_fills_up_a_batch() {
        let clips = Tensor::f32([3, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(part(&clips, 0, 2).to_f32(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(part(&clips, 2, 2).to_f32(), [5.0, 6.0, 5.0, 6.0]);
        assert_eq!(part(&clips, 2, 2).shape, [2, 2]);
    }
}
