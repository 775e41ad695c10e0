//! The command line of `harness ablate`.

use std::path::PathBuf;

use checkpoint::Source;
use clap::Args;
use video::dataset::Dataset;

use crate::flags::{DeviceArgs, ModelArgs, OutputArgs, VideoArgs, positive};

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
    #[arg(long, default_value_t = 60, value_parser = positive)]
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
