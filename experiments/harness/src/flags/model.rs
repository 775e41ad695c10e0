//! The flags that describe the model.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use spec::config::FrameSize;
use spec::{Config, ConfigError};

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
    #[arg(long, default_value_t = 1, value_parser = super::positive)]
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

impl fmt::Display for PosDim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.0;
        write!(f, "{a},{b},{c},{d}")
    }
}
