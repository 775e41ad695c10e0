//! The data sets: their classes, lists and protocols, and the accuracy that was published on them.

use std::fmt;
use std::str::FromStr;

use crate::crop::Crops;
use crate::decord::Counting;
use crate::protocol::Protocol;

/// A data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dataset {
    /// Kinetics-400, validation.
    K400,
    /// Kinetics-600, validation.
    K600,
    /// HMDB51, split 1, validation.
    Hmdb51,
    /// The built-in data set.
    Mini,
}

/// The two official ways to evaluate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Few views, as for validation during training.
    Val,
    /// Many views, as for the published accuracy.
    Test,
}

/// Accuracy in percent, as the paper gives it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// Top-1 accuracy in percent.
    pub top1: f64,
    /// Top-5 accuracy in percent, if the paper has it.
    pub top5: Option<f64>,
    /// The fewest videos of the list that it was measured on: some have been withdrawn since.
    pub videos: usize,
}

const ALL: [(Dataset, &str); 4] = [
    (Dataset::K400, "k400"),
    (Dataset::K600, "k600"),
    (Dataset::Hmdb51, "hmdb51"),
    (Dataset::Mini, "mini"),
];

impl Dataset {
    /// Number of classes.
    pub fn classes(self) -> usize {
        match self {
            Dataset::K400 => 400,
            Dataset::K600 => 600,
            Dataset::Hmdb51 => 51,
            Dataset::Mini => crate::mini::CLASSES.len(),
        }
    }

    /// The names under which the list is published, the usual one first.
    pub fn lists(self) -> &'static [&'static str] {
        match self {
            Dataset::K400 => &["kinetics400_val_list_videos.txt"],
            Dataset::K600 => &["kinetics600_val_list_videos.txt"],
            Dataset::Hmdb51 => &["hmdb51_val_split_1_videos.txt"],
            Dataset::Mini => &[],
        }
    }

    /// The official protocol, from SqueezeTime's published configurations.
    pub fn protocol(self, mode: Mode) -> Protocol {
        let of = |clips, short_side, crop, crops| Protocol {
            clips,
            frames: 16,
            interval: 4,
            short_side,
            crop,
            crops,
            counting: Counting::Decord,
        };
        match (self, mode) {
            (Dataset::K400 | Dataset::K600, Mode::Val) => of(1, 256, 224, Crops::Center),
            (Dataset::K400 | Dataset::K600, Mode::Test) => of(10, 224, 224, Crops::Three),
            (Dataset::Hmdb51, Mode::Val) => of(2, 224, 224, Crops::Three),
            (Dataset::Hmdb51, Mode::Test) => of(2, 286, 286, Crops::Three),
            (Dataset::Mini, _) => of(1, 64, 64, Crops::Center),
        }
    }

    /// The paper's accuracy for SqueezeTime-50 under the `test` protocol.
    pub fn published(self) -> Option<Published> {
        match self {
            Dataset::K400 => Some(Published { top1: 71.64, top5: Some(89.3), videos: 19_000 }),
            Dataset::K600 => Some(Published { top1: 76.06, top5: None, videos: 27_000 }),
            Dataset::Hmdb51 => Some(Published { top1: 65.56, top5: None, videos: 1_500 }),
            Dataset::Mini => None,
        }
    }
}

impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = ALL.iter().find(|(set, _)| set == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for Dataset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = ALL.iter().find(|(_, name)| *name == text).map(|(set, _)| *set);
        found.ok_or_else(|| format!("`{text}` is not a data set; use k400, k600, hmdb51 or mini"))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Val => "val",
            Mode::Test => "test",
        })
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "val" => Ok(Mode::Val),
            "test" => Ok(Mode::Test),
            _ => Err(format!("`{text}` is not a protocol; use val or test")),
        }
    }
}
