//! Which of the two sides a divergence comes from, and whether a program went on with a value that it recorded.

use std::collections::BTreeSet;

use anyhow::Result;
use record::{ErrorKind, Errors};
use spec::{Engine, Flow, Kind, Model, Module, ModuleId, Precision, Selection, Tensor};

use crate::dump::Dump;
use crate::faults::ModelGraph;
use crate::lockstep::{self, Runner};
use crate::pass::WorstMap;
use crate::{Comparison, Measured, Measurements, Side, faults, measure};

/// How the compared layers of one side compute, each given the values before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    /// No layer was compared.
    Nothing,
    /// As the model does with these weights.
    Right,
    /// Otherwise.
    Wrong(Wrong),
}

/// A side that computes otherwise than the model does with these weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrong {
    /// The first module that does.
    pub first: ModuleId,
    /// Whether nearly all convolutions do, and grossly: the side probably has other weights.
    pub weights: bool,
    /// Whether only the first compared layer does: the side probably has another clip.
    pub of_clip: bool,
}

/// A relative L2 error that no number format explains.
pub const GROSS: f64 = 0.1;

/// What later values tell about a value that a program recorded and that is wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Onward {
    /// The program went on with another value: that of this later module is right, or has the first relative L2 error,
    /// and would otherwise have the second one.
    Elsewhere(ModuleId, Option<f64>, f64),
    /// The program went on with it.
    Here,
    /// The first of these modules read another value, which is right, and the second, which is wrong, probably this one:
    /// an operation in place may have changed it in between.
    Changed(ModuleId, ModuleId),
    /// Nothing, for example because weights of zero keep the value from having any effect.
    Unknown,
}

/// A later value tells from which of two values it follows if it is this many times as close to what follows from one
/// as to what follows from the other.
const CLOSER: f64 = 10.0;

/// Whether at least nine in ten convolutions are grossly wrong, which points to other weights. One convolution alone
/// tells nothing.
pub fn are_nearly_all(wrong: usize, convolutions: usize) -> bool {
    convolutions > 1 && 10 * wrong >= 9 * convolutions
}

/// Whether an error is above a limit. NaN is.
pub fn exceeds(error: f64, limit: f64) -> bool {
    error.is_nan() || error > limit
}

impl Comparison {
    /// Compares the candidate with the model alone, without the reference's dump.
    pub(crate) fn own(&mut self, progress: &dyn Fn()) -> Result<Own> {
        let layers = self.own_layers(progress)?;
        Ok(self.judge_own(&layers))
    }

    fn own_layers(&mut self, progress: &dyn Fn()) -> Result<Vec<Measured>> {
        let reference = self.reference.take();
        let mut own = Measurements::new(&self.model);
        let passed = self.pass(ErrorKind::Introduced, &mut own, &mut WorstMap::default(), progress);
        self.reference = reference;
        passed?;
        Ok(own.layers)
    }

    /// The modules of the candidate that have too much own error if the truth is loaded by `load`, which may give it
    /// other weights.
    ///
    /// # Errors
    ///
    /// If an engine cannot be loaded or fails.
    pub fn wrong_with(
        &mut self,
        load: impl Fn(Precision) -> Result<Box<dyn Engine>>,
    ) -> Result<Vec<ModuleId>> {
        let format = match self.precision {
            Precision::F64 => Precision::F32,
            other => other,
        };
        let truth = std::mem::replace(&mut self.truth, load(Precision::F64)?);
        let yardstick = std::mem::replace(&mut self.yardstick, load(format)?);
        let layers = self.own_layers(&|| ());
        (self.truth, self.yardstick) = (truth, yardstick);
        let layers = layers?;
        let wrong =
            |id: &ModuleId| layers[id.0].introduced.is_some_and(|errors| !measure::within(&errors));
        Ok((0..layers.len()).map(ModuleId).filter(wrong).collect())
    }

    fn judge_own(&self, layers: &[Measured]) -> Own {
        let own = |id: ModuleId| layers[id.0].introduced;
        let compared: Vec<(&Module, Errors)> =
            self.model.modules().iter().filter_map(|m| Some((m, own(m.id)?))).collect();
        let Some((first, _)) = compared.iter().find(|(_, errors)| !measure::within(errors)) else {
            return if compared.is_empty() { Own::Nothing } else { Own::Right };
        };
        let gross = |errors: &Errors| !measure::within(errors) && exceeds(errors.rel_l2, GROSS);
        let convolutions = compared.iter().filter(|(module, _)| module.kind == Kind::Conv);
        let (count, wrong) = convolutions.fold((0, 0), |(count, wrong), (_, errors)| {
            (count + 1, wrong + usize::from(gross(errors)))
        });
        let all_wrong = compared.iter().filter(|(_, errors)| !measure::within(errors));
        let of_clip = all_wrong.count() == 1 && compared[0].0.id == first.id && compared.len() > 1;
        Own::Wrong(Wrong { first: first.id, weights: are_nearly_all(wrong, count), of_clip })
    }

    /// Compares the reference's dump with the model alone.
    pub(crate) fn own_of_reference(&mut self, progress: &dyn Fn()) -> Result<Own> {
        let Some(reference) = self.reference.take() else { return Ok(Own::Nothing) };
        let candidate = std::mem::replace(&mut self.candidate, Side::Dump(reference));
        let own = self.own(progress);
        if let Side::Dump(reference) = std::mem::replace(&mut self.candidate, candidate) {
            self.reference = Some(reference);
        }
        own
    }

    /// Finds out whether the program went on with what it recorded of the module `at`, by running the truth twice:
    /// undisturbed, and on from the recorded value.
    ///
    /// The modules that read the value decide if one of them is right that would not be if it followed from it; then
    /// another one may follow from the value, and make what comes later wrong. Otherwise the last module that tells
    /// decides, because several neighbours may be recorded wrongly. If none tells that is right, a module that reads the
    /// value and has a mistake of its own may still be much closer to what follows from another value. Of two dumps whose
    /// weights are not known, nothing is found out.
    ///
    /// # Errors
    ///
    /// If the truth cannot be run.
    pub fn onward(&mut self, measured: &Measurements, at: ModuleId) -> Result<Onward> {
        let Side::Dump(dump) = &self.candidate else { return Ok(Onward::Unknown) };
        let (true, Some(recorded)) = (measured.layers[at.0].introduced.is_some(), dump.get(at))
        else {
            return Ok(Onward::Unknown);
        };
        let readers = readers(&self.model, dump, at);
        let precision = self.precision;
        let layers = match self.selection.len() == self.model.modules().len() {
            true => measured.layers.clone(),
            false => self.all_layers()?,
        };
        let is_wrong =
            |id: ModuleId| layers[id.0].inherited.is_some_and(|errors| !measure::within(&errors));
        let wrong_behind = |id: ModuleId| (id.0 + 1..layers.len()).any(|at| is_wrong(ModuleId(at)));
        let right = self.later_errors(at, None)?;
        let followed = self.later_errors(at, Some(precision.round(recorded)))?;
        let (mut found, mut closer) = (vec![], None);
        for (id, (right, followed)) in right.into_iter().zip(followed).enumerate() {
            let (Some(right), Some(followed)) = (right, followed) else { continue };
            let far = |error, other: f64| exceeds(error, CLOSER * other.max(precision.epsilon()));
            let id = ModuleId(id);
            if far(followed, right) && right.is_finite() {
                if is_wrong(id) {
                    found.push((id, Onward::Unknown));
                    let reads = readers.contains(&id);
                    closer =
                        closer.or(reads.then_some(Onward::Elsewhere(id, Some(right), followed)));
                } else {
                    found.push((id, Onward::Elsewhere(id, None, followed)));
                }
            } else if far(right, followed) && followed.is_finite() {
                found.push((id, Onward::Here));
            }
        }
        let elsewhere = |(_, onward): &&(ModuleId, Onward)| matches!(onward, Onward::Elsewhere(..));
        let near = found.iter().filter(|(id, _)| readers.contains(id)).find(elsewhere);
        if let Some((reader, onward)) = near {
            let own_right = |id: ModuleId| {
                layers[id.0].introduced.is_some_and(|errors| measure::within(&errors))
            };
            let follows = |id: &&ModuleId| is_wrong(**id) && own_right(**id) && wrong_behind(**id);
            let wrong = readers.iter().find(follows);
            return Ok(wrong.map_or(*onward, |wrong| Onward::Changed(*reader, *wrong)));
        }
        let last = found.last().map_or(Onward::Unknown, |(_, onward)| *onward);
        Ok(if last == Onward::Unknown { closer.unwrap_or(last) } else { last })
    }

    /// The errors of every layer that the candidate's dump shows, whichever were selected: those that are not judged
    /// are evidence, too.
    fn all_layers(&mut self) -> Result<Vec<Measured>> {
        let mut found = Measurements::new(&self.model);
        let reference = self.reference.take();
        let all = Selection::all(self.model.modules());
        let selection = std::mem::replace(&mut self.selection, all);
        let mut pass = |kind| self.pass(kind, &mut found, &mut WorstMap::default(), &|| ());
        let passed = pass(ErrorKind::Inherited).and_then(|()| pass(ErrorKind::Introduced));
        (self.reference, self.selection) = (reference, selection);
        passed?;
        Ok(found.layers)
    }

    /// The relative L2 errors of what the candidate's dump shows of each module behind `at` against the truth, which
    /// goes on from `value` if there is one.
    fn later_errors(
        &mut self,
        at: ModuleId,
        mut value: Option<Tensor>,
    ) -> Result<Vec<Option<f64>>> {
        let mut errors = vec![None; self.model.modules().len()];
        let Side::Dump(dump) = &self.candidate else { return Ok(errors) };
        let truth = Runner { engine: self.truth.as_mut(), input: &self.input };
        let wanted = Selection::all(self.model.modules());
        lockstep::run(vec![truth], &wanted, |id, mut values| {
            if id == at {
                return value.take().map_or(Flow::Continue, Flow::Replace);
            }
            if id > at
                && let (Some(truth), Some(shown)) = (values.pop().flatten(), dump.get(id))
            {
                let truth = if dump.is_after_relu(id) { faults::relu(truth) } else { truth };
                errors[id.0] = Some(measure::distance(&truth, &shown, self.precision).rel_l2);
            }
            Flow::Continue
        })?;
        Ok(errors)
    }
}

/// The modules in a dump that read a module, directly or through modules that the dump does not show.
fn readers(model: &Model, dump: &Dump, at: ModuleId) -> BTreeSet<ModuleId> {
    let graph = ModelGraph::new(model);
    let (mut found, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut queue = graph.readers(at).to_vec();
    while let Some(id) = queue.pop() {
        if !seen.insert(id) {
            continue;
        }
        if dump.has(id) {
            found.insert(id);
        } else {
            queue.extend(graph.readers(id));
        }
    }
    found
}
