//! One pass over the network: what is compared at each module, and what the engines are fed after it.

use std::collections::{BTreeMap, BTreeSet};

use record::{ErrorKind, Errors, Heatmap};
use spec::{Flow, Kind, Model, ModuleId, Precision, Selection, Tensor};

use crate::allowed::Allowance;
use crate::dump::{Dump, Fate, Offered};
use crate::faults::Map;
use crate::measure::{self, Budget, CarriedError, Distance};
use crate::winograd::Tiles;
use crate::{Alike, Measured, Measurements};

/// What a pass compares with what.
#[derive(Clone, Copy)]
pub(crate) struct Setting<'a> {
    pub(crate) model: &'a Model,
    pub(crate) precision: Precision,
    pub(crate) selection: &'a Selection,
    /// The candidate, if it is a dump.
    pub(crate) recorded: Option<&'a Dump>,
    /// The dump that the candidate is compared with; None if that is the truth.
    pub(crate) reference: Option<&'a Dump>,
    /// The error that is measured: the engines are fed for own errors, and run through for accumulated ones.
    pub(crate) kind: ErrorKind,
    /// The algorithms of 3x3 convolutions whose errors are allowed.
    pub(crate) tiles: Tiles,
    /// The module after which the pass ends.
    pub(crate) last: ModuleId,
}

/// The state of a pass.
pub(crate) struct Pass<'a> {
    setting: Setting<'a>,
    found: &'a mut Measurements,
    worst: &'a mut WorstMap,
    roundings: Vec<Allowance>,
    /// The modules whose values are summands of an array that shows a sum.
    operands: BTreeSet<ModuleId>,
    kept: BTreeMap<ModuleId, Tensor>,
    deferred: DeferredRoundings,
    carried: CarriedError,
}

impl<'a> Pass<'a> {
    pub(crate) fn new(
        setting: Setting<'a>,
        found: &'a mut Measurements,
        worst: &'a mut WorstMap,
    ) -> Self {
        let forced = setting.kind == ErrorKind::Introduced;
        Pass {
            roundings: measure::roundings(setting.model, setting.precision, forced, setting.tiles),
            operands: setting.recorded.map(Dump::operands).unwrap_or_default(),
            kept: BTreeMap::new(),
            deferred: DeferredRoundings::default(),
            carried: CarriedError::default(),
            setting,
            found,
            worst,
        }
    }

    fn forced(&self) -> bool {
        self.setting.kind == ErrorKind::Introduced
    }

    /// The dump whose values the engines are fed; None if these are the truth's.
    fn driver(&self) -> Option<&'a Dump> {
        self.setting.recorded.or(self.setting.reference)
    }

    /// Compares what the sides show of a module. `values` holds the candidate's value, if it is an engine,
    /// the truth's and that of the comparison run.
    pub(crate) fn step(&mut self, id: ModuleId, mut values: Vec<Option<Tensor>>) -> Flow {
        let Setting { recorded, reference, .. } = self.setting;
        let yardstick = values.pop().flatten();
        let Some(truth) = values.pop().flatten() else { return Flow::Continue };
        let selected = self.setting.selection.contains(id);
        let offered = match recorded {
            Some(dump) if selected => dump.offered(id),
            Some(_) => vec![],
            None => values.pop().flatten().map(Offered::engine).into_iter().collect(),
        };
        let target = match reference {
            Some(dump) => Target::recorded(dump, id),
            None => Some(Target::of(truth.clone())),
        };
        if let (Some(target), Some(yardstick)) = (&target, &yardstick)
            && self.setting.model.fc.as_ref().is_some_and(|fc| fc.id == id)
            && selected
            && !self.forced()
        {
            self.compare_alike(target, [&truth, yardstick]);
        }
        let has = recorded.map_or(!offered.is_empty(), |dump| dump.has(id));
        let shown = has && target.is_some();
        match (target, &yardstick) {
            (Some(target), Some(yardstick)) if selected && !offered.is_empty() => {
                self.compare(id, offered, &target, [&truth, yardstick]);
            }
            // What is shown is fed, even if it is not selected, and leaves no error to the next module.
            _ if self.forced() && shown => drop(self.deferred.take(self.setting.model, id)),
            _ if self.forced() => self.deferred.add(self.setting.model, id, self.roundings[id.0]),
            (_, Some(yardstick)) if selected => self.reference_alone(id, [&truth, yardstick]),
            _ => {}
        }
        if self.operands.contains(&id) {
            let fed = self.driver().filter(|_| self.forced() && shown);
            let fed = fed.and_then(|dump| dump.get(id));
            self.kept.insert(id, fed.unwrap_or_else(|| truth.clone()));
        }
        self.next(id, truth, shown)
    }

    /// How the engines go on after a module.
    fn next(&self, id: ModuleId, truth: Tensor, shown: bool) -> Flow {
        match (id == self.setting.last, self.forced()) {
            (true, _) => Flow::Stop,
            (_, false) => Flow::Continue,
            // A module that the candidate does not show is judged as part of the next one that it shows.
            // Nothing is replaced here, so that the comparison run's error there contains this module's,
            // too.
            (_, true) if !shown => Flow::Continue,
            (_, true) => {
                let value = self.driver().and_then(|dump| dump.get(id)).unwrap_or(truth);
                Flow::Replace(self.setting.precision.round(value))
            }
        }
    }

    /// Compares every value that the candidate offers of a module.
    fn compare(
        &mut self,
        id: ModuleId,
        offered: Vec<Offered>,
        target: &Target,
        [truth, yardstick]: [&Tensor; 2],
    ) {
        let Setting { model, precision, recorded, reference, kind, .. } = self.setting;
        let granted = self.roundings[id.0].hypot(self.deferred.take(model, id));
        let mut budget = Budget::new(precision, granted, truth, yardstick);
        if !self.forced() {
            self.carried.carry(model.module(id).kind, &mut budget);
            // With one value for each clip there is nothing to differ.
            self.found.layers[id.0].silent = truth.len() > truth.shape[0] && is_constant(truth);
        }
        if let Some(dump) = reference {
            let fates = &mut self.found.reference_fates;
            judge_reference(dump, id, &target.value, &budget, fates);
        }
        let mut earlier: Vec<(usize, Tensor)> = vec![];
        for offered in offered {
            let same = earlier.iter().find(|(_, value)| same_bits(value, &offered.value));
            if let Some((other, _)) = same {
                self.found.fates.insert(offered.array, Fate::same(id, *other));
                continue;
            }
            let array = offered.array;
            earlier.push((array, offered.value.clone()));
            let sum = offered
                .sum
                .and_then(|(a, b)| added(self.kept.get(&a)?, self.kept.get(&b)?))
                .map(Target::of);
            let compared = Compared::new(precision, sum.as_ref().unwrap_or(target), offered);
            let errors = budget.errors(&compared.distance);
            let both = recorded.is_some() && reference.is_some();
            self.found.layers[id.0].constant = both
                && is_constant(&target.value)
                && is_constant(&compared.candidate)
                && !is_constant(truth);
            self.worst.offer(&model.module(id).name, kind, &errors, &compared);
            self.found.layers[id.0].add(kind, budget, errors, &compared.distance);
            if recorded.is_some() {
                let within = measure::within(&errors);
                self.found.fates.entry(array).or_insert(Fate::compared(id)).judge(within);
            }
        }
    }

    /// Compares the candidate's arrays of unknown names that have the shape of the output with it, and with its softmax.
    fn compare_alike(&mut self, target: &Target, [truth, yardstick]: [&Tensor; 2]) {
        let Setting { model, precision, recorded, .. } = self.setting;
        let Some(dump) = recorded else { return };
        let budget = |of: fn(&Tensor) -> Tensor| {
            let granted = self.roundings[model.output().0];
            Budget::new(precision, granted, &of(truth), &of(yardstick))
        };
        let (of_logits, of_softmax) = (budget(Tensor::clone), budget(softmax));
        let probabilities = softmax(&target.value);
        for (array, value) in dump.like_the_output(model) {
            let errors = of_logits.errors(&measure::distance(&target.value, &value, precision));
            let other = of_softmax.errors(&measure::distance(&probabilities, &value, precision));
            let probabilities = measure::within(&other);
            self.found.alike.push(Alike { array, errors, probabilities });
        }
    }

    /// Compares the reference's array with the truth, where the candidate has no value.
    fn reference_alone(&mut self, id: ModuleId, [truth, yardstick]: [&Tensor; 2]) {
        let Some(dump) = self.setting.reference else { return };
        let budget = Budget::new(self.setting.precision, self.roundings[id.0], truth, yardstick);
        judge_reference(dump, id, truth, &budget, &mut self.found.reference_fates);
    }
}

/// Roundings of modules that a dump lacks or an engine has fused. Their error shows at the module
/// that reads them, so that module is granted them in addition to its own.
#[derive(Default)]
pub(crate) struct DeferredRoundings {
    /// For the next module that is compared.
    next: Allowance,
    /// For a later member of the same container: convolutions whose output is not read by the next
    /// module but by the container, as that of a CTL's temporal convolution is.
    parent: Vec<(ModuleId, Allowance)>,
}

impl DeferredRoundings {
    pub(crate) fn add(&mut self, model: &Model, id: ModuleId, roundings: Allowance) {
        let follows = model.modules().get(id.0 + 1).map(|next| next.kind);
        if model.module(id).kind == Kind::Conv && follows == Some(Kind::Conv) {
            self.parent.push((id, roundings));
        } else {
            self.next = self.next.hypot(roundings);
        }
    }

    pub(crate) fn take(&mut self, model: &Model, id: ModuleId) -> Allowance {
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
    /// Whether a ReLU was applied to it, as an in-place ReLU does to a tensor that a hook kept.
    after_relu: bool,
}

impl Target {
    fn of(value: Tensor) -> Self {
        Target { value, after_relu: false }
    }

    /// The first array that the reference has of a module; None if it has none.
    fn recorded(dump: &Dump, id: ModuleId) -> Option<Self> {
        let first = dump.offered(id).into_iter().next()?;
        let value = match first.sum {
            Some(_) => crate::faults::relu(first.value),
            None => first.value,
        };
        Some(Target { value, after_relu: first.after_relu })
    }
}

/// Judges every array that the reference has of a module. `against` is its first array where the
/// candidate is compared with that one, and the truth otherwise.
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

/// The elementwise sum of two tensors; None if their shapes differ.
fn added(a: &Tensor, b: &Tensor) -> Option<Tensor> {
    let sum = a.iter().zip(b.iter()).map(|(x, y)| x + y).collect();
    (a.shape == b.shape).then(|| Tensor::f64(a.shape.clone(), sum))
}

/// The softmax of each row of a matrix.
fn softmax(logits: &Tensor) -> Tensor {
    let map = Map::of(logits).softmax();
    Tensor::f64(logits.shape.clone(), map.data)
}

/// Whether a tensor holds the same number in several places and no other.
fn is_constant(tensor: &Tensor) -> bool {
    let first = tensor.iter().next();
    tensor.len() > 1 && tensor.iter().all(|value| Some(value) == first)
}

/// Whether two tensors hold the same bits after conversion to float64.
fn same_bits(a: &Tensor, b: &Tensor) -> bool {
    a.shape == b.shape && a.iter().zip(b.iter()).all(|(x, y)| x.to_bits() == y.to_bits())
}

/// A candidate's value and its target, after the same ReLUs, with their distance.
struct Compared {
    distance: Distance,
    target: Tensor,
    candidate: Tensor,
}

impl Compared {
    fn new(precision: Precision, target: &Target, offered: Offered) -> Self {
        // Where one side was recorded after a ReLU, that ReLU is applied to the other side, too.
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
    /// Adds what was measured of one value of the module.
    fn add(&mut self, kind: ErrorKind, budget: Budget, errors: Errors, distance: &Distance) {
        let forced = kind == ErrorKind::Introduced;
        if forced {
            self.budget = Some(budget);
        }
        let peak = budget.yardstick.peak * budget.yardstick.rms;
        self.largest = Some(self.largest.map_or(peak, |known| known.max(peak)));
        self.ratios[usize::from(!forced)] = Some(budget.ratios(distance));
        self.keep(kind, errors);
    }

    /// Keeps the worst error where several arrays show one module.
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

/// Keeps the error map of the first layer that fails, or of the worst one if none fails.
#[derive(Default)]
pub(crate) struct WorstMap {
    ratio: f64,
    failed: bool,
    pub(crate) map: Option<Heatmap>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_added_where_their_shapes_agree() {
        let tensor = |shape: &[usize], values: &[f64]| Tensor::f64(shape.to_vec(), values.to_vec());
        let sum = added(&tensor(&[2], &[1.0, -3.0]), &tensor(&[2], &[2.0, 5.0]));
        assert_eq!(sum, Some(tensor(&[2], &[3.0, 2.0])));
        assert_eq!(added(&tensor(&[2], &[1.0, 1.0]), &tensor(&[1, 2], &[1.0, 1.0])), None);
    }
}
