//! An ONNX file as an engine (`onnx:FILE`), run by ONNX Runtime or OpenVINO in a Python process.
//!
//! Modules are found by weights (`onnx::matching`). In a free pass the whole file runs, with the modules'
//! values as additional outputs. As soon as the tap replaces a value, each further module is computed
//! alone: the part of the graph between the values that were shown and its own (`onnx::cut`).
//!
//! Reading order: this file (reading a file, and a forward pass), `runtime` (runs a file in Python),
//! `probe` (what the file shows, and whether observing changes its result), `whole` (a file that is only run
//! for its logits).

mod probe;
mod quantised;
mod record;
mod runtime;
mod whole;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use checkpoint::Weights;
use onnx::cut::{self, Typed};
use onnx::matching::{self, Matched};
use onnx::proto::element;
use onnx::read::{Net, ValueId, open, printable, without_quantisers};
use spec::{Engine, EngineError, Flow, Model, ModuleId, Precision, Tap, Tensor};

pub use self::probe::TOGETHER;
pub use self::quantised::{Requantised, judged};
pub use self::record::record;
use self::runtime::Runtime;
pub use self::whole::Whole;
use crate::flags::{PythonArgs, RuntimeArgs};

/// What an ONNX file is compared with, and how it is run.
pub struct Recipe<'a> {
    /// The file.
    pub path: &'a Path,
    /// The runtime.
    pub runtime: &'a RuntimeArgs,
    /// The Python that runs it.
    pub python: &'a PythonArgs,
    /// The model that it should be.
    pub model: &'a Model,
    /// The weights that it should have.
    pub weights: &'a Weights,
    /// Number of threads; 0 for the runtime's own choice.
    pub threads: usize,
    /// The device, as on the command line.
    pub device: String,
}

/// An ONNX file that is run.
pub struct OnnxFile {
    runtime: Runtime,
    path: PathBuf,
    /// The network, without its quantisers if it has any.
    net: Net,
    quantised: bool,
    model: Arc<Model>,
    matched: Matched,
    /// The modules that it shows, in order of execution.
    shown: Vec<(ModuleId, ValueId)>,
    /// The modules that were left out because their value has another shape.
    misshapen: Vec<(ModuleId, ValueId, Vec<usize>)>,
    /// The type of every value that is shown.
    types: HashMap<ValueId, Typed>,
    notes: Vec<String>,
}

impl OnnxFile {
    /// Reads a file, matches it, and runs it on the clip to see what it shows.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is not the network, or if the runtime cannot be started or cannot
    /// run the file.
    pub fn start(recipe: &Recipe<'_>, clip: &Tensor) -> Result<Self> {
        let called = || printable(&recipe.path.display().to_string());
        let net = Net::new(open(recipe.path)?).and_then(without_quantisers);
        let (net, quantisers) = net.with_context(|| format!("{} cannot be used", called()))?;
        let matched = matching::matched(&net, recipe.model, recipe.weights)
            .with_context(|| format!("{} cannot be compared", called()))?;
        if let Some(fixed) = matching::fixed_batch(&net)
            && fixed != clip.shape[0]
        {
            bail!(
                "{} takes batches of {fixed}, but {} clips are given; use --batch-size {fixed}",
                called(),
                clip.shape[0]
            );
        }
        let mut file = OnnxFile {
            runtime: Runtime::start(recipe)?,
            path: std::path::absolute(recipe.path)?,
            model: Arc::new(recipe.model.clone()),
            shown: vec![],
            misshapen: vec![],
            types: HashMap::new(),
            notes: vec![],
            quantised: !quantisers.is_empty(),
            net,
            matched,
        };
        file.probe(clip)?;
        Ok(file)
    }

    /// The output of the file as it is, without additional outputs.
    fn bare(&mut self, clip: &Tensor) -> Result<(Tensor, Typed)> {
        if self.quantised {
            let mut values = self.whole(clip, &[self.net.output])?;
            return values.pop().context("the runtime returned nothing");
        }
        let at = output_index(&self.net);
        let input = self.net.name(self.net.input).to_owned();
        let mut answers = self.runtime.run(&self.path, &[input], &[clip])?;
        if at >= answers.len() {
            bail!("the runtime returned {} outputs, not the one that was asked for", answers.len());
        }
        if answers[at].1.element == element::UNDEFINED {
            let name = printable(self.net.name(self.net.output));
            bail!(
                "the output `{name}` does not hold floats; let the file return the logits as well"
            );
        }
        Ok(answers.swap_remove(at))
    }

    /// The values of these modules when the whole file runs.
    fn whole(&mut self, clip: &Tensor, values: &[ValueId]) -> Result<Vec<(Tensor, Typed)>> {
        let bytes = cut::with_outputs(&self.net, values)?;
        let input = self.net.name(self.net.input).to_owned();
        let answers = self.runtime.run_bytes(bytes, &[input], &[clip])?;
        if answers.len() != values.len() {
            bail!(
                "the runtime returned {} values, but {} were asked for",
                answers.len(),
                values.len()
            );
        }
        Ok(answers)
    }

    /// A value that does not depend on the clip, as a tensor.
    fn constant(&self, value: ValueId) -> Option<Tensor> {
        let constant = self.net.constant(value).filter(|_| !self.net.is_data(value))?;
        let values = constant.values.iter().map(|&v| v as f32).collect();
        Some(Tensor::f32(constant.shape.clone(), values))
    }

    /// A value, computed from those that are known.
    fn alone(&mut self, value: ValueId, known: &HashMap<ValueId, Tensor>) -> Result<Tensor> {
        if let Some(value) = known.get(&value) {
            return Ok(value.clone());
        }
        if let Some(constant) = self.constant(value) {
            return Ok(constant);
        }
        let given = |id: &ValueId| Some((*id, self.types.get(id)?.clone()));
        let given: HashMap<_, _> = known.keys().filter_map(given).collect();
        let part = cut::part(&self.net, value, &given)?;
        let names: Vec<String> =
            part.inputs.iter().map(|id| self.net.name(*id).to_owned()).collect();
        let feeds: Vec<&Tensor> = part.inputs.iter().filter_map(|id| known.get(id)).collect();
        let (tensor, _) = self
            .runtime
            .run_bytes(part.bytes, &names, &feeds)?
            .pop()
            .context("the runtime returned nothing")?;
        Ok(tensor)
    }

    /// A value of the file in the shape and order of its module.
    fn of_module(&self, id: ModuleId, value: ValueId, own: Tensor, batch: usize) -> Option<Tensor> {
        let wanted = self.model.module(id).batch_shape(batch);
        let shown = matching::as_module(own, self.matched.axes.get(&value).copied(), &wanted)?;
        Some(self.offset(value, shown, -1.0))
    }

    /// A module's value with `sign` times what the file's value has more, because constants were moved.
    fn offset(&self, value: ValueId, own: Tensor, sign: f64) -> Tensor {
        let Some(offset) = self.matched.offsets.get(&value) else { return own };
        let pixels: usize = own.shape.iter().skip(2).product();
        let channel = |at: usize| at / pixels.max(1) % offset.len();
        let moved = own.iter().enumerate().map(|(at, v)| (v + sign * offset[channel(at)]) as f32);
        Tensor::f32(own.shape.clone(), moved.collect())
    }
}

/// The index of the network's output among the outputs of the file.
fn output_index(net: &Net) -> usize {
    let name = net.name(net.output);
    net.graph().output.iter().position(|info| info.name == name).unwrap_or(0)
}

/// The state of a forward pass.
struct Pass {
    clip: Tensor,
    /// The values that were replaced, and those that were shown after them. Before the first replacement
    /// there is only the clip.
    known: HashMap<ValueId, Tensor>,
    /// Values of the whole run that are still to be shown.
    ahead: HashMap<ValueId, Tensor>,
    forced: bool,
}

impl OnnxFile {
    /// A value that the tap wants: the index of the module in `shown` says which ones are computed with it.
    fn value(&mut self, at: usize, pass: &mut Pass) -> Result<Tensor> {
        let (_, value) = self.shown[at];
        if pass.forced {
            return self.alone(value, &pass.known);
        }
        if let Some(constant) = self.constant(value) {
            return Ok(constant);
        }
        if value == self.net.output {
            return Ok(self.bare(&pass.clip)?.0);
        }
        if !pass.ahead.contains_key(&value) {
            let chunk = self.chunk(at, pass.clip.shape[0]);
            let values = self.whole(&pass.clip, &chunk)?;
            pass.ahead =
                chunk.into_iter().zip(values).map(|(id, (tensor, _))| (id, tensor)).collect();
        }
        pass.ahead.get(&value).cloned().context("the runtime did not return a value")
    }

    fn shape_error(&self, id: ModuleId, got: Vec<usize>, batch: usize) -> EngineError {
        let module = self.model.module(id);
        EngineError::Shape { what: module.name.clone(), expected: module.batch_shape(batch), got }
    }
}

fn failed(error: anyhow::Error) -> EngineError {
    EngineError::Backend { engine: "onnx", message: format!("{error:#}") }
}

impl Engine for OnnxFile {
    fn describe(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let format = match self.quantised {
            true => "quantised".to_owned(),
            false => self.matched.precision.to_string(),
        };
        format!("{} {format} in {}", printable(&name), self.runtime.called)
    }

    fn precision(&self) -> Precision {
        self.matched.precision
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn contradiction(&self) -> Option<String> {
        self.matched.contradiction.clone()
    }

    fn misshapen(&self) -> Option<(ModuleId, &[usize])> {
        self.misshapen.first().map(|(id, _, shape)| (*id, &shape[..]))
    }

    fn forward(&mut self, input: &Tensor, tap: &mut dyn Tap) -> Result<Tensor, EngineError> {
        let batch = input.shape[0];
        let clip = self.matched.clip.arranged(input);
        let known = HashMap::from([(self.net.input, clip.clone())]);
        let mut pass = Pass { clip, known, ahead: HashMap::new(), forced: false };
        for at in 0..self.shown.len() {
            let (id, value) = self.shown[at];
            if !tap.wants(id) {
                continue;
            }
            let own = self.value(at, &mut pass).map_err(failed)?;
            let shape = own.shape.clone();
            let shown = self
                .of_module(id, value, own.clone(), batch)
                .ok_or_else(|| self.shape_error(id, shape.clone(), batch))?;
            match tap.observe(id, shown) {
                Flow::Continue if pass.forced => drop(pass.known.insert(value, own)),
                Flow::Continue => {}
                Flow::Replace(other) => {
                    let axes = self.matched.axes.get(&value).copied();
                    let wrong = self.shape_error(id, other.shape.clone(), batch);
                    let fed = matching::as_file(&self.offset(value, other, 1.0), axes, &shape)
                        .ok_or(wrong)?;
                    pass.known.insert(value, fed);
                    pass.forced = true;
                    pass.ahead.clear();
                }
                Flow::Stop => return Err(EngineError::Stopped),
            }
        }
        let output = match pass.forced {
            true => self.alone(self.net.output, &pass.known),
            false => self.bare(&pass.clip).map(|(output, _)| output),
        };
        output.map_err(failed)
    }
}
