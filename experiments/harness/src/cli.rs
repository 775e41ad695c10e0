//! The command line. Its words are a contract: scripts rely on them (see the README).

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use spec::config::FrameSize;
use spec::weights::Source;
use spec::{Config, ConfigError, Precision};
use video::dataset::{Dataset, Mode};

use crate::bench::args::{BenchArgs, WorkerArgs};
use crate::eval::Order;

/// Holds implementations of SqueezeTime against each other, layer by layer.
///
/// Exit codes: 0 passed; 1 diverged, or not everything was compared; 2 usage or tool error.
#[derive(Debug, Parser)]
#[command(name = "harness", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compare a candidate with a reference, layer by layer, and write a report.
    Diff(DiffArgs),
    /// Write the activations of an engine to an npz file.
    Dump(DumpArgs),
    /// Plant every known mistake at random places and count how often it is noticed, placed and named.
    Selftest(SelftestArgs),
    /// Print the modules of a model with shapes, parameters and multiply-accumulates.
    Info(InfoArgs),
    /// Evaluate on videos: accuracy, and whether engines agree.
    Eval(EvalArgs),
    /// Take parts out of the network and see what they are worth.
    Ablate(AblateArgs),
    /// Train a small network on the data set in the program.
    Train(TrainArgs),
    /// Look into checkpoints and convert them.
    #[command(subcommand)]
    Weights(WeightsCommand),
    /// Measure latency and throughput beside other runtimes.
    Bench(BenchArgs),
    /// A contestant of `bench`.
    #[command(hide = true)]
    BenchWorker(WorkerArgs),
    /// Check the engine cuda on a GPU, all of it in one run, and write a record to publish.
    #[cfg(feature = "cuda")]
    GpuCheck(GpuCheckArgs),
    /// Write the network for other runtimes.
    #[command(subcommand)]
    Export(ExportCommand),
    /// Make the reports of earlier runs again from their records.
    Report(ReportArgs),
}

/// The model; the same flags everywhere.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// Depth: 10, 18, 34, 50, 101, 152 or 200 [default: 50].
    #[arg(long)]
    pub depth: Option<usize>,
    /// Factor on the channels [default: 1].
    #[arg(long)]
    pub width: Option<f64>,
    /// Frames in a clip [default: 16].
    #[arg(long)]
    pub frames: Option<usize>,
    /// Frame size: 224, or HxW [default: 224].
    #[arg(long)]
    pub size: Option<FrameSize>,
    /// Classes of the head [default: 400].
    #[arg(long)]
    pub classes: Option<usize>,
    /// Side of the positional embedding in each of the four stages [default: 56,28,14,7].
    #[arg(long, value_parser = PosDim::from_str)]
    pub pos_dim: Option<PosDim>,
    /// Clips in a batch.
    #[arg(long, default_value_t = 1)]
    pub batch_size: usize,
    /// Switch a part of both sides: tfc=off, ioi=off, pos_embed=off|flax, align_corners=off.
    #[arg(long, value_delimiter = ',', value_name = "PART=off")]
    pub set: Vec<String>,
}

impl ModelArgs {
    /// The configuration that the flags describe.
    pub fn config(&self) -> Result<Config, ConfigError> {
        self.over(Config::default())
    }

    /// The configuration that the flags make of another: of the one that belongs to a data set.
    pub fn over(&self, base: Config) -> Result<Config, ConfigError> {
        let mut semantics = base.semantics;
        for setting in &self.set {
            semantics.set(setting)?;
        }
        let config = Config {
            depth: self.depth.unwrap_or(base.depth),
            width: self.width.unwrap_or(base.width),
            frames: self.frames.unwrap_or(base.frames),
            size: self.size.map_or(base.size, |size| (size.0, size.1)),
            classes: self.classes.unwrap_or(base.classes),
            pos_dim: self.pos_dim.map_or(base.pos_dim, |pos_dim| pos_dim.0),
            semantics,
        };
        config.validate().map(|()| config)
    }
}

/// Four sides of positional embeddings, written `56,28,14,7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PosDim(pub [usize; 4]);

impl FromStr for PosDim {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not four sizes; write them as 56,28,14,7");
        let sides: Result<Vec<usize>, _> = text.split(',').map(str::parse).collect();
        sides.map_err(|_| bad())?.try_into().map(PosDim).map_err(|_| bad())
    }
}

impl std::fmt::Display for PosDim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d] = self.0;
        write!(f, "{a},{b},{c},{d}")
    }
}

/// Where the numbers come from and what computes.
#[derive(Debug, Clone, Args)]
pub struct DataArgs {
    /// Weights: formula:SEED, or a checkpoint (.pth, .safetensors, .npz, .ckpt, .pkl).
    #[arg(long, default_value = "formula:0")]
    pub weights: Source,
    /// Input: formula:SEED, an .npz with an array `input` [N, 3, T, H, W], or a video file.
    #[arg(long)]
    pub input: Option<InputSource>,
    /// What computes.
    #[command(flatten)]
    pub on: DeviceArgs,
}

/// What computes.
#[derive(Debug, Clone, Args)]
pub struct DeviceArgs {
    /// Device of the engines torch and cuda: cpu, cuda or cuda:N; `emulated` runs the engine cuda on a
    /// GPU that the processor emulates, slowly, and torch on the processor.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Threads of every engine; 0 is all cores.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Instruction set of the engine cpu: portable, avx2, avx512, avx512bf16, amx, neon or
    /// amx-emulated [default: the best].
    #[arg(long)]
    pub isa: Option<cpu::Isa>,
}

/// Where the results of a run go.
#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// Where the record goes; the default is a new folder under runs/.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Where the report goes; the default is a new folder under runs/.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// The clip that a network is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputSource {
    /// Reproducible noise.
    Formula(u64),
    /// An array `input` in an npz file.
    File(PathBuf),
}

impl FromStr for InputSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("formula:") {
            Some(seed) => seed
                .parse()
                .map(InputSource::Formula)
                .map_err(|_| format!("`{text}`: the seed is not a whole number")),
            None => Ok(InputSource::File(text.into())),
        }
    }
}

impl std::fmt::Display for InputSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            InputSource::Formula(seed) => write!(f, "formula:{seed}"),
            InputSource::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// An implementation, or activations that one has left in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Participant {
    /// Plain loops of our own.
    Scalar,
    /// The fast engine of our own.
    Cpu,
    /// The engine of our own for GPUs.
    Cuda,
    /// libtorch.
    Torch,
    /// A dump.
    Npz(PathBuf),
}

impl std::fmt::Display for Participant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Participant::Scalar => f.write_str("scalar"),
            Participant::Cpu => f.write_str("cpu"),
            Participant::Cuda => f.write_str("cuda"),
            Participant::Torch => f.write_str("torch"),
            Participant::Npz(path) => write!(f, "npz:{}", path.display()),
        }
    }
}

impl FromStr for Participant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "scalar" => Ok(Participant::Scalar),
            "torch" => Ok(Participant::Torch),
            "cpu" => Ok(Participant::Cpu),
            "cuda" => Ok(Participant::Cuda),
            _ => match text.strip_prefix("npz:") {
                Some(file) if !file.is_empty() => Ok(Participant::Npz(file.into())),
                _ => {
                    Err(format!("`{text}` is no engine; use scalar, cpu, cuda, torch or npz:FILE"))
                }
            },
        }
    }
}

/// `harness diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Only these layers: names, prefixes or aliases such as ctl3, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub layer: Vec<String>,
    /// What is judged: scalar, cpu, cuda, torch or npz:FILE [default: scalar, on a GPU cuda].
    #[arg(long)]
    pub candidate: Option<Participant>,
    /// What it is held against: torch, scalar or npz:FILE.
    #[arg(long, default_value = DEFAULT_REFERENCE)]
    pub reference: Participant,
    /// The candidate's precision: f32, f64, bf16, and for cuda tf32 and f16. For a dump the default is that of its arrays.
    #[arg(long)]
    pub precision: Option<Precision>,
    /// Make a mistake in the candidate on purpose: FAULT, FAULT@LAYER or FAULT@everywhere.
    #[arg(long, value_name = "FAULT")]
    pub inject: Option<String>,
    /// Leave out the second, small comparison at a frame size with edge cases, which runs where this
    /// size leaves known mistakes unexercised.
    #[arg(long)]
    pub no_edge: bool,
    /// Where the results go.
    #[command(flatten)]
    pub out: OutputArgs,
    /// Weights, input and device.
    #[command(flatten)]
    pub data: DataArgs,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
}

impl DiffArgs {
    /// What is judged.
    pub fn candidate(&self) -> Participant {
        let gpu = crate::engines::has_gpu(&self.data.on);
        let default = || if gpu { Participant::Cuda } else { Participant::Scalar };
        self.candidate.clone().unwrap_or_else(default)
    }
}

/// The reference where libtorch is built in, and where it is not.
pub const DEFAULT_REFERENCE: &str = if cfg!(feature = "libtorch") { "torch" } else { "scalar" };

/// `harness dump`.
#[derive(Debug, Args)]
pub struct DumpArgs {
    /// The engine: scalar, cpu, cuda or torch.
    #[arg(long)]
    pub engine: Participant,
    /// The npz file to write.
    #[arg(long)]
    pub out: PathBuf,
    /// Only these layers: names, prefixes or aliases, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub layer: Vec<String>,
    /// Names and layout: torch (NCHW) or flax (NHWC, the Flax port's module names).
    #[arg(long, default_value = "torch", value_parser = ["torch", "flax"])]
    pub naming: String,
    /// The engine's precision.
    #[arg(long, default_value = "f32")]
    pub precision: Precision,
    /// Weights, input and device.
    #[command(flatten)]
    pub data: DataArgs,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// `harness gpu-check`.
#[cfg(feature = "cuda")]
#[derive(Debug, Args)]
pub struct GpuCheckArgs {
    /// The GPU: cuda or cuda:N.
    #[arg(long, default_value = "cuda")]
    pub device: String,
    /// Folder of the run; the default is a new one under runs/.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// The compiled tests of the kernels, which `scripts/gpu-check` builds.
    #[arg(long, value_name = "FILE")]
    pub kernel_tests: Option<PathBuf>,
    /// Only what can be done without a GPU, small, on an emulated one: to try this command out.
    #[arg(long)]
    pub rehearse: bool,
}

/// `harness selftest`.
#[derive(Debug, Args)]
pub struct SelftestArgs {
    /// Random places for each mistake; each is planted in an engine and in two kinds of dumps.
    #[arg(long, default_value_t = 2)]
    pub places: usize,
    /// Only these mistakes, by their words for --inject, separated by commas; scaled and noise are
    /// in no catalogue.
    #[arg(long, value_delimiter = ',', value_name = "FAULT")]
    pub only: Vec<String>,
    /// Arrays of a right dump and of a right checkpoint that are changed in each of ten ways; a large
    /// number changes all of them.
    #[arg(long, default_value_t = crate::commands::mutations::DEFAULT)]
    pub mutations: usize,
    /// Instead of faults, this many comparisons of right engines on random networks: how often is there
    /// a false alarm, and how are the ratios spread?
    #[arg(long, value_name = "N")]
    pub null: Option<usize>,
    /// With --null: the first random network, to make a comparison again.
    #[arg(long, default_value_t = 0, requires = "null", value_name = "I")]
    pub first_draw: u64,
    /// Seed of the places, and of the random networks of --null.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// What is given the faults: scalar or torch.
    #[arg(long, default_value = "scalar")]
    pub candidate: Participant,
    /// What it is held against: torch or scalar.
    #[arg(long, default_value = DEFAULT_REFERENCE)]
    pub reference: Participant,
    /// Where the results go.
    #[command(flatten)]
    pub out: OutputArgs,
    /// Weights, input and device.
    #[command(flatten)]
    pub data: DataArgs,
    /// Depth of the model.
    #[arg(long, default_value_t = 50)]
    pub depth: usize,
    /// Width of the model.
    #[arg(long, default_value_t = 0.125)]
    pub width: f64,
    /// Frame size; a size that makes the positional embedding be resized.
    #[arg(long, default_value = "72x88")]
    pub size: FrameSize,
}

/// `harness export`.
#[derive(Debug, Subcommand)]
pub enum ExportCommand {
    /// Write an ONNX file with a dynamic batch.
    Onnx(OnnxArgs),
}

/// `harness export onnx`.
#[derive(Debug, Args)]
pub struct OnnxArgs {
    /// The file to write.
    #[arg(long)]
    pub out: PathBuf,
    /// Weights: formula:SEED, or a checkpoint.
    #[arg(long, default_value = "formula:0")]
    pub weights: Source,
    /// Version of the ONNX operators, 17 to 23.
    #[arg(long, default_value_t = 17)]
    pub opset: i64,
    /// End in probabilities instead of logits.
    #[arg(long)]
    pub softmax: bool,
    /// Begin with frames as they are decoded, uint8 RGB [batch, T, H, W, 3], and normalise them.
    #[arg(long)]
    pub preprocess: bool,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
}

impl OnnxArgs {
    /// What the flags say about the file.
    pub fn options(&self) -> crate::export::Options {
        crate::export::Options {
            opset: self.opset,
            softmax: self.softmax,
            preprocess: self.preprocess,
        }
    }
}

/// `harness train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The data set: mini.
    pub dataset: Dataset,
    /// Folder of its videos, which are made at first use.
    #[arg(long, default_value = MINI_FOLDER)]
    pub data: PathBuf,
    /// Epochs.
    #[arg(long, default_value_t = 60)]
    pub epochs: usize,
    /// Clips in a training batch.
    #[arg(long, default_value_t = 32, value_parser = positive)]
    pub batch: usize,
    /// The largest learning rate.
    #[arg(long, default_value_t = 0.05)]
    pub rate: f64,
    /// Seed of weights, orders and augmentations.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Only so many training videos; 0 is all 2000.
    #[arg(long, default_value_t = 0)]
    pub videos: usize,
    /// Folder of the run; the default is a new one under runs/.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Go on from where a training in --out has stopped.
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// What computes.
    #[command(flatten)]
    pub on: DeviceArgs,
    /// Where record and report go.
    #[command(flatten)]
    pub report: OutputArgs,
    /// The model; the defaults are those of the small one for mini.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Where the videos of `mini` lie by default.
pub const MINI_FOLDER: &str = "runs/data/mini";

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("`{text}` is not a number above 0"))
}

/// Which videos, and how they become clips.
#[derive(Debug, Clone, Args)]
pub struct VideoArgs {
    /// Folder of the videos; for mini they are made there at first use.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// List of videos, `path label` on each line; the default is the published name in --data.
    #[arg(long, value_name = "FILE")]
    pub list: Option<PathBuf>,
    /// The official protocol: val (few views) or test (as published).
    #[arg(long, default_value = "test")]
    pub protocol: Mode,
    /// Part of mini: train, val or test.
    #[arg(long, default_value = "test", value_parser = ["train", "val", "test"])]
    pub part: String,
    /// Go on although files of the list are missing.
    #[arg(long)]
    pub allow_missing: bool,
    /// Order of a clip's frames: natural, reversed, shuffled (by a seed), still (one frame, repeated).
    #[arg(long, default_value = "natural")]
    pub order: Order,
    /// Seconds that one file may take to decode.
    #[arg(long, default_value_t = 120.0)]
    pub time_limit: f64,
    /// Only the first so many videos; 0 is all.
    #[arg(long, default_value_t = 0)]
    pub videos: usize,
}

/// `harness eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The data set: k400, k600, hmdb51 or mini.
    pub dataset: Dataset,
    /// The videos.
    #[command(flatten)]
    pub videos: VideoArgs,
    /// Engines, separated by commas: torch, scalar, cpu, cuda. The default is torch, for mini torch and
    /// scalar, and on a GPU cuda and torch.
    #[arg(long, value_delimiter = ',')]
    pub engine: Vec<Participant>,
    /// Weights: a checkpoint, or formula:SEED. The default is, for mini only, the model in the program.
    #[arg(long)]
    pub weights: Option<Source>,
    /// The i-th of n parts of the list: 1/4.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Make one report of the runs of all shards.
    #[arg(long, value_name = "DIR", num_args = 1.., conflicts_with_all = ["shard", "resume"])]
    pub merge: Vec<PathBuf>,
    /// Folder of the run; the default is a new one under runs/.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Go on from where the run in --out has stopped.
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// What computes.
    #[command(flatten)]
    pub on: DeviceArgs,
    /// Where record and report go.
    #[command(flatten)]
    pub report: OutputArgs,
    /// The model; the defaults are those of the data set. --batch-size is the views at a time.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// `harness ablate`.
#[derive(Debug, Args)]
pub struct AblateArgs {
    /// The data set: k400, k600, hmdb51 or mini.
    #[arg(default_value = "mini")]
    pub dataset: Dataset,
    /// The videos.
    #[command(flatten)]
    pub videos: VideoArgs,
    /// Train each variant anew with so many seeds, instead of taking parts out of trained weights.
    #[arg(long, value_name = "SEEDS", default_value_t = 0)]
    pub retrain: u64,
    /// Epochs of each training.
    #[arg(long, default_value_t = 60)]
    pub epochs: usize,
    /// Training videos; 0 is all 2000.
    #[arg(long, default_value_t = 0)]
    pub train_videos: usize,
    /// Weights: a checkpoint, or formula:SEED. The default is, for mini only, the model in the program.
    #[arg(long)]
    pub weights: Option<Source>,
    /// Folder of the run; the default is a new one under runs/. Trainings that are there go on.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// What computes.
    #[command(flatten)]
    pub on: DeviceArgs,
    /// Where record and report go.
    #[command(flatten)]
    pub report: OutputArgs,
    /// The model; the defaults are those of the data set. Here each --set is a variant by itself, and
    /// tfc=off+ioi=off one without both; the default is each part by itself.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// A part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Its number, from 1 on.
    pub number: usize,
    /// How many there are.
    pub of: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts =
            text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((number, of)) if 1 <= number && number <= of => Ok(Shard { number, of }),
            _ => Err(format!("`{text}` is no part of a list; write the first of four as 1/4")),
        }
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

/// `harness info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Only these layers: names, prefixes or aliases, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub layer: Vec<String>,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// `harness weights`.
#[derive(Debug, Subcommand)]
pub enum WeightsCommand {
    /// List the tensors of a checkpoint, and what the model misses or does not know.
    Inspect {
        /// The checkpoint.
        file: PathBuf,
        /// The model.
        #[command(flatten)]
        model: Box<ModelArgs>,
    },
    /// Write a checkpoint again with PyTorch's names; the ending says how: .safetensors, .npz, .pth.
    Convert {
        /// The checkpoint, or formula:SEED.
        file: Source,
        /// Where to write.
        #[arg(long)]
        out: PathBuf,
        /// The model.
        #[command(flatten)]
        model: Box<ModelArgs>,
    },
}

/// `harness report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Records (JSON files, or folders that hold a record.json).
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Folder for the reports; the default is beside each record.
    #[arg(long)]
    pub out: Option<PathBuf>,
}
