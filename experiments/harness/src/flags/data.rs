//! The flags for weights and input.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use checkpoint::Source;
use clap::Args;

use super::DeviceArgs;

/// The flags that name weights, input and device.
#[derive(Debug, Clone, Args)]
pub struct DataArgs {
    /// Weights: formula:SEED, or a checkpoint (.pth, .safetensors, .npz, .ckpt, .pkl or
    /// .msgpack).
    #[arg(long, default_value = "formula:0")]
    pub weights: Source,
    /// Input: formula:SEED, an .npz file with an array `input` [N, 3, T, H, W], or a video file [default:
    /// formula:0, or in diff the clip in the dump].
    #[arg(long)]
    pub input: Option<InputSource>,
    /// Device, threads and instruction set.
    #[command(flatten)]
    pub on: DeviceArgs,
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

impl fmt::Display for InputSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InputSource::Formula(seed) => write!(f, "formula:{seed}"),
            InputSource::File(path) => write!(f, "{}", path.display()),
        }
    }
}
