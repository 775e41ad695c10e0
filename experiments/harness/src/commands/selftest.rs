//! `harness selftest`: would the tool notice? Every fault is made at random places.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use reports::record::{Fault as FaultRecord, Place, Record, SelftestRecord, Verdict};
use spec::weights::Weights;
use spec::{Config, Model, Precision, Selection, Tensor};

use super::mutations;
use crate::Outcome;
use crate::cli::{InputSource, SelftestArgs};
use crate::compare::{Comparison, Side, judge};
use crate::engines::{self, Device};
use crate::faults::{Change, Edited, Fault, choose};
use crate::machine::{Sides, Started};
use crate::{input, progress};

/// At least this share of the faults has to be placed at the right layer.
const NAMED: f64 = 0.95;

/// Makes the faults, prints how often each was noticed and placed, and writes record and report.
pub fn run(args: &SelftestArgs) -> Result<Outcome> {
    if let Some(count) = args.null {
        return super::null::run(args, count);
    }
    let started = Started::now();
    let device = engines::open_device(&args.data.on)?;
    let mut bench = Bench::new(args, device)?;
    let healthy = bench.verdict(None)?;
    if healthy.0 != Verdict::Pass {
        bail!(
            "without any fault the verdict is `{}` at {}; find that divergence with harness diff \
             before the faults are tried",
            healthy.0.as_str(),
            healthy.1.as_deref().unwrap_or("no layer")
        );
    }
    let bar = progress::bar("injecting", (Fault::ALL.len() * args.places) as u64);
    let mut faults = vec![];
    for (number, fault) in Fault::ALL.iter().enumerate() {
        let places = fault.places(&bench.comparison.model);
        if places.is_empty() {
            bail!("{} has no place in this model; choose another --size", fault.what);
        }
        let mut tried = vec![];
        for change in choose(&places, args.places, args.seed.wrapping_add(number as u64)) {
            tried.push(bench.try_one(&change)?);
            bar.inc(1);
        }
        faults.push(summary(fault, tried));
    }
    bar.finish_and_clear();
    super::print(&table(&faults));
    let mutations = mutations::run(args.mutations, args.seed, &args.reference, device)?;
    super::print(&format!("\n{}", mutations::table(&mutations)));
    let unnoticed = mutations.iter().any(|mutation| !mutation.passed.is_empty());
    let passed = !unnoticed
        && faults
            .iter()
            .all(|f| f.detected == f.injected && f.named as f64 >= NAMED * f.injected as f64);
    let run = started.finish(&bench.comparison.model.config, bench.sides(args));
    let record = Record::Selftest(Box::new(SelftestRecord { faults, mutations, run }));
    super::publish(&record, &started.folder("selftest"), &args.out)?;
    Ok(if passed { Outcome::Passed } else { Outcome::Failed })
}

/// A comparison whose candidate is exchanged for every fault.
struct Bench<'a> {
    args: &'a SelftestArgs,
    device: Device,
    weights: Weights,
    clip: Tensor,
    comparison: Comparison,
}

impl<'a> Bench<'a> {
    fn new(args: &'a SelftestArgs, device: Device) -> Result<Self> {
        let config = Config {
            depth: args.depth,
            width: args.width,
            size: (args.size.0, args.size.1),
            ..Config::default()
        };
        let model = Model::new(config)?;
        let weights = Weights::load(&args.data.weights, model.parameters())?;
        let source = args.data.input.clone().unwrap_or(InputSource::Formula(0));
        let clip = input::load(&source, &model, 1)?;
        let load = |who, precision| engines::load(who, model.clone(), &weights, precision, device);
        let comparison = Comparison {
            candidate: Side::Engine {
                engine: load(&args.candidate, Precision::F32)?,
                input: clip.clone(),
            },
            reference: None,
            truth: load(&args.reference, Precision::F64)?,
            yardstick: load(&args.reference, Precision::F32)?,
            input: clip.clone(),
            precision: Precision::F32,
            selection: Selection::all(model.modules()),
            model,
        };
        Ok(Bench { args, device, weights, clip, comparison })
    }

    /// The verdict on a candidate with this fault, the layer that is named, and the worst ratio.
    fn verdict(&mut self, change: Option<&Change>) -> Result<(Verdict, Option<String>, f64)> {
        let (mut model, mut weights) = (self.comparison.model.clone(), self.weights.clone());
        change.iter().for_each(|change| change.apply(&mut model, &mut weights));
        let engine =
            engines::load(&self.args.candidate, model, &weights, Precision::F32, self.device)?;
        let input = self.clip.clone();
        self.comparison.candidate = match change.cloned() {
            Some(change) => Side::Engine { engine: Box::new(Edited { engine, change }), input },
            None => Side::Engine { engine, input },
        };
        let measured = self.comparison.measure(&|| ())?;
        let Comparison { model, selection, .. } = &self.comparison;
        let found = judge(model, selection, &measured.layers, 1, true);
        let ratios = measured.layers.iter().filter_map(|l| l.introduced.map(|e| e.ratio));
        let worst = ratios.fold(0.0, |a: f64, b| if b.is_nan() { b } else { a.max(b) });
        Ok((found.verdict, found.culprit.map(|id| model.module(id).name.clone()), worst))
    }

    fn try_one(&mut self, change: &Change) -> Result<Place> {
        let (verdict, named, ratio) = self.verdict(Some(change))?;
        let module = self.comparison.model.module(change.site).name.clone();
        Ok(Place { module, detected: verdict == Verdict::Diverged, named, ratio })
    }

    fn sides(&self, args: &SelftestArgs) -> Sides {
        let candidate = match &self.comparison.candidate {
            Side::Engine { engine, .. } => engine.describe(),
            Side::Dump(_) => String::new(),
        };
        Sides {
            candidate: candidate.split(" with ").next().unwrap_or_default().to_owned(),
            reference: self.comparison.truth.describe(),
            yardstick: self.comparison.yardstick.describe(),
            weights: args.data.weights.to_string(),
            input: args.data.input.as_ref().map_or("formula:0".into(), ToString::to_string),
            seeds: BTreeMap::from([("places".to_owned(), args.seed)]),
            batch: 1,
        }
    }
}

fn summary(fault: &Fault, places: Vec<Place>) -> FaultRecord {
    let right = |place: &&Place| place.named.as_deref() == Some(&place.module);
    FaultRecord {
        fault: fault.what.to_owned(),
        injected: places.len() as u64,
        detected: places.iter().filter(|place| place.detected).count() as u64,
        named: places.iter().filter(right).count() as u64,
        places,
    }
}

fn table(faults: &[FaultRecord]) -> String {
    let mut text = format!(
        "{:30} {:>9} {:>9} {:>12} {:>12}",
        "fault", "injected", "detected", "right layer", "least ratio"
    );
    for fault in faults {
        let least = fault.places.iter().map(|place| place.ratio).fold(f64::INFINITY, f64::min);
        text += &format!(
            "\n{:30} {:>9} {:>9} {:>12} {:>12.3e}",
            fault.fault, fault.injected, fault.detected, fault.named, least
        );
    }
    text
}
