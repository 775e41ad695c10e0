//! The command line. Its words are a contract: scripts rely on them (see the README).

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use spec::config::FrameSize;
use spec::weights::Source;
use spec::{Config, ConfigError, Precision, Semantics};

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
    /// Inject every fault at random places and count how often it is noticed and placed.
    Selftest(SelftestArgs),
    /// Print the modules of a model with shapes, parameters and multiply-accumulates.
    Info(InfoArgs),
    /// Look into checkpoints and convert them.
    #[command(subcommand)]
    Weights(WeightsCommand),
    /// Make the reports of earlier runs again from their records.
    Report(ReportArgs),
}

/// The model; the same flags everywhere.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// Depth: 10, 18, 34, 50, 101, 152 or 200.
    #[arg(long, default_value_t = 50)]
    pub depth: usize,
    /// Factor on the channels.
    #[arg(long, default_value_t = 1.0)]
    pub width: f64,
    /// Frames in a clip.
    #[arg(long, default_value_t = 16)]
    pub frames: usize,
    /// Frame size: 224, or HxW.
    #[arg(long, default_value = "224")]
    pub size: FrameSize,
    /// Classes of the head.
    #[arg(long, default_value_t = 400)]
    pub classes: usize,
    /// Side of the positional embedding in each of the four stages.
    #[arg(long, default_value = "56,28,14,7", value_parser = PosDim::from_str)]
    pub pos_dim: PosDim,
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
        let mut semantics = Semantics::default();
        for setting in &self.set {
            semantics.set(setting)?;
        }
        let config = Config {
            depth: self.depth,
            width: self.width,
            frames: self.frames,
            size: (self.size.0, self.size.1),
            classes: self.classes,
            pos_dim: self.pos_dim.0,
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
    /// Input: formula:SEED, or an .npz with an array `input` [N, 3, T, H, W].
    #[arg(long)]
    pub input: Option<InputSource>,
    /// Device of the libtorch engines: cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Threads of every engine; 0 is all cores.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
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
    /// libtorch.
    Torch,
    /// A dump.
    Npz(PathBuf),
}

impl FromStr for Participant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "scalar" => Ok(Participant::Scalar),
            "torch" => Ok(Participant::Torch),
            "cpu" | "cuda" => Err(format!(
                "the engine `{text}` is not part of this version; use scalar, torch or npz:FILE"
            )),
            _ => match text.strip_prefix("npz:") {
                Some(file) if !file.is_empty() => Ok(Participant::Npz(file.into())),
                _ => Err(format!("`{text}` is no engine; use scalar, torch or npz:FILE")),
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
    /// What is judged: scalar, torch or npz:FILE.
    #[arg(long, default_value = "scalar")]
    pub candidate: Participant,
    /// What it is held against: torch, scalar or npz:FILE.
    #[arg(long, default_value = DEFAULT_REFERENCE)]
    pub reference: Participant,
    /// The candidate's precision: f32, f64 or bf16. For a dump the default is that of its arrays.
    #[arg(long)]
    pub precision: Option<Precision>,
    /// Make a mistake in the candidate on purpose: FAULT or FAULT@LAYER.
    #[arg(long, value_name = "FAULT")]
    pub inject: Option<String>,
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

/// The reference where libtorch is built in, and where it is not.
pub const DEFAULT_REFERENCE: &str = if cfg!(feature = "libtorch") { "torch" } else { "scalar" };

/// `harness dump`.
#[derive(Debug, Args)]
pub struct DumpArgs {
    /// The engine: scalar or torch.
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

/// `harness selftest`.
#[derive(Debug, Args)]
pub struct SelftestArgs {
    /// Random places for each fault.
    #[arg(long, default_value_t = 20)]
    pub places: usize,
    /// Seed of the places.
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
    #[arg(long, default_value_t = 0.25)]
    pub width: f64,
    /// Frame size; a size that makes the positional embedding be resized.
    #[arg(long, default_value = "72x88")]
    pub size: FrameSize,
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
