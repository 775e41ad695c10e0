//! The rounds of one setting: who takes part, their turns, and whether what they computed is right.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use reports::record::{BenchEntry, LayerTime, Setting};
use spec::{Precision, Tensor};

use super::args::BenchArgs;
use super::contestant::{Contestant, Start};
use super::stats;

/// What one setting is about.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Precision.
    pub precision: Precision,
    /// Clips in a batch.
    pub batch: usize,
    /// Threads.
    pub threads: usize,
}

/// What all contestants are given.
pub struct Given<'a> {
    /// The command line.
    pub args: &'a BenchArgs,
    /// A folder for files that pass between processes.
    pub folder: &'a Path,
    /// The weights as safetensors, which all our engines read, so that their loading is timed alike.
    pub weights: PathBuf,
    /// The network as ONNX, where a peer takes part.
    pub onnx: Option<PathBuf>,
    /// The configuration as JSON, for PyTorch.
    pub config: String,
    /// Model flags for workers.
    pub model_flags: Vec<String>,
    /// Whether the contestants have loaded once already.
    pub warm: Cell<bool>,
}

/// Python of the peers and their script, set by `scripts/bench`.
pub fn peers() -> Option<(PathBuf, PathBuf)> {
    let path = |name| std::env::var_os(name).map(PathBuf::from);
    Some((path("HARNESS_PEERS")?, path("HARNESS_PEER_SCRIPT")?))
}

/// Whether a contestant is another runtime.
pub fn is_peer(engine: &str) -> bool {
    needs_onnx(engine) || engine == TORCH_GRAPH
}

/// PyTorch at its fastest, on a GPU.
const TORCH_GRAPH: &str = "torch-graph";

/// Whether a contestant reads the network as ONNX.
pub fn needs_onnx(engine: &str) -> bool {
    matches!(engine, "onnxruntime" | "openvino")
}

/// The Python that has PyTorch with CUDA: `HARNESS_TORCH_PYTHON`, or python3.
fn torch_python() -> PathBuf {
    std::env::var_os("HARNESS_TORCH_PYTHON").map_or("python3".into(), PathBuf::from)
}

/// Largest relative L2 distance of a timed output from the float64 reference: far above what any
/// right implementation shows, far below what a wrong one does (`harness diff` judges closely).
pub fn largest_error(precision: Precision) -> f64 {
    match precision {
        Precision::Bf16 => 5e-2,
        Precision::Tf32 | Precision::F16 => 5e-3,
        _ => 1e-4,
    }
}

/// A contestant with its times so far.
struct Runner {
    contestant: Contestant,
    rounds_s: Vec<Vec<f64>>,
    failed: Option<anyhow::Error>,
}

impl Runner {
    fn turn(&mut self, runs: usize) {
        // The first run of a turn brings caches and threads back.
        match self.contestant.run(1 + runs) {
            Ok(seconds) => self.rounds_s.push(seconds[1..].to_vec()),
            Err(error) => self.failed = Some(error),
        }
    }
}

/// Who did not run, and whether that is a failure.
#[derive(Default)]
struct LeftOut {
    list: Vec<(String, String)>,
    broken: bool,
}

impl LeftOut {
    fn failed(&mut self, name: &str, error: &anyhow::Error) {
        self.list.push((name.to_owned(), format!("{error:#}")));
        self.broken = true;
    }
}

impl Given<'_> {
    fn command(&self, engine: &str, case: Case, input: &Path) -> Result<Command> {
        let (precision, threads) = (case.precision.to_string(), case.threads.to_string());
        if engine == TORCH_GRAPH {
            let script = std::env::var_os("HARNESS_PEER_SCRIPT");
            let script = script.context("run scripts/bench, which says where its script is")?;
            let mut command = Command::new(torch_python());
            command.arg(script).arg(engine).arg("--weights").arg(&self.weights);
            command.arg("--input").arg(input).args(["--config", &self.config]);
            command.args(["--threads", &threads, "--precision", &precision]);
            return Ok(command);
        }
        if is_peer(engine) {
            let (python, script) =
                peers().context("run scripts/bench, which sets the other runtimes up")?;
            let onnx = self.onnx.as_ref().context("has no ONNX file")?;
            let mut command = Command::new(python);
            command.arg(script).arg(engine).arg("--model").arg(onnx).arg("--input").arg(input);
            command.args(["--threads", &threads, "--precision", &precision]);
            return Ok(command);
        }
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench-worker", "--engine", engine]).arg("--input").arg(input);
        command.args(["--threads", &threads, "--precision", &precision]);
        command.args(["--device", &self.args.device]).arg("--weights").arg(&self.weights);
        if let Some(isa) = self.args.isa {
            command.args(["--isa", isa.name()]);
        }
        command.args(&self.model_flags);
        Ok(command)
    }

    /// Runs a setting; `None` where it was interrupted. `said` is told what happens, and `go_on` is
    /// asked between loads and turns. Who fails is left out, and the others stay.
    pub fn run(
        &self,
        case: Case,
        input: &Path,
        reference: &Tensor,
        said: &dyn Fn(String),
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Setting>> {
        // Who loads first pays for files and memory that the system has put away: that load does not
        // count.
        let engines = &self.args.engines;
        if !self.warm.replace(true) {
            self.start(engines, case, input, said, &mut LeftOut::default(), go_on);
        }
        let mut out = LeftOut::default();
        let Some(mut runners) = self.start(engines, case, input, said, &mut out, go_on) else {
            return Ok(None);
        };
        let share = self.args.rounds.div_ceil(self.args.starts as usize);
        for round in 0..self.args.rounds {
            if round > 0 && round.is_multiple_of(share) {
                let Some(again) = self.restart(runners, case, input, said, &mut out, go_on) else {
                    return Ok(None);
                };
                runners = again;
            }
            // The order moves on with the round; who failed has no turn any more.
            let count = runners.len();
            for turn in 0..count {
                if !go_on() {
                    return Ok(None);
                }
                let runner = &mut runners[(round + turn) % count];
                if runner.failed.is_none() {
                    said(format!("round {}, {}", round + 1, runner.contestant.name));
                    runner.turn(self.args.runs);
                }
            }
        }
        let (peak_gflops, peak_gbs) = self.peaks(case, &mut runners);
        let mut entries = vec![];
        for Runner { mut contestant, rounds_s, failed } in runners {
            let entry = match failed {
                Some(error) => Err(error),
                None => self.entry(&mut contestant, rounds_s, case, reference),
            };
            match entry {
                Ok(entry) => entries.push(entry),
                Err(error) => out.failed(&contestant.name, &error),
            }
        }
        Ok(Some(Setting {
            precision: case.precision.to_string(),
            batch: case.batch as u64,
            threads: case.threads as u64,
            entries,
            left_out: out.list,
            broken: out.broken,
            peak_gflops,
            peak_gbs,
        }))
    }

    /// The measured limits of the machine in thousands of millions: operations and bytes a second. A
    /// GPU's are what PyTorch reaches with one large product and one large copy; NaN without it.
    fn peaks(&self, case: Case, runners: &mut [Runner]) -> (f64, f64) {
        if self.args.device == "cpu" {
            let flops = cpu::roofline::flops(case.precision, self.args.isa, case.threads);
            let bandwidth = cpu::roofline::bandwidth(case.threads);
            return (flops.unwrap_or(f64::NAN) / 1e9, bandwidth / 1e9);
        }
        let torch = runners.iter_mut().find(|runner| runner.contestant.name == TORCH_GRAPH);
        let peaks = torch.and_then(|runner| runner.contestant.peaks().ok());
        peaks.unwrap_or((f64::NAN, f64::NAN))
    }

    /// Ends all processes and starts those anew that have not failed; their times stay.
    fn restart(
        &self,
        runners: Vec<Runner>,
        case: Case,
        input: &Path,
        said: &dyn Fn(String),
        out: &mut LeftOut,
        go_on: &dyn Fn() -> bool,
    ) -> Option<Vec<Runner>> {
        let (mut names, mut times) = (vec![], vec![]);
        for Runner { contestant, rounds_s, failed } in runners {
            match failed {
                Some(error) => out.failed(&contestant.name, &error),
                None => {
                    names.push(contestant.name.clone());
                    times.push(rounds_s);
                }
            }
        }
        let mut again = self.start(&names, case, input, said, out, go_on)?;
        for runner in &mut again {
            let at = names.iter().position(|name| *name == runner.contestant.name);
            runner.rounds_s = at.map(|at| std::mem::take(&mut times[at])).unwrap_or_default();
        }
        Some(again)
    }

    fn start(
        &self,
        engines: &[String],
        case: Case,
        input: &Path,
        said: &dyn Fn(String),
        out: &mut LeftOut,
        go_on: &dyn Fn() -> bool,
    ) -> Option<Vec<Runner>> {
        let mut runners = vec![];
        let patience = Duration::from_secs(self.args.patience);
        for engine in engines {
            if !go_on() {
                return None;
            }
            if needs_onnx(engine) && peers().is_none() {
                let why = "is not set up; run scripts/bench, which does that";
                out.list.push((engine.clone(), why.to_owned()));
                continue;
            }
            said(format!("{engine} loads"));
            let started = self.command(engine, case, input).and_then(|mut command| {
                Contestant::start(engine, &mut command, self.folder, patience)
            });
            match started {
                Ok(Start::Ready(contestant)) => {
                    runners.push(Runner { contestant, rounds_s: vec![], failed: None });
                }
                Ok(Start::Unsupported(why)) => out.list.push((engine.clone(), why)),
                Err(error) => out.failed(engine, &error),
            }
        }
        Some(runners)
    }

    fn entry(
        &self,
        contestant: &mut Contestant,
        rounds_s: Vec<Vec<f64>>,
        case: Case,
        reference: &Tensor,
    ) -> Result<BenchEntry> {
        let path = self.folder.join(format!("{}.npy", contestant.name));
        contestant.output(&path)?;
        let output: ndarray::ArrayD<f32> = ndarray_npy::read_npy(&path)
            .with_context(|| format!("{}: its output cannot be read", contestant.name))?;
        let output: Vec<f64> = output.iter().map(|&v| f64::from(v)).collect();
        let error = relative(&output, &reference.to_f64());
        let peak_bytes = contestant.memory()?;
        // What has no profile is left out of that table alone.
        let layers: Vec<LayerTime> = match self.args.no_profile {
            true => vec![],
            false => contestant.profile(5).unwrap_or_default(),
        };
        let all: Vec<f64> = rounds_s.iter().flatten().copied().collect();
        let sorted = stats::sorted(&all);
        let (low, high) = stats::median_interval(&all);
        Ok(BenchEntry {
            name: contestant.name.clone(),
            version: contestant.version.clone(),
            min_s: stats::quantile(&sorted, 0.0),
            p50_s: stats::quantile(&sorted, 0.5),
            p50_low_s: low,
            p50_high_s: high,
            p90_s: stats::quantile(&sorted, 0.9),
            p95_s: stats::quantile(&sorted, 0.95),
            p99_s: stats::quantile(&sorted, 0.99),
            load_s: contestant.load_s,
            first_s: contestant.first_s,
            peak_bytes,
            error,
            // NaN is wrong, too.
            right: error <= largest_error(case.precision),
            to_peer: None,
            rounds_s,
            layers,
        })
    }
}

/// |got - want| / |want|; NaN where either holds one, infinite where the lengths differ.
fn relative(got: &[f64], want: &[f64]) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    let error: f64 = got.iter().zip(want).map(|(g, w)| (g - w) * (g - w)).sum();
    let norm: f64 = want.iter().map(|w| w * w).sum();
    if error == 0.0 { 0.0 } else { (error / norm).sqrt() }
}

/// Sets each entry's ratio to the fastest other runtime of the setting.
pub fn compare(setting: &mut Setting) {
    let peers = setting.entries.iter().filter(|e| is_peer(&e.name) && e.right);
    let fastest = peers.min_by(|a, b| a.p50_s.total_cmp(&b.p50_s));
    let Some((name, rounds)) = fastest.map(|e| (e.name.clone(), e.rounds_s.clone())) else {
        return;
    };
    for entry in &mut setting.entries {
        if entry.name != name {
            let (point, low, high) = stats::ratio(&entry.rounds_s, &rounds);
            entry.to_peer = Some((name.clone(), [point, low, high]));
        }
    }
}
