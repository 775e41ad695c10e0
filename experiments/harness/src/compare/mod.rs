//! Holds a candidate against a reference, layer by layer.
//!
//! Two passes, each with all engines side by side (`lockstep`). In the *free* pass every network
//! runs through: a layer's error is what it inherited and what it added. In the *forced* pass every
//! layer is fed the same input, taken from the reference (or from a dump, which cannot be fed): the
//! error is what the layer itself introduces. `measure` is the rule for "equal", `judge` turns
//! errors into verdicts, `explain` looks for the mistake behind a divergence.

mod explain;
pub mod judge;
pub mod lockstep;
pub mod measure;

use anyhow::Result;
use reports::record::{ErrorKind, Errors, Heatmap};
use spec::{Engine, Flow, Kind, Model, ModuleId, Precision, Selection, Tensor};

use crate::dump::Dump;
use crate::faults::AFTER_RELU;
use lockstep::Runner;
use measure::{Budget, Distance};

pub use explain::explain;
pub use judge::judge;

/// One side of a comparison.
pub enum Side {
    /// An engine that is run.
    Engine {
        /// The engine.
        engine: Box<dyn Engine>,
        /// Its clip [N, 3, T, H, W].
        input: Tensor,
    },
    /// Activations that were recorded elsewhere.
    Dump(Dump),
}

/// Everything that is compared with everything else.
pub struct Comparison {
    /// The description that both sides share.
    pub model: Model,
    /// What is judged.
    pub candidate: Side,
    /// A dump to judge by; None where the truth itself is the reference.
    pub reference: Option<Dump>,
    /// The network in float64.
    pub truth: Box<dyn Engine>,
    /// The reference implementation in the candidate's precision: its error is the yardstick.
    pub yardstick: Box<dyn Engine>,
    /// The clip for truth and yardstick.
    pub input: Tensor,
    /// The candidate's precision.
    pub precision: Precision,
    /// The layers that are compared.
    pub selection: Selection,
}

/// What was measured at one layer.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// Fed the reference's input.
    pub introduced: Option<Errors>,
    /// The network running through.
    pub inherited: Option<Errors>,
    /// The budget of the forced pass, for trying explanations.
    pub budget: Option<Budget>,
    /// A remark for the reader.
    pub note: Option<String>,
}

/// What both passes have measured.
pub struct Measurements {
    /// One entry for each module, in order.
    pub layers: Vec<Measured>,
    /// Where the first divergent layer, or else the worst one, is wrong.
    pub heatmap: Option<Heatmap>,
}

impl Comparison {
    /// Runs both passes. `progress` is told after every module.
    pub fn measure(&mut self, progress: &dyn Fn()) -> Result<Measurements> {
        let mut layers = vec![Measured::default(); self.model.modules().len()];
        let mut worst = WorstMap::default();
        self.pass(ErrorKind::Inherited, &mut layers, &mut worst, progress)?;
        if !self.both_recorded() {
            // The map of what a layer introduces tells more than that of what it inherited.
            worst = WorstMap::default();
            self.pass(ErrorKind::Introduced, &mut layers, &mut worst, progress)?;
        }
        Ok(Measurements { layers, heatmap: worst.map })
    }

    /// How often `progress` will be told.
    pub fn steps(&self) -> u64 {
        let end = self.selection.last().map_or(0, |last| last.0 + 1);
        let forced = if self.both_recorded() { 0 } else { end };
        (self.selection.len() + forced) as u64
    }

    fn both_recorded(&self) -> bool {
        matches!(self.candidate, Side::Dump(_)) && self.reference.is_some()
    }

    fn pass(
        &mut self,
        kind: ErrorKind,
        layers: &mut [Measured],
        worst: &mut WorstMap,
        progress: &dyn Fn(),
    ) -> Result<()> {
        let Some(last) = self.selection.last() else { return Ok(()) };
        let forced = kind == ErrorKind::Introduced;
        let wanted =
            if forced { Selection::all(self.model.modules()) } else { self.selection.clone() };
        let (mut runners, recorded) = match &mut self.candidate {
            Side::Engine { engine, input } => {
                (vec![Runner { engine: engine.as_mut(), input }], None)
            }
            Side::Dump(dump) => (vec![], Some(&*dump)),
        };
        // Truth and yardstick come last: the candidate may be missing.
        runners.push(Runner { engine: self.truth.as_mut(), input: &self.input });
        runners.push(Runner { engine: self.yardstick.as_mut(), input: &self.input });
        let (model, precision) = (&self.model, self.precision);
        let roundings = measure::roundings(model, precision, forced);
        let driver = recorded.or(self.reference.as_ref());
        let mut unseen = Unseen::default();
        let step = |id: ModuleId, mut values: Vec<Option<Tensor>>| {
            let own = values.pop().flatten();
            let Some(truth) = values.pop().flatten() else { return Flow::Continue };
            let candidate = match recorded {
                Some(dump) => dump.get(id),
                None => values.pop().flatten(),
            };
            let target = match &self.reference {
                Some(dump) => dump.get(id),
                None => Some(truth.clone()),
            };
            if let (Some(candidate), Some(target), Some(own)) = (candidate, target, own)
                && self.selection.contains(id)
            {
                let granted = roundings[id.0].hypot(unseen.take(model, id));
                let budget = budget(precision, granted, &truth, &own);
                let from_dump = recorded.is_some() || self.reference.is_some();
                let compared = Compared::new(model, id, precision, target, candidate, from_dump);
                let layer = &mut layers[id.0];
                let errors = budget.errors(&compared.distance);
                worst.offer(&model.module(id).name, kind, &errors, &compared);
                layer.note = compared.note;
                match kind {
                    ErrorKind::Introduced => {
                        layer.introduced = Some(errors);
                        layer.budget = Some(budget);
                    }
                    ErrorKind::Inherited => layer.inherited = Some(errors),
                }
            } else if forced {
                unseen.add(model, id, roundings[id.0]);
            }
            progress();
            match (id == last, forced) {
                (true, _) => Flow::Stop,
                (_, false) => Flow::Continue,
                (_, true) => {
                    let value = driver.and_then(|dump| dump.get(id)).unwrap_or(truth);
                    Flow::Replace(precision.round(value))
                }
            }
        };
        Ok(lockstep::run(runners, &wanted, step)?)
    }
}

/// Sums of modules that a dump lacks or an engine has fused: their error shows where they are read.
#[derive(Default)]
struct Unseen {
    /// By the next module.
    next: f64,
    /// By the module that they are part of: a convolution that another one follows, which reads
    /// something else, as the temporal convolution of a CTL.
    parent: Vec<(ModuleId, f64)>,
}

impl Unseen {
    fn add(&mut self, model: &Model, id: ModuleId, roundings: f64) {
        let follows = model.modules().get(id.0 + 1).map(|next| next.kind);
        if model.module(id).kind == Kind::Conv && follows == Some(Kind::Conv) {
            self.parent.push((id, roundings));
        } else {
            self.next = self.next.hypot(roundings);
        }
    }

    fn take(&mut self, model: &Model, id: ModuleId) -> f64 {
        let parent = format!("{}.", model.module(id).name);
        let mut granted = std::mem::take(&mut self.next);
        self.parent.retain(|(child, roundings)| {
            let read = model.module(*child).name.starts_with(&parent);
            if read {
                granted = granted.hypot(*roundings);
            }
            !read
        });
        granted
    }
}

/// The budget of a layer, from the yardstick's own error there.
fn budget(precision: Precision, roundings: f64, truth: &Tensor, own: &Tensor) -> Budget {
    // A float64 candidate is held against a float64 truth, whose own error cannot be seen; rounding
    // errors scale with eps, so the float32 yardstick tells how large it is.
    let scale = match precision {
        Precision::F64 => Precision::F64.epsilon() / Precision::F32.epsilon(),
        _ => 1.0,
    };
    Budget {
        yardstick: measure::distance(truth, own, precision),
        scale,
        roundings,
        epsilon: precision.epsilon(),
    }
}

/// A candidate's value beside its target.
struct Compared {
    distance: Distance,
    target: Tensor,
    candidate: Tensor,
    note: Option<String>,
}

impl Compared {
    fn new(
        model: &Model,
        id: ModuleId,
        precision: Precision,
        target: Tensor,
        candidate: Tensor,
        from_dump: bool,
    ) -> Self {
        let distance = measure::distance(&target, &candidate, precision);
        // A hook on a BN reads the value after the ReLU where that runs in place. The network is
        // right then, only the recording is late: compare it with what it is.
        if from_dump && model.module(id).kind == Kind::BatchNorm && distance.rel_l2 > 1e-3 {
            let late = crate::faults::relu(target.clone());
            let again = measure::distance(&late, &candidate, precision);
            if again.rel_l2 < distance.rel_l2 * 1e-2 {
                let note = Some(AFTER_RELU.to_owned());
                return Compared { distance: again, target: late, candidate, note };
            }
        }
        Compared { distance, target, candidate, note: None }
    }
}

/// Keeps the error map of the first layer that fails, or else of the worst.
#[derive(Default)]
struct WorstMap {
    ratio: f64,
    failed: bool,
    map: Option<Heatmap>,
}

impl WorstMap {
    fn offer(&mut self, name: &str, what: ErrorKind, errors: &Errors, compared: &Compared) {
        let fails = !measure::passes(errors.ratio);
        if self.failed || !(fails || errors.ratio > self.ratio) {
            return;
        }
        if let Some((height, width, values)) =
            measure::heatmap(&compared.target, &compared.candidate)
        {
            self.map = Some(Heatmap { layer: name.to_owned(), what, height, width, values });
            (self.ratio, self.failed) = (errors.ratio, fails);
        }
    }
}
