//! The configuration of a SqueezeTime network.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The depths that the paper's code has. Each comes with the number of blocks in each stage and with
/// whether the blocks are bottlenecks (expansion 4) or basic (expansion 1).
pub const DEPTHS: [(usize, [usize; 4], bool); 7] = [
    (10, [1, 1, 1, 1], false),
    (18, [2, 2, 2, 2], false),
    (34, [3, 4, 6, 3], false),
    (50, [3, 4, 6, 3], true),
    (101, [3, 4, 23, 3], true),
    (152, [3, 8, 36, 3], true),
    (200, [3, 24, 36, 3], true),
];

/// How the positional embedding [1, 16, p, p] is resized to the size of the feature map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PosEmbed {
    /// Bilinear with align_corners = True, only if the size differs (the paper's code).
    AlignCorners,
    /// Bilinear with align_corners = False, only if the size differs.
    HalfPixel,
    /// As in the Flax port: an emulation of align_corners. Its scale is 0 if the map is 1 pixel high
    /// or wide, and all values of the embedding are then 0.
    Flax,
    /// No positional embedding: zeros are added instead.
    Off,
}

/// Parts of a channel-time learning block (CTL) that an ablation or a fault can change. Every module
/// still exists and can be observed; the output of a part that is off is the constant that it then
/// contributes (a gate of ones, an embedding of zeros).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Semantics {
    /// Whether the temporal-focus gate is on; if it is off, the gate is 1.
    pub tfc: bool,
    /// Whether the inter-temporal object interaction branch is on; if it is off, it adds 0.
    pub ioi: bool,
    /// How the positional embedding is resized, or that there is none.
    pub pos_embed: PosEmbed,
}

impl Default for Semantics {
    fn default() -> Self {
        Semantics { tfc: true, ioi: true, pos_embed: PosEmbed::AlignCorners }
    }
}

impl Semantics {
    /// Applies one setting such as `tfc=off`, `pos_embed=flax` or `align_corners=off`. Fails with
    /// [`ConfigError::Setting`] for any other text.
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

/// The configuration of one SqueezeTime network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The depth: 10, 18, 34, 50, 101, 152 or 200; see [`DEPTHS`].
    pub depth: usize,
    /// Factor of the stage widths 64, 128, 256 and 512; each product is truncated to an integer.
    pub width: f64,
    /// T, the number of frames in a clip. The first convolution reads 3 T channels.
    pub frames: usize,
    /// Height and width of a frame in pixels.
    pub size: (usize, usize),
    /// Number of classes, the outputs of the classifier.
    pub classes: usize,
    /// Side p of the positional embedding in each stage, in pixels.
    pub pos_dim: [usize; 4],
    /// Parts that are off or changed, for the whole network.
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

/// Why a configuration or a setting is invalid.
#[derive(Debug, Error, PartialEq)]
pub enum ConfigError {
    /// The depth is not one of [`DEPTHS`].
    #[error("depth {0} is not one of 10, 18, 34, 50, 101, 152, 200")]
    Depth(usize),
    /// A number is outside its range.
    #[error("{what} is {got}; it must be {want}")]
    Range {
        /// The flag that sets the number.
        what: &'static str,
        /// The value that was given.
        got: String,
        /// The allowed range, in words.
        want: &'static str,
    },
    /// The input is so small that a map cannot be halved before the last stage.
    #[error(
        "an input of {height}x{width} pixels leaves a map of {map_h}x{map_w} before {at}, which \
         a 2x2 convolution of stride 2 cannot halve; use at least 29x29 pixels"
    )]
    TooSmall {
        /// Height of the input in pixels.
        height: usize,
        /// Width of the input in pixels.
        width: usize,
        /// Height of the map that is too small.
        map_h: usize,
        /// Width of the map that is too small.
        map_w: usize,
        /// Name of the module that would halve it.
        at: String,
    },
    /// A text that [`Semantics::set`] does not know.
    #[error(
        "unknown setting `{0}`; use tfc=off, ioi=off, pos_embed=off, pos_embed=flax or \
         align_corners=off"
    )]
    Setting(String),
}

impl Config {
    /// The number of blocks in each stage, and whether they are bottlenecks.
    pub fn stages(&self) -> Result<([usize; 4], bool), ConfigError> {
        let known = DEPTHS.iter().find(|(depth, ..)| *depth == self.depth);
        known.map(|&(_, blocks, wide)| (blocks, wide)).ok_or(ConfigError::Depth(self.depth))
    }

    /// Number of channels in a stage, 0 to 3: `int(64 * 2^stage * width)`, truncated as by Python's
    /// `int`.
    pub fn channels(&self, stage: usize) -> usize {
        ((64usize << stage) as f64 * self.width) as usize
    }

    /// Checks that every number is in its range. Within these ranges no size can overflow.
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

/// A frame size, height and width in pixels, parsed from `224` or `286x340`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameSize(pub usize, pub usize);

impl FromStr for FrameSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |_| format!("`{text}` is not a frame size; give 224, or HxW such as 57x65");
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
