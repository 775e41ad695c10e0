//! The first run of a file: which values it shows, of which type, and whether additional outputs change
//! its result.

use anyhow::{Result, bail};
use onnx::read::{ValueId, printable};
use spec::{Kind, Precision, Tensor, relative_l2};

use super::OnnxFile;
use onnx::cut::Typed;

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
        if self.shown.iter().all(|(id, _)| self.model.module(*id).kind == Kind::Input) {
            bail!(
                "none of the values of the file has the shape of its module; check --size and --frames"
            );
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
                if let Ok(typed) = Typed::named(element, constant.shape) {
                    self.types.insert(value, typed);
                }
            }
        }
    }

    /// Whether the logits are the same with and without additional outputs, which keep the runtime from
    /// fusing operations.
    fn observed(&self, bare: &Tensor, logits: Option<&Tensor>) -> Option<String> {
        const ROUNDINGS: f64 = 64.0;
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
