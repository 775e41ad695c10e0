//! `mini`: a data set in the program, in which only the order of the frames tells the classes apart.
//!
//! Each class has its time reversal as another. [`schedule`] says why shuffled frames and single
//! frames tell nothing, [`scene`] draws, [`encode`] makes mp4 files of it at first use. Everything
//! follows from [`SEED`], the split and the number of the video.

mod encode;
pub mod rng;
mod scene;
mod schedule;

use rng::Rng;

use crate::Frame;
use crate::list::Entry;

pub use encode::{encode, provide};

/// Everything that is drawn follows from this.
pub const SEED: u64 = 240_508_344;
/// Width of a video in pixels; the scene is the square in its middle.
pub const WIDTH: usize = 128;
/// Height of a video in pixels.
pub const HEIGHT: usize = 96;
/// Frames of a video: what the protocol spans, 16 frames of every fourth.
pub const FRAMES: usize = (SAMPLED - 1) * INTERVAL + 1;
/// Frames that the protocol samples.
const SAMPLED: usize = 16;
/// Frames from one sampled to the next.
const INTERVAL: usize = 4;
/// Things that move in a scene.
const ACTORS: usize = 5;

/// Names of the classes by label; `label ^ 1` is the time reversal.
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

/// The label that a class has in the mirror: left is right there, and clocks go backwards.
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
    /// To train on.
    Train,
    /// To choose settings by.
    Val,
    /// To be judged by.
    Test,
}

impl Part {
    /// Name of its folder and of its list.
    pub fn name(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Val => "val",
            Part::Test => "test",
        }
    }

    /// Number of its videos, each class equally often.
    pub fn videos(self) -> usize {
        match self {
            Part::Train => 2000,
            Part::Val => 200,
            Part::Test => 400,
        }
    }

    /// Paths and labels of its videos.
    pub fn entries(self) -> Vec<Entry> {
        (0..self.videos())
            .map(|index| {
                let label = index % CLASSES.len();
                let path = format!("{}/{}/{index:04}.mp4", self.name(), CLASSES[label]);
                Entry { path, label }
            })
            .collect()
    }
}

/// The frames of one video as they are before encoding.
pub fn frames(part: Part, index: usize) -> Vec<Frame> {
    let rng = Rng::new(SEED).fork(1 + part as u64).fork(1 + index as u64);
    let schedule = schedule::draw(index % CLASSES.len(), &mut rng.fork(5));
    scene::Scene::draw(&rng).render(&schedule).collect()
}
