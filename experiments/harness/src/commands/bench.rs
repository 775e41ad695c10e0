//! `harness bench`: latency of our engines beside libtorch and other runtimes.

use std::path::Path;

use anyhow::{Context, Result, bail};
use reports::Record;
use reports::record::{BenchRecord, Setting, Verdict};
use spec::weights::formula;
use spec::{Ignore, Precision, Tensor};

use crate::Outcome;
use crate::bench::args::BenchArgs;
use crate::bench::baseline::{self, Kept};
use crate::bench::rounds::{self, Case, Given, is_peer};
use crate::cli::{DeviceArgs, ModelArgs};
use crate::engines;
use crate::export;
use crate::files;
use crate::machine::{self, Sides, Started};
use crate::stop;

/// Runs the command.
pub fn run(args: &BenchArgs) -> Result<Outcome> {
    let started = Started::now();
    let kept =
        args.baseline.as_ref().map(|name| Kept::open(name, &machine::machine())).transpose()?;
    if args.precision.contains(&Precision::F64) || args.rounds == 0 || args.runs == 0 {
        bail!("bench runs f32 and bf16, with at least one round of one run");
    }
    stop::listen();
    let folder = args.out.clone().unwrap_or_else(|| started.folder("bench"));
    let temporary = tempfile::tempdir().context("no temporary folder can be made")?;
    let bench = Bench::new(args, temporary.path())?;
    let record = |settings: &[Setting], bench: &Bench<'_>| BenchRecord {
        verdict: verdict(settings),
        settings: settings.to_vec(),
        macs: bench.macs,
        rounds: args.rounds as u64,
        runs: args.runs as u64,
        run: started.finish(&bench.config, bench.sides()),
    };
    let mut settings: Vec<Setting> = vec![];
    for case in bench.cases() {
        if stop::asked() {
            break;
        }
        let mut setting = bench.setting(case, &|| !stop::asked())?;
        rounds::compare(&mut setting);
        super::print(&table(&setting));
        settings.push(setting);
        // What is measured is kept, whatever happens next.
        let so_far = Record::Bench(Box::new(record(&settings, &bench)));
        reports::write_record(&so_far, &folder.join("record.json"))?;
    }
    let record = record(&settings, &bench);
    if let Some(name) = &args.save_baseline {
        baseline::save(name, &record)?;
    }
    let slower = kept.map_or(vec![], |kept| kept.regressions(&record.settings));
    for regression in &slower {
        super::print(&regression.what);
    }
    let passed = record.verdict == Verdict::Pass && slower.is_empty() && !stop::asked();
    super::publish(&Record::Bench(Box::new(record)), &folder, &args.report)?;
    Ok(if passed { Outcome::Passed } else { Outcome::Failed })
}

/// A contestant whose output is wrong is a divergence, nobody to compare with is incomplete.
fn verdict(settings: &[Setting]) -> Verdict {
    let entries = || settings.iter().flat_map(|setting| &setting.entries);
    match (entries().any(|entry| !entry.right), entries().next()) {
        (true, _) => Verdict::Diverged,
        (false, None) => Verdict::Incomplete,
        (false, Some(_)) => Verdict::Pass,
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
        let onnx = if args.engines.iter().any(|e| is_peer(e)) && rounds::peers().is_some() {
            let options = export::Options { opset: 17, softmax: false, preprocess: false };
            let bytes = export::onnx(&model, &weights, &args.weights.to_string(), options)?;
            let path = folder.join("model.onnx");
            files::write(&path, &bytes)?;
            Some(path)
        } else {
            None
        };
        let given = Given { args, folder, onnx, model_flags: flags(&args.model) };
        let (config, macs) = (model.config.clone(), model.macs());
        Ok(Bench { args, given, model, weights, config, macs })
    }

    fn cases(&self) -> Vec<Case> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let threads = match self.args.threads.is_empty() {
            true if cores > 1 => vec![1, cores],
            true => vec![1],
            false => self.args.threads.clone(),
        };
        let mut cases = vec![];
        for &precision in &self.args.precision {
            for &batch in &self.args.batch {
                for &threads in &threads {
                    cases.push(Case { precision, batch: batch.max(1), threads: threads.max(1) });
                }
            }
        }
        cases
    }

    fn setting(&self, case: Case, go_on: &dyn Fn() -> bool) -> Result<Setting> {
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
        let on = DeviceArgs { device: "cpu".to_owned(), threads: 0, isa: None };
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

fn table(setting: &Setting) -> String {
    let mut lines = vec![
        format!(
            "{}, batch {}, {} threads; peak {:.0} GFLOP/s, {:.1} GB/s",
            setting.precision,
            setting.batch,
            setting.threads,
            setting.peak_gflops,
            setting.peak_gbs
        ),
        format!(
            "  {:12} {:>8} {:>17} {:>8} {:>8} {:>7} {:>8}  {}",
            "", "median", "95 % interval", "p99", "load", "MiB", "error", "to the fastest peer"
        ),
    ];
    for entry in &setting.entries {
        let ms = |s: f64| format!("{:.1}", 1e3 * s);
        let ratio = entry.to_peer.as_ref().map_or(String::new(), |(name, [point, low, high])| {
            format!("{point:.2} ({low:.2} to {high:.2}) {name}")
        });
        let wrong = if entry.right { "" } else { " WRONG" };
        lines.push(format!(
            "  {:12} {:>8} {:>17} {:>8} {:>6.2} s {:>7.0} {:>8.0e}  {ratio}{wrong}",
            entry.name,
            ms(entry.p50_s),
            format!("{} to {}", ms(entry.p50_low_s), ms(entry.p50_high_s)),
            ms(entry.p99_s),
            entry.load_s,
            entry.peak_bytes as f64 / f64::from(1 << 20),
            entry.error,
        ));
    }
    for (name, why) in &setting.left_out {
        lines.push(format!("  {name:12} left out: {why}"));
    }
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}
