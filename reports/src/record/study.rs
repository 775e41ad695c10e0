//! Records of evaluations, trainings and ablations: what was measured on videos.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Run, Verdict, float};

/// A share with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// How many.
    pub hits: u64,
    /// Of how many.
    pub of: u64,
    /// Lower end of the interval (Wilson), 0 to 1.
    #[serde(with = "float")]
    pub low: f64,
    /// Upper end of the interval.
    #[serde(with = "float")]
    pub high: f64,
}

impl Rate {
    /// The share, 0 to 1; NaN of nothing.
    pub fn share(&self) -> f64 {
        self.hits as f64 / self.of as f64
    }
}

/// The outcome of `harness eval`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalRecord {
    /// The run as a whole: diverged if engines disagree beyond ties, incomplete if videos are
    /// missing or cannot be decoded.
    pub verdict: Verdict,
    /// Name of the data set.
    pub dataset: String,
    /// `val` or `test`.
    pub mode: String,
    /// The protocol in words.
    pub protocol: String,
    /// Order of the frames: `natural`, unless frames were shuffled on purpose.
    pub order: String,
    /// Names of the classes, where they are known.
    #[serde(default)]
    pub classes: Vec<String>,
    /// What was there to evaluate.
    pub manifest: Manifest,
    /// Each engine's accuracy.
    pub engines: Vec<Score>,
    /// Videos on which engines disagree.
    #[serde(default)]
    pub disagreements: Vec<Disagreement>,
    /// A margin of at most this is a tie.
    #[serde(with = "float")]
    pub tie: f64,
    /// What the paper gives, in percent.
    pub published: Option<Published>,
    /// Every video.
    pub videos: Vec<Video>,
    /// How the run was made.
    pub run: Run,
}

/// What was there to evaluate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The list: a file, or the data set's name.
    pub list: String,
    /// Videos in the list, or in this shard of it.
    pub listed: u64,
    /// Those evaluated.
    pub evaluated: u64,
    /// Paths that are not in the folder.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Paths that could not be decoded, with the reason.
    #[serde(default)]
    pub undecodable: Vec<(String, String)>,
    /// Paths that were decoded with a complaint.
    #[serde(default)]
    pub damaged: Vec<(String, String)>,
    /// The shard, `1/4`, where the list was divided.
    pub shard: Option<String>,
    /// The decoder with its version.
    pub decoder: String,
    /// Whether the run was stopped before its end.
    #[serde(default)]
    pub interrupted: bool,
}

/// The accuracy of one engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The engine.
    pub engine: String,
    /// The right class first.
    pub top1: Rate,
    /// The right class among the first five.
    pub top5: Rate,
    /// Mean of the classes' own accuracies, 0 to 1.
    #[serde(with = "float")]
    pub mean_class: f64,
    /// `confusion[label][predicted]`, for at most 64 classes.
    #[serde(default)]
    pub confusion: Vec<Vec<u64>>,
    /// Confidence against accuracy.
    pub calibration: Vec<Bin>,
    /// Expected calibration error, 0 to 1.
    #[serde(with = "float")]
    pub calibration_error: f64,
    /// Time in the network for each view.
    #[serde(with = "float")]
    pub seconds_per_view: f64,
}

/// Videos whose confidence is in one tenth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Mean confidence, 0 to 1.
    #[serde(with = "float")]
    pub confidence: f64,
    /// Share of right ones.
    #[serde(with = "float")]
    pub accuracy: f64,
    /// Videos.
    pub count: u64,
}

/// A published accuracy in percent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Where it stands.
    pub source: String,
    /// Top-1.
    #[serde(with = "float")]
    pub top1: f64,
    /// Top-5.
    pub top5: Option<f64>,
}

/// A video on which two engines name different classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Disagreement {
    /// The video.
    pub path: String,
    /// Its class.
    pub label: u64,
    /// The engines and what they name.
    pub named: BTreeMap<String, u64>,
    /// The larger of the margins between the two classes: how sure one of them is.
    #[serde(with = "float")]
    pub margin: f64,
    /// Whether the margin is small enough to be rounding.
    pub tie: bool,
    /// Some of the frames that the engines saw, as a data URI.
    #[serde(default)]
    pub frames: Option<String>,
}

/// One video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Video {
    /// Place in the list.
    pub index: u64,
    /// Path below the folder.
    pub path: String,
    /// Its class.
    pub label: u64,
    /// Frames in the file.
    pub frames: u64,
    /// What each engine says, in the order of the engines.
    pub says: Vec<Answer>,
    /// Why there are no frames.
    #[serde(default)]
    pub error: Option<String>,
    /// What the decoder complained about.
    #[serde(default)]
    pub warning: Option<String>,
    /// Time to decode and to make views.
    #[serde(with = "float")]
    pub decode_seconds: f64,
}

/// What an engine says of a video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The five classes with the highest scores.
    pub top: Vec<u64>,
    /// Their scores: the mean over views of the softmax.
    #[serde(with = "float::list")]
    pub scores: Vec<f64>,
    /// Score of the video's own class.
    #[serde(with = "float")]
    pub of_label: f64,
    /// Whether its class was named first. NaN is never right.
    pub right: bool,
    /// Time in the network.
    #[serde(with = "float")]
    pub seconds: f64,
}

impl Answer {
    /// Difference between the first and the second score.
    pub fn margin(&self) -> f64 {
        match self.scores[..] {
            [first, second, ..] => first - second,
            _ => 0.0,
        }
    }
}

/// The outcome of `harness train`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainRecord {
    /// Name of the data set.
    pub dataset: String,
    /// The settings by name.
    pub settings: BTreeMap<String, String>,
    /// The curve, a point for each epoch.
    pub epochs: Vec<Epoch>,
    /// Whether it came to its end.
    pub finished: bool,
    /// How the run was made.
    pub run: Run,
}

/// One epoch of a training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Its number, from 1 on.
    pub epoch: u64,
    /// Learning rate at its end.
    #[serde(with = "float")]
    pub rate: f64,
    /// Mean loss of its batches.
    #[serde(with = "float")]
    pub loss: f64,
    /// Accuracy on its augmented batches, 0 to 1.
    #[serde(with = "float")]
    pub train: f64,
    /// Accuracy on the validation part.
    pub val: Rate,
    /// Time that it took.
    #[serde(with = "float")]
    pub seconds: f64,
}

/// Which question an ablation asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ablation {
    /// The part is taken out of trained weights: how much does this network rely on it?
    KnockOut,
    /// Trained without the part: how much does it help?
    Retrained,
}

/// The outcome of `harness ablate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AblateRecord {
    /// Which question it asks.
    pub question: Ablation,
    /// Name of the data set.
    pub dataset: String,
    /// Names of the classes.
    #[serde(default)]
    pub classes: Vec<String>,
    /// The network as it is, then without its parts.
    pub variants: Vec<Variant>,
    /// Videos that each was tested on.
    pub videos: u64,
    /// How the run was made.
    pub run: Run,
}

/// One variant of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// Its settings: `tfc=off`, or `as it is`.
    pub name: String,
    /// Accuracy of each network: one for a knock-out, one for each seed when retrained.
    pub accuracy: Vec<Rate>,
    /// Mean accuracy, 0 to 1.
    #[serde(with = "float")]
    pub mean: f64,
    /// 95 % interval: Wilson's for one network, Student's t over seeds otherwise.
    #[serde(with = "float::list")]
    pub interval: Vec<f64>,
    /// Against the network as it is, on the same videos.
    pub paired: Option<Paired>,
    /// Multiply-accumulates for one clip, of what is still computed.
    pub macs: u64,
    /// Time for one clip.
    #[serde(with = "float")]
    pub seconds_per_view: f64,
    /// Largest relative L2 distance of a layer's output between engines, where that was checked.
    pub checked: Option<String>,
}

/// A comparison on the same videos.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Videos that only the network as it is gets right.
    pub lost: u64,
    /// Videos that only the variant gets right.
    pub won: u64,
    /// Two-sided p of the exact McNemar test.
    #[serde(with = "float")]
    pub p: f64,
    /// By class: lost and won.
    #[serde(default)]
    pub by_class: Vec<(u64, u64)>,
    /// Mean over videos of the relative L2 distance between the logits.
    #[serde(with = "float")]
    pub drift: f64,
}
