//! `harness selftest`: measures whether the tool detects mistakes and names them correctly. Every mistake
//! of the catalogue, and some that are not in it, are planted at random places in an engine and in dumps.
//! The rows of the confusion matrix are the planted mistakes, its counts what was named.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use checkpoint::Inferred;
use record::{Record, SelftestRecord};
use spec::{Config, Model};

use super::args::SelftestArgs;
use super::bench::{SETTINGS, TestBench};
use super::matrix::Row;
use super::mutations;
use super::{bench, matrix};
use crate::engines;
use crate::flags::EngineName;
use crate::machine::Started;
use crate::outcome::Outcome;
use crate::progress;
use crate::publish;
use compare::faults::{Change, Fault, SIZES, Unknown, choose, not_exercised, throughout};

/// The smallest share of the mistakes that must be located at the right layer, and that must be named.
const MIN_NAMED: f64 = 0.95;

/// Plants the mistakes, prints the matrix, and writes record and report.
pub fn run(args: &SelftestArgs) -> Result<Outcome> {
    let started = Started::now();
    if args.null == Some(0) {
        bail!("--null 0: no comparison is made; give at least 1");
    }
    if args.places == 0 {
        bail!("--places 0: no mistake is planted; give at least 1");
    }
    if !matches!(args.candidate, EngineName::Scalar | EngineName::Torch) {
        bail!(
            "--candidate {}: mistakes can only be planted in scalar or torch; choose one of them",
            args.candidate
        );
    }
    if let Some(count) = args.null {
        return super::null::run(args, count);
    }
    let args = &with_found(args);
    let device = engines::open_device(&args.data.on)?;
    let mut benches = TestBenches { args, device, by_size: BTreeMap::new() };
    let plan = plan(&args.only)?;
    let bar = progress::bar("planting", (plan.len() * args.places * SETTINGS.len()) as u64);
    let mut rows = vec![];
    for (number, kind) in plan.iter().enumerate() {
        let Some((bench, places)) = benches.places(kind)? else { continue };
        let mut row = Row::new(kind.what(), kind.is_known());
        let seed = args.seed.wrapping_add(number as u64);
        let chosen = match kind {
            Kind::Throughout(_) => throughout(&places).into_iter().collect(),
            _ => choose(places, args.places, seed),
        };
        for change in chosen {
            for setting in SETTINGS {
                row.add(setting, bench.plant(&change, setting)?, kind.is_throughout());
                bar.inc(1);
            }
        }
        rows.push(row);
    }
    bar.finish_and_clear();
    publish::print_result(&matrix::table(&rows), &args.out);
    let mutations = mutations::run(args.mutations, args.seed, args.reference, device)?;
    publish::print_result(&format!("\n{}", mutations::table(&mutations)), &args.out);
    let noticed = mutations.iter().all(|mutation| mutation.passed.is_empty());
    let passed = noticed && matrix::passes(&rows, MIN_NAMED);
    let main = benches.main()?;
    if let Some(line) = elsewhere(&main.comparison.model, &plan) {
        publish::print_result(&line, &args.out);
    }
    let run = started.finish(&main.comparison.model.config, main.sides(args));
    let confusion = rows.iter().flat_map(Row::confusion).collect();
    let faults = rows.into_iter().map(Row::fault).collect();
    let record = Record::Selftest(Box::new(SelftestRecord { faults, mutations, confusion, run }));
    publish::publish(&record, &started.folder("selftest"), &args.out)?;
    Ok(if passed { Outcome::Passed } else { Outcome::Failed })
}

/// The arguments completed by what the checkpoint says about the model.
fn with_found(args: &SelftestArgs) -> SelftestArgs {
    // A file that cannot be read is refused when it is loaded.
    let found = checkpoint::infer(&args.data.weights).unwrap_or_default();
    let full = SelftestArgs { found, ..args.clone() };
    if found != Inferred::default() {
        let Config { depth, width, frames, classes, pos_dim: [a, b, c, d], .. } =
            full.config((1, 1));
        announce!(
            "inferred from the checkpoint, but for flags: depth {depth}, width {width}, {frames} frames, \
             {classes} classes, pos_dim {a},{b},{c},{d}"
        );
    }
    full
}

/// A row of the matrix.
enum Kind {
    /// A mistake of the catalogue, planted at one place.
    Single(Fault),
    /// A mistake of the catalogue, planted at all of its places.
    Throughout(Fault),
    /// A mistake that is not in the catalogue.
    Unknown(Unknown),
}

/// All rows, or those that `--only` names.
fn plan(only: &[String]) -> Result<Vec<Kind>> {
    let single = Fault::ALL.iter().map(|fault| Kind::Single(*fault));
    let programs = Fault::ALL.iter().filter(|fault| fault.is_throughout());
    let programs = programs.map(|fault| Kind::Throughout(*fault));
    let mut plan: Vec<Kind> =
        single.chain(programs).chain(Unknown::ALL.map(Kind::Unknown)).collect();
    if let Some(word) = only.iter().find(|word| plan.iter().all(|kind| kind.word() != **word)) {
        let mut known: Vec<&str> = plan.iter().map(Kind::word).collect();
        known.sort_unstable();
        known.dedup();
        bail!(
            "--only {word}: there is no mistake with this name; use some of {}",
            known.join(", ")
        );
    }
    plan.retain(|kind| only.is_empty() || only.iter().any(|word| kind.word() == *word));
    Ok(plan)
}

/// A line on the mistakes that have no place at the size of `--size`, with the sizes used instead.
fn elsewhere(model: &Model, plan: &[Kind]) -> Option<String> {
    let planted = |word: &str| plan.iter().any(|kind| kind.word() == word);
    let places: Vec<String> = not_exercised(model, &|_| true, &|_| f64::INFINITY, None)
        .into_iter()
        .filter(|fault| planted(fault.word))
        .filter_map(|fault| Some(format!("{} at {}", fault.what, fault.try_size?)))
        .collect();
    let (height, width) = model.config.size;
    let line = format!("no place at {height}x{width}, planted elsewhere: {}", places.join(", "));
    (!places.is_empty()).then_some(line)
}

impl Kind {
    fn word(&self) -> &'static str {
        match self {
            Kind::Single(fault) | Kind::Throughout(fault) => fault.word,
            Kind::Unknown(unknown) => unknown.word,
        }
    }

    fn what(&self) -> String {
        match self {
            Kind::Single(fault) => fault.what.to_owned(),
            Kind::Throughout(fault) => format!("{}, everywhere", fault.what),
            Kind::Unknown(unknown) => unknown.what.to_owned(),
        }
    }

    fn is_known(&self) -> bool {
        !matches!(self, Kind::Unknown(_))
    }

    fn is_throughout(&self) -> bool {
        matches!(self, Kind::Throughout(_))
    }

    fn is_by_value(&self) -> bool {
        match self {
            Kind::Single(fault) | Kind::Throughout(fault) => fault.is_by_value(),
            Kind::Unknown(_) => false,
        }
    }

    fn places(&self, model: &Model) -> Vec<Change> {
        match self {
            Kind::Single(fault) | Kind::Throughout(fault) => fault.places(model),
            Kind::Unknown(unknown) => unknown.places(model),
        }
    }
}

/// A test bench for each frame size that is needed, because not every mistake has a place at every size.
struct TestBenches<'a> {
    args: &'a SelftestArgs,
    device: engines::Device,
    by_size: BTreeMap<(usize, usize), TestBench<'a>>,
}

impl<'a> TestBenches<'a> {
    fn main(&mut self) -> Result<&mut TestBench<'a>> {
        let size = self.args.size;
        self.at((size.0, size.1))
    }

    fn at(&mut self, size: (usize, usize)) -> Result<&mut TestBench<'a>> {
        if !self.by_size.contains_key(&size) {
            let bench = TestBench::new(self.args, self.device, size)?;
            self.by_size.insert(size, bench);
        }
        match self.by_size.get_mut(&size) {
            Some(bench) => Ok(bench),
            None => bail!("the test bench of {}x{} was not kept", size.0, size.1),
        }
    }

    /// The places of a mistake at the size of `--size`, or else at the first size at which it has some.
    fn places(&mut self, kind: &Kind) -> Result<Option<(&mut TestBench<'a>, Vec<Change>)>> {
        let (size, args) = (self.args.size, self.args);
        for size in std::iter::once((size.0, size.1)).chain(SIZES) {
            // The shapes tell the places without a run, except for mistakes that depend on values.
            let mut places = kind.places(&bench::model(args, size)?);
            if kind.is_by_value() && !places.is_empty() {
                places = self.at(size)?.that_matter(places)?;
            }
            if !places.is_empty() {
                return Ok(Some((self.at(size)?, places)));
            }
        }
        // No size has a place: align_corners, for example, cannot be switched on where it is on.
        Ok(None)
    }
}
