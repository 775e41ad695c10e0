//! What can be chosen about a SqueezeTime network.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The depths that the paper's code knows, with their blocks per stage and whether a block is a
/// bottleneck (expansion 4) or basic (expansion 1).
pub const DEPTHS: [(usize, [usize; 4], bool); 7] = [
    (10, [1, 1, 1, 1], false),
    (18, [2, 2, 2, 2], false),
    (34, [3, 4, 6, 3], false),
    (50, [3, 4, 6, 3], true),
    (101, [3, 4, 23, 3], true),
    (152, [3, 8, 36, 3], true),
    (200, [3, 24, 36, 3], true),
];

/// How the positional embedding [1, 16, p, p] reaches the size of the feature map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PosEmbed {
    /// Bilinear with align_corners = True, only where the size differs (the paper's code).
    AlignCorners,
    /// Bilinear with align_corners = False, only where the size differs.
    HalfPixel,
    /// What the Flax port computes: an emulation of align_corners whose scale is 0 where the map
    /// is 1 pixel high or wide, so that the embedding vanishes there.
    Flax,
    /// No positional embedding.
    Off,
}

/// Parts of a channel-time learning block (CTL) that an ablation or a fault switches. Every module
/// still exists and is observed; a part that is off shows the value it then contributes (a gate of
/// ones, an embedding of zeros).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Semantics {
    /// The temporal-focus gate; off means a gate of 1.
    pub tfc: bool,
    /// The inter-temporal object interaction branch; off means it adds 0.
    pub ioi: bool,
    /// The positional embedding.
    pub pos_embed: PosEmbed,
}

impl Default for Semantics {
    fn default() -> Self {
        Semantics { tfc: true, ioi: true, pos_embed: PosEmbed::AlignCorners }
    }
}

impl Semantics {
    /// Applies one setting such as `tfc=off`, `pos_embed=flax` or `align_corners=off`.
    pub fn set(&mut self, setting: &str) -> Result<(), ConfigError> {
        match setting {
            "tfc=on" => self.tfc = true,
            "tfc=off" => self.tfc = false,
            "ioi=on" => self.ioi = true,
            "ioi=off" => self.ioi = false,
            "pos_embed=on" | "align_corners=on" => self.pos_embed = PosEmbed::AlignCorners,
            "pos_embed=off" => self.pos_embed = PosEmbed::Off,
            "pos_embed=flax" => self.pos_embed = PosEmbed::Flax,
            "align_corners=off" => self.pos_embed = PosEmbed::HalfPixel,
            other => return Err(ConfigError::Setting(other.to_owned())),
        }
        Ok(())
    }
}

/// One SqueezeTime network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// 10, 18, 34, 50, 101, 152 or 200; see [`DEPTHS`].
    pub depth: usize,
    /// Factor on the stage widths 64, 128, 256, 512; each is truncated to an integer.
    pub width: f64,
    /// T: frames in a clip. The first convolution sees 3 T channels.
    pub frames: usize,
    /// Height and width of a frame in pixels.
    pub size: (usize, usize),
    /// Outputs of the classifier.
    pub classes: usize,
    /// Side p of the positional embedding in each stage.
    pub pos_dim: [usize; 4],
    /// Parts that are switched off or changed, for the whole network.
    pub semantics: Semantics,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            depth: 50,
            width: 1.0,
            frames: 16,
            size: (224, 224),
            classes: 400,
            pos_dim: [56, 28, 14, 7],
            semantics: Semantics::default(),
        }
    }
}

/// A configuration that no network can have.
#[derive(Debug, Error, PartialEq)]
pub enum ConfigError {
    /// Not one of [`DEPTHS`].
    #[error("depth {0} is not one of 10, 18, 34, 50, 101, 152, 200")]
    Depth(usize),
    /// A number outside its range.
    #[error("{what} is {got}; it must be {want}")]
    Range {
        /// Which number.
        what: &'static str,
        /// Its value.
        got: String,
        /// The range.
        want: &'static str,
    },
    /// The input shrinks to nothing before the last stage.
    #[error(
        "an input of {height}x{width} pixels leaves a map of {map_h}x{map_w} before {at}, which \
         a 2x2 convolution of stride 2 cannot halve; use at least 29x29 pixels"
    )]
    TooSmall {
        /// Input height.
        height: usize,
        /// Input width.
        width: usize,
        /// Height of the map that is too small.
        map_h: usize,
        /// Width of the map that is too small.
        map_w: usize,
        /// The module that cannot run.
        at: String,
    },
    /// Text that is no setting.
    #[error(
        "setting `{0}` is not known; use tfc=off, ioi=off, pos_embed=off, pos_embed=flax or \
         align_corners=off"
    )]
    Setting(String),
}

impl Config {
    /// Blocks per stage and whether they are bottlenecks.
    pub fn stages(&self) -> Result<([usize; 4], bool), ConfigError> {
        let known = DEPTHS.iter().find(|(depth, ..)| *depth == self.depth);
        known.map(|&(_, blocks, wide)| (blocks, wide)).ok_or(ConfigError::Depth(self.depth))
    }

    /// Channels of stage 0 to 3: `int(64 * 2^stage * width)`, truncated as Python's `int` does.
    pub fn channels(&self, stage: usize) -> usize {
        ((64usize << stage) as f64 * self.width) as usize
    }

    /// Checks every number against the range in which sizes cannot overflow.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.stages()?;
        let range = |what, got: usize, ok: bool, want| match ok {
            true => Ok(()),
            false => Err(ConfigError::Range { what, got: got.to_string(), want }),
        };
        if !(self.width.is_finite() && self.width <= 16.0 && self.channels(0) >= 1) {
            let got = self.width.to_string();
            let want = "a factor from 1/64 to 16";
            return Err(ConfigError::Range { what: "--width", got, want });
        }
        let t = self.frames;
        range("--frames", t, (1..=1024).contains(&t), "from 1 to 1024")?;
        for side in [self.size.0, self.size.1] {
            range("--size", side, (1..=8192).contains(&side), "from 1 to 8192 pixels a side")?;
        }
        let c = self.classes;
        range("--classes", c, (1..=1_000_000).contains(&c), "from 1 to 1000000")?;
        for p in self.pos_dim {
            range("--pos-dim", p, (1..=1024).contains(&p), "from 1 to 1024 a side")?;
        }
        Ok(())
    }
}

/// A frame size given as `224` or `286x340` (height x width).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameSize(pub usize, pub usize);

impl FromStr for FrameSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |_| format!("`{text}` is not a size; write 224, or HxW such as 57x65");
        match text.split_once('x') {
            Some((h, w)) => Ok(FrameSize(h.parse().map_err(bad)?, w.parse().map_err(bad)?)),
            None => text.parse().map(|side| FrameSize(side, side)).map_err(bad),
        }
    }
}

impl fmt::Display for FrameSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.0, self.1)
    }
}
