//! How a mistake is made.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use spec::weights::Weights;
use spec::{Data, Engine, EngineError, Flow, Model, ModuleId, Precision, Semantics, Tap, Tensor};

use super::expr::{Expr, Gap, Scope};
use super::map::Map;

/// Rewrites the values of a tensor of weights of this shape.
pub type Rewrite = fn(&[usize], &mut [f64]);

/// One edit that turns a healthy network into one with a mistake.
#[derive(Debug, Clone)]
pub enum Edit {
    /// Changes the semantics of CTL number N.
    Semantics(usize, Semantics),
    /// Another eps in one batch normalisation.
    Eps(ModuleId, f64),
    /// Rewrites one tensor of the weights.
    Weight(String, Rewrite),
    /// Exchanges two tensors of equal shape.
    Swap(String, String),
    /// Rewrites the clip before the network sees it.
    Clip(Expr),
    /// Computes one module again, of its own output or of what other modules gave before it.
    Compute(ModuleId, Expr),
}

/// A mistake at a place.
#[derive(Debug, Clone)]
pub struct Change {
    /// The word of its kind in the catalogue.
    pub word: &'static str,
    /// The mistake wherever it is made: `a ReLU is missing`. With the word it tells what belongs
    /// together where a whole program makes the mistake.
    pub variant: &'static str,
    /// The mistake in words at this place: `the ReLU after bn1 is missing`.
    pub what: String,
    /// The module that it is a mistake of: the first that it changes.
    pub site: ModuleId,
    /// How it is made.
    pub edits: Vec<Edit>,
}

impl Change {
    /// Applies the edits that are made before an engine is loaded.
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

    /// The modules whose own output it changes, in order of execution.
    pub fn touches(&self, model: &Model) -> BTreeSet<ModuleId> {
        self.edits.iter().flat_map(|edit| touched(edit, model)).collect()
    }

    /// What a module computes instead, where that is not an edit of description or weights.
    pub fn computes(&self, model: &Model, id: ModuleId) -> Option<&Expr> {
        self.edits.iter().find_map(|edit| match edit {
            Edit::Compute(at, expr) if *at == id => Some(expr),
            Edit::Clip(expr) if id == model.input => Some(expr),
            _ => None,
        })
    }

    /// The format that it rounds outputs to: a value half-way between two numbers may then come out
    /// as either.
    pub fn rounds(&self) -> Option<Precision> {
        self.edits.iter().find_map(|edit| match edit {
            Edit::Compute(_, Expr::Rounded(of, precision)) if **of == Expr::Own => Some(*precision),
            _ => None,
        })
    }

    /// The same mistake at all of these places at once.
    pub fn throughout(places: &[Change]) -> Option<Change> {
        let first = places.first()?;
        Some(Change {
            what: everywhere(first.variant, places.len()),
            edits: places.iter().flat_map(|place| place.edits.clone()).collect(),
            ..first.clone()
        })
    }
}

/// A mistake of a program, in words.
pub fn everywhere(variant: &str, places: usize) -> String {
    format!("{variant}, in all {places} places")
}

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

/// The module that a tensor of the weights belongs to; an embedding has the name of its module.
fn owner(model: &Model, name: &str) -> Option<ModuleId> {
    let module = name.rsplit_once('.').map_or(name, |(module, _)| module);
    model.find(name).or_else(|| model.find(module)).map(|module| module.id)
}

/// An engine whose input and outputs are rewritten by a [`Change`].
pub struct Edited {
    /// The engine, loaded with the changed description and weights.
    pub engine: Box<dyn Engine>,
    /// The change.
    pub change: Change,
    /// The changed weights.
    pub weights: Weights,
}

impl Engine for Edited {
    fn describe(&self) -> String {
        format!("{} with {}", self.engine.describe(), self.change.what)
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
                    let value = expr.evaluate(&scope).map_err(|_| not_shown())?;
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
            true => Err(not_shown()),
            false => output,
        }
    }
}

/// An engine that fuses layers cannot be given a mistake between them.
fn not_shown() -> EngineError {
    EngineError::Backend {
        engine: "--inject",
        message: "this engine fuses a layer that this mistake is computed from; make it in an \
                  engine that shows every layer, with --candidate scalar"
            .to_owned(),
    }
}

/// Stands between an engine and an observer and computes modules again.
struct Rewriting<'a> {
    tap: &'a mut dyn Tap,
    weights: &'a Weights,
    precision: Precision,
    outputs: HashMap<ModuleId, &'a Expr>,
    /// What the expressions read.
    kept: BTreeSet<ModuleId>,
    values: HashMap<ModuleId, Arc<Map>>,
    /// What has not been computed again yet.
    left: BTreeSet<ModuleId>,
    /// The module that was shown last: an observer may stop the engine there.
    reached: Option<ModuleId>,
    failed: bool,
}

impl Rewriting<'_> {
    /// The value with the mistake, None where this module is right.
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
            Ok(_) | Err(Gap::Module(_) | Gap::Tensor(_)) => {
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
            // What the network goes on with, not what it had computed.
            let next = if let Flow::Replace(other) = &flow { other } else { &value };
            self.values.insert(id, Arc::new(Map::of(next)));
        }
        match flow {
            Flow::Continue if changed => Flow::Replace(value),
            flow => flow,
        }
    }
}

/// max(x, 0), with NaN left as it is.
pub fn relu(mut tensor: Tensor) -> Tensor {
    match &mut tensor.data {
        Data::F32(values) => values.iter_mut().filter(|x| **x < 0.0).for_each(|x| *x = 0.0),
        Data::F64(values) => values.iter_mut().filter(|x| **x < 0.0).for_each(|x| *x = 0.0),
    }
    tensor
}
