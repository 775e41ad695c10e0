//! The command line of `harness bench`.

use std::fmt;
use std::path::PathBuf;

use checkpoint::Source;
use clap::{Args, ValueEnum};
use spec::Precision;

use super::baseline;
use crate::flags::{DeviceName, EngineName, ModelArgs, OutputArgs, positive};
use crate::outputs::Outputs;

/// A contestant by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ContestantName {
    /// Our engine `cpu`.
    Cpu,
    /// Our engine `cuda`.
    Cuda,
    /// Our engine `scalar`.
    Scalar,
    /// libtorch, as everywhere in the harness.
    Torch,
    /// PyTorch in a CUDA graph.
    TorchGraph,
    /// PyTorch compiled by `torch.compile`.
    TorchCompile,
    /// XLA, the compiler of JAX.
    Xla,
    /// LiteRT.
    Litert,
    /// ONNX Runtime.
    Onnxruntime,
    /// OpenVINO.
    Openvino,
    /// MNN.
    Mnn,
    /// ncnn.
    Ncnn,
    /// tract.
    Tract,
}

/// The default contestants on a CPU.
const ON_CPU: [ContestantName; 10] = [
    ContestantName::Cpu,
    ContestantName::Torch,
    ContestantName::TorchCompile,
    ContestantName::Xla,
    ContestantName::Litert,
    ContestantName::Onnxruntime,
    ContestantName::Openvino,
    ContestantName::Mnn,
    ContestantName::Ncnn,
    ContestantName::Tract,
];
/// The default contestants on a GPU.
const ON_GPU: [ContestantName; 5] = [
    ContestantName::Cuda,
    ContestantName::Torch,
    ContestantName::TorchGraph,
    ContestantName::TorchCompile,
    ContestantName::Xla,
];

impl ContestantName {
    /// The name on the command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            ContestantName::Cpu => "cpu",
            ContestantName::Cuda => "cuda",
            ContestantName::Scalar => "scalar",
            ContestantName::Torch => "torch",
            ContestantName::TorchGraph => "torch-graph",
            ContestantName::TorchCompile => "torch-compile",
            ContestantName::Xla => "xla",
            ContestantName::Litert => "litert",
            ContestantName::Onnxruntime => "onnxruntime",
            ContestantName::Openvino => "openvino",
            ContestantName::Mnn => "mnn",
            ContestantName::Ncnn => "ncnn",
            ContestantName::Tract => "tract",
        }
    }

    /// Whether the contestant is a peer, which is another runtime in a Python process.
    pub fn is_peer(self) -> bool {
        self.needs_onnx() || self.is_port()
    }

    /// Whether the contestant is a port in Python, which reads the weights.
    pub fn is_port(self) -> bool {
        use ContestantName::{Litert, TorchCompile, TorchGraph, Xla};
        matches!(self, TorchGraph | TorchCompile | Xla | Litert)
    }

    /// Whether the contestant reads the network as ONNX.
    pub fn needs_onnx(self) -> bool {
        use ContestantName::{Mnn, Ncnn, Onnxruntime, Openvino, Tract};
        matches!(self, Onnxruntime | Openvino | Mnn | Ncnn | Tract)
    }

    /// The variable that names the Python of a peer.
    pub fn environment(self) -> &'static str {
        use ContestantName::{Litert, Mnn, Ncnn, TorchCompile, TorchGraph, Tract, Xla};
        match self {
            TorchGraph | TorchCompile => "HARNESS_TORCH_PYTHON",
            Xla | Litert => "HARNESS_XLA",
            Mnn | Ncnn | Tract => "HARNESS_SMALL_PEERS",
            _ => "HARNESS_PEERS",
        }
    }

    /// Whether the contestant runs only on a GPU.
    pub fn needs_gpu(self) -> bool {
        matches!(self, ContestantName::Cuda | ContestantName::TorchGraph)
    }
}

impl fmt::Display for ContestantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The arguments of `harness bench`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Ctrl-C ends the bench after the current turn: the settings measured so far are \
    kept in the record and the report. A second Ctrl-C ends the bench at once: the record of those \
    settings stays. The exit code is 130."
)]
pub struct BenchArgs {
    /// Contestants: cpu, scalar, torch, torch-compile, xla, litert, onnxruntime, openvino, mnn, ncnn and tract; on
    /// a GPU cuda, torch, torch-graph, torch-compile and xla [default: all but scalar]. Here cpu and cuda are our
    /// engines; torch is eager libtorch; torch-graph is PyTorch channels-last, with cuDNN tuned, in a CUDA graph;
    /// torch-compile is torch.compile with frozen weights (max-autotune; on a GPU reduce-overhead), which takes a
    /// minute or more to load; xla is the Flax port compiled by jax.jit, and litert (once TensorFlow Lite) the same
    /// port converted to it. All start from the same float32 clip on the device.
    #[arg(long, value_delimiter = ',')]
    pub engines: Vec<ContestantName>,
    /// Device of cuda and of the contestants with torch in their name: cpu, cuda or cuda:N.
    #[arg(long, default_value_t = DeviceName::Cpu)]
    pub device: DeviceName,
    /// Precisions: f32 and bf16; on a GPU also tf32 and f16.
    #[arg(long, value_delimiter = ',', default_value = "f32,bf16")]
    pub precision: Vec<Precision>,
    /// Number of clips in a batch.
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = positive)]
    pub batch: Vec<usize>,
    /// Number of threads of every contestant; 0 uses all cores [default: 1 and all cores].
    #[arg(long, value_delimiter = ',')]
    pub threads: Vec<usize>,
    /// Number of rounds; every contestant has one turn in a round, and their order rotates.
    #[arg(long, default_value_t = 15, value_parser = positive)]
    pub rounds: usize,
    /// Number of processes for each contestant. They share the rounds, one after the other, because a
    /// single process may happen to be slow throughout.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub starts: u32,
    /// Number of timed runs in a turn; an untimed one precedes them.
    #[arg(long, default_value_t = 3, value_parser = positive)]
    pub runs: usize,
    /// Measure also the time from the host's bytes: in each turn two more runs (one of them timed), from frames
    /// [N, T, H, W, 3] to logits, with normalisation and copies, which is what `eval` pays for a batch.
    #[arg(long)]
    pub from_bytes: bool,
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
    /// Whether the user has named the contestants, so that none of them may be missing.
    #[arg(skip)]
    pub named: bool,
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
    /// The places that the command will write to.
    pub fn outputs(&self) -> Outputs {
        let baselines = self.save_baseline.as_ref().map(|_| baseline::FOLDER.into());
        Outputs::default()
            .report_in(&self.report, self.out.as_ref())
            .folder("--save-baseline", baselines.as_ref())
    }

    /// These arguments with the default contestants for the device, if none were named.
    pub fn fill(&self) -> Self {
        let mut args = self.clone();
        args.named = !args.engines.is_empty();
        if !args.named {
            args.engines = if args.device.is_gpu() { ON_GPU.to_vec() } else { ON_CPU.to_vec() };
        }
        args
    }
}

/// The arguments of `harness bench-worker`: one of our engines as a contestant, started by `harness bench`.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// Engine to run.
    #[arg(long)]
    pub engine: EngineName,
    /// Precision of the engine.
    #[arg(long)]
    pub precision: Precision,
    /// Device: cpu, cuda or cuda:N.
    #[arg(long, default_value_t = DeviceName::Cpu)]
    pub device: DeviceName,
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
