//! The command line of `harness bench`.

use std::path::PathBuf;

use clap::Args;
use spec::Precision;
use spec::weights::Source;

use crate::cli::{ModelArgs, OutputArgs};

/// Who can take part.
pub const ENGINES: [&str; 7] =
    ["cpu", "cuda", "scalar", "torch", "torch-graph", "onnxruntime", "openvino"];

/// Who takes part where nobody is named.
const ON_CPU: [&str; 4] = ["cpu", "torch", "onnxruntime", "openvino"];
const ON_GPU: [&str; 3] = ["cuda", "torch", "torch-graph"];

/// `harness bench`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Ctrl-C ends the bench after the turn that runs: settings measured so far are \
    kept, with record and report, and the exit code is 1. A second one ends it at once: the record \
    of those settings stays, and the exit code is 130."
)]
pub struct BenchArgs {
    /// Contestants: cpu, scalar, torch, onnxruntime, openvino; on a GPU cuda, torch and torch-graph
    /// (PyTorch at its fastest: channels-last, cuDNN tuned, in a CUDA graph) [default: all but scalar].
    /// Here torch is eager libtorch: tch binds no freezing or compiling of modules.
    #[arg(long, value_delimiter = ',', value_parser = ENGINES)]
    pub engines: Vec<String>,
    /// Device of cuda, torch and torch-graph: cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Precisions: f32, bf16; on a GPU tf32 and f16, too.
    #[arg(long, value_delimiter = ',', default_value = "f32,bf16")]
    pub precision: Vec<Precision>,
    /// Clips in a batch.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub batch: Vec<usize>,
    /// Threads of every contestant, 0 for all cores [default: 1 and all cores].
    #[arg(long, value_delimiter = ',')]
    pub threads: Vec<usize>,
    /// Rounds: in each, every contestant has a turn, and the order moves on.
    #[arg(long, default_value_t = 15)]
    pub rounds: usize,
    /// Processes that a contestant runs in, one after the other, a share of the rounds each: one may
    /// happen to be slow all its life.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub starts: u32,
    /// Runs in a turn that count; one more before them does not.
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// Seconds that a contestant may take to load or for a turn; who takes longer is ended and left
    /// out.
    #[arg(long, value_name = "SECONDS", default_value_t = 600,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub patience: u64,
    /// Instruction set of the engine cpu: portable, avx2, avx512, avx512bf16, amx, neon or
    /// amx-emulated [default: the best].
    #[arg(long)]
    pub isa: Option<cpu::Isa>,
    /// Weights: formula:SEED, or a checkpoint.
    #[arg(long, default_value = "formula:0")]
    pub weights: Source,
    /// Leaves out where the time goes, layer by layer.
    #[arg(long)]
    pub no_profile: bool,
    /// Keep the times under runs/baselines/NAME.json.
    #[arg(long, value_name = "NAME")]
    pub save_baseline: Option<String>,
    /// Compare with times kept before; slower beyond chance is exit code 1.
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,
    /// Folder of the run; the default is a new one under runs/.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Where the results go.
    #[command(flatten)]
    pub report: OutputArgs,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
}

impl BenchArgs {
    /// Names the contestants where nobody was named.
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

/// One of our engines as a contestant; started by `harness bench`.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// The engine.
    #[arg(long)]
    pub engine: String,
    /// Its precision.
    #[arg(long)]
    pub precision: Precision,
    /// Its device.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Its threads.
    #[arg(long)]
    pub threads: usize,
    /// Its instruction set.
    #[arg(long)]
    pub isa: Option<cpu::Isa>,
    /// Weights.
    #[arg(long)]
    pub weights: Source,
    /// The clips, an npy file.
    #[arg(long)]
    pub input: PathBuf,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
}
