//! The command line. Scripts rely on its commands, flags and values, so they must not change (see the
//! README).

use std::path::PathBuf;
use std::str::FromStr;

use checkpoint::Source;
use clap::{Args, Parser, Subcommand};
use spec::config::FrameSize;
use spec::{Config, ConfigError, Precision};
use video::dataset::{Dataset, Mode};

use crate::bench::args::{BenchArgs, WorkerArgs};
use crate::eval::Order;

/// Compares implementations of SqueezeTime with each other, layer by layer.
///
/// Exit codes: 0 passed; 1 diverged, or not everything was compared; 2 wrong usage or another error.
#[derive(Debug, Parser)]
#[command(name = "harness", version, max_term_width = 100)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of `harness`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compare a candidate with a reference, layer by layer, and write a report.
    Diff(DiffArgs),
    /// Write the activations of an engine to an npz file.
    Dump(DumpArgs),
    /// Plant every known mistake at random places, and count how often it is detected, located and named.
    Selftest(SelftestArgs),
    /// Print the modules of a model with their shapes, parameters and multiply-accumulates.
    Info(InfoArgs),
    /// Evaluate engines on videos: their accuracy, and whether they agree.
    Eval(EvalArgs),
    /// Take parts out of the network and measure what each part contributes.
    Ablate(AblateArgs),
    /// Train a small network on the built-in data set.
    Train(TrainArgs),
    /// Inspect checkpoints and convert them.
    #[command(subcommand)]
    Weights(WeightsCommand),
    /// Measure latency and throughput, and compare them with other runtimes.
    Bench(BenchArgs),
    /// Run one engine as a contestant of `bench`.
    #[command(hide = true)]
    BenchWorker(WorkerArgs),
    /// Run every check of the engine cuda on a GPU, and write a record that can be published.
    #[cfg(feature = "cuda")]
    GpuCheck(GpuCheckArgs),
    /// Export the network for other runtimes.
    #[command(subcommand)]
    Export(ExportCommand),
    /// Make the reports of earlier runs again from their records.
    Report(ReportArgs),
}

/// The flags that describe the model, which are the same for every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// Depth: 10, 18, 34, 50, 101, 152 or 200 [default: 50].
    #[arg(long)]
    pub depth: Option<usize>,
    /// Factor by which the number of channels is multiplied [default: 1].
    #[arg(long)]
    pub width: Option<f64>,
    /// Number of frames in a clip [default: 16].
    #[arg(long)]
    pub frames: Option<usize>,
    /// Frame size in pixels: 224, or HEIGHTxWIDTH [default: 224].
    #[arg(long)]
    pub size: Option<FrameSize>,
    /// Number of classes [default: 400].
    #[arg(long)]
    pub classes: Option<usize>,
    /// Side of the square positional embedding in each of the four stages [default: 56,28,14,7].
    #[arg(long, value_parser = PosDim::from_str)]
    pub pos_dim: Option<PosDim>,
    /// Number of clips in a batch.
    #[arg(long, default_value_t = 1)]
    pub batch_size: usize,
    /// Change a part of the network, in diff on both sides: tfc=off, ioi=off, pos_embed=off|flax,
    /// align_corners=off.
    #[arg(long, value_delimiter = ',', value_name = "PART=off")]
    pub set: Vec<String>,
}

impl ModelArgs {
    /// The default configuration with the changes that the flags ask for.
    pub fn config(&self) -> Result<Config, ConfigError> {
        self.over(Config::default())
    }

    /// The configuration `base`, such as that of a data set, with the changes that the flags ask for.
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

/// The sides of the four stages' positional embeddings, written `56,28,14,7`.
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

/// The flags that name weights, input and device.
#[derive(Debug, Clone, Args)]
pub struct DataArgs {
    /// Weights: formula:SEED, or a checkpoint (.pth, .safetensors, .npz, .ckpt or .pkl).
    #[arg(long, default_value = "formula:0")]
    pub weights: Source,
    /// Input: formula:SEED, an .npz file with an array `input` [N, 3, T, H, W], or a video file [default:
    /// formula:0, or the clip in the dump].
    #[arg(long)]
    pub input: Option<InputSource>,
    /// Device, threads and instruction set.
    #[command(flatten)]
    pub on: DeviceArgs,
}

/// The flags that say on what the engines run.
#[derive(Debug, Clone, Args)]
pub struct DeviceArgs {
    /// Device of the engines torch and cuda: cpu, cuda or cuda:N. With `emulated`, the engine cuda runs
    /// on an emulated GPU, which is slow, and torch runs on the CPU.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Number of threads of every engine; 0 uses all cores.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Instruction set of the engine cpu: portable, avx2, avx512, avx512bf16, amx, neon or
    /// amx-emulated [default: the best that the CPU has].
    #[arg(long)]
    pub isa: Option<cpu::Isa>,
}

/// The flags that say where the results of a run go.
#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// Path of the record; the default is record.json in the folder of the run, a new one under runs/.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Path of the report; the default is report.html in the folder of the run, a new one under runs/.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Where the clip comes from that a network is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputSource {
    /// Noise that the seed reproduces.
    Formula(u64),
    /// An npz file with an array `input`, or a video file.
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

/// One side of a comparison: an engine, or a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Participant {
    /// The engine `scalar`: plain loops.
    Scalar,
    /// The engine `cpu`: our fast one for CPUs.
    Cpu,
    /// The engine `cuda`: our fast one for NVIDIA GPUs.
    Cuda,
    /// The engine `torch`: libtorch.
    Torch,
    /// A dump in an npz file.
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
                _ => Err(format!(
                    "`{text}` is not an engine; use scalar, cpu, cuda, torch or npz:FILE"
                )),
            },
        }
    }
}

/// The arguments of `harness diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Compare only these layers: names, prefixes or aliases such as ctl3, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub layer: Vec<String>,
    /// The engine or dump to judge: scalar, cpu, cuda, torch or npz:FILE [default: scalar, or cuda if
    /// --device names a GPU].
    #[arg(long)]
    pub candidate: Option<Participant>,
    /// What the candidate is compared with: torch, scalar or npz:FILE.
    #[arg(long, default_value = DEFAULT_REFERENCE)]
    pub reference: Participant,
    /// Precision of the candidate: f32, f64, bf16, and for cuda also tf32 and f16. The default is f32,
    /// and for a dump the format of its arrays.
    #[arg(long)]
    pub precision: Option<Precision>,
    /// Plant a mistake in the candidate on purpose: FAULT, FAULT@LAYER or FAULT@everywhere.
    #[arg(long, value_name = "FAULT")]
    pub inject: Option<String>,
    /// Skip the second, small comparison, which runs at a frame size with edge cases where --size leaves
    /// known mistakes unexercised.
    #[arg(long)]
    pub no_edge: bool,
    /// Paths of record and report.
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
    /// The candidate that was asked for, or the default for the device.
    pub fn candidate(&self) -> Participant {
        let gpu = crate::engines::has_gpu(&self.data.on);
        let default = || if gpu { Participant::Cuda } else { Participant::Scalar };
        self.candidate.clone().unwrap_or_else(default)
    }
}

/// The default reference: `torch`, or `scalar` in a build without libtorch.
pub const DEFAULT_REFERENCE: &str = if cfg!(feature = "libtorch") { "torch" } else { "scalar" };

/// The arguments of `harness dump`.
#[derive(Debug, Args)]
pub struct DumpArgs {
    /// The engine to run: scalar, cpu, cuda or torch.
    #[arg(long)]
    pub engine: Participant,
    /// The npz file to write.
    #[arg(long)]
    pub out: PathBuf,
    /// Write only these layers: names, prefixes or aliases, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub layer: Vec<String>,
    /// Names and layout of the arrays: torch (NCHW) or flax (NHWC, with the Flax port's module names).
    #[arg(long, default_value = "torch", value_parser = ["torch", "flax"])]
    pub naming: String,
    /// Precision of the engine.
    #[arg(long, default_value = "f32")]
    pub precision: Precision,
    /// Weights, input and device.
    #[command(flatten)]
    pub data: DataArgs,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// The arguments of `harness gpu-check`.
#[cfg(feature = "cuda")]
#[derive(Debug, Args)]
pub struct GpuCheckArgs {
    /// The GPU to check: cuda or cuda:N.
    #[arg(long, default_value = "cuda")]
    pub device: String,
    /// Folder of the run; the default is a new folder under runs/.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// The compiled tests of the kernels, which scripts/gpu-check builds.
    #[arg(long, value_name = "FILE")]
    pub kernel_tests: Option<PathBuf>,
    /// Try this command out: run only the steps that need no GPU, on a small network and an emulated GPU.
    #[arg(long)]
    pub rehearse: bool,
}

/// The arguments of `harness selftest`.
#[derive(Debug, Args)]
pub struct SelftestArgs {
    /// Number of random places for each mistake; at each it is planted in an engine and in two kinds of
    /// dumps.
    #[arg(long, default_value_t = 2)]
    pub places: usize,
    /// Plant only these mistakes, by their names in --inject, separated by commas; or scaled and noise,
    /// which are not in the catalogue.
    #[arg(long, value_delimiter = ',', value_name = "FAULT")]
    pub only: Vec<String>,
    /// Number of arrays of a correct dump, and of a correct checkpoint, that are damaged in each of ten
    /// ways; a large number damages all of them.
    #[arg(long, default_value_t = crate::commands::mutations::DEFAULT)]
    pub mutations: usize,
    /// Plant nothing, but make this many comparisons of correct engines on random networks, to measure
    /// how often there is a false alarm and how the budget ratios are distributed.
    #[arg(long, value_name = "N")]
    pub null: Option<usize>,
    /// With --null: number of the first random network, to repeat a comparison.
    #[arg(long, default_value_t = 0, requires = "null", value_name = "I")]
    pub first_draw: u64,
    /// Seed of the random places, and of the random networks of --null.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The engine in which mistakes are planted: scalar or torch.
    #[arg(long, default_value = "scalar")]
    pub candidate: Participant,
    /// What the candidate is compared with: torch or scalar.
    #[arg(long, default_value = DEFAULT_REFERENCE)]
    pub reference: Participant,
    /// Paths of record and report.
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
    /// Frame size; it should be one at which the positional embedding is resized.
    #[arg(long, default_value = "72x88")]
    pub size: FrameSize,
}

/// The formats of `harness export`.
#[derive(Debug, Subcommand)]
pub enum ExportCommand {
    /// Write an ONNX file with a dynamic batch.
    Onnx(OnnxArgs),
}

/// The arguments of `harness export onnx`.
#[derive(Debug, Args)]
pub struct OnnxArgs {
    /// The ONNX file to write.
    #[arg(long)]
    pub out: PathBuf,
    /// Weights: formula:SEED, or a checkpoint.
    #[arg(long, default_value = "formula:0")]
    pub weights: Source,
    /// Version of the ONNX operator set, 17 to 23.
    #[arg(long, default_value_t = 17)]
    pub opset: i64,
    /// Output probabilities instead of logits.
    #[arg(long)]
    pub softmax: bool,
    /// Take decoded frames as input, uint8 RGB [batch, T, H, W, 3], and normalise them in the network.
    #[arg(long)]
    pub preprocess: bool,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
}

impl OnnxArgs {
    /// The flags as options of the exporter.
    pub fn options(&self) -> onnx::Options {
        onnx::Options { opset: self.opset, softmax: self.softmax, preprocess: self.preprocess }
    }
}

/// The arguments of `harness train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The data set: mini.
    pub dataset: Dataset,
    /// Folder of the videos, which are made there at first use.
    #[arg(long, default_value = MINI_FOLDER)]
    pub data: PathBuf,
    /// Number of epochs.
    #[arg(long, default_value_t = 60)]
    pub epochs: usize,
    /// Number of clips in a training batch.
    #[arg(long, default_value_t = 32, value_parser = positive)]
    pub batch: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 0.05)]
    pub rate: f64,
    /// Seed of the initial weights, the order of the videos and the augmentation.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Number of training videos; 0 uses all 2000.
    #[arg(long, default_value_t = 0)]
    pub videos: usize,
    /// Folder of the run; the default is a new folder under runs/.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Continue the training that stopped in --out.
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// Device, threads and instruction set.
    #[command(flatten)]
    pub on: DeviceArgs,
    /// Paths of record and report.
    #[command(flatten)]
    pub report: OutputArgs,
    /// The model; the defaults are those of the small network for `mini`.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// The default folder for the videos of `mini`.
pub const MINI_FOLDER: &str = "runs/data/mini";

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("`{text}` is not a number above 0"))
}

/// The flags that choose videos, and that say how clips are made of them.
#[derive(Debug, Clone, Args)]
pub struct VideoArgs {
    /// Folder of the videos; those of mini are made there at first use.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// List of videos with `path label` on each line; the default is the list under its published name
    /// in --data or in the folder that holds --data.
    #[arg(long, value_name = "FILE")]
    pub list: Option<PathBuf>,
    /// The official protocol: val (few views) or test (as published).
    #[arg(long, default_value = "test")]
    pub protocol: Mode,
    /// Part of mini: train, val or test.
    #[arg(long, default_value = "test", value_parser = ["train", "val", "test"])]
    pub part: String,
    /// Continue although files of the list are missing.
    #[arg(long)]
    pub allow_missing: bool,
    /// Order of a clip's frames: natural, reversed, shuffled[:SEED] or still[:SEED] (one frame, repeated).
    #[arg(long, default_value = "natural")]
    pub order: Order,
    /// Number of seconds that it may take to decode one file.
    #[arg(long, default_value_t = 120.0)]
    pub time_limit: f64,
    /// Number of videos from the start of the list; 0 takes all.
    #[arg(long, default_value_t = 0)]
    pub videos: usize,
}

/// The arguments of `harness eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The data set: k400, k600, hmdb51 or mini.
    pub dataset: Dataset,
    /// Which videos, and how.
    #[command(flatten)]
    pub videos: VideoArgs,
    /// Engines, separated by commas: torch, scalar, cpu, cuda. The default is torch; for mini it is torch
    /// and scalar; on a GPU it is cuda and torch.
    #[arg(long, value_delimiter = ',')]
    pub engine: Vec<Participant>,
    /// Weights: a checkpoint, or formula:SEED. Only mini has a default, the built-in model.
    #[arg(long)]
    pub weights: Option<Source>,
    /// Evaluate only one part of the list: INDEX/COUNT, such as 1/4.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Merge the runs of all shards, given by their folders, into one report.
    #[arg(long, value_name = "DIR", num_args = 1.., conflicts_with_all = ["shard", "resume"])]
    pub merge: Vec<PathBuf>,
    /// Folder of the run; the default is a new folder under runs/.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Continue the run that stopped in --out.
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// Device, threads and instruction set.
    #[command(flatten)]
    pub on: DeviceArgs,
    /// Paths of record and report.
    #[command(flatten)]
    pub report: OutputArgs,
    /// The model; the defaults are those of the data set. `--batch-size` counts views.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// The arguments of `harness ablate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Here each value of --set is a variant of its own, and tfc=off+ioi=off is a \
    variant without both parts. By default each part is taken out by itself."
)]
pub struct AblateArgs {
    /// The data set: k400, k600, hmdb51 or mini.
    #[arg(default_value = "mini")]
    pub dataset: Dataset,
    /// Which videos, and how.
    #[command(flatten)]
    pub videos: VideoArgs,
    /// Train each variant from scratch with this many seeds, instead of taking parts out of trained
    /// weights.
    #[arg(long, value_name = "SEEDS", default_value_t = 0)]
    pub retrain: u64,
    /// Number of epochs of each training.
    #[arg(long, default_value_t = 60)]
    pub epochs: usize,
    /// Number of training videos; 0 uses all 2000.
    #[arg(long, default_value_t = 0)]
    pub train_videos: usize,
    /// Weights: a checkpoint, or formula:SEED. Only mini has a default, the built-in model.
    #[arg(long)]
    pub weights: Option<Source>,
    /// Folder of the run; the default is a new folder under runs/. Unfinished trainings in it continue.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Device, threads and instruction set.
    #[command(flatten)]
    pub on: DeviceArgs,
    /// Paths of record and report.
    #[command(flatten)]
    pub report: OutputArgs,
    /// The model; the defaults are those of the data set. Each `--set` is a variant of its own.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// One part of a list of videos, written `INDEX/COUNT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Index of the shard, in `1..=of`.
    pub number: usize,
    /// Number of shards.
    pub of: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts =
            text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((number, of)) if 1 <= number && number <= of => Ok(Shard { number, of }),
            _ => Err(format!("invalid shard `{text}`: expected INDEX/COUNT, such as 1/4")),
        }
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

/// The arguments of `harness info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Print only these layers: names, prefixes or aliases, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub layer: Vec<String>,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// The commands of `harness weights`.
#[derive(Debug, Subcommand)]
pub enum WeightsCommand {
    /// List the tensors of a checkpoint, those that the model lacks, and those that it does not know.
    Inspect {
        /// The checkpoint; FILE::KEY chooses one of several sets of weights in it.
        file: PathBuf,
        /// The model.
        #[command(flatten)]
        model: Box<ModelArgs>,
    },
    /// Write a checkpoint with PyTorch's names, in the format of --out's ending: .safetensors, .npz or .pth.
    Convert {
        /// The checkpoint, or formula:SEED.
        file: Source,
        /// The file to write.
        #[arg(long)]
        out: PathBuf,
        /// The model.
        #[command(flatten)]
        model: Box<ModelArgs>,
    },
}

/// The arguments of `harness report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Records (JSON files, or folders that hold a record.json).
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Folder for the reports; by default each is written next to its record.
    #[arg(long)]
    pub out: Option<PathBuf>,
}
