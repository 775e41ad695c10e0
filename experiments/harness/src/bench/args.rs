//! The command line of `harness bench`.

use std::path::PathBuf;

use checkpoint::Source;
use clap::Args;
use spec::Precision;

use crate::cli::{ModelArgs, OutputArgs};

/// The names of all contestants.
pub const ENGINES: [&str; 7] =
    ["cpu", "cuda", "scalar", "torch", "torch-graph", "onnxruntime", "openvino"];

/// The default contestants on a CPU.
const ON_CPU: [&str; 4] = ["cpu", "torch", "onnxruntime", "openvino"];
/// The default contestants on a GPU.
const ON_GPU: [&str; 3] = ["cuda", "torch", "torch-graph"];

/// The arguments of `harness bench`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Ctrl-C ends the bench after the current turn: the settings measured so far are \
    kept in the record and the report, and the exit code is 1. A second Ctrl-C ends the bench at \
    once: the record of those settings stays, and the exit code is 130."
)]
pub struct BenchArgs {
    /// Contestants: cpu, scalar, torch, onnxruntime and openvino; on a GPU cuda, torch and torch-graph
    /// [default: all but scalar]. Here torch is eager libtorch, whose modules are neither frozen nor
    /// compiled; torch-graph is PyTorch at its fastest: channels-last, with cuDNN tuned, in a CUDA graph.
    #[arg(long, value_delimiter = ',', value_parser = ENGINES)]
    pub engines: Vec<String>,
    /// Device of cuda, torch and torch-graph: cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Precisions: f32 and bf16; on a GPU also tf32 and f16.
    #[arg(long, value_delimiter = ',', default_value = "f32,bf16")]
    pub precision: Vec<Precision>,
    /// Number of clips in a batch.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub batch: Vec<usize>,
    /// Number of threads of every contestant; 0 uses all cores [default: 1 and all cores].
    #[arg(long, value_delimiter = ',')]
    pub threads: Vec<usize>,
    /// Number of rounds; every contestant has one turn in a round, and their order rotates.
    #[arg(long, default_value_t = 15)]
    pub rounds: usize,
    /// Number of processes for each contestant. They share the rounds, one after the other, because a
    /// single process may happen to be slow throughout.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub starts: u32,
    /// Number of timed runs in a turn; an untimed one precedes them.
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// Number of seconds that a contestant may take to load or for one turn; one that takes longer is
    /// ended and left out.
    #[arg(long, value_name = "SECONDS", default_value_t = 600,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub patience: u64,
    /// Instruction set of the engine cpu: portable, avx2, avx512, avx512bf16, amx, neon or
    /// amx-emulated [default: the best that the CPU has].
    #[arg(long)]
    pub isa: Option<cpu::Isa>,
    /// Weights: formula:SEED, or a checkpoint.
    #[arg(long, default_value = "formula:0")]
    pub weights: Source,
    /// Skip the profile, which says how much time each layer takes.
    #[arg(long)]
    pub no_profile: bool,
    /// Save the times as runs/baselines/NAME.json.
    #[arg(long, value_name = "NAME")]
    pub save_baseline: Option<String>,
    /// Compare the times with those that --save-baseline NAME saved; the exit code is 1 if any is
    /// significantly slower.
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,
    /// Folder of the run; the default is a new folder under runs/.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Paths of record and report.
    #[command(flatten)]
    pub report: OutputArgs,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
}

impl BenchArgs {
    /// These arguments with the default contestants for the device, if none were named.
    pub fn fill(&self) -> Self {
        let mut args = self.clone();
        if args.engines.is_empty() {
            let gpu = args.device != "cpu";
            let all: &[&str] = if gpu { &ON_GPU } else { &ON_CPU };
            args.engines = all.iter().map(|&name| name.to_owned()).collect();
        }
        args
    }
}

/// The arguments of `harness bench-worker`: one of our engines as a contestant, started by `harness bench`.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// Engine to run.
    #[arg(long)]
    pub engine: String,
    /// Precision of the engine.
    #[arg(long)]
    pub precision: Precision,
    /// Device: cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Number of threads.
    #[arg(long)]
    pub threads: usize,
    /// Instruction set of the engine cpu.
    #[arg(long)]
    pub isa: Option<cpu::Isa>,
    /// Weights: a checkpoint, or formula:SEED.
    #[arg(long)]
    pub weights: Source,
    /// The batch of clips [N, 3, T, H, W], a float32 .npy file.
    #[arg(long)]
    pub input: PathBuf,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
}
