//! How a mistake is made in an engine: a [`Change`] is a list of [`Edit`]s, and [`Edited`] is an engine
//! that makes them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use checkpoint::Weights;
use spec::{Data, Engine, EngineError, Flow, Model, ModuleId, Precision, Semantics, Tap, Tensor};

use super::expr::{Expr, Missing, Scope, Statistics};
use super::graph::ModelGraph;
use super::map::Map;

/// A function that rewrites the values of a weight tensor in place, given its shape.
pub type Rewrite = fn(&[usize], &mut [f64]);

/// One edit of a correct network.
#[derive(Debug, Clone)]
pub enum Edit {
    /// Changes the semantics of the CTL with this number.
    Semantics(usize, Semantics),
    /// Changes eps in one batch normalisation.
    Eps(ModuleId, f64),
    /// Rewrites the weight tensor of this name.
    Weight(String, Rewrite),
    /// Swaps two weight tensors of the same shape.
    Swap(String, String),
    /// Replaces the clip by the value of an expression, in which `Own` is the right clip.
    Clip(Expr),
    /// Replaces the output of one module by the value of an expression, in which `Own` is the right
    /// output.
    Compute(ModuleId, Expr),
}

/// A mistake at a place.
#[derive(Debug, Clone)]
pub struct Change {
    /// The name of the mistake in the catalogue.
    pub word: &'static str,
    /// The mistake in words that hold at any place: `a ReLU is missing`. Places with the same `word`
    /// and `variant` belong together if a program makes the mistake throughout.
    pub variant: &'static str,
    /// The mistake in words at this place: `the ReLU after bn1 is missing`.
    pub what: String,
    /// The module at which the mistake is made: the first one whose output it changes.
    pub site: ModuleId,
    /// The edits that make the mistake.
    pub edits: Vec<Edit>,
}

impl Change {
    /// Applies the edits of the description and the weights, which are made before an engine is loaded.
    pub fn apply(&self, model: &mut Model, weights: &mut Weights) {
        for edit in &self.edits {
            match edit {
                Edit::Semantics(number, semantics) => {
                    if let Some(ctl) = model.ctl_mut(*number) {
                        ctl.semantics = *semantics;
                    }
                }
                Edit::Eps(id, eps) => {
                    if let Some(bn) = model.batch_norm_mut(*id) {
                        bn.eps = *eps;
                    }
                }
                Edit::Weight(name, rewrite) => {
                    if let Some(param) = weights.get_mut(name) {
                        param.edit(rewrite);
                    }
                }
                Edit::Swap(a, b) => {
                    let (pa, pb) = (weights.get(a).cloned(), weights.get(b).cloned());
                    if let (Some(pa), Some(pb)) = (pa, pb) {
                        weights.get_mut(a).into_iter().for_each(|slot| *slot = pb.clone());
                        weights.get_mut(b).into_iter().for_each(|slot| *slot = pa.clone());
                    }
                }
                Edit::Clip(_) | Edit::Compute(..) => {}
            }
        }
    }

    /// Whether the mistake only rewrites weights, and leaves these as they are.
    pub fn keeps(&self, weights: &Weights) -> bool {
        let keeps = |edit: &Edit| match edit {
            Edit::Weight(name, rewrite) => weights.get(name).is_some_and(|param| {
                let mut edited = param.clone();
                edited.edit(rewrite);
                edited.data == param.data
            }),
            Edit::Swap(a, b) => match (weights.get(a), weights.get(b)) {
                (Some(a), Some(b)) => a.data == b.data,
                _ => false,
            },
            Edit::Semantics(..) | Edit::Eps(..) | Edit::Clip(_) | Edit::Compute(..) => false,
        };
        self.edits.iter().all(keeps)
    }

    /// For another eps of a normalisation, by how much it changes the normalised values: the root mean square
    /// over the channels, relative to them. None for other mistakes.
    pub(super) fn effect_of_eps(&self, graph: &ModelGraph, weights: &Weights) -> Option<f64> {
        let [Edit::Eps(id, other)] = self.edits[..] else { return None };
        let Expr::Norm(_, name, Statistics::Running(eps)) = graph.network.expr(id) else {
            return None;
        };
        let variances = &weights.get(&format!("{name}.running_var"))?.data;
        let change = |v: &f32| {
            let v = f64::from(*v);
            ((v + eps) / (v + other)).sqrt() - 1.0
        };
        let sum: f64 = variances.iter().map(|v| change(v).powi(2)).sum();
        Some((sum / variances.len().max(1) as f64).sqrt())
    }

    /// The modules that the edits change directly, in order of execution.
    pub fn touches(&self, model: &Model) -> BTreeSet<ModuleId> {
        self.edits.iter().flat_map(|edit| touched(edit, model)).collect()
    }

    /// The expression that replaces the output of a module; None if no edit replaces it.
    pub fn computes(&self, model: &Model, id: ModuleId) -> Option<&Expr> {
        self.edits.iter().find_map(|edit| match edit {
            Edit::Compute(at, expr) if *at == id => Some(expr),
            Edit::Clip(expr) if id == model.input => Some(expr),
            _ => None,
        })
    }

    /// The number format that the change rounds an output to, if it does. Values half-way between two
    /// numbers may then be rounded either way.
    pub fn rounds(&self) -> Option<Precision> {
        self.edits.iter().find_map(|edit| match edit {
            Edit::Compute(_, Expr::Rounded(of, precision)) if **of == Expr::Own => Some(*precision),
            _ => None,
        })
    }

    /// One change that makes the mistake at all of these places; None if there are none.
    pub fn throughout(places: &[Change]) -> Option<Change> {
        let first = places.first()?;
        Some(Change {
            what: everywhere(first.variant, places.len()),
            edits: places.iter().flat_map(|place| place.edits.clone()).collect(),
            ..first.clone()
        })
    }
}

/// A mistake that a program makes at all places, in words.
pub fn everywhere(variant: &str, places: usize) -> String {
    format!("{variant}, in all {places} places")
}

/// The modules that an edit changes directly.
fn touched(edit: &Edit, model: &Model) -> Vec<ModuleId> {
    match edit {
        Edit::Semantics(number, semantics) => {
            let Some(ctl) = model.ctls().find(|ctl| ctl.number == *number) else { return vec![] };
            let (old, ioi) = (ctl.semantics, &ctl.spatial_conv);
            let parts = [
                (old.tfc != semantics.tfc, ctl.gate.sigmoid),
                (old.pos_embed != semantics.pos_embed, ioi.pos_embed.id),
                (old.ioi != semantics.ioi, ioi.id),
            ];
            parts.into_iter().filter(|(differs, _)| *differs).map(|(_, id)| id).collect()
        }
        Edit::Eps(id, _) | Edit::Compute(id, _) => vec![*id],
        Edit::Weight(name, _) => owner(model, name).into_iter().collect(),
        Edit::Swap(a, b) => [a, b].into_iter().filter_map(|name| owner(model, name)).collect(),
        Edit::Clip(_) => vec![model.input],
    }
}

/// The module that a weight tensor belongs to. The tensor of an embedding has the name of its module.
fn owner(model: &Model, name: &str) -> Option<ModuleId> {
    let module = name.rsplit_once('.').map_or(name, |(module, _)| module);
    model.find(name).or_else(|| model.find(module)).map(|module| module.id)
}

/// An engine with a mistake.
pub struct Edited {
    /// The engine, loaded after [`Change::apply`].
    pub engine: Box<dyn Engine>,
    /// The mistake.
    pub change: Change,
    /// The weights after [`Change::apply`], which expressions read.
    pub weights: Weights,
}

impl Engine for Edited {
    fn describe(&self) -> String {
        format!("{}, with a mistake: {}", self.engine.describe(), self.change.what)
    }

    fn precision(&self) -> Precision {
        self.engine.precision()
    }

    fn forward(&mut self, input: &Tensor, tap: &mut dyn Tap) -> Result<Tensor, EngineError> {
        let (precision, weights) = (self.engine.precision(), &self.weights);
        let mut input = input.clone();
        let mut outputs = HashMap::new();
        for edit in &self.change.edits {
            match edit {
                Edit::Clip(expr) => {
                    let clip = Arc::new(Map::of(&input));
                    let own = || Ok(clip.clone());
                    let scope = Scope { weights, values: &|_| None, own: &own };
                    let value = expr.evaluate(&scope).map_err(|_| fused_away())?;
                    input = value.tensor(input.shape, precision);
                }
                Edit::Compute(id, expr) => {
                    outputs.insert(*id, expr);
                }
                _ => {}
            }
        }
        let kept = outputs.values().flat_map(|expr| expr.reads()).collect();
        let mut rewriting = Rewriting {
            tap,
            weights,
            precision,
            kept,
            values: HashMap::new(),
            left: outputs.keys().copied().collect(),
            outputs,
            reached: None,
            failed: false,
        };
        let output = self.engine.forward(&input, &mut rewriting);
        let passed_by = |id: &ModuleId| output.is_ok() || Some(*id) < rewriting.reached;
        match rewriting.failed || rewriting.left.iter().any(passed_by) {
            true => Err(fused_away()),
            false => output,
        }
    }
}

/// The error if a mistake needs the value of a module that the engine has fused away.
fn fused_away() -> EngineError {
    EngineError::Backend {
        engine: "--inject",
        message:
            "this engine fuses a layer whose output the fault needs; inject the fault into an \
                  engine that shows every layer, with --candidate scalar"
                .to_owned(),
    }
}

/// The tap that makes the mistake: it sits between the engine and the observer's tap.
struct Rewriting<'a> {
    tap: &'a mut dyn Tap,
    weights: &'a Weights,
    precision: Precision,
    /// The expressions that replace outputs.
    outputs: HashMap<ModuleId, &'a Expr>,
    /// The modules that the expressions read.
    kept: BTreeSet<ModuleId>,
    /// The values of these modules.
    values: HashMap<ModuleId, Arc<Map>>,
    /// The modules whose output has not been replaced yet.
    left: BTreeSet<ModuleId>,
    /// The last module that the engine showed; the observer may have stopped the engine there.
    reached: Option<ModuleId>,
    /// Whether an expression could not be evaluated.
    failed: bool,
}

impl Rewriting<'_> {
    /// The value with the mistake; None if the output of this module is not replaced.
    fn rewritten(&mut self, id: ModuleId, value: &Tensor) -> Option<Tensor> {
        let expr = self.outputs.get(&id)?;
        let own = || Ok(Arc::new(Map::of(value)));
        let values = |id| self.values.get(&id).cloned();
        let scope = Scope { weights: self.weights, values: &values, own: &own };
        match expr.evaluate(&scope) {
            Ok(wrong) if wrong.data.len() == value.len() => {
                self.left.remove(&id);
                Some(wrong.tensor(value.shape.clone(), self.precision))
            }
            Ok(_) | Err(Missing::Module(_) | Missing::Tensor(_)) => {
                self.failed = true;
                None
            }
        }
    }
}

impl Tap for Rewriting<'_> {
    fn wants(&self, id: ModuleId) -> bool {
        self.outputs.contains_key(&id) || self.kept.contains(&id) || self.tap.wants(id)
    }

    fn observe(&mut self, id: ModuleId, value: Tensor) -> Flow {
        self.reached = Some(id);
        let wrong = self.rewritten(id, &value);
        let changed = wrong.is_some();
        let value = wrong.unwrap_or(value);
        let flow = match self.tap.wants(id) {
            true => self.tap.observe(id, value.clone()),
            false => Flow::Continue,
        };
        if self.kept.contains(&id) {
            // Keep the value that the network continues with, which the observer may have replaced.
            let next = if let Flow::Replace(other) = &flow { other } else { &value };
            self.values.insert(id, Arc::new(Map::of(next)));
        }
        match flow {
            Flow::Continue if changed => Flow::Replace(value),
            flow => flow,
        }
    }
}

/// max(x, 0) for each value; NaN stays NaN.
pub fn relu(mut tensor: Tensor) -> Tensor {
    match &mut tensor.data {
        Data::F32(values) => values.iter_mut().filter(|x| **x < 0.0).for_each(|x| *x = 0.0),
        Data::F64(values) => values.iter_mut().filter(|x| **x < 0.0).for_each(|x| *x = 0.0),
    }
    tensor
}
