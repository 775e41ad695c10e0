//! The flags that choose videos, and how they become clips.

use std::path::PathBuf;

use clap::Args;
use video::dataset::Mode;
use video::mini::Part;
use video::order::Order;

/// The default folder for the videos of `mini`.
pub const MINI_FOLDER: &str = "runs/data/mini";

/// The flags that choose videos, and that say how clips are made of them.
#[derive(Debug, Clone, Args)]
pub struct VideoArgs {
    /// Folder of the videos; those of mini are made there at first use.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// List of videos: `path label` or `path,label` on each line, paths alone, or the CSV of Kinetics. The
    /// default is the list under its published name in --data or in the folder that holds --data.
    #[arg(long, value_name = "FILE")]
    pub list: Option<PathBuf>,
    /// The official protocol: val (few views) or test (as published).
    #[arg(long, default_value = "test")]
    pub protocol: Mode,
    /// Part of mini: train, val or test.
    #[arg(long, default_value_t = Part::Test)]
    pub part: Part,
    /// Continue although files of the list are missing.
    #[arg(long)]
    pub allow_missing: bool,
    /// Continue although files are damaged: their containers promise many more frames than came.
    #[arg(long)]
    pub allow_damaged: bool,
    /// Order of a clip's frames: natural, reversed, shuffled or still (one frame, repeated). The last two
    /// take a seed: shuffled:SEED, still:SEED.
    #[arg(long, default_value = "natural")]
    pub order: Order,
    /// Number of seconds that it may take to decode one file.
    #[arg(long, default_value_t = 120.0)]
    pub time_limit: f64,
    /// Number of videos from the start of the list; 0 takes all.
    #[arg(long = "limit", visible_alias = "videos", value_name = "N", default_value_t = 0)]
    pub limit: usize,
}
