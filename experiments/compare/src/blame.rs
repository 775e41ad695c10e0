//! Which of the two sides a divergence comes from, and whether a program went on with a value that it recorded.

use anyhow::Result;
use record::ErrorKind;
use spec::{Flow, ModuleId, Selection, Tensor};

use crate::lockstep::{self, Runner};
use crate::pass::WorstMap;
use crate::{Comparison, Measurements, Side, faults, measure};

/// How the compared layers of one side compute, each given the values before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    /// No layer was compared.
    Nothing,
    /// As the model does with these weights.
    Right,
    /// Otherwise, first in this module.
    Wrong(ModuleId),
}

/// A later value that disproves a recorded one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Proof {
    /// The module of the later value, which is right in the whole run.
    pub module: ModuleId,
    /// The relative L2 error that it would have if the program had gone on with the recorded value.
    pub would_be: f64,
}

/// A later value disproves a recorded one if it is this many times as close to the truth as to what follows from the
/// recorded one.
const CLOSER: f64 = 10.0;

impl Comparison {
    /// Compares the candidate with the model alone, without the reference's dump.
    pub(crate) fn own(&mut self, progress: &dyn Fn()) -> Result<Own> {
        let reference = self.reference.take();
        let mut own = Measurements::new(&self.model);
        let passed = self.pass(ErrorKind::Introduced, &mut own, &mut WorstMap::default(), progress);
        self.reference = reference;
        passed?;
        let compared = |at: &usize| own.layers[*at].introduced.is_some();
        let wrong = |at: &usize| own.layers[*at].introduced.is_some_and(|e| !measure::within(&e));
        let count = own.layers.len();
        Ok(match (0..count).find(wrong) {
            Some(at) => Own::Wrong(ModuleId(at)),
            None if (0..count).any(|at| compared(&at)) => Own::Right,
            None => Own::Nothing,
        })
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

    /// Finds a module whose recorded value is right in the whole run, but would not be if the program had gone on with
    /// what it recorded of the module `at`: it has then gone on with another value. None if there is no such module,
    /// for example because weights of zero keep the value from having any effect, or if the weights of two dumps that
    /// are compared with each other are not known.
    ///
    /// # Errors
    ///
    /// If the truth cannot be run.
    pub fn disproof(&mut self, measured: &Measurements, at: ModuleId) -> Result<Option<Proof>> {
        let Side::Dump(dump) = &self.candidate else { return Ok(None) };
        let Some(recorded) = dump.get(at) else { return Ok(None) };
        if measured.layers[at.0].introduced.is_none() {
            return Ok(None);
        }
        let precision = self.precision;
        let known = |id: ModuleId| {
            let errors =
                measured.layers[id.0].inherited.filter(|e| id > at && measure::within(e))?;
            Some((errors.rel_l2.max(precision.epsilon()), dump.get(id)?))
        };
        let truth = Runner { engine: self.truth.as_mut(), input: &self.input };
        let (mut proof, mut value) = (None, Some(precision.round(recorded)));
        lockstep::run(vec![truth], &Selection::all(self.model.modules()), |id, mut values| {
            if id == at {
                return value.take().map_or(Flow::Continue, Flow::Replace);
            }
            let (Some(follows), Some((error, shown))) = (values.pop().flatten(), known(id)) else {
                return Flow::Continue;
            };
            let follows = if dump.is_after_relu(id) { faults::relu(follows) } else { follows };
            let would_be = distance(&shown, &follows, self.precision);
            // NaN is no small error.
            if would_be <= CLOSER * error {
                return Flow::Continue;
            }
            proof = Some(Proof { module: id, would_be });
            Flow::Stop
        })?;
        Ok(proof)
    }
}

fn distance(from: &Tensor, to: &Tensor, precision: spec::Precision) -> f64 {
    measure::distance(from, to, precision).rel_l2
}
