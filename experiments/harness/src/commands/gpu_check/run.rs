//! `harness gpu-check`: checks everything about the engine `cuda` that needs a GPU, in one command.
//!
//! Each step is a process with a time limit, so that a step that hangs or crashes is recorded and the
//! others still run. The record is written after every step. `scripts/gpu-check` builds what is needed, and
//! copies it to a machine that has a GPU and none of our tools.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use checkpoint::{Weights, formula};
use record::Record;
use record::{GpuRecord, GpuStep, KernelSource, Verdict};
use spec::{Config, Engine, Ignore, Model, Precision, Tensor};

use super::args::GpuCheckArgs;
use crate::engines;
use crate::flags::{DeviceArgs, DeviceName, EngineName, OutputArgs};
use crate::machine::{Sides, Started};
use crate::outcome::Outcome;
use crate::publish;
use crate::stop;

/// The number of runs whose outputs must have the same bits.
const REPEATS: usize = 100;

/// The number of characters at the end of a step's output that are kept.
const KEPT: usize = 600;

/// What a step runs.
enum Action {
    /// A command of this program, with its arguments.
    Harness(Vec<String>),
    /// The compiled tests of the kernels: the tool that runs them, if any, and their arguments.
    Tests(Vec<String>, Vec<String>),
    /// The network, many times, in this process.
    Repeat,
}

/// A step with its name, the claim that it proves and its time limit in seconds.
struct Step {
    name: String,
    proves: &'static str,
    action: Action,
    limit_s: u64,
}

impl Step {
    fn harness(name: &str, proves: &'static str, limit_s: u64, words: &str) -> Self {
        let words = words.split_whitespace().map(str::to_owned).collect();
        Step { name: name.to_owned(), proves, action: Action::Harness(words), limit_s }
    }

    fn tests(name: &str, proves: &'static str, limit_s: u64, before: &str, words: &str) -> Self {
        let split = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let action = Action::Tests(split(before), split(words));
        Step { name: name.to_owned(), proves, action, limit_s }
    }
}

/// The configurations that are checked in addition to the default one: name and flags.
const CONFIGURATIONS: [(&str, &str); 10] = [
    ("286x286", "--size 286"),
    ("57x65", "--size 57x65"),
    ("T 8", "--frames 8"),
    ("width 0.3", "--width 0.3 --size 96"),
    ("depth 18", "--depth 18"),
    ("depth 101", "--depth 101"),
    ("without TFC", "--set tfc=off"),
    ("without IOI", "--set ioi=off"),
    ("without embedding", "--set pos_embed=off"),
    ("half-pixel embedding", "--set align_corners=off"),
];

const PRECISIONS: [&str; 4] = ["f32", "tf32", "bf16", "f16"];

/// The steps on a GPU; the estimate for all of them is under 8 minutes on an H200.
fn steps(device: DeviceName) -> Vec<Step> {
    let diff = |name: String, precision: &str, flags: &str, limit| {
        let words =
            format!("diff --device {device} --candidate cuda --precision {precision} {flags}");
        Step::harness(&name, "agrees with libtorch, layer by layer", limit, &words)
    };
    let mut steps = vec![
        Step::tests(
            "kernels",
            "every kernel is right over edge shapes",
            90,
            "",
            "--test-threads 1",
        ),
        Step {
            name: "repeat".to_owned(),
            proves: "the same bits in 100 runs",
            action: Action::Repeat,
            limit_s: 60,
        },
    ];
    steps.extend(PRECISIONS.map(|p| diff(format!("diff {p}"), p, "", 60)));
    for (name, flags) in CONFIGURATIONS {
        for precision in ["f32", "bf16"] {
            steps.push(diff(format!("diff {precision}, {name}"), precision, flags, 60));
        }
    }
    for tool in ["memcheck", "racecheck"] {
        let before = format!("compute-sanitizer --tool {tool} --error-exitcode 9");
        let words = "--test-threads 1 fused_block dense import mean two_inputs";
        steps.push(Step::tests(tool, "no invalid memory access and no race", 120, &before, words));
    }
    steps.push(Step::harness(
        "eval mini",
        "no disagreement beyond ties with the engine cpu",
        60,
        &format!("eval mini --device {device} --engine cuda,cpu"),
    ));
    let bench = |name: &str, words: &str| {
        let words = format!("bench --device {device} --threads 1 --starts 1 {words}");
        Step::harness(
            name,
            "speed compared with libtorch's fastest setting, in one run",
            120,
            &words,
        )
    };
    steps.push(bench(
        "bench batch 1",
        "--batch 1 --precision bf16,f32,tf32,f16 --rounds 15 --runs 10",
    ));
    steps.push(bench("bench batch 256", "--batch 256 --precision bf16,f16 --rounds 8 --runs 3"));
    steps
}

/// The steps of a rehearsal, which need no GPU.
fn rehearsal() -> Vec<Step> {
    let small = "--depth 10 --width 0.125 --frames 2 --size 32 --classes 3";
    let diff = |precision: &str| {
        let words =
            format!("diff --device emulated --candidate cuda --precision {precision} {small}");
        Step::harness(&format!("diff {precision}"), "agrees, layer by layer", 120, &words)
    };
    let tests = "--test-threads 1 dense two_inputs";
    let mut steps = vec![
        Step::tests("kernels", "kernels are right over edge shapes", 120, "", tests),
        Step {
            name: "repeat".to_owned(),
            proves: "the same bits",
            action: Action::Repeat,
            limit_s: 60,
        },
    ];
    steps.extend(["f32", "bf16"].map(diff));
    steps
}

/// Runs `harness gpu-check`.
pub fn run(args: &GpuCheckArgs) -> Result<Outcome> {
    let started = Started::now();
    let device = if args.rehearse { DeviceName::Emulated } else { args.device };
    let steps = if args.rehearse { rehearsal() } else { steps(device) };
    let folder = args.out.clone().unwrap_or_else(|| started.folder("gpu-check"));
    stop::listen();
    let mut check = Check::new(args, device, folder.clone())?;
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("{}: cannot be created", folder.display()))?;
    let bar = crate::progress::bar("gpu-check", steps.len() as u64);
    let mut done = vec![];
    for step in &steps {
        if stop::asked() {
            break;
        }
        bar.set_message(step.name.clone());
        let result = check.step(step);
        bar.suspend(|| {
            publish::print(&format!(
                "{:30} {:9} {:6.1} s",
                result.name, result.outcome, result.seconds
            ));
        });
        bar.inc(1);
        done.push(result);
        let record = Record::Gpu(Box::new(check.record(&done, steps.len(), &started)));
        record::write_record(&record, &folder.join("record.json"))?;
    }
    bar.finish_and_clear();
    let record = check.record(&done, steps.len(), &started);
    let verdict = record.verdict;
    let out = OutputArgs { json: None, html: None };
    publish::publish(&Record::Gpu(Box::new(record)), &folder, &out)?;
    Ok(if verdict == Verdict::Pass { Outcome::Passed } else { Outcome::Failed })
}

struct Check<'a> {
    args: &'a GpuCheckArgs,
    engine: cuda::Cuda,
    model: Arc<Model>,
    clip: Tensor,
    described: String,
    folder: PathBuf,
}

impl<'a> Check<'a> {
    /// Opens the GPU; fails if there is none.
    fn new(args: &'a GpuCheckArgs, device: DeviceName, folder: PathBuf) -> Result<Self> {
        let on = DeviceArgs { device, threads: 0, isa: None };
        engines::open_device(&on)?;
        let config = match args.rehearse {
            false => Config::default(),
            true => {
                Config { depth: 10, width: 0.125, frames: 2, size: (32, 32), ..Config::default() }
            }
        };
        let model = Arc::new(Model::new(config)?);
        let weights = Weights::formula(model.parameters(), 0);
        let mut engine = engines::gpu::open(model.clone(), &weights, Precision::Bf16, device)?;
        let described = engine.device().describe();
        let shape = model.input_shape(2);
        let clip = Tensor::f32(shape.clone(), formula::input(shape.iter().product(), 0));
        Ok(Check { args, engine, model, clip, described, folder })
    }

    fn step(&mut self, step: &Step) -> GpuStep {
        let start = Instant::now();
        let (command, result) = match &step.action {
            Action::Repeat => ("in this process".to_owned(), self.repeat()),
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

    fn repeat(&mut self) -> Result<String, NotPassed> {
        let mut run = || {
            let output = self.engine.forward(&self.clip, &mut Ignore);
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

    fn harness(&self, step: &Step, words: &[String]) -> (String, Result<String, NotPassed>) {
        let place = self.folder.join(step.name.replace([' ', ','], "-"));
        let shown = format!("harness {}", words.join(" "));
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
            Err(error) => return (shown, Err(NotPassed::Failed(error.to_string()))),
        };
        let mut command = Command::new(this);
        command.args(&words);
        (shown, self.wait(command, step.limit_s))
    }

    fn tests(
        &self,
        step: &Step,
        before: &[String],
        words: &[String],
    ) -> (String, Result<String, NotPassed>) {
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
        (shown.trim().to_owned(), self.wait(command, step.limit_s))
    }

    /// Runs a process until it ends or reaches its limit, and returns the end of its output.
    fn wait(&self, mut command: Command, limit_s: u64) -> Result<String, NotPassed> {
        let log = self.folder.join("step.log");
        let open = || -> Result<(File, File)> {
            let file = File::create(&log)?;
            Ok((file.try_clone()?, file))
        };
        let (out, err) = open().map_err(|error| NotPassed::Failed(error.to_string()))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                NotPassed::LeftOut(format!("{:?} was not found", command.get_program()))
            }
            _ => NotPassed::Failed(error.to_string()),
        })?;
        let end = Instant::now() + Duration::from_secs(limit_s);
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
        let said = tail(&log);
        let _ = std::fs::remove_file(&log);
        match status {
            Some(status) if status.success() => Ok(said),
            Some(status) => Err(NotPassed::Failed(format!("{status}: {said}"))),
            None => {
                Err(NotPassed::Failed(format!("ended at its time limit of {limit_s} s: {said}")))
            }
        }
    }

    fn record(&self, done: &[GpuStep], all: usize, started: &Started) -> GpuRecord {
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
        }
    }
}

/// Why a step did not pass.
enum NotPassed {
    LeftOut(String),
    Failed(String),
}

/// The end of a log, without the lines that name files of this machine.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let names = |line: &&str| !line.starts_with("record ") && !line.starts_with("report ");
    let text = text.lines().filter(names).collect::<Vec<_>>().join("\n");
    let count = text.chars().count();
    text.chars().skip(count.saturating_sub(KEPT)).collect::<String>().trim().to_owned()
}
