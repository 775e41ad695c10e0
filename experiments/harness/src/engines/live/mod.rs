//! A live PyTorch or Flax model as an engine (`python:FILE:FUNCTION`).
//!
//! Python runs the model (`live.py`; `torch_side.py` and `flax_side.py` observe the modules). Each output
//! goes to the tap, and what the tap answers replaces it, so that own errors are real. The model
//! may run its modules in any order: `feeder.py` shows them in the order of [`Model::modules`].
//!
//! Reading order: this file (making the model, and a forward pass), `probe` (which module of the port is
//! which of ours), `state` (whether the port has the weights that it is compared with).

mod probe;
mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use checkpoint::{OutFormat, Source, Weights};
use compare::dump::{NameMap, Order};
use serde_json::{Value, json};
use spec::{Engine, EngineError, Flow, Model, ModuleId, Precision, Tap, Tensor};

use self::probe::{Probed, Shown};
use super::worker::{Message, Program, Worker, find_python, printable};
use crate::flags::{LiveArgs, LiveName};

/// The Python files; the first one is run.
const FILES: [(&str, &str); 5] = [
    ("harness_live.py", include_str!("live.py")),
    ("harness_feeder.py", include_str!("feeder.py")),
    ("harness_torch.py", include_str!("torch_side.py")),
    ("harness_flax.py", include_str!("flax_side.py")),
    ("harness_dump.py", include_str!("../../../../../scripts/dump_activations.py")),
];

/// The largest total size of the tensors in a message: a value of as many float64 numbers as the largest
/// clip has.
const MAX_BYTES: usize = 8 << 30;

/// What a live model is made from, and what it is compared with.
pub struct Recipe<'a> {
    /// The user's function.
    pub name: &'a LiveName,
    /// How Python runs it.
    pub args: &'a LiveArgs,
    /// The model that it should be.
    pub model: &'a Model,
    /// The weights that it should have.
    pub weights: &'a Weights,
    /// Where these weights come from.
    pub source: &'a Source,
    /// What the user says about the names of its modules.
    pub names: &'a NameMap,
    /// The device, as on the command line.
    pub device: String,
}

/// A live model.
pub struct Live {
    worker: Worker,
    model: Arc<Model>,
    /// The modules that it shows, in the order of the model.
    shown: Vec<Shown>,
    /// The order of dimensions in which it returns the logits.
    channels_last: bool,
    precision: Precision,
    description: String,
    misshapen: Option<(ModuleId, Vec<usize>)>,
    notes: Vec<String>,
    contradiction: Option<String>,
}

impl Live {
    /// Makes the model, checks its weights, and runs it on the clip to see what it shows.
    ///
    /// # Errors
    ///
    /// If Python, the program or the function fails, if the model has other weights or another shape than
    /// expected, or if none of its modules is known.
    pub fn start(recipe: &Recipe<'_>, clip: &Tensor) -> Result<Live> {
        let Recipe { name, model, .. } = recipe;
        let folder = files::Folder::new().context("a temporary folder cannot be created")?;
        let (mut worker, made) = recipe.make(folder.path())?;
        let path = folder.path().join("state.npz");
        // Parameters of modules with names of their own are known after the modules are.
        let first = recipe.names.is_empty();
        let mut weights =
            if first { state::compare(recipe, &mut worker, &[], &path)? } else { None };
        let Probed { shown, channels_last, precision, misshapen, notes, contradiction } =
            probe::probe(recipe, &mut worker, clip, made.text("precision"))?;
        if !first {
            weights = state::compare(recipe, &mut worker, &shown, &path)?;
        }
        let called = printable(made.text("called"));
        let (framework, device) = (made.text("framework"), made.text("device"));
        let description =
            format!("{called} of {} in {}", name.file.display(), printable(framework));
        let ours = format!("the candidate is {description}, {precision} on {}", printable(device));
        let told = made.head["notes"].as_array().into_iter().flatten();
        let told = told.filter_map(Value::as_str).map(printable);
        let notes = [ours].into_iter().chain(weights).chain(told).chain(notes).collect();
        let model = Arc::new((*model).clone());
        Ok(Live {
            worker,
            model,
            shown,
            channels_last,
            precision,
            description,
            misshapen,
            notes,
            contradiction,
        })
    }

    /// The clip goes to the tap first, which may replace it.
    fn begin(&self, input: &Tensor, tap: &mut dyn Tap) -> Result<Option<Tensor>, EngineError> {
        if !tap.wants(self.model.input) {
            return Ok(None);
        }
        match tap.observe(self.model.input, input.clone()) {
            Flow::Continue => Ok(None),
            Flow::Replace(clip) => Ok(Some(clip)),
            Flow::Stop => Err(EngineError::Stopped),
        }
    }

    /// Shows a value to the tap and sends its answer. Returns whether the model goes on.
    fn observe(
        &mut self,
        shown: &Shown,
        value: Tensor,
        tap: &mut dyn Tap,
    ) -> Result<bool, EngineError> {
        let own = value.shape.clone();
        let (value, order) = self.in_order(shown.id, value, &shown.name)?;
        let shape = value.shape.clone();
        match tap.observe(shown.id, value) {
            Flow::Continue => self.worker.send(&json!({"kind": "go"}), &[]),
            Flow::Replace(other) if other.shape != shape => {
                let what = self.model.module(shown.id).name.clone();
                return Err(EngineError::Shape { what, expected: shape, got: other.shape });
            }
            Flow::Replace(other) => {
                self.worker.send(&json!({"kind": "feed"}), &[&order.undo(other, &own)]);
            }
            Flow::Stop => {
                self.worker.send(&json!({"kind": "stop"}), &[]);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A value of the port in the order of the model's dimensions.
    fn in_order(
        &self,
        id: ModuleId,
        value: Tensor,
        name: &str,
    ) -> Result<(Tensor, Order), EngineError> {
        let module = self.model.module(id);
        // A batch of another size than that of the probe has more values in the first dimension only.
        let per_clip: usize = module.shape.iter().product();
        let batch = if module.batched { value.len() / per_clip.max(1) } else { 1 };
        let expected = module.batch_shape(batch);
        match Order::detect(&value.shape, &expected, self.channels_last) {
            Some(order) => Ok((order.apply(value, &expected), order)),
            None => Err(EngineError::Shape { what: name.to_owned(), expected, got: value.shape }),
        }
    }

    fn receive(&mut self) -> Result<Message, EngineError> {
        let failed = |error: anyhow::Error| EngineError::Backend {
            engine: "python",
            message: format!("{error:#}"),
        };
        self.worker.receive().map_err(failed)
    }

    fn first(message: Message) -> Result<Tensor, EngineError> {
        let lacking = || EngineError::Backend {
            engine: "python",
            message: "a message of the program has no tensor".to_owned(),
        };
        message.tensors.into_iter().next().ok_or_else(lacking)
    }
}

/// Writes a dump of a live model on this clip, with the names that it has.
///
/// # Errors
///
/// If Python, the program or the function fails.
pub fn capture(recipe: &Recipe<'_>, clip: &Tensor, path: &Path) -> Result<()> {
    let folder = files::Folder::new().context("a temporary folder cannot be created")?;
    let (mut worker, _) = recipe.make(folder.path())?;
    let ask = json!({"kind": "capture", "layout": recipe.args.layout, "path": path});
    worker.ask(&ask, &[clip]).map(drop)
}

impl Recipe<'_> {
    /// Starts Python and lets it call the function.
    fn make(&self, folder: &Path) -> Result<(Worker, Message)> {
        let mut worker = Worker::start(Program {
            name: printable(&self.name.to_string()),
            python: find_python(self.args.run.python.as_deref())?,
            files: &FILES,
            arguments: vec![self.name.file.clone().into_os_string()],
            environment: vec![],
            patience: self.args.run.patience,
            max_bytes: MAX_BYTES,
        })?;
        let made = self.called(&mut worker, folder.join("formula.pth"))?;
        Ok((worker, made))
    }

    fn called(&self, worker: &mut Worker, formula: PathBuf) -> Result<Message> {
        let path = match self.source {
            Source::File { path, .. } => Some(std::path::absolute(path)?),
            Source::Formula(_) => None,
        };
        let answer = worker.ask(&self.load(path), &[])?;
        if answer.text("wants") != "weights" {
            return Ok(answer);
        }
        // The function needs a checkpoint, and there is none.
        checkpoint::write(self.weights, &formula, OutFormat::Pth)?;
        let answer = worker.ask(&self.load(Some(formula)), &[])?;
        match answer.text("wants") {
            "" => Ok(answer),
            _ => bail!("{}: the function needs more than the path of weights", self.name),
        }
    }

    fn load(&self, weights: Option<PathBuf>) -> Value {
        let config = &self.model.config;
        let (height, width) = config.size;
        let size = if height == width { json!(height) } else { json!([height, width]) };
        let mut given = json!({
            "depth": config.depth, "width": config.width, "frames": config.frames, "size": size,
            "classes": config.classes, "pos_dim": config.pos_dim, "device": self.device,
        });
        if let Source::Formula(seed) = self.source {
            given["seed"] = json!(seed);
        }
        json!({
            "kind": "load", "function": self.name.function, "kwargs": self.args.kwargs,
            "given": given, "weights": weights,
        })
    }
}

impl Engine for Live {
    fn describe(&self) -> String {
        self.description.clone()
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn contradiction(&self) -> Option<String> {
        self.contradiction.clone()
    }

    fn misshapen(&self) -> Option<(ModuleId, &[usize])> {
        self.misshapen.as_ref().map(|(id, shape)| (*id, &shape[..]))
    }

    fn forward(&mut self, input: &Tensor, tap: &mut dyn Tap) -> Result<Tensor, EngineError> {
        let replaced = self.begin(input, tap)?;
        let clip = replaced.as_ref().unwrap_or(input);
        let wanted: Vec<Shown> = self.shown.iter().filter(|s| tap.wants(s.id)).cloned().collect();
        let names: Vec<&str> = wanted.iter().map(|shown| shown.name.as_str()).collect();
        self.worker.send(&json!({"kind": "forward", "show": names}), &[clip]);
        loop {
            let message = self.receive()?;
            let at =
                message.head["at"].as_u64().and_then(|at| wanted.get(usize::try_from(at).ok()?));
            match (message.text("kind"), at) {
                ("value", Some(shown)) => {
                    if !self.observe(shown, Self::first(message)?, tap)? {
                        self.receive()?;
                        return Err(EngineError::Stopped);
                    }
                }
                ("done", _) => return self.finish(Self::first(message)?, tap),
                (kind, _) => {
                    let message = format!("`{}` is not an expected message", printable(kind));
                    return Err(EngineError::Backend { engine: "python", message });
                }
            }
        }
    }
}

impl Live {
    /// The output of the model, which is shown as that of its last module: what follows the classifier in
    /// a port, such as a softmax, is then a part of it.
    fn finish(&self, output: Tensor, tap: &mut dyn Tap) -> Result<Tensor, EngineError> {
        let id = self.model.output();
        let (output, _) = self.in_order(id, output, "the output")?;
        if !tap.wants(id) {
            return Ok(output);
        }
        match tap.observe(id, output.clone()) {
            Flow::Continue => Ok(output),
            Flow::Replace(other) => Ok(other),
            Flow::Stop => Err(EngineError::Stopped),
        }
    }
}
