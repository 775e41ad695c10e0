//! How a step is run: in a process of its own, or, for repeated runs of the network, in this one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use checkpoint::{Weights, formula};
use cuda::kernels::measured::Candidate;
use record::{GpuRecord, GpuStep, KernelSource, Verdict};
use spec::{Config, Engine, Ignore, Model, Precision, Tensor};

use super::args::GpuCheckArgs;
use super::steps::{Action, Step};
use super::sweep;
use crate::engines;
use crate::flags::{DeviceArgs, DeviceName, EngineName};
use crate::machine::{Sides, Started};
use crate::stop;

/// The number of runs whose outputs must have the same bits.
const REPEATS: usize = 100;

/// The number of characters at the end of a step's output that are kept.
const KEPT: usize = 600;
/// The same for the probes, whose last line is one JSON object with all outcomes.
const KEPT_OF_PROBES: usize = 20_000;

/// The GPU, and what all steps share.
pub(super) struct Check<'a> {
    args: &'a GpuCheckArgs,
    engine: Mutex<cuda::Cuda>,
    model: Arc<Model>,
    clip: Tensor,
    described: String,
    folder: PathBuf,
    /// What `--sweep` names.
    candidates: Vec<Candidate>,
    /// When the time of the whole check is over.
    end: Instant,
}

/// Why a step did not pass.
enum NotPassed {
    LeftOut(String),
    Failed(String),
}

impl From<std::io::Error> for NotPassed {
    fn from(error: std::io::Error) -> Self {
        NotPassed::Failed(error.to_string())
    }
}

/// A command line to show, and the result of running it.
type Ran = (String, Result<String, NotPassed>);

impl<'a> Check<'a> {
    /// Opens the GPU; fails if there is none.
    pub fn new(args: &'a GpuCheckArgs, device: DeviceName, folder: PathBuf) -> Result<Self> {
        let end = Instant::now() + Duration::from_secs(args.limit);
        let candidates = args.sweep.as_deref().map(sweep::read).transpose()?.unwrap_or_default();
        let on = DeviceArgs { device, threads: 0, isa: None };
        if !device.is_gpu() {
            bail!(
                "--device {device}: gpu-check checks a GPU; leave out --device, or add --rehearse"
            );
        }
        engines::open_device(&on).map_err(|why| {
            let instead = "add --rehearse, which emulates a GPU";
            anyhow!("{}", format!("{why:#}").replace("use --device cpu", instead))
        })?;
        let small =
            Config { depth: 10, width: 0.125, frames: 2, size: (32, 32), ..Config::default() };
        let config = if args.rehearse { small } else { Config::default() };
        let model = Arc::new(Model::new(config)?);
        let weights = Weights::formula(model.parameters(), 0);
        let mut engine = engines::gpu::open(model.clone(), &weights, Precision::Bf16, device)?;
        let described = engine.device().describe();
        let shape = model.input_shape(2);
        let clip = Tensor::f32(shape.clone(), formula::input(shape.iter().product(), 0));
        let engine = Mutex::new(engine);
        Ok(Check { args, engine, model, clip, described, folder, candidates, end })
    }

    /// Runs a step.
    pub fn step(&self, step: &Step) -> GpuStep {
        let start = Instant::now();
        let (command, result) = match &step.action {
            _ if start >= self.end => (String::new(), Err(self.too_late())),
            Action::Repeat => ("in this process".to_owned(), self.repeat()),
            Action::Sweep => ("in this process".to_owned(), self.sweep()),
            Action::Probes => self.probes(step),
            Action::Harness(words) => self.harness(step, words),
            Action::Tests(before, words) => self.tests(step, before, words),
        };
        let (outcome, said) = match result {
            Ok(said) => ("passed", said),
            Err(NotPassed::LeftOut(why)) => ("left out", why),
            Err(NotPassed::Failed(said)) => ("failed", said),
        };
        GpuStep {
            name: step.name.clone(),
            proves: step.proves.to_owned(),
            command,
            seconds: start.elapsed().as_secs_f64(),
            outcome: outcome.to_owned(),
            said,
        }
    }

    fn too_late(&self) -> NotPassed {
        let limit = self.args.limit;
        NotPassed::LeftOut(format!("the {limit} s of the whole check were over; see --limit"))
    }

    fn repeat(&self) -> Result<String, NotPassed> {
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        let mut run = || {
            let output = engine.forward(&self.clip, &mut Ignore);
            output.map(|output| output.to_f32()).map_err(|e| NotPassed::Failed(e.to_string()))
        };
        let first = run()?;
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let count = if self.args.rehearse { 3 } else { REPEATS };
        for at in 1..count {
            if bits(&run()?) != bits(&first) {
                return Err(NotPassed::Failed(format!(
                    "the output of run {} differs from that of run 1",
                    at + 1
                )));
            }
        }
        Ok(format!("{count} runs, the same bits"))
    }

    fn sweep(&self) -> Result<String, NotPassed> {
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        let go_on = || Instant::now() < self.end && !stop::asked();
        let swept = sweep::run(engine.device(), &self.candidates, &self.folder, go_on);
        let swept = swept.map_err(|error| NotPassed::Failed(format!("{error:#}")))?;
        match (swept.wrong, swept.whole) {
            (0, true) => Ok(swept.table),
            (0, false) => Err(NotPassed::LeftOut(format!("{}\nit was cut off", swept.table))),
            (wrong, _) => Err(NotPassed::Failed(format!(
                "{}\n{wrong} results differ from that of the first tiling of their product",
                swept.table
            ))),
        }
    }

    fn probes(&self, step: &Step) -> Ran {
        let shown = "probes/run.sh".to_owned();
        let Some(script) = &self.args.probes else {
            let why = "--probes was not given; scripts/gpu-check passes impls/cuda/probes/run.sh";
            return (shown, Err(NotPassed::LeftOut(why.to_owned())));
        };
        let mut command = Command::new("bash");
        command.arg(script);
        (shown, self.wait(command, step, KEPT_OF_PROBES))
    }

    fn harness(&self, step: &Step, words: &[String]) -> Ran {
        let place = self.folder.join(file_name(&step.name));
        let setting =
            step.setting.map_or(String::new(), |(name, value)| format!("{name}={value} "));
        let shown = format!("{setting}harness {}", words.join(" "));
        let mut words = words.to_vec();
        match words[0].as_str() {
            "diff" => words.extend([
                "--json".to_owned(),
                place.with_extension("json").display().to_string(),
                "--html".to_owned(),
                place.with_extension("html").display().to_string(),
            ]),
            _ => words.extend(["--out".to_owned(), place.display().to_string()]),
        }
        let this = match std::env::current_exe() {
            Ok(this) => this,
            Err(error) => return (shown, Err(error.into())),
        };
        let mut command = Command::new(this);
        command.args(&words);
        command.envs(step.setting);
        (shown, self.wait(command, step, KEPT))
    }

    fn tests(&self, step: &Step, before: &[String], words: &[String]) -> Ran {
        let shown = format!("{} kernel-tests {}", before.join(" "), words.join(" "));
        let Some(tests) = &self.args.kernel_tests else {
            let why = "--kernel-tests was not given; scripts/gpu-check builds them";
            return (shown, Err(NotPassed::LeftOut(why.to_owned())));
        };
        let mut command = match before {
            [] => Command::new(tests),
            [tool, options @ ..] => {
                let mut command = Command::new(tool);
                command.args(options).arg(tests);
                command
            }
        };
        command.args(words);
        if !self.args.rehearse {
            let number = match self.args.device {
                DeviceName::Cuda(Some(number)) => number,
                _ => 0,
            };
            command.env("HARNESS_TEST_GPU", number.to_string());
        }
        (shown.trim().to_owned(), self.wait(command, step, KEPT))
    }

    /// Runs a process until it ends or reaches its limit, and returns the last `kept` characters of its
    /// output.
    fn wait(&self, mut command: Command, step: &Step, kept: usize) -> Result<String, NotPassed> {
        let log = self.folder.join(format!("{}.log", file_name(&step.name)));
        let out = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                NotPassed::LeftOut(format!("{:?} was not found", command.get_program()))
            }
            _ => error.into(),
        })?;
        let own_end = Instant::now() + Duration::from_secs(step.limit_s);
        let end = own_end.min(self.end);
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if Instant::now() < end && !stop::asked() => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                _ => break None,
            }
        };
        if status.is_none() {
            // Both calls fail if the process has just ended, which is fine.
            let _ = child.kill();
            let _ = child.wait();
        }
        let said = tail(&log, kept);
        let _ = std::fs::remove_file(&log);
        match status {
            Some(status) if status.success() => Ok(said),
            Some(status) => Err(NotPassed::Failed(format!("{status}: {said}"))),
            None if stop::asked() => Err(NotPassed::LeftOut("it was interrupted".to_owned())),
            None if end < own_end => Err(self.too_late()),
            None => {
                let limit = step.limit_s;
                Err(NotPassed::Failed(format!("ended at its time limit of {limit} s: {said}")))
            }
        }
    }

    /// The record of the steps that are done, of `all` in the whole check.
    pub fn record(&self, done: &[GpuStep], all: usize, started: &Started) -> GpuRecord {
        let any = |outcome: &str| done.iter().any(|step| step.outcome == outcome);
        let whole = done.len() == all && !any("left out") && !self.args.rehearse;
        let verdict = match (any("failed"), whole) {
            (true, _) => Verdict::Diverged,
            (false, true) => Verdict::Pass,
            (false, false) => Verdict::Incomplete,
        };
        let kernels = cuda::kernels::digests().into_iter().map(|(file, digest)| KernelSource {
            file: file.to_owned(),
            checked: digest.clone(),
            current: digest,
        });
        GpuRecord {
            verdict,
            device: self.described.clone(),
            emulated: self.args.rehearse,
            kernels: kernels.collect(),
            steps: done.to_vec(),
            run: started.finish(&self.model.config, self.sides()),
        }
    }

    fn sides(&self) -> Sides {
        Sides {
            candidate: "cuda".to_owned(),
            reference: EngineName::REFERENCE.to_string(),
            yardstick: String::new(),
            weights: "formula:0".to_owned(),
            input: "formula:0".to_owned(),
            seeds: std::collections::BTreeMap::new(),
            batch: 2,
            device: if self.args.rehearse { DeviceName::Emulated } else { self.args.device },
        }
    }
}

/// The name of a step as a part of the name of a file.
fn file_name(step: &str) -> String {
    step.replace([' ', ','], "-")
}

/// The end of a log, without the lines that name files of this machine.
fn tail(log: &Path, kept: usize) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let names = |line: &&str| !line.starts_with("record ") && !line.starts_with("report ");
    let text = text.lines().filter(names).collect::<Vec<_>>().join("\n");
    let count = text.chars().count();
    text.chars().skip(count.saturating_sub(kept)).collect::<String>().trim().to_owned()
}
