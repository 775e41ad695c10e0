//! The command line of `harness eval`.

use std::path::PathBuf;

use checkpoint::Source;
use clap::Args;
use video::dataset::Dataset;

use crate::flags::{
    DeviceArgs, EvalEngine, ModelArgs, OutputArgs, PythonArgs, RuntimeArgs, ShardFlag, VideoArgs,
};

/// The arguments of `harness eval`.
#[derive(Debug, Args)]
#[command(
    after_help = "Memory: frames are resized as they are decoded, so that a video takes memory for its clips, \
    whatever its length and size: at most 160 frames of short side 224 for k400 --protocol test (about \
    41 MB for 16:9). For each core one video is decoded (one frame in full size, and at most 96 MiB of \
    resized ones) and two wait. ffmpeg takes its own memory; frames beyond 1080p are decoded by as \
    many processes at a time as 256 MiB for each core allow, and by one at least.\n\n\
    Exit code 75: SIGTERM, SIGHUP or SIGUSR1 stopped the run after the video at hand; 130: Ctrl-C \
    did. The same command goes on from there, also after `kill -9`. scripts/cluster has \
    examples for Slurm, HyperQueue and Ray."
)]
pub struct EvalArgs {
    /// The data set: k400, k600, hmdb51 or mini.
    pub dataset: Dataset,
    /// Which videos, and how.
    #[command(flatten)]
    pub videos: VideoArgs,
    /// Engines, separated by commas: torch, scalar, cpu, cuda, also in another precision than f32, such as
    /// cpu:bf16; and onnx:FILE, run as --runtime says. The default is torch; for mini it is torch and
    /// scalar; on a GPU it is cuda and torch.
    #[arg(long, value_delimiter = ',')]
    pub engine: Vec<EvalEngine>,
    /// Weights: a checkpoint, or formula:SEED. Only mini has a default, the built-in model.
    #[arg(long)]
    pub weights: Option<Source>,
    /// Evaluate only one part of the list: INDEX/COUNT, such as 1/4. With auto, the scheduler gives the
    /// part (Slurm's array or srun, HyperQueue, Kubernetes); with auto/COUNT, it gives the index only.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<ShardFlag>,
    /// Merge the runs in these folders, from their journals alone, into one report. The runs may be of any
    /// parts of one list; everything but the data set, the list and --limit is taken from them.
    #[arg(long, value_name = "DIR", num_args = 1.., conflicts_with_all = ["shard", "resume", "retry_errors"])]
    pub merge: Vec<PathBuf>,
    /// Folder of the run; the default is a new folder under runs/. A run of the same command in it
    /// continues. One process at a time writes there.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Continue the run in --out, which also happens without this flag.
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// Try all videos again that failed before. Without it, those are tried again that failed by accident
    /// (a signal, the time limit, the disk), or whose file has changed.
    #[arg(long, requires = "out")]
    pub retry_errors: bool,
    /// Leave out the strips of frames of the worst mistakes and of disagreements, for which up to 16 videos
    /// are decoded again at the end; at most 32 KiB each, in the folder `frames` of the run.
    #[arg(long)]
    pub no_strips: bool,
    /// Device, threads and instruction set.
    #[command(flatten)]
    pub on: DeviceArgs,
    /// Paths of record and report.
    #[command(flatten)]
    pub report: OutputArgs,
    /// The runtime of an ONNX file.
    #[command(flatten, next_help_heading = "ONNX file (--engine onnx:FILE)")]
    pub runtime: RuntimeArgs,
    /// The Python that the runtime is in.
    #[command(flatten, next_help_heading = "ONNX file (--engine onnx:FILE)")]
    pub python: PythonArgs,
    /// The model; the defaults are those of the data set. `--batch-size` counts views.
    #[command(flatten)]
    pub model: ModelArgs,
}
