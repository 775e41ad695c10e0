//! Quantised ONNX files: the reference that they are compared with, and what their quantisers cost.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use checkpoint::Weights;
use compare::measure::passes;
use compare::quantised::judge;
use onnx::cut;
use onnx::matching::{Matched, matched, requantised};
use onnx::read::{Net, Quantiser, ValueId, open, printable, without_quantisers};
use record::{IntegerKernels, LayerVerdict, Quantisation};
use spec::{Engine, EngineError, Flow, Kind, Model, ModuleId, Precision, Tap, Tensor};

use super::{Recipe, runtime::Runtime};

/// Number of values that are computed in one run.
const CHUNK: usize = 16;

/// What the reference of a quantised file computes with, instead of the checkpoint.
#[derive(Clone)]
pub struct Requantised {
    /// The checkpoint, rounded as the file is.
    pub weights: Weights,
    embeddings: Arc<HashMap<ModuleId, Tensor>>,
    quantised: usize,
    beyond: usize,
}

impl Requantised {
    /// Rounds a checkpoint as this file is; None if the file is not quantised. `load` loads the reference in
    /// float64.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is not the network.
    pub fn of(
        path: &Path,
        model: &Model,
        weights: &Weights,
        load: impl Fn() -> Result<Box<dyn Engine>>,
    ) -> Result<Option<Self>> {
        let called = || printable(&path.display().to_string());
        let net = Net::new(open(path)?).with_context(|| format!("{} cannot be used", called()))?;
        if !net.nodes().any(|(_, node)| node.op_type.ends_with("quantizeLinear")) {
            return Ok(None);
        }
        let (net, _) =
            without_quantisers(net).with_context(|| format!("{} cannot be used", called()))?;
        let exact = embeddings(model, load()?.as_mut())?;
        let made = requantised(&net, model, weights, &|id| exact.get(&id).cloned())
            .with_context(|| format!("{} cannot be compared", called()))?;
        Ok(Some(Requantised {
            weights: made.weights,
            embeddings: Arc::new(made.embeddings.into_iter().collect()),
            quantised: made.quantised,
            beyond: made.beyond,
        }))
    }

    /// The reference with the embeddings of the file.
    pub fn engine(&self, engine: Box<dyn Engine>) -> Box<dyn Engine> {
        match self.embeddings.is_empty() {
            true => engine,
            false => Box::new(Embedded { engine, embeddings: self.embeddings.clone() }),
        }
    }
}

/// The embeddings of the model, each at the size of its map.
fn embeddings(model: &Model, engine: &mut dyn Engine) -> Result<HashMap<ModuleId, Tensor>> {
    struct Collect<'a>(&'a Model, HashMap<ModuleId, Tensor>);
    impl Tap for Collect<'_> {
        fn wants(&self, id: ModuleId) -> bool {
            self.0.module(id).kind == Kind::PosEmbed
        }
        fn observe(&mut self, id: ModuleId, value: Tensor) -> Flow {
            self.1.insert(id, value);
            Flow::Continue
        }
    }
    let shape = model.input_shape(1);
    let clip = Tensor::f32(shape.clone(), vec![0.0; shape.iter().product()]);
    let mut tap = Collect(model, HashMap::new());
    engine.forward(&clip, &mut tap)?;
    Ok(tap.1)
}

/// An engine that computes with other embeddings than its own.
struct Embedded {
    engine: Box<dyn Engine>,
    embeddings: Arc<HashMap<ModuleId, Tensor>>,
}

impl Engine for Embedded {
    fn describe(&self) -> String {
        self.engine.describe()
    }

    fn precision(&self) -> Precision {
        self.engine.precision()
    }

    fn forward(&mut self, input: &Tensor, tap: &mut dyn Tap) -> Result<Tensor, EngineError> {
        let precision = self.engine.precision();
        self.engine.forward(input, &mut Embedding { tap, precision, embeddings: &self.embeddings })
    }
}

struct Embedding<'a> {
    tap: &'a mut dyn Tap,
    precision: Precision,
    embeddings: &'a HashMap<ModuleId, Tensor>,
}

impl Tap for Embedding<'_> {
    fn wants(&self, id: ModuleId) -> bool {
        self.embeddings.contains_key(&id) || self.tap.wants(id)
    }

    fn observe(&mut self, id: ModuleId, value: Tensor) -> Flow {
        let Some(other) = self.embeddings.get(&id) else { return self.tap.observe(id, value) };
        let value = self.precision.round(other.clone());
        let flow = match self.tap.wants(id) {
            true => self.tap.observe(id, value.clone()),
            false => Flow::Continue,
        };
        if flow == Flow::Continue { Flow::Replace(value) } else { flow }
    }
}

/// Runs a quantised file with and without its quantisers, and judges each of them.
///
/// # Errors
///
/// If the file cannot be run.
pub fn judged(recipe: &Recipe<'_>, clip: &Tensor, made: &Requantised) -> Result<Quantisation> {
    let (net, quantisers) = without_quantisers(Net::new(open(recipe.path)?)?)?;
    let found = matched(&net, recipe.model, recipe.weights)?;
    let mut run =
        Run { runtime: Runtime::start(recipe)?, clip: found.clip.arranged(clip), net: &net };
    let mut rows = vec![];
    for chunk in quantisers.chunks(CHUNK) {
        let wanted: Vec<ValueId> = chunk.iter().map(|quantiser| quantiser.value).collect();
        for (quantiser, value) in chunk.iter().zip(run.values(&wanted)?) {
            rows.push(row(quantiser, &value, &net, recipe.model, &found));
        }
    }
    let plain = run.values(&[net.output])?.pop().context("the runtime returned nothing")?;
    let file = open(recipe.path)?;
    let quantised = run.file(cut::with_output(&file, net.name(net.output))?, true)?;
    let logits = distance(&quantised, &plain);
    let kernels = match recipe.runtime.runtime == "onnxruntime" {
        true => {
            let exact = run.file(cut::with_output(&file, net.name(net.output))?, false)?;
            Some(kernels(distance(&quantised, &exact), distance(&exact, &plain)))
        }
        false => None,
    };
    Ok(Quantisation {
        weights: made.quantised as u64,
        weights_beyond: made.beyond as u64,
        quantisers: rows,
        logits,
        cosine: cosine(&quantised, &plain),
        same_class: largest(&quantised) == largest(&plain),
        kernels,
    })
}

/// The integer kernels may differ from the file's arithmetic by what rounding to another integer makes of it,
/// which is of the size of the quantisers' own error.
fn kernels(logits: f64, quantisers: f64) -> IntegerKernels {
    let floor = 16.0 * Precision::F32.epsilon();
    let ratio = logits / quantisers.max(floor);
    IntegerKernels { logits, ratio, verdict: verdict(passes(ratio)) }
}

fn verdict(passes: bool) -> LayerVerdict {
    if passes { LayerVerdict::Pass } else { LayerVerdict::Diverged }
}

/// A runtime with the clip that files are run on.
struct Run<'a> {
    runtime: Runtime,
    clip: Tensor,
    net: &'a Net,
}

impl Run<'_> {
    /// Values of the network without its quantisers.
    fn values(&mut self, wanted: &[ValueId]) -> Result<Vec<Tensor>> {
        let mut once = wanted.to_vec();
        once.sort_unstable();
        once.dedup();
        let bytes = cut::with_outputs(self.net, &once)?;
        let input = [self.net.name(self.net.input).to_owned()];
        // ONNX Runtime 1.32 optimises nodes away whose values are outputs here, and then refuses the file.
        self.runtime.optimise = false;
        let found = self.runtime.run_bytes(bytes, &input, &[&self.clip]);
        self.runtime.optimise = true;
        let found: HashMap<ValueId, Tensor> =
            once.into_iter().zip(found?.into_iter().map(|(tensor, _)| tensor)).collect();
        let value = |id| found.get(id).cloned().context("the runtime did not return a value");
        wanted.iter().map(value).collect()
    }

    /// The output of a file, with the runtime's optimisations or without.
    fn file(&mut self, bytes: Vec<u8>, optimise: bool) -> Result<Tensor> {
        let input = [self.net.name(self.net.input).to_owned()];
        self.runtime.optimise = optimise;
        let found = self.runtime.run_bytes(bytes, &input, &[&self.clip]);
        self.runtime.optimise = true;
        let (tensor, _) = found?.pop().context("the runtime returned nothing")?;
        Ok(tensor)
    }
}

fn row(
    quantiser: &Quantiser,
    value: &Tensor,
    net: &Net,
    model: &Model,
    found: &Matched,
) -> record::Quantiser {
    let values = value.to_f64();
    let (mut kept, mut after) = (values.clone(), quantiser.apply(&values, &value.shape));
    if quantiser.before_relu {
        // Not `max`, which would turn NaN into a number.
        let relu = |x: &mut f64| *x = if *x < 0.0 { 0.0 } else { *x };
        kept.iter_mut().chain(&mut after).for_each(relu);
    }
    let judged = judge(&kept, &after, quantiser.levels(), quantiser.rectifies());
    let (clipped, used) = quantiser.reach(&values, &value.shape);
    let here = |point: &ValueId| *point == quantiser.value || quantiser.after.contains(point);
    let module = found.points.iter().find(|(_, point)| here(point));
    record::Quantiser {
        value: printable(net.name(quantiser.value)),
        module: module.map(|(id, _)| model.module(*id).name.clone()),
        levels: quantiser.levels() as u64,
        error: judged.error,
        ratio: judged.ratio,
        clipped,
        used,
        verdict: verdict(judged.passes()),
    }
}

/// Relative L2 distance; NaN if a value is NaN.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    spec::relative_l2(&a.to_f64(), &b.to_f64())
}

fn cosine(a: &Tensor, b: &Tensor) -> f64 {
    let dot = |x: &Tensor, y: &Tensor| x.iter().zip(y.iter()).map(|(x, y)| x * y).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The index of the largest value of each row.
fn largest(logits: &Tensor) -> Vec<Option<usize>> {
    let classes = logits.shape.last().copied().unwrap_or(1).max(1);
    let values = logits.to_f64();
    let row = |row: &[f64]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
    values.chunks(classes).map(row).collect()
}
