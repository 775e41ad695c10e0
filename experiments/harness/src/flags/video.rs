//! The flags that choose videos, and how they become clips.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

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
    /// List of videos with `path label` on each line; the default is the list under its published name
    /// in --data or in the folder that holds --data.
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
    /// Order of a clip's frames: natural, reversed, shuffled or still (one frame, repeated). The last two
    /// take a seed: shuffled:SEED, still:SEED.
    #[arg(long, default_value = "natural")]
    pub order: Order,
    /// Number of seconds that it may take to decode one file.
    #[arg(long, default_value_t = 120.0)]
    pub time_limit: f64,
    /// Number of videos from the start of the list; 0 takes all.
    #[arg(long, default_value_t = 0)]
    pub videos: usize,
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
            _ => Err(format!(
                "`{text}` is not a shard; write INDEX/COUNT, from 1/COUNT to COUNT/COUNT, such as 1/4"
            )),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}
