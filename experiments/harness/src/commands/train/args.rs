//! The command line of `harness train`.

use std::path::PathBuf;

use clap::Args;
use video::dataset::Dataset;

use crate::flags::{DeviceArgs, MINI_FOLDER, ModelArgs, OutputArgs, positive};

/// The arguments of `harness train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The data set: mini.
    pub dataset: Dataset,
    /// Folder of the videos, which are made there at first use.
    #[arg(long, default_value = MINI_FOLDER)]
    pub data: PathBuf,
    /// Number of epochs.
    #[arg(long, default_value_t = 60, value_parser = positive)]
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
    /// Folder of the run, in which an earlier training with the same settings continues; the default is a
    /// new folder under runs/.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Continue the training in --out, which also happens without this flag.
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
