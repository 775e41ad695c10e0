//! A test bench: a comparison whose candidate is replaced for every planted mistake.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use checkpoint::Weights;
use record::{Place, Verdict};
use spec::{Engine, Flow, Model, ModuleId, Precision, Tap, Tensor};

use super::args::SelftestArgs;
use crate::engines::{self, Device};
use crate::flags::InputSource;
use crate::input;
use crate::machine::Sides;
use compare::dump::{Dump, Naming, Writer};
use compare::faults::{Change, Edited};
use compare::{Comparison, Explanation, Side, explain, matter};

/// What a mistake is planted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// An engine, which runs alongside the truth.
    Engine,
    /// A dump with the outputs of all modules.
    Dump,
    /// A dump without the outputs of ReLU, sigmoid, pooling and embedding, as the Flax port writes it.
    Flax,
}

/// All settings, in the order of the table.
pub const SETTINGS: [Setting; 3] = [Setting::Engine, Setting::Dump, Setting::Flax];

impl Setting {
    /// The name in records and tables.
    pub fn word(self) -> &'static str {
        match self {
            Setting::Engine => "engine",
            Setting::Dump => "dump",
            Setting::Flax => "flax dump",
        }
    }
}

/// The result for a planted mistake.
pub struct Planted {
    /// The record's entry.
    pub place: Place,
    /// The planted mistake's word in the catalogue.
    pub word: &'static str,
    /// The explanation that the tool found.
    pub found: Explanation,
}

/// The model for a frame size, in pixels (height, width).
pub fn model(args: &SelftestArgs, size: (usize, usize)) -> Result<Model> {
    Ok(Model::new(args.config(size))?)
}

/// A comparison whose candidate is exchanged for every mistake.
pub struct TestBench<'a> {
    args: &'a SelftestArgs,
    device: Device,
    weights: Weights,
    clip: Tensor,
    folder: files::Folder,
    /// Name of the candidate, from the engine without a mistake.
    described: String,
    /// The comparison with the current candidate.
    pub comparison: Comparison,
}

impl<'a> TestBench<'a> {
    /// Loads model, weights and engines; fails if the comparison does not pass without a mistake.
    pub fn new(args: &'a SelftestArgs, device: Device, size: (usize, usize)) -> Result<Self> {
        let model = model(args, size)?;
        let weights = Weights::load(&args.data.weights, model.parameters())?;
        let source = args.data.input.clone().unwrap_or(InputSource::Formula(0));
        let clip = input::load(&source, &model, 1)?;
        let load =
            |engine, precision| engines::load(engine, model.clone(), &weights, precision, device);
        let engine = load(args.candidate, Precision::F32)?;
        let described = engine.describe();
        let comparison = Comparison::new(
            model.clone(),
            Side::Engine(engine),
            clip.clone(),
            Precision::F32,
            |precision| load(args.reference, precision),
        )?;
        let folder = files::Folder::new().context("a temporary folder cannot be created")?;
        let mut bench = TestBench { args, device, weights, clip, folder, described, comparison };
        for setting in SETTINGS {
            bench.check_healthy(setting)?;
        }
        Ok(bench)
    }

    fn check_healthy(&mut self, setting: Setting) -> Result<()> {
        self.candidate(None, setting)?;
        let (verdict, culprit, _) = self.verdict()?;
        let named = culprit.map(|id| self.comparison.model.module(id).name.clone());
        if verdict != Verdict::Pass {
            bail!(
                "without a planted mistake the verdict on the {} is `{}` at {}; find that \
                 divergence with harness diff before planting mistakes",
                setting.word(),
                verdict.as_str(),
                named.as_deref().unwrap_or("no layer")
            );
        }
        Ok(())
    }

    /// Those of the changes that alter a value by more than the allowed error.
    pub fn that_matter(&mut self, changes: Vec<Change>) -> Result<Vec<Change>> {
        self.candidate(None, Setting::Engine)?;
        let matters = matter(&mut self.comparison, &self.weights, &changes)?;
        Ok(changes.into_iter().zip(matters).filter(|(_, m)| *m).map(|(c, _)| c).collect())
    }

    /// Replaces the candidate by an engine with this mistake, or by a dump from it.
    fn candidate(&mut self, change: Option<&Change>, setting: Setting) -> Result<()> {
        let (mut model, mut weights) = (self.comparison.model.clone(), self.weights.clone());
        change.iter().for_each(|change| change.apply(&mut model, &mut weights));
        let engine =
            engines::load(self.args.candidate, model, &weights, Precision::F32, self.device)?;
        let mut engine: Box<dyn Engine> = match change.cloned() {
            Some(change) => Box::new(Edited { engine, change, weights }),
            None => engine,
        };
        self.comparison.candidate = match setting {
            Setting::Engine => Side::Engine(engine),
            Setting::Dump => Side::Dump(self.dump(engine.as_mut(), Naming::Torch)?),
            Setting::Flax => Side::Dump(self.dump(engine.as_mut(), Naming::Flax)?),
        };
        Ok(())
    }

    fn dump(&self, engine: &mut dyn Engine, naming: Naming) -> Result<Dump> {
        let path = self.folder.path().join("planted.npz");
        let model = &self.comparison.model;
        let mut tap = Recorder { model, writer: Writer::create(&path, naming)?, failed: Ok(()) };
        engine.forward(&self.clip, &mut tap)?;
        tap.failed?;
        tap.writer.finish()?;
        Dump::open(&path, model, 1)
    }

    /// The verdict on the candidate, the culprit and the measurements.
    fn verdict(&mut self) -> Result<(Verdict, Option<ModuleId>, compare::Measurements)> {
        let measured = self.comparison.measure(&|| ())?;
        let found = self.comparison.judge(&measured);
        Ok((found.verdict, found.culprit, measured))
    }

    /// Plants a mistake, compares, and lets the tool explain the divergence.
    pub fn plant(&mut self, change: &Change, setting: Setting) -> Result<Planted> {
        self.candidate(Some(change), setting)?;
        let (verdict, culprit, measured) = self.verdict()?;
        let ratios = measured.layers.iter().filter_map(|l| l.introduced.map(|e| e.ratio));
        let ratio = ratios.fold(0.0, |a: f64, b| if b.is_nan() { b } else { a.max(b) });
        let model = self.comparison.model.clone();
        let shown = self.comparison.shown(&measured);
        let mut found = Explanation::default();
        if let Some(at) = culprit
            && let Some(budget) = measured.layers[at.0].budget
        {
            let load = |model, weights: Weights| {
                let (participant, device) = (self.args.reference, self.device);
                engines::load(participant, model, &weights, Precision::F64, device)
            };
            let shown = |id: ModuleId| shown[id.0];
            found = explain(&mut self.comparison, &self.weights, at, &budget, &shown, &load)?;
        }
        let name = |id: ModuleId| model.module(id).name.clone();
        let (height, width) = model.config.size;
        let place = Place {
            module: name(change.site),
            detected: verdict == Verdict::Diverged,
            named: found.site.or(culprit).map(name),
            setting: setting.word().to_owned(),
            size: format!("{height}x{width}"),
            explanation: found.tried.first().filter(|best| best.fits).map(|h| h.what.clone()),
            ratio,
        };
        Ok(Planted { place, word: change.word, found })
    }

    /// The names of both sides, for the record.
    pub fn sides(&self, args: &SelftestArgs) -> Sides {
        Sides {
            candidate: self.described.clone(),
            reference: self.comparison.truth.describe(),
            yardstick: self.comparison.yardstick.describe(),
            weights: args.data.weights.to_string(),
            input: args.data.input.as_ref().map_or("formula:0".into(), ToString::to_string),
            seeds: BTreeMap::from([("places".to_owned(), args.seed)]),
            batch: 1,
            device: args.data.on.device,
        }
    }
}

/// A tap that writes the output of every module as soon as it is computed.
struct Recorder<'a> {
    model: &'a Model,
    writer: Writer,
    failed: Result<()>,
}

impl Tap for Recorder<'_> {
    fn wants(&self, _: ModuleId) -> bool {
        true
    }

    fn observe(&mut self, id: ModuleId, value: Tensor) -> Flow {
        self.failed = self.writer.add(self.model, id, value);
        if self.failed.is_ok() { Flow::Continue } else { Flow::Stop }
    }
}
