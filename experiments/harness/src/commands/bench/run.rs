//! `harness bench`: measures the latency of our engines and of other runtimes.

use std::cell::Cell;
use std::path::Path;

use anyhow::{Context, Result, bail};
use checkpoint::{OutFormat, formula};
use record::Record;
use record::{Baseline, BenchRecord, Setting, Verdict};
use spec::{Config, Ignore, Precision, Tensor};
use video::normalize;

use super::args::BenchArgs;
use super::baseline::{self, Compared, Kept};
use super::rounds::{self, Case, Event, Given};
use super::table::{table, unsteady};
use crate::engines;
use crate::flags::{DeviceArgs, DeviceName, EngineName, ModelArgs};
use crate::lock::{Lock, PATIENCE};
use crate::machine::{self, Sides, Started};
use crate::models;
use crate::outcome::Outcome;
use crate::publish;
use crate::stop;

/// Runs `harness bench`.
pub fn run(args: &BenchArgs) -> Result<Outcome> {
    let started = Started::now();
    let mut args = args.fill();
    refuse(&args)?;
    args.model = models::completed(&args.model, &args.weights, &Config::default());
    let args = &args;
    let config = args.model.config()?;
    let open = |name: &String| {
        let weights = args.weights.to_string();
        Kept::open(name, &machine::machine(), &machine::model(&config, 1), &weights)
    };
    let kept = args.baseline.as_ref().map(open).transpose()?;
    stop::gently("no setting was measured, and the same command starts again");
    let folder = args.out.clone().unwrap_or_else(|| started.folder("bench"));
    let _lock = Lock::acquire(&folder, PATIENCE)?;
    let temporary = files::Folder::new().context("a temporary folder cannot be created")?;
    let bench = Bench::new(args, temporary.path())?;
    let cases = bench.cases();
    let record =
        |settings: &[Setting], compared: Option<Baseline>, regressions: Vec<String>| BenchRecord {
            verdict: verdict(settings, &regressions, settings.len() == cases.len()),
            baseline: compared,
            settings: settings.to_vec(),
            macs: bench.macs,
            rounds: args.rounds as u64,
            runs: args.runs as u64,
            warnings: settings.iter().flat_map(warnings).collect(),
            regressions,
            run: started.finish(&bench.config, bench.sides()),
        };
    let mut settings: Vec<Setting> = vec![];
    for &case in &cases {
        // An interrupted setting is not kept, because its contestants had unequal numbers of turns.
        let Some(mut setting) = bench.setting(case, &|| !stop::asked())? else { break };
        rounds::compare(&mut setting);
        publish::print_result(&table(&setting), &args.report);
        settings.push(setting);
        // Finished settings are written at once, so that a crash does not lose them.
        let so_far = Record::Bench(Box::new(record(&settings, None, vec![])));
        record::write_record(&so_far, &folder.join("record.json"))?;
        stop::gently(format!(
            "{} of {} settings are kept in {}, and the same command measures all of them again",
            settings.len(),
            cases.len(),
            folder.display()
        ));
    }
    let whole = settings.len() == cases.len();
    // A bench that was interrupted cannot be compared with a baseline, and cannot become one.
    let compared = kept.filter(|_| whole).map(|kept| kept.compare(&settings));
    let (compared, regressions) = with_baseline(compared, args)?;
    let record = record(&settings, compared, regressions);
    if let Some(name) = args.save_baseline.as_ref().filter(|_| whole) {
        baseline::save(name, &record)?;
    }
    let passed = record.verdict == Verdict::Pass;
    publish::publish(&Record::Bench(Box::new(record)), &folder, &args.report)?;
    Ok(if stop::interrupted() && !whole { Outcome::Stopped } else { Outcome::of(passed) })
}

/// What makes the times of a setting unreliable.
fn warnings(setting: &Setting) -> Vec<String> {
    let threads = reports::count(setting.threads as usize, "thread");
    let place = format!("{}, batch {}, {threads}", setting.precision, setting.batch);
    unsteady(setting).map(|sentence| format!("{place}: {sentence}")).collect()
}

/// Fails for arguments with which no bench can run.
fn refuse(args: &BenchArgs) -> Result<()> {
    if args.precision.contains(&Precision::F64) {
        bail!("--precision f64: bench measures only f32, bf16, tf32 and f16; leave out f64");
    }
    if args.model.batch_size != 1 {
        let batch = args.model.batch_size;
        bail!("--batch-size {batch}: bench takes a list of batch sizes; give --batch {batch}");
    }
    if let Some(name) = &args.save_baseline {
        baseline::check(name)?;
    }
    if args.device == DeviceName::Cpu
        && let Some(engine) = args.engines.iter().find(|engine| engine.needs_gpu())
    {
        bail!("--engines {engine}: this contestant needs a GPU; add --device cuda");
    }
    engines::check_isa(args.isa)
}

/// Prints the result of a comparison with a baseline, and returns what was compared, and the regressions.
fn with_baseline(
    compared: Option<Compared>,
    args: &BenchArgs,
) -> Result<(Option<Baseline>, Vec<String>)> {
    let Some(compared) = compared else { return Ok((None, vec![])) };
    let name = args.baseline.clone().unwrap_or_default();
    for line in compared.missing.iter().chain(&compared.regressions) {
        publish::print_result(line, &args.report);
    }
    if compared.ratios.is_empty() {
        bail!("baseline `{name}` has nothing in common with this run; give the flags of its run");
    }
    let slower = compared.regressions.len();
    publish::print_result(
        &format!(
            "baseline {name}: {slower} of {} medians are significantly longer",
            compared.ratios.len()
        ),
        &args.report,
    );
    let Compared { ratios, missing, regressions } = compared;
    Ok((Some(Baseline { name, ratios, missing }), regressions))
}

/// The verdict of a bench. It diverged if an output is wrong or a contestant has become slower; it is
/// incomplete if a contestant failed, a setting was not measured, or there are no times at all.
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
    weights: checkpoint::Weights,
    config: spec::Config,
    macs: u64,
}

impl<'a> Bench<'a> {
    fn new(args: &'a BenchArgs, folder: &'a Path) -> Result<Self> {
        let (model, weights) = models::load_model(&args.model, &args.weights)?;
        let converted = folder.join("weights.safetensors");
        checkpoint::write(&weights, &converted, OutFormat::Safetensors)?;
        let onnx = if args
            .engines
            .iter()
            .any(|engine| engine.needs_onnx() && rounds::peer(*engine).is_some())
        {
            let bytes = onnx::Plan::new(&model, onnx::Options::PLAIN)?.fill(&weights)?;
            let path = folder.join("model.onnx");
            crate::disk::write(&path, &bytes)?;
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
            // 0 stands for all cores.
            false => self.args.threads.iter().map(|&n| if n == 0 { cores } else { n }).collect(),
        };
        let mut cases = vec![];
        for &precision in &self.args.precision {
            for &batch in &self.args.batch {
                for &threads in &threads {
                    cases.push(Case { precision, batch, threads });
                }
            }
        }
        cases
    }

    fn setting(&self, case: Case, go_on: &dyn Fn() -> bool) -> Result<Option<Setting>> {
        let shape = self.model.input_shape(case.batch);
        let clip = Tensor::f32(
            shape.clone(),
            of_bytes(&formula::input(shape.iter().product(), 0), &shape),
        );
        let reference = self.reference(&clip)?;
        let input = self.given.folder.join("input.npy");
        ndarray_npy::write_npy(&input, &ndarray::ArrayD::from_shape_vec(shape, clip.to_f32())?)?;
        let turns = self.args.rounds * self.args.engines.len();
        let bar = crate::progress::bar("bench", turns as u64);
        let name = format!(
            "{}, batch {}, {}",
            case.precision,
            case.batch,
            reports::count(case.threads, "thread")
        );
        let notify = |event: Event| {
            bar.set_message(format!("{name}: {event}"));
            bar.inc(u64::from(matches!(event, Event::Turn(..))));
        };
        let setting = self.given.run(case, &input, &reference, &notify, go_on);
        bar.finish_and_clear();
        setting
    }

    /// The output of the reference in float64.
    fn reference(&self, clip: &Tensor) -> Result<Tensor> {
        let on = DeviceArgs { device: self.args.device, threads: 0, isa: None };
        let device = engines::open_device(&on)?;
        let mut engine = engines::load(
            EngineName::REFERENCE,
            self.model.clone(),
            &self.weights,
            Precision::F64,
            device,
        )?;
        Ok(engine.forward(clip, &mut Ignore)?)
    }

    fn sides(&self) -> Sides {
        Sides {
            candidate: self
                .args
                .engines
                .iter()
                .map(|engine| engine.name())
                .collect::<Vec<_>>()
                .join(", "),
            reference: format!("{} f64", EngineName::REFERENCE),
            yardstick: "none: times are compared".to_owned(),
            weights: self.args.weights.to_string(),
            input: "formula:0, rounded to bytes".to_owned(),
            seeds: [("input".to_owned(), 0)].into(),
            batch: self.args.batch.iter().copied().max().unwrap_or(1),
            device: self.args.device,
        }
    }
}

/// The nearest clip [N, 3, T, H, W] that normalised bytes give, so that contestants can also begin with bytes.
fn of_bytes(clip: &[f32], shape: &[usize]) -> Vec<f32> {
    let plane: usize = shape[2..].iter().product();
    let near = |(at, value): (usize, &f32)| {
        let colour = at / plane % 3;
        let (mean, std) = (normalize::MEAN[colour], normalize::STD[colour]);
        let byte = (value * std + mean).round().clamp(0.0, 255.0);
        (byte - mean) / std
    };
    clip.iter().enumerate().map(near).collect()
}

/// The flags that describe the model, for the processes of our engines.
fn flags(model: &ModelArgs) -> Vec<String> {
    let mut flags = vec![];
    let mut add = |flag: &str, value: Option<String>| {
        flags.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
    };
    add("--depth", model.depth.map(|v| v.to_string()));
    add("--width", model.width.map(|v| v.to_string()));
    add("--frames", model.frames.and_then(|flag| flag.number).map(|v| v.to_string()));
    add("--size", model.size.map(|v| v.to_string()));
    add("--classes", model.classes.map(|v| v.to_string()));
    add("--pos-dim", model.pos_dim.map(|v| v.to_string()));
    add("--set", (!model.set.is_empty()).then(|| model.set.join(",")));
    flags
}
