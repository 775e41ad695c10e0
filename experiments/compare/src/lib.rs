//! Compares a candidate with a reference, layer by layer.
//!
//! There are two passes, and in each of them all engines run side by side, module by module:
//!
//! - In the *free* pass every network runs through. The error of a layer is what has accumulated and
//!   what it added.
//! - In the *forced* pass every engine is fed the same values after each module: the reference's, or
//!   the dump's own, since a dump cannot be fed. The error of a layer is its own.
//!
//! Reading order: `allowed` (which error rounding explains), `measure` (from two tensors to an error
//! ratio), `lockstep` (how the engines are run side by side), `pass` (what happens at each module), `judge` (from
//! errors to verdicts and the culprit), `readings` (what the arrays of a dump show), `explain` (the
//! search for the mistake behind a divergence).
//!
//! An engine in float32 is compared with itself in float64 here; `harness diff` takes libtorch as the
//! reference. The engines are known by the trait [`Engine`] only:
//!
//! ```
//! use std::sync::Arc;
//!
//! use checkpoint::{Weights, formula};
//! use compare::{Comparison, Side};
//! use record::Verdict;
//! use spec::{Config, Engine, Model, Precision, Tensor};
//!
//! # fn main() -> anyhow::Result<()> {
//! let config = Config { depth: 10, width: 0.125, frames: 4, size: (33, 40), classes: 3, ..Config::default() };
//! let model = Model::new(config)?;
//! let weights = Weights::formula(model.parameters(), 0);
//! let shape = model.input_shape(1);
//! let clip = Tensor::f32(shape.clone(), formula::input(shape.iter().product(), 0));
//! let load = |precision| -> anyhow::Result<Box<dyn Engine>> {
//!     let model = Arc::new(model.clone());
//!     Ok(match precision {
//!         Precision::F64 => Box::new(scalar::Scalar::<f64>::new(model, &weights)?),
//!         _ => Box::new(scalar::Scalar::<f32>::new(model, &weights)?),
//!     })
//! };
//!
//! let candidate = Side::Engine(load(Precision::F32)?);
//! let mut comparison = Comparison::new(model.clone(), candidate, clip, Precision::F32, load)?;
//! let measured = comparison.measure(&|| ())?;
//! let findings = comparison.judge(&measured);
//! assert_eq!(findings.verdict, Verdict::Pass);
//! assert_eq!(findings.layers.len(), model.modules().len());
//! # Ok(())
//! # }
//! ```

mod allowed;
mod blame;
pub mod dump;
mod explain;
pub mod faults;
pub mod judge;
pub mod lockstep;
pub mod measure;
mod pass;
pub mod quantised;
pub mod readings;
pub mod repro;
pub mod rounded;
pub mod stored;
pub mod suggest;
mod winograd;

use std::collections::BTreeMap;

use anyhow::Result;
use record::{ErrorKind, Errors, Heatmap};
use spec::{Engine, Model, ModuleId, Precision, Selection, Tensor};

use crate::dump::chain::{Cause, Reading};
use crate::dump::{Dump, Fate};
use crate::faults::AFTER_RELU;
use blame::Own;
use lockstep::Runner;
use measure::Budget;
use pass::{Pass, Setting, WorstMap};

pub use winograd::Tiles;

pub use blame::{GROSS, Onward, Wrong, are_nearly_all, exceeds};
pub use explain::{Explanation, explain, matter};
pub use judge::Findings;

/// One side of a comparison.
pub enum Side {
    /// An engine, which is run.
    Engine(Box<dyn Engine>),
    /// Activations that another program recorded.
    Dump(Dump),
}

/// A candidate and what it is compared with.
pub struct Comparison {
    /// The description of the network, which all sides share.
    pub model: Model,
    /// The engine or the dump under test.
    pub candidate: Side,
    /// The dump that the candidate is compared with; None if it is compared with the truth.
    pub reference: Option<Dump>,
    /// The reference in float64.
    pub truth: Box<dyn Engine>,
    /// The reference in the candidate's precision; its error sets the budget.
    pub yardstick: Box<dyn Engine>,
    /// The clip [N, 3, T, H, W] that every engine is given.
    pub input: Tensor,
    /// The precision in which the candidate is judged.
    pub precision: Precision,
    /// The modules that are compared.
    pub selection: Selection,
    /// The algorithms of 3x3 convolutions whose errors are allowed. [`Comparison::measure`] finds it out.
    pub tiles: Tiles,
}

/// What was measured at one module.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// The error in the forced pass. None if the module was not compared in it.
    pub introduced: Option<Errors>,
    /// The error in the free pass. None if the module was not compared at all.
    pub inherited: Option<Errors>,
    /// The budget of the forced pass, which explanations are tried with.
    pub budget: Option<Budget>,
    /// The largest absolute value of the truth. None if the module was not compared.
    pub largest: Option<f64>,
    /// Whether both sides are dumps that hold one value everywhere here, where the network with these weights does
    /// not: that they agree then proves nothing.
    pub constant: bool,
    /// Whether the network with these weights holds one value everywhere here, so that many mistakes do not show.
    pub silent: bool,
    /// The later module at which this one was compared, because its array shows that module.
    pub shown_at: Option<ModuleId>,
    /// Error ratios `[own, accumulated]`, each as `[relative L2, largest error]`.
    pub ratios: [Option<[f64; 2]>; 2],
    /// A remark for the report.
    pub note: Option<String>,
}

/// An array of an unknown name that has the shape of the output.
#[derive(Debug, Clone)]
pub struct Alike {
    /// Its name.
    pub array: String,
    /// Its error, if it is the output.
    pub errors: Errors,
    /// Whether it holds the probabilities that belong to the output.
    pub probabilities: bool,
}

/// The result of both passes.
pub struct Measurements {
    /// One entry for each module of the model, in order of execution.
    pub layers: Vec<Measured>,
    /// The result at each array of the candidate, if that is a dump, by index of the array.
    pub fates: BTreeMap<usize, Fate>,
    /// The result at each array of the reference, if that is a dump, by index of the array.
    pub reference_fates: BTreeMap<usize, Fate>,
    /// How the reference computes otherwise than the model, if it is a dump that does.
    pub wrong_reference: Option<Wrong>,
    /// Whether the candidate, which diverges from such a reference, computes as the model does in every compared layer.
    pub right_candidate: bool,
    /// How it computes otherwise, if it does.
    pub wrong_candidate: Option<Wrong>,
    /// What arrays of dumps show instead of the modules that they are named after.
    pub readings: BTreeMap<ModuleId, Reading>,
    /// The arrays of unknown names in the candidate's dump that have the shape of the output.
    pub alike: Vec<Alike>,
    /// The error over space of the first layer beyond the bound, or else of the worst layer.
    pub heatmap: Option<Heatmap>,
}

impl Measurements {
    fn new(model: &Model) -> Self {
        Measurements {
            layers: vec![Measured::default(); model.modules().len()],
            fates: BTreeMap::new(),
            reference_fates: BTreeMap::new(),
            wrong_reference: None,
            right_candidate: false,
            wrong_candidate: None,
            readings: BTreeMap::new(),
            alike: vec![],
            heatmap: None,
        }
    }
}

impl Measurements {
    /// Whether a module has too much error.
    fn diverges(&self) -> bool {
        let errors = |layer: &Measured| [layer.introduced, layer.inherited];
        self.layers.iter().flat_map(errors).flatten().any(|errors| !measure::within(&errors))
    }

    /// Keeps for each module the worse of these measurements and those with another input: its
    /// own error with the allowed error, and its accumulated error.
    pub fn keep_worse(&mut self, other: Measurements) {
        let worse = |a: &Option<Errors>, b: &Option<Errors>| match (a, b) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(a), Some(b)) => {
                let rank = |e: &Errors| {
                    if e.nan > 0 || e.ratio.is_nan() { f64::INFINITY } else { e.ratio }
                };
                rank(b) > rank(a)
            }
        };
        let failed = |all: &[Measured]| {
            all.iter().any(|layer| layer.introduced.is_some_and(|e| !measure::within(&e)))
        };
        if !failed(&self.layers) && failed(&other.layers) {
            self.heatmap = other.heatmap;
        }
        for (layer, other) in self.layers.iter_mut().zip(other.layers) {
            layer.largest = layer.largest.into_iter().chain(other.largest).reduce(f64::max);
            layer.constant &= other.constant;
            layer.silent &= other.silent;
            if worse(&layer.introduced, &other.introduced) {
                (layer.introduced, layer.budget) = (other.introduced, other.budget);
                layer.ratios[0] = other.ratios[0];
            }
            if worse(&layer.inherited, &other.inherited) {
                layer.inherited = other.inherited;
                layer.ratios[1] = other.ratios[1];
            }
        }
    }
}

impl Comparison {
    /// Compares a candidate with the truth in all modules. `input` is the clip [N, 3, T, H, W], and
    /// `load` loads the reference in a precision: once as the truth, in float64, and once as the
    /// comparison run.
    pub fn new(
        model: Model,
        candidate: Side,
        input: Tensor,
        precision: Precision,
        load: impl Fn(Precision) -> Result<Box<dyn Engine>>,
    ) -> Result<Self> {
        // Nothing is more precise than the truth, so a float64 candidate has a float32 comparison run,
        // whose error is then scaled.
        let yardstick = if precision == Precision::F64 { Precision::F32 } else { precision };
        let (truth, yardstick) = (load(Precision::F64)?, load(yardstick)?);
        let selection = Selection::all(model.modules());
        let reference = None;
        Ok(Comparison {
            model,
            candidate,
            reference,
            truth,
            yardstick,
            input,
            precision,
            selection,
            tiles: Tiles::default(),
        })
    }

    /// The verdict on the measurements, with the culprit and a line for every module.
    pub fn judge(&self, measured: &Measurements) -> Findings {
        let live = matches!(self.candidate, Side::Engine(_));
        judge::judge(&self.model, &self.selection, &measured.layers, self.input.shape[0], live)
    }

    /// Whether the candidate shows each module: has an array of it, or gave it to a tap.
    pub fn shown(&self, measured: &Measurements) -> Vec<bool> {
        match &self.candidate {
            Side::Dump(dump) => self.model.modules().iter().map(|m| dump.has(m.id)).collect(),
            Side::Engine(_) => measured.layers.iter().map(|l| l.introduced.is_some()).collect(),
        }
    }

    /// Runs both passes and calls `progress` after every module. If the errors of a dump show that 3x3 convolutions
    /// were computed by F(6x6), it is compared once more, with what that is allowed.
    pub fn measure(&mut self, progress: &dyn Fn()) -> Result<Measurements> {
        let found = self.measure_once(progress)?;
        let fine = matches!(self.precision, Precision::F32 | Precision::F64);
        let recorded = matches!(self.candidate, Side::Dump(_));
        let six = fine && recorded && winograd::shows_six(&self.model, &found.layers);
        if self.tiles == Tiles::Six || !six {
            return Ok(found);
        }
        self.tiles = Tiles::Six;
        self.measure_once(&|| ())
    }

    fn measure_once(&mut self, progress: &dyn Fn()) -> Result<Measurements> {
        let mut found = Measurements::new(&self.model);
        self.read_dumps(&mut found)?;
        let mut worst = WorstMap::default();
        self.pass(ErrorKind::Inherited, &mut found, &mut worst, progress)?;
        if self.both_recorded() {
            self.measure_recorded(&mut found, &mut worst, progress)?;
        } else {
            // A map of the own error tells more than one of the accumulated error.
            worst = WorstMap::default();
            self.pass(ErrorKind::Introduced, &mut found, &mut worst, progress)?;
            if self.reference.is_some() && found.diverges() {
                let reference = self.own_of_reference(&|| ())?;
                self.compare_reference_with_model(reference, &mut found, &|| ())?;
            }
        }
        found.heatmap = worst.map;
        Ok(found)
    }

    /// Measures own errors where both sides are dumps.
    ///
    /// If every layer of the reference computes from the values before it what the model does with these weights, the
    /// layers of the candidate must, too: the accumulated error, which in coarse formats may be large, does not tell
    /// a mistake in one layer from rounding.
    fn measure_recorded(
        &mut self,
        found: &mut Measurements,
        worst: &mut WorstMap,
        progress: &dyn Fn(),
    ) -> Result<()> {
        let own = self.own_of_reference(progress)?;
        if own != Own::Right {
            return self.compare_reference_with_model(own, found, progress);
        }
        let reference = self.reference.take();
        let passed = self.pass(ErrorKind::Introduced, found, worst, progress);
        self.reference = reference;
        passed
    }

    /// Notes how the reference is wrong, and whether the candidate, if it diverges, is right.
    fn compare_reference_with_model(
        &mut self,
        reference: Own,
        found: &mut Measurements,
        progress: &dyn Fn(),
    ) -> Result<()> {
        let Own::Wrong(wrong) = reference else { return Ok(()) };
        found.wrong_reference = Some(wrong);
        if found.diverges() {
            match self.own(progress)? {
                Own::Right => found.right_candidate = true,
                Own::Wrong(wrong) => found.wrong_candidate = Some(wrong),
                Own::Nothing => {}
            }
        }
        Ok(())
    }

    /// Finds out which module each array of a dump shows, and files the array under that module.
    fn read_dumps(&mut self, found: &mut Measurements) -> Result<()> {
        let (model, input, truth) = (&self.model, &self.input, self.truth.as_mut());
        let recorded = match &mut self.candidate {
            Side::Dump(dump) => Some(dump),
            Side::Engine(_) => None,
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
                        "a later in-place operation overwrote this array: it shows {}",
                        model.module(reading.module).name
                    ),
                    Cause::Folded => format!(
                        "folded or fused: this array shows {}",
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

    /// How many times [`Comparison::measure`] will call `progress`.
    pub fn steps(&self) -> u64 {
        let end = self.selection.last().map_or(0, |last| last.0 + 1);
        let forced = if self.both_recorded() { 2 * end } else { end };
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
            Side::Engine(engine) => {
                (vec![Runner { engine: engine.as_mut(), input: &self.input }], None)
            }
            Side::Dump(dump) => (vec![], Some(&*dump)),
        };
        // Truth and comparison run come last, because a dump has no runner.
        runners.push(Runner { engine: self.truth.as_mut(), input: &self.input });
        runners.push(Runner { engine: self.yardstick.as_mut(), input: &self.input });
        let setting = Setting {
            model: &self.model,
            precision: self.precision,
            selection: &self.selection,
            recorded,
            reference: self.reference.as_ref(),
            kind,
            tiles: self.tiles,
            last,
        };
        let mut pass = Pass::new(setting, found, worst);
        let step = |id: ModuleId, values: Vec<Option<Tensor>>| {
            let flow = pass.step(id, values);
            progress();
            flow
        };
        Ok(lockstep::run(runners, &wanted, step)?)
    }
}
