//! The flags that describe the model.

use std::fmt;
use std::str::FromStr;

use checkpoint::Inferred;
use clap::Args;
use spec::config::FrameSize;
use spec::{Config, ConfigError};
use video::decord::Counting;

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
    /// Number of frames in a clip [default: 16]. In eval and ablate also which frames a video has: decord
    /// (those that decord 0.6.0 counts, as in the published accuracies) or decoded (those that a player
    /// shows) [default: decord].
    #[arg(long, value_name = "FRAMES")]
    pub frames: Option<FramesFlag>,
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
        if let Some(FramesFlag { counting: Some(word), .. }) = self.frames {
            return Err(ConfigError::Range {
                what: "--frames",
                got: word.to_string(),
                want: "a number, as this command evaluates no list of videos",
            });
        }
        self.over(Config::default())
    }

    /// These flags completed by what a checkpoint says, and in words what was taken from it. A flag that was
    /// given stays, and what `base` has anyway is not worth a word.
    pub fn completed(&self, found: &Inferred, base: &Config) -> (Self, Vec<String>) {
        let (mut full, mut taken) = (self.clone(), vec![]);
        let mut frames = self.frames.unwrap_or_default();
        let pos_dim = found.pos_dim.map(PosDim);
        take(&mut full.depth, found.depth, base.depth, &mut taken, |n| format!("depth {n}"));
        take(&mut full.width, found.width, base.width, &mut taken, |n| format!("width {n}"));
        take(&mut frames.number, found.frames, base.frames, &mut taken, |n| format!("{n} frames"));
        take(&mut full.classes, found.classes, base.classes, &mut taken, |n| {
            format!("{n} classes")
        });
        take(&mut full.pos_dim, pos_dim, PosDim(base.pos_dim), &mut taken, |n| {
            format!("pos_dim {n}")
        });
        full.frames = (frames != FramesFlag::default()).then_some(frames);
        (full, taken)
    }

    /// Whether nothing is left to be inferred.
    pub fn are_complete(&self) -> bool {
        let frames = self.frames.is_some_and(|flag| flag.number.is_some());
        let others = self.depth.is_some() && self.width.is_some() && self.classes.is_some();
        frames && others && self.pos_dim.is_some()
    }

    /// Which frames a video is taken to have.
    pub fn counting(&self) -> Counting {
        self.frames.and_then(|flag| flag.counting).unwrap_or(Counting::Decord)
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
            frames: self.frames.and_then(|flag| flag.number).unwrap_or(base.frames),
            size: self.size.map_or(base.size, |size| (size.0, size.1)),
            classes: self.classes.unwrap_or(base.classes),
            pos_dim: self.pos_dim.map_or(base.pos_dim, |pos_dim| pos_dim.0),
            semantics,
        };
        config.validate().map(|()| config)
    }
}

/// Sets a flag that was not given to a value that was found, unless it is the default.
fn take<T: Copy + PartialEq>(
    flag: &mut Option<T>,
    found: Option<T>,
    default: T,
    taken: &mut Vec<String>,
    in_words: impl Fn(T) -> String,
) {
    if let (None, Some(value)) = (&flag, found.filter(|value| *value != default)) {
        taken.push(in_words(value));
        *flag = Some(value);
    }
}

/// The number of frames in a clip, and which frames a video has: `16`, `decoded` or `16,decoded`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FramesFlag {
    /// Number of frames in a clip.
    pub number: Option<usize>,
    /// Which frames a video is taken to have.
    pub counting: Option<Counting>,
}

impl FromStr for FramesFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!("`{text}` is not a number of frames, decord or decoded, or both as 16,decoded")
        };
        let mut flag = FramesFlag::default();
        for part in text.split(',') {
            match (part.parse(), Counting::from_str(part)) {
                (Ok(number), _) if flag.number.is_none() => flag.number = Some(number),
                (_, Ok(counting)) if flag.counting.is_none() => flag.counting = Some(counting),
                _ => return Err(bad()),
            }
        }
        Ok(flag)
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
