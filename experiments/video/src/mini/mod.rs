//! `mini`: a built-in data set in which only the order of the frames tells the classes apart.
//!
//! The time reversal of each class is another class. `schedule` explains why shuffled frames and single
//! frames carry no information about the class, `scene` draws the frames, and [`encode`] makes mp4 files
//! of them at first use. [`SEED`], the part and the index of a video determine its frames.

mod encode;
pub mod rng;
mod scene;
mod schedule;

use std::fmt;

use rng::Rng;

use crate::Frame;
use crate::list::Entry;

pub use encode::{encode, provide};

/// The seed of everything that is drawn.
pub const SEED: u64 = 240_508_344;
/// Width of a video in pixels; the scene is the square in its middle.
pub const WIDTH: usize = 128;
/// Height of a video in pixels.
pub const HEIGHT: usize = 96;
/// Number of frames of a video: the span of the protocol, which samples 16 frames, every fourth.
pub const FRAMES: usize = (SAMPLED - 1) * INTERVAL + 1;
/// Number of frames that the protocol samples.
const SAMPLED: usize = 16;
/// Distance of two sampled frames.
const INTERVAL: usize = 4;
/// Number of things that move in a scene.
const ACTORS: usize = 5;

/// Names of the classes by label; `label ^ 1` is the label of the time reversal.
pub const CLASSES: [&str; 2 * ACTORS] = [
    "move_right",
    "move_left",
    "grow",
    "shrink",
    "clockwise",
    "counterclockwise",
    "appear",
    "vanish",
    "open",
    "close",
];

/// The label of a class after mirroring, which swaps left and right, and the directions of rotation.
pub fn mirrored(label: usize) -> usize {
    match label / 2 {
        0 | 2 => label ^ 1,
        _ => label,
    }
}

/// The label of a class played backwards.
pub fn reversed(label: usize) -> usize {
    label ^ 1
}

/// A part of the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Videos for training.
    Train,
    /// Videos for choosing settings.
    Val,
    /// Videos for the final accuracy.
    Test,
}

impl std::str::FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = [Part::Train, Part::Val, Part::Test];
        let found = parts.into_iter().find(|part| part.name() == text);
        found.ok_or_else(|| format!("`{text}` is not a part of mini; use train, val or test"))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Part {
    /// Name of the part and of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Val => "val",
            Part::Test => "test",
        }
    }

    /// Number of videos, the same for each class.
    pub fn videos(self) -> usize {
        match self {
            Part::Train => 2000,
            Part::Val => 200,
            Part::Test => 400,
        }
    }

    /// Paths and labels of the videos, in order.
    pub fn entries(self) -> Vec<Entry> {
        (0..self.videos())
            .map(|index| {
                let label = index % CLASSES.len();
                let path = format!("{}/{}/{index:04}.mp4", self.name(), CLASSES[label]);
                Entry { path, label: Some(label), ..Entry::default() }
            })
            .collect()
    }
}

/// The frames of one video before encoding.
pub fn frames(part: Part, index: usize) -> Vec<Frame> {
    let rng = Rng::new(SEED).fork(1 + part as u64).fork(1 + index as u64);
    let schedule = schedule::draw(index % CLASSES.len(), &mut rng.fork(5));
    scene::Scene::draw(&rng).render(&schedule).collect()
}
