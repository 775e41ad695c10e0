//! Holds a candidate against a reference, layer by layer.
//!
//! Two passes, each with all engines side by side (`lockstep`). In the *free* pass every network
//! runs through: a layer's error is what it inherited and what it added. In the *forced* pass every
//! layer is fed the same input, taken from the reference (or from a dump, which cannot be fed): the
//! error is what the layer itself introduces. `measure` is the rule for "equal", `judge` turns
//! errors into verdicts, `readings` finds out what a dump's arrays show, `explain` looks for the
//! mistake behind a divergence.

mod allowed;
mod explain;
pub mod judge;
pub mod lockstep;
pub mod measure;
pub mod readings;
mod winograd;

use std::collections::BTreeMap;

use anyhow::Result;
use reports::record::{ErrorKind, Errors, Heatmap};
use spec::{Engine, Flow, Kind, Model, ModuleId, Precision, Selection, Tensor};

use crate::dump::chain::{Cause, Reading};
use crate::dump::{Dump, Fate, Offered};
use crate::faults::AFTER_RELU;
use allowed::Granted;
use lockstep::Runner;
use measure::{Budget, Carried, Distance};

pub use explain::{Explanation, explain, matter};
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
    /// The module where this one was compared, because its array shows that one.
    pub shown_at: Option<ModuleId>,
    /// Both budget ratios, of the relative L2 and of the largest error, introduced and inherited.
    pub ratios: [Option<[f64; 2]>; 2],
    /// A remark for the reader.
    pub note: Option<String>,
}

/// What both passes have measured.
pub struct Measurements {
    /// One entry for each module, in order.
    pub layers: Vec<Measured>,
    /// What was found at each array of the dump that is the candidate.
    pub fates: BTreeMap<usize, Fate>,
    /// The same for the dump that is the reference.
    pub reference_fates: BTreeMap<usize, Fate>,
    /// What the arrays of dumps show instead of the modules that they are named after.
    pub readings: BTreeMap<ModuleId, Reading>,
    /// Where the first divergent layer, or else the worst one, is wrong.
    pub heatmap: Option<Heatmap>,
}

impl Measurements {
    fn new(model: &Model) -> Self {
        Measurements {
            layers: vec![Measured::default(); model.modules().len()],
            fates: BTreeMap::new(),
            reference_fates: BTreeMap::new(),
            readings: BTreeMap::new(),
            heatmap: None,
        }
    }
}

impl Comparison {
    /// Runs both passes. `progress` is told after every module.
    pub fn measure(&mut self, progress: &dyn Fn()) -> Result<Measurements> {
        let mut found = Measurements::new(&self.model);
        self.read_dumps(&mut found)?;
        let mut worst = WorstMap::default();
        self.pass(ErrorKind::Inherited, &mut found, &mut worst, progress)?;
        if !self.both_recorded() {
            // The map of what a layer introduces tells more than that of what it inherited.
            worst = WorstMap::default();
            self.pass(ErrorKind::Introduced, &mut found, &mut worst, progress)?;
        }
        found.heatmap = worst.map;
        Ok(found)
    }

    /// Finds out what the arrays of dumps show, and files them under it.
    fn read_dumps(&mut self, found: &mut Measurements) -> Result<()> {
        let (model, input, truth) = (&self.model, &self.input, self.truth.as_mut());
        let recorded = match &mut self.candidate {
            Side::Dump(dump) => Some(dump),
            Side::Engine { .. } => None,
        };
        for dump in recorded.into_iter().chain(self.reference.as_mut()) {
            let readings = readings::detect(truth, model, dump, input)?;
            dump.show(model, &readings);
            for (id, shown_at) in readings::passed_over(model, &readings) {
                found.layers[id.0].shown_at = Some(shown_at);
            }
            for (id, reading) in readings {
                let layer = &mut found.layers[id.0];
                let note = match reading.cause {
                    Cause::InPlace if reading.module == id => AFTER_RELU.to_owned(),
                    Cause::InPlace => format!(
                        "the array holds what a later in-place operation left: {}",
                        model.module(reading.module).name
                    ),
                    Cause::Folded => format!(
                        "folded or fused: the array shows {}",
                        model.module(reading.module).name
                    ),
                };
                layer.note = Some(note);
                layer.shown_at = (reading.module != id).then_some(reading.module);
                found.readings.insert(id, reading);
            }
        }
        Ok(())
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
        found: &mut Measurements,
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
        let operands = recorded.map(Dump::operands).unwrap_or_default();
        let mut kept: BTreeMap<ModuleId, Tensor> = BTreeMap::new();
        let mut unseen = Unseen::default();
        let mut carried = Carried::default();
        let step = |id: ModuleId, mut values: Vec<Option<Tensor>>| {
            let own = values.pop().flatten();
            let Some(truth) = values.pop().flatten() else { return Flow::Continue };
            let selected = self.selection.contains(id);
            let offered = match recorded {
                Some(dump) if selected => dump.offered(id),
                Some(_) => vec![],
                None => values.pop().flatten().map(Offered::engine).into_iter().collect(),
            };
            let target = match &self.reference {
                Some(dump) => Target::recorded(dump, id),
                None => Some(Target::of(truth.clone())),
            };
            let has = recorded.map_or(!offered.is_empty(), |dump| dump.has(id));
            let shown = has && target.is_some();
            if let (false, Some(target), Some(own), true) =
                (offered.is_empty(), target, own.as_ref(), selected)
            {
                let granted = roundings[id.0].hypot(unseen.take(model, id));
                let mut budget = Budget::new(precision, granted, &truth, own);
                if !forced {
                    carried.carry(model.module(id).kind, &mut budget);
                }
                if let Some(dump) = &self.reference {
                    judge_reference(dump, id, &target.value, &budget, &mut found.reference_fates);
                }
                let mut earlier: Vec<(usize, Tensor)> = vec![];
                for offered in offered {
                    let same = earlier.iter().find(|(_, value)| same_bits(value, &offered.value));
                    if let Some((other, _)) = same {
                        found.fates.insert(offered.array, Fate::same(id, *other));
                        continue;
                    }
                    let array = offered.array;
                    earlier.push((array, offered.value.clone()));
                    let sum = offered.sum.and_then(|(a, b)| added(kept.get(&a)?, kept.get(&b)?));
                    let target = sum.map(Target::of).as_ref().unwrap_or(&target).clone();
                    let compared = Compared::new(precision, &target, offered);
                    let errors = budget.errors(&compared.distance);
                    worst.offer(&model.module(id).name, kind, &errors, &compared);
                    let layer = &mut found.layers[id.0];
                    if kind == ErrorKind::Introduced {
                        layer.budget = Some(budget);
                    }
                    layer.keep(kind, errors);
                    layer.ratios[usize::from(!forced)] = Some(budget.ratios(&compared.distance));
                    if recorded.is_some() {
                        let within = measure::within(&errors);
                        found.fates.entry(array).or_insert(Fate::compared(id)).judge(within);
                    }
                }
            } else if forced {
                unseen.add(model, id, roundings[id.0]);
            } else if let (Some(dump), Some(own), true) = (&self.reference, own.as_ref(), selected)
            {
                // Where the candidate shows nothing, the reference's array is held against the truth.
                let budget = Budget::new(precision, roundings[id.0], &truth, own);
                judge_reference(dump, id, &truth, &budget, &mut found.reference_fates);
            }
            progress();
            if operands.contains(&id) {
                let fed = driver.filter(|_| forced && shown).and_then(|dump| dump.get(id));
                kept.insert(id, fed.unwrap_or_else(|| truth.clone()));
            }
            match (id == last, forced) {
                (true, _) => Flow::Stop,
                (_, false) => Flow::Continue,
                // What is not shown is judged as part of the next module that is: its errors, and
                // what that module makes of them, are then in the yardstick's, too.
                (_, true) if !shown => Flow::Continue,
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
    next: Granted,
    /// By the module that they are part of: a convolution that another one follows, which reads
    /// something else, as the temporal convolution of a CTL.
    parent: Vec<(ModuleId, Granted)>,
}

impl Unseen {
    fn add(&mut self, model: &Model, id: ModuleId, roundings: Granted) {
        let follows = model.modules().get(id.0 + 1).map(|next| next.kind);
        if model.module(id).kind == Kind::Conv && follows == Some(Kind::Conv) {
            self.parent.push((id, roundings));
        } else {
            self.next = self.next.hypot(roundings);
        }
    }

    fn take(&mut self, model: &Model, id: ModuleId) -> Granted {
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

/// What a candidate's value is compared with.
#[derive(Clone)]
struct Target {
    value: Tensor,
    /// Whether a ReLU was applied, as in a dump whose hooks kept references.
    after_relu: bool,
}

impl Target {
    fn of(value: Tensor) -> Self {
        Target { value, after_relu: false }
    }

    /// The reference's array of a module.
    fn recorded(dump: &Dump, id: ModuleId) -> Option<Self> {
        let first = dump.offered(id).into_iter().next()?;
        let value = match first.sum {
            Some(_) => crate::faults::relu(first.value),
            None => first.value,
        };
        Some(Target { value, after_relu: first.after_relu })
    }
}

/// Judges the arrays that a dump, which is the reference, has of a module: against its first one
/// where that is what the candidate is compared with, else against the truth.
fn judge_reference(
    dump: &Dump,
    id: ModuleId,
    against: &Tensor,
    budget: &Budget,
    fates: &mut BTreeMap<usize, Fate>,
) {
    let mut earlier: Vec<(usize, Tensor)> = vec![];
    for Offered { array, value, after_relu, sum } in dump.offered(id) {
        if let Some((other, _)) = earlier.iter().find(|(_, seen)| same_bits(seen, &value)) {
            fates.insert(array, Fate::same(id, *other));
            continue;
        }
        let rectified = after_relu || sum.is_some();
        let of = |tensor: &Tensor| match rectified {
            true => crate::faults::relu(tensor.clone()),
            false => tensor.clone(),
        };
        let distance = measure::distance(&of(against), &of(&value), budget.precision);
        let mut fate = Fate::compared(id);
        fate.judge(measure::within(&budget.errors(&distance)));
        fates.insert(array, fate);
        earlier.push((array, value));
    }
}

/// The sum of two tensors of one shape.
fn added(a: &Tensor, b: &Tensor) -> Option<Tensor> {
    let sum = a.iter().zip(b.iter()).map(|(x, y)| x + y).collect();
    (a.shape == b.shape).then(|| Tensor::f64(a.shape.clone(), sum))
}

/// Whether two arrays hold the same numbers, bit for bit once widened.
fn same_bits(a: &Tensor, b: &Tensor) -> bool {
    a.shape == b.shape && a.iter().zip(b.iter()).all(|(x, y)| x.to_bits() == y.to_bits())
}

/// A candidate's value beside its target.
struct Compared {
    distance: Distance,
    target: Tensor,
    candidate: Tensor,
}

impl Compared {
    fn new(precision: Precision, target: &Target, offered: Offered) -> Self {
        // Where one side was recorded after its ReLU, the other is compared as it is after it.
        let relu = |value: Tensor, already: bool, other: bool| match (already, other) {
            (false, true) => crate::faults::relu(value),
            _ => value,
        };
        let candidate = relu(offered.value, offered.after_relu, target.after_relu);
        let target = relu(target.value.clone(), target.after_relu, offered.after_relu);
        let distance = measure::distance(&target, &candidate, precision);
        Compared { distance, target, candidate }
    }
}

impl Measured {
    /// Keeps the worse of the errors of several arrays of one module.
    fn keep(&mut self, kind: ErrorKind, errors: Errors) {
        let slot = match kind {
            ErrorKind::Introduced => &mut self.introduced,
            ErrorKind::Inherited => &mut self.inherited,
        };
        let worse =
            |old: &Errors| errors.nan > 0 || errors.ratio.is_nan() || errors.ratio > old.ratio;
        if slot.as_ref().is_none_or(worse) {
            *slot = Some(errors);
        }
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
