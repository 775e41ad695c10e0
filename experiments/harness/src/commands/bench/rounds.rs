//! The rounds of one setting: starts the contestants, gives them their turns and checks their outputs.

use std::cell::Cell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use record::{BenchEntry, BenchProcess, LayerTime, Setting};
use spec::{Precision, Tensor, relative_l2};

use super::args::{BenchArgs, ContestantName};
use super::contestant::{Contestant, Start};
use super::stats;
use crate::flags::DeviceName;

/// One setting of the bench.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Precision of all contestants.
    pub precision: Precision,
    /// Number of clips in a batch.
    pub batch: usize,
    /// Number of threads of each contestant.
    pub threads: usize,
}

/// What happens in a setting, for the progress bar.
#[derive(Debug, Clone, Copy)]
pub enum Event {
    /// A contestant loads the model.
    Loads(ContestantName),
    /// A contestant has its turn in a round, counted from 1.
    Turn(usize, ContestantName),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Loads(name) => write!(f, "{name} loads"),
            Event::Turn(round, name) => write!(f, "round {round}, {name}"),
        }
    }
}

/// What all contestants of a bench share.
pub struct Given<'a> {
    /// The arguments of `harness bench`.
    pub args: &'a BenchArgs,
    /// A folder for the files that processes exchange.
    pub folder: &'a Path,
    /// The weights as safetensors, which all our engines read, so that their loading is timed alike.
    pub weights: PathBuf,
    /// The network as an ONNX file, if a peer that reads ONNX takes part.
    pub onnx: Option<PathBuf>,
    /// The model's configuration as JSON, for the ports in Python.
    pub config: String,
    /// The model flags of the command line, for our own engines.
    pub model_flags: Vec<String>,
    /// Whether every contestant has loaded once, so that files are in the page cache.
    pub warm: Cell<bool>,
}

/// The Python and the script of a peer, which `scripts/bench` sets.
pub fn peer(engine: ContestantName) -> Option<(PathBuf, PathBuf)> {
    let path = |name| std::env::var_os(name).map(PathBuf::from);
    Some((path(engine.environment())?, path("HARNESS_PEER_SCRIPT")?))
}

/// Why a peer cannot be started, if `scripts/bench` has not set it up.
fn not_set_up(engine: ContestantName) -> Option<&'static str> {
    let script = std::env::var_os("HARNESS_PEER_SCRIPT").is_some();
    let ready = match engine {
        ContestantName::Xla | ContestantName::Litert => peer(engine).is_some(),
        _ if engine.needs_onnx() => peer(engine).is_some(),
        // On a GPU python3 has PyTorch; on the processor `scripts/bench` provides a small one.
        ContestantName::TorchCompile => script,
        _ => true,
    };
    (!ready).then_some(match engine {
        ContestantName::Xla | ContestantName::Litert => {
            "set HARNESS_XLA to a Python with JAX and Flax, or run scripts/bench"
        }
        _ => "it is not set up; run scripts/bench, which does that",
    })
}

/// The largest accepted relative L2 distance of an output from the float64 reference. It is far above
/// what any correct implementation shows and far below what a wrong one does; `harness diff` is stricter.
pub fn largest_error(precision: Precision) -> f64 {
    match precision {
        Precision::Bf16 => 5e-2,
        Precision::Tf32 | Precision::F16 => 5e-3,
        _ => 1e-4,
    }
}

/// A contestant with its times so far, in seconds: `rounds_s[round][run]`.
struct Runner {
    contestant: Contestant,
    times: Times,
    failed: Option<anyhow::Error>,
}

/// The times of a contestant.
#[derive(Default)]
struct Times {
    rounds_s: Vec<Vec<f64>>,
    /// Times from bytes, one for each round.
    bytes_s: Vec<f64>,
    /// The processes that have run so far.
    processes: Vec<BenchProcess>,
    /// Time from core to core around each turn of the process.
    handovers_s: Vec<f64>,
}

impl Runner {
    /// Adds the process to those that have run; it has run all rounds since the last one.
    fn end(&mut self) {
        let times = &mut self.times;
        let before: u64 = times.processes.iter().map(|process| process.rounds).sum();
        let rounds = &times.rounds_s[before as usize..];
        let all: Vec<f64> = rounds.iter().flatten().copied().collect();
        let (page_faults, huge_pages) = self.contestant.pages();
        times.processes.push(BenchProcess {
            rounds: rounds.len() as u64,
            p50_s: stats::median(&all),
            handover_s: median_of(&std::mem::take(&mut times.handovers_s)),
            page_faults,
            huge_pages,
        });
    }

    fn turn(&mut self, args: &BenchArgs) {
        self.failed = self.timed(args).err();
    }

    fn timed(&mut self, args: &BenchArgs) -> Result<()> {
        // The first run warms up caches and threads and is not counted.
        let seconds = self.contestant.run(1 + args.runs)?;
        self.times.rounds_s.push(seconds[1..].to_vec());
        if args.from_bytes {
            let seconds = self.contestant.run_bytes(2)?;
            self.times.bytes_s.extend(seconds.map(|seconds| seconds[1]));
        }
        Ok(())
    }
}

/// The median; None without values.
fn median_of(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| stats::median(values))
}

/// The contestants that were left out, each with the reason, and whether one of them failed.
#[derive(Default)]
struct LeftOut {
    list: Vec<(String, String)>,
    broken: bool,
}

impl LeftOut {
    fn failed(&mut self, name: ContestantName, error: &anyhow::Error) {
        self.list.push((name.to_string(), format!("{error:#}")));
        self.broken = true;
    }
}

impl Given<'_> {
    fn command(&self, engine: ContestantName, case: Case, input: &Path) -> Result<Command> {
        let (precision, threads) = (case.precision.to_string(), case.threads.to_string());
        if engine.is_port() {
            let script = std::env::var_os("HARNESS_PEER_SCRIPT");
            let script = script
                .context("HARNESS_PEER_SCRIPT is not set; start the bench with scripts/bench")?;
            let python = std::env::var_os(engine.environment());
            let mut command = Command::new(python.unwrap_or_else(|| "python3".into()));
            command.arg(script).arg(engine.name()).arg("--weights").arg(&self.weights);
            command.arg("--input").arg(input).args(["--config", &self.config]);
            command.args(["--threads", &threads, "--precision", &precision]);
            command.args(["--device", if self.args.device.is_gpu() { "cuda" } else { "cpu" }]);
            return Ok(command);
        }
        if engine.is_peer() {
            let (python, script) = peer(engine)
                .context("the other runtimes are not set up; start the bench with scripts/bench")?;
            let onnx = self.onnx.as_ref().context("the ONNX file was not written")?;
            let mut command = Command::new(python);
            command
                .arg(script)
                .arg(engine.name())
                .arg("--model")
                .arg(onnx)
                .arg("--input")
                .arg(input);
            command.args(["--threads", &threads, "--precision", &precision]);
            return Ok(command);
        }
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench-worker", "--engine", engine.name()]).arg("--input").arg(input);
        command.args(["--threads", &threads, "--precision", &precision]);
        command
            .args(["--device", &self.args.device.to_string()])
            .arg("--weights")
            .arg(&self.weights);
        if let Some(isa) = self.args.isa {
            command.args(["--isa", isa.name()]);
        }
        command.args(&self.model_flags);
        Ok(command)
    }

    /// Runs a setting; `None` if it was interrupted. `notify` is called with a message at each load and
    /// turn, and `go_on` says whether to continue. A contestant that fails is left out; the others stay.
    pub fn run(
        &self,
        case: Case,
        input: &Path,
        reference: &Tensor,
        notify: &dyn Fn(Event),
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Setting>> {
        // The first load also pays for reading files from the disk, so it is repeated and not counted.
        let engines = &self.args.engines;
        if !self.warm.replace(true) {
            self.start(engines, case, input, notify, &mut LeftOut::default(), go_on);
        }
        let mut out = LeftOut::default();
        let Some(mut runners) = self.start(engines, case, input, notify, &mut out, go_on) else {
            return Ok(None);
        };
        let share = self.args.rounds.div_ceil(self.args.starts as usize);
        for round in 0..self.args.rounds {
            if round > 0 && round.is_multiple_of(share) {
                let Some(again) = self.restart(runners, case, input, notify, &mut out, go_on)
                else {
                    return Ok(None);
                };
                runners = again;
            }
            // The order rotates with the round; a contestant that failed has no more turns.
            let count = runners.len();
            for turn in 0..count {
                if !go_on() {
                    return Ok(None);
                }
                let runner = &mut runners[(round + turn) % count];
                if runner.failed.is_none() {
                    notify(Event::Turn(round + 1, runner.contestant.name));
                    let before = self.handover(case);
                    runner.turn(self.args);
                    // Threads of a contestant that still wait for work disturb a measurement, so that the
                    // shorter one counts.
                    let around = before.zip(self.handover(case)).map(|(a, b)| a.min(b));
                    runner.times.handovers_s.extend(around);
                }
            }
        }
        let (peak_gflops, peak_gbs) = self.peaks(case, &mut runners);
        let mut entries = vec![];
        for mut runner in runners {
            runner.end();
            let Runner { mut contestant, times, failed } = runner;
            let entry = match failed {
                Some(error) => Err(error),
                None => self.entry(&mut contestant, times, case, reference),
            };
            match entry {
                Ok(entry) => entries.push(entry),
                Err(error) => out.failed(contestant.name, &error),
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

    /// The time from core to core, if the setting uses several.
    fn handover(&self, case: Case) -> Option<f64> {
        let several = self.args.device == DeviceName::Cpu && case.threads != 1;
        several.then(cpu::roofline::handover).flatten()
    }

    /// The measured peaks of the device: GFLOP/s and GB/s. Those of a GPU are what `torch-graph` reaches
    /// with one large matrix product and one large copy; NaN if it does not take part.
    fn peaks(&self, case: Case, runners: &mut [Runner]) -> (f64, f64) {
        if self.args.device == DeviceName::Cpu {
            let flops = cpu::roofline::flops(case.precision, self.args.isa, case.threads);
            let bandwidth = cpu::roofline::bandwidth(case.threads);
            return (flops.unwrap_or(f64::NAN) / 1e9, bandwidth / 1e9);
        }
        let torch =
            runners.iter_mut().find(|runner| runner.contestant.name == ContestantName::TorchGraph);
        let peaks = torch.and_then(|runner| runner.contestant.peaks().ok());
        peaks.unwrap_or((f64::NAN, f64::NAN))
    }

    /// Ends all processes and starts those again that have not failed; they keep their times.
    fn restart(
        &self,
        runners: Vec<Runner>,
        case: Case,
        input: &Path,
        notify: &dyn Fn(Event),
        out: &mut LeftOut,
        go_on: &dyn Fn() -> bool,
    ) -> Option<Vec<Runner>> {
        let (mut names, mut kept) = (vec![], vec![]);
        for mut runner in runners {
            runner.end();
            let Runner { contestant, times, failed } = runner;
            match failed {
                Some(error) => out.failed(contestant.name, &error),
                None => {
                    names.push(contestant.name);
                    kept.push(times);
                }
            }
        }
        let mut again = self.start(&names, case, input, notify, out, go_on)?;
        for runner in &mut again {
            let at = names.iter().position(|name| *name == runner.contestant.name);
            runner.times = at.map(|at| std::mem::take(&mut kept[at])).unwrap_or_default();
        }
        Some(again)
    }

    fn start(
        &self,
        engines: &[ContestantName],
        case: Case,
        input: &Path,
        notify: &dyn Fn(Event),
        out: &mut LeftOut,
        go_on: &dyn Fn() -> bool,
    ) -> Option<Vec<Runner>> {
        let mut runners = vec![];
        let patience = Duration::from_secs(self.args.patience);
        for &engine in engines {
            if !go_on() {
                return None;
            }
            if let Some(why) = not_set_up(engine) {
                out.list.push((engine.to_string(), why.to_owned()));
                out.broken |= self.args.named;
                continue;
            }
            notify(Event::Loads(engine));
            let started = self.command(engine, case, input).and_then(|mut command| {
                Contestant::start(engine, &mut command, self.folder, patience)
            });
            match started {
                Ok(Start::Ready(contestant)) => {
                    runners.push(Runner { contestant, times: Times::default(), failed: None });
                }
                Ok(Start::Unsupported(why)) => out.list.push((engine.to_string(), why)),
                Err(error) => out.failed(engine, &error),
            }
        }
        Some(runners)
    }

    fn entry(
        &self,
        contestant: &mut Contestant,
        Times { rounds_s, bytes_s, processes, .. }: Times,
        case: Case,
        reference: &Tensor,
    ) -> Result<BenchEntry> {
        // After a turn the last output is that from bytes, if these were timed.
        let mut error = self.error(contestant, reference)?;
        if !bytes_s.is_empty() {
            contestant.run(1)?;
            let from_clip = self.error(contestant, reference)?;
            // Unlike `f64::max`, this keeps NaN.
            error = if error > from_clip || error.is_nan() { error } else { from_clip };
        }
        let peak_bytes = contestant.memory()?;
        // A contestant without a profile is missing only from that table.
        let layers: Vec<LayerTime> = match self.args.no_profile {
            true => vec![],
            false => contestant.profile(5).unwrap_or_default(),
        };
        let all: Vec<f64> = rounds_s.iter().flatten().copied().collect();
        let sorted = stats::sorted(&all);
        let (low, high) = stats::median_interval(&all);
        Ok(BenchEntry {
            name: contestant.name.to_string(),
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
            from_bytes_s: (!bytes_s.is_empty())
                .then(|| stats::quantile(&stats::sorted(&bytes_s), 0.5)),
            peak_bytes,
            error,
            // The comparison is false for NaN, which is wrong.
            right: error <= largest_error(case.precision),
            to_peer: None,
            rounds_s,
            processes,
            layers,
        })
    }
}

impl Given<'_> {
    /// The relative L2 error of the last output.
    fn error(&self, contestant: &mut Contestant, reference: &Tensor) -> Result<f64> {
        let path = self.folder.join(format!("{}.npy", contestant.name));
        contestant.output(&path)?;
        let output: ndarray::ArrayD<f32> = ndarray_npy::read_npy(&path)
            .with_context(|| format!("{}: its output cannot be read", contestant.name))?;
        let output: Vec<f64> = output.iter().map(|&v| f64::from(v)).collect();
        Ok(relative_l2(&output, &reference.to_f64()))
    }
}

/// Sets each entry's ratio to the time of the fastest peer of the setting whose output is right.
pub fn compare(setting: &mut Setting) {
    let is_peer =
        |name: &str| ContestantName::from_str(name, false).is_ok_and(ContestantName::is_peer);
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
