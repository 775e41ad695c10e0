//! The first run of a file: which values it shows, of which type, and whether additional outputs change
//! its result.

use anyhow::{Result, bail};
use onnx::read::{ValueId, printable};
use spec::{Kind, Precision, Tensor, relative_l2};

use super::OnnxFile;
use onnx::cut::Typed;
use onnx::matching;

/// The note on a file of which a batch of two was run.
pub const TOGETHER: &str = "two clips in a batch have the same logits as each alone";

/// Two ways to compute the logits may differ by this many times eps.
const ROUNDINGS: f64 = 64.0;

/// The most bytes of additional outputs in one run.
const CHUNK: usize = 256 << 20;

impl OnnxFile {
    /// Runs the file once as it is and once with all values that are shown, and keeps their types. Values
    /// that have another shape than their module are left out, which is said.
    pub(super) fn probe(&mut self, clip: &Tensor) -> Result<()> {
        let batch = clip.shape[0];
        let arranged = self.matched.clip.arranged(clip);
        let input = Typed { element: self.net.input_type(), shape: arranged.shape.clone() };
        self.types.insert(self.net.input, input);
        let (bare, typed) = self.bare(&arranged)?;
        self.types.insert(self.net.output, typed);
        self.shown = self.matched.points.iter().map(|(id, value)| (*id, *value)).collect();
        let mut at = 0;
        let mut logits = None;
        while at < self.shown.len() {
            let chunk = self.chunk(at, batch);
            let last = self.shown.iter().rposition(|(_, value)| chunk.contains(value));
            at = last.map_or(at, |last| last) + 1;
            let mut wanted = chunk.clone();
            if !wanted.contains(&self.net.output) {
                wanted.push(self.net.output);
            }
            let values = self.whole(&arranged, &wanted)?;
            for (value, (tensor, typed)) in wanted.into_iter().zip(values) {
                if value == self.net.output {
                    logits = Some(tensor.clone());
                }
                self.keep(value, &tensor, batch);
                self.types.insert(value, typed);
            }
        }
        self.keep_constants(batch);
        let left_out = self.left_out(batch);
        self.matched.remarks.extend(left_out);
        self.notes = vec![format!("{}: {}", self.called(), self.matched.remarks.join("; "))];
        self.notes.extend(self.observed(&bare, logits.as_ref()));
        if batch == 1 && matching::fixed_batch(&self.net).is_none() {
            self.together(clip, &bare)?;
        }
        if self.shown.iter().all(|(id, _)| self.model.module(*id).kind == Kind::Input) {
            bail!(
                "none of the values of the file has the shape of its module; check --size and --frames"
            );
        }
        Ok(())
    }

    /// Runs the clip next to another one, which must not change its logits. This needs three short runs, so it does
    /// not wait for `--batch-size 2`.
    fn together(&mut self, clip: &Tensor, alone: &Tensor) -> Result<()> {
        let other = negative(clip);
        let pair = [clip.to_f32(), other.to_f32()].concat();
        let pair = Tensor::f32([&[2], &clip.shape[1..]].concat(), pair);
        let Ok((both, _)) = self.bare(&self.matched.clip.arranged(&pair)) else {
            let called = self.called();
            self.notes
                .push(format!("{called}: it runs one clip only, although its input allows more"));
            return Ok(());
        };
        let (second, _) = self.bare(&self.matched.clip.arranged(&other))?;
        let distance = relative_l2(&both.to_f64(), &[alone.to_f64(), second.to_f64()].concat());
        // A runtime may choose other algorithms for two clips. Not `>`, so that NaN is told, too.
        let same = distance <= ROUNDINGS * self.matched.precision.epsilon();
        match same {
            true => self.notes.push(TOGETHER.to_owned()),
            false => {
                let found = format!(
                    "next to another clip a clip has other logits (relative L2 {distance:.1e}), so the clips of a \
                     batch depend on each other; --batch-size 2 finds the place"
                );
                self.matched.contradiction.get_or_insert(found);
            }
        }
        Ok(())
    }

    fn called(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        printable(&name)
    }

    /// The values that are computed in one run from the module at this index on: as many as memory allows,
    /// each once, without constants.
    pub(super) fn chunk(&self, from: usize, batch: usize) -> Vec<ValueId> {
        let (mut found, mut bytes): (Vec<ValueId>, usize) = (vec![], 0);
        for &(id, value) in &self.shown[from..] {
            if found.contains(&value) || self.constant(value).is_some() {
                continue;
            }
            bytes += 4 * self.model.module(id).shape.iter().product::<usize>() * batch;
            if bytes > CHUNK && !found.is_empty() {
                break;
            }
            found.push(value);
        }
        found
    }

    /// Leaves modules out whose value has another shape.
    fn keep(&mut self, value: ValueId, tensor: &Tensor, batch: usize) {
        let here: Vec<_> =
            self.shown.iter().filter(|(_, v)| *v == value).map(|(id, _)| *id).collect();
        for id in here {
            if self.of_module(id, value, tensor.clone(), batch).is_some() {
                continue;
            }
            self.shown.retain(|(other, _)| *other != id);
            self.misshapen.push((id, value, tensor.shape.clone()));
        }
    }

    /// The sentence on the modules that were left out.
    fn left_out(&mut self, batch: usize) -> Option<String> {
        self.misshapen.sort_by_key(|(id, ..)| *id);
        let (id, value, shape) = self.misshapen.first()?;
        let module = self.model.module(*id);
        let name = printable(self.net.name(*value));
        let first = format!(
            "`{name}`, which stands at {}, has the shape {shape:?} instead of {:?}",
            module.name,
            module.batch_shape(batch)
        );
        Some(match self.misshapen.len() - 1 {
            0 => format!("{first}, so it is not compared"),
            more => format!("{first}, and {more} more have other shapes, so they are not compared"),
        })
    }

    /// The same for values that do not depend on the clip.
    fn keep_constants(&mut self, batch: usize) {
        let values: Vec<ValueId> = self.shown.iter().map(|(_, value)| *value).collect();
        for value in values {
            if let Some(constant) = self.constant(value) {
                self.keep(value, &constant, batch);
                let element = match self.net.constant(value).and_then(|c| c.element) {
                    Some(Precision::F16) => "float16",
                    Some(Precision::Bf16) => "bfloat16",
                    Some(Precision::F64) => "float64",
                    _ => "float32",
                };
                self.types.insert(value, Typed::named(element, constant.shape));
            }
        }
    }

    /// Whether the logits are the same with and without additional outputs, which keep the runtime from
    /// fusing operations.
    fn observed(&self, bare: &Tensor, logits: Option<&Tensor>) -> Option<String> {
        let logits = logits?;
        let distance = relative_l2(&logits.to_f64(), &bare.to_f64());
        let eps = self.matched.precision.epsilon();
        // Not `>`, so that NaN is told, too.
        let same = distance <= ROUNDINGS * eps;
        (!same).then(|| {
            format!(
                "{}: without additional outputs, where the runtime fuses more, the logits differ by {distance:.1e} \
                 (relative L2), more than by rounding",
                self.runtime.called
            )
        })
    }
}

/// Another clip of the same kind.
fn negative(clip: &Tensor) -> Tensor {
    Tensor::f32(clip.shape.clone(), clip.to_f32().iter().map(|v| 1.0 - v).collect())
}
