//! `harness bench`: latency of our engines beside libtorch and other runtimes.

use std::cell::Cell;
use std::path::Path;

use anyhow::{Context, Result, bail};
use reports::Record;
use reports::record::{BenchRecord, Setting, Verdict};
use spec::weights::{self, OutFormat, formula};
use spec::{Ignore, Precision, Tensor};

use crate::Outcome;
use crate::bench::args::BenchArgs;
use crate::bench::baseline::{self, Compared, Kept};
use crate::bench::rounds::{self, Case, Given, needs_onnx};
use crate::bench::table::table;
use crate::cli::{DeviceArgs, ModelArgs};
use crate::engines;
use crate::export;
use crate::files;
use crate::machine::{self, Sides, Started};
use crate::stop;

/// Runs the command.
pub fn run(args: &BenchArgs) -> Result<Outcome> {
    let started = Started::now();
    let args = &args.fill();
    refuse(args)?;
    let config = args.model.config()?;
    let open = |name: &String| {
        let weights = args.weights.to_string();
        Kept::open(name, &machine::machine(), &machine::model(&config, 1), &weights)
    };
    let kept = args.baseline.as_ref().map(open).transpose()?;
    stop::listen();
    let folder = args.out.clone().unwrap_or_else(|| started.folder("bench"));
    let temporary = tempfile::tempdir().context("no temporary folder can be made")?;
    let bench = Bench::new(args, temporary.path())?;
    let cases = bench.cases();
    let record = |settings: &[Setting], regressions: Vec<String>| BenchRecord {
        verdict: verdict(settings, &regressions, settings.len() == cases.len()),
        settings: settings.to_vec(),
        macs: bench.macs,
        rounds: args.rounds as u64,
        runs: args.runs as u64,
        regressions,
        run: started.finish(&bench.config, bench.sides()),
    };
    let mut settings: Vec<Setting> = vec![];
    for &case in &cases {
        // A setting that was interrupted is not kept: its contestants had unequal turns.
        let Some(mut setting) = bench.setting(case, &|| !stop::asked())? else { break };
        rounds::compare(&mut setting);
        super::print(&table(&setting));
        settings.push(setting);
        // What is measured is kept, whatever happens next.
        let so_far = Record::Bench(Box::new(record(&settings, vec![])));
        reports::write_record(&so_far, &folder.join("record.json"))?;
    }
    let whole = settings.len() == cases.len();
    if !whole {
        eprintln!("interrupted: {} of {} settings are kept", settings.len(), cases.len());
    }
    // A part of a bench neither proves that nothing has become slower nor serves as a baseline.
    let compared = kept.filter(|_| whole).map(|kept| kept.compare(&settings));
    let record = record(&settings, said(compared, args)?);
    if let Some(name) = args.save_baseline.as_ref().filter(|_| whole) {
        baseline::save(name, &record)?;
    }
    let passed = record.verdict == Verdict::Pass;
    super::publish(&Record::Bench(Box::new(record)), &folder, &args.report)?;
    Ok(if passed { Outcome::Passed } else { Outcome::Failed })
}

/// What no bench can be made of.
fn refuse(args: &BenchArgs) -> Result<()> {
    if args.precision.contains(&Precision::F64) || args.rounds == 0 || args.runs == 0 {
        bail!("bench runs f32, bf16, tf32 and f16, with at least one round of one run");
    }
    let gpu = |engine: &String| matches!(engine.as_str(), "cuda" | "torch-graph");
    if args.device == "cpu"
        && let Some(engine) = args.engines.iter().find(|e| gpu(e))
    {
        bail!("--engines {engine}: it needs a GPU; add --device cuda");
    }
    engines::check_isa(args.isa)
}

/// Prints what a comparison with a baseline found, and returns who has become slower.
fn said(compared: Option<Compared>, args: &BenchArgs) -> Result<Vec<String>> {
    let Some(compared) = compared else { return Ok(vec![]) };
    for line in compared.missing.iter().chain(&compared.regressions) {
        super::print(line);
    }
    if compared.count == 0 {
        let name = args.baseline.as_deref().unwrap_or_default();
        bail!("baseline `{name}` has nothing in common with this run; the times are in its record");
    }
    Ok(compared.regressions)
}

/// A contestant whose output is wrong or that has become slower is a divergence; a contestant that
/// broke, settings that are still to come and nobody to compare with leave the run incomplete.
fn verdict(settings: &[Setting], regressions: &[String], whole: bool) -> Verdict {
    let entries = || settings.iter().flat_map(|setting| &setting.entries);
    let incomplete = !whole || entries().next().is_none() || settings.iter().any(|s| s.broken);
    match (entries().any(|entry| !entry.right) || !regressions.is_empty(), incomplete) {
        (true, _) => Verdict::Diverged,
        (false, true) => Verdict::Incomplete,
        (false, false) => Verdict::Pass,
    }
}

struct Bench<'a> {
    args: &'a BenchArgs,
    given: Given<'a>,
    model: spec::Model,
    weights: spec::weights::Weights,
    config: spec::Config,
    macs: u64,
}

impl<'a> Bench<'a> {
    fn new(args: &'a BenchArgs, folder: &'a Path) -> Result<Self> {
        let (model, weights) = super::model_and_weights(&args.model, &args.weights)?;
        let converted = folder.join("weights.safetensors");
        weights::write(&weights, &converted, OutFormat::Safetensors)?;
        let onnx = if args.engines.iter().any(|e| needs_onnx(e)) && rounds::peers().is_some() {
            let bytes = export::Plan::new(&model, export::Options::PLAIN)?.fill(&weights)?;
            let path = folder.join("model.onnx");
            files::write(&path, &bytes)?;
            Some(path)
        } else {
            None
        };
        let (config, macs) = (model.config.clone(), model.macs());
        let given = Given {
            args,
            folder,
            weights: converted,
            onnx,
            config: serde_json::to_string(&config)?,
            model_flags: flags(&args.model),
            warm: Cell::new(false),
        };
        Ok(Bench { args, given, model, weights, config, macs })
    }

    fn cases(&self) -> Vec<Case> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let threads = match self.args.threads.is_empty() {
            true if cores > 1 => vec![1, cores],
            true => vec![1],
            // 0 is all cores, as elsewhere.
            false => self.args.threads.iter().map(|&n| if n == 0 { cores } else { n }).collect(),
        };
        let mut cases = vec![];
        for &precision in &self.args.precision {
            for &batch in &self.args.batch {
                for &threads in &threads {
                    cases.push(Case { precision, batch: batch.max(1), threads });
                }
            }
        }
        cases
    }

    fn setting(&self, case: Case, go_on: &dyn Fn() -> bool) -> Result<Option<Setting>> {
        let shape = self.model.input_shape(case.batch);
        let clip = Tensor::f32(shape.clone(), formula::input(shape.iter().product(), 0));
        let reference = self.reference(&clip)?;
        let input = self.given.folder.join("input.npy");
        ndarray_npy::write_npy(&input, &ndarray::ArrayD::from_shape_vec(shape, clip.to_f32())?)?;
        let turns = self.args.rounds * self.args.engines.len();
        let bar = crate::progress::bar("bench", turns as u64);
        let name = format!("{}, batch {}, {} threads", case.precision, case.batch, case.threads);
        let said = |what: String| {
            bar.set_message(format!("{name}: {what}"));
            bar.inc(u64::from(what.starts_with("round")));
        };
        let setting = self.given.run(case, &input, &reference, &said, go_on);
        bar.finish_and_clear();
        setting
    }

    /// The output in float64.
    fn reference(&self, clip: &Tensor) -> Result<Tensor> {
        let on = DeviceArgs { device: self.args.device.clone(), threads: 0, isa: None };
        let device = engines::open_device(&on)?;
        let name = crate::cli::DEFAULT_REFERENCE.parse().map_err(anyhow::Error::msg)?;
        let mut engine =
            engines::load(&name, self.model.clone(), &self.weights, Precision::F64, device)?;
        Ok(engine.forward(clip, &mut Ignore)?)
    }

    fn sides(&self) -> Sides {
        Sides {
            candidate: self.args.engines.join(", "),
            reference: format!("{} f64", crate::cli::DEFAULT_REFERENCE),
            yardstick: "none: times are compared".to_owned(),
            weights: self.args.weights.to_string(),
            input: "formula:0".to_owned(),
            seeds: [("input".to_owned(), 0)].into(),
            batch: self.args.batch.iter().copied().max().unwrap_or(1),
        }
    }
}

/// The flags of a model, for a process that is given the same one.
fn flags(model: &ModelArgs) -> Vec<String> {
    let mut flags = vec![];
    let mut add = |flag: &str, value: Option<String>| {
        flags.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
    };
    add("--depth", model.depth.map(|v| v.to_string()));
    add("--width", model.width.map(|v| v.to_string()));
    add("--frames", model.frames.map(|v| v.to_string()));
    add("--size", model.size.map(|v| v.to_string()));
    add("--classes", model.classes.map(|v| v.to_string()));
    add("--pos-dim", model.pos_dim.map(|v| v.to_string()));
    add("--set", (!model.set.is_empty()).then(|| model.set.join(",")));
    flags
}
