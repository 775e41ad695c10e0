//! The command line of `harness eval`.

use std::path::PathBuf;

use checkpoint::Source;
use clap::Args;
use video::dataset::Dataset;

use crate::flags::{DeviceArgs, EngineName, ModelArgs, OutputArgs, Shard, VideoArgs};

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
    pub engine: Vec<EngineName>,
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
