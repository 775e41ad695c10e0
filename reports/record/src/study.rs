//! Records of evaluations, trainings and ablations.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Run, Verdict, float};

/// A share with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Number of correct answers.
    pub hits: u64,
    /// Number of all answers.
    pub of: u64,
    /// Lower end of the Wilson interval, 0 to 1.
    #[serde(with = "float")]
    pub low: f64,
    /// Upper end of the Wilson interval, 0 to 1.
    #[serde(with = "float")]
    pub high: f64,
}

impl Rate {
    /// The share, 0 to 1; NaN if there are no answers.
    pub fn share(&self) -> f64 {
        self.hits as f64 / self.of as f64
    }
}

/// The outcome of `harness eval`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalRecord {
    /// `Diverged` if engines disagree and it is not a tie, `Incomplete` if videos are missing or cannot
    /// be decoded.
    pub verdict: Verdict,
    /// Name of the data set, such as `k400`.
    pub dataset: String,
    /// Protocol: `val` or `test`.
    pub mode: String,
    /// The protocol in words: clips, views, crops.
    pub protocol: String,
    /// Order of the frames, such as `natural` or `shuffled:1`.
    pub order: String,
    /// Names of the classes; empty if they are not known.
    #[serde(default)]
    pub classes: Vec<String>,
    /// The videos of the run: listed, evaluated, missing, damaged.
    pub manifest: Manifest,
    /// Accuracy of each engine.
    pub engines: Vec<Score>,
    /// Videos on which engines disagree, ties included.
    #[serde(default)]
    pub disagreements: Vec<Disagreement>,
    /// Largest margin that is a tie.
    #[serde(with = "float")]
    pub tie: f64,
    /// The accuracy in the paper, if the protocol has one.
    pub published: Option<Published>,
    /// All videos, in the order of the list.
    pub videos: Vec<Video>,
    /// Command, machine, versions and configuration of the run.
    pub run: Run,
}

/// The videos of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The list of videos: a file, or the name of the data set.
    pub list: String,
    /// Number of videos in the list, or in this shard of it.
    pub listed: u64,
    /// Number of videos evaluated.
    pub evaluated: u64,
    /// Paths of the list that are not in the folder.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Paths of videos that could not be decoded, with the reason.
    #[serde(default)]
    pub undecodable: Vec<(String, String)>,
    /// Paths of videos that were decoded with a warning of the decoder, with the warning.
    #[serde(default)]
    pub damaged: Vec<(String, String)>,
    /// The shard, such as `1/4`; `None` for the whole list.
    pub shard: Option<String>,
    /// Name and version of the decoder.
    pub decoder: String,
    /// Whether the run was stopped before its end.
    #[serde(default)]
    pub interrupted: bool,
}

/// The accuracy of one engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Engine, precision and device, such as `scalar f32 on cpu`.
    pub engine: String,
    /// Videos whose own class has the highest score.
    pub top1: Rate,
    /// Videos whose own class is among the five highest scores.
    pub top5: Rate,
    /// Mean of the accuracies of the classes, 0 to 1.
    #[serde(with = "float")]
    pub mean_class: f64,
    /// Number of videos as `confusion[label][predicted]`; empty for more than 64 classes.
    #[serde(default)]
    pub confusion: Vec<Vec<u64>>,
    /// Accuracy by confidence, in tenths.
    pub calibration: Vec<Bin>,
    /// Expected calibration error, 0 to 1.
    #[serde(with = "float")]
    pub calibration_error: f64,
    /// Time of the forward pass for one view.
    #[serde(with = "float")]
    pub seconds_per_view: f64,
}

/// Videos whose confidence falls into one tenth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Mean confidence, 0 to 1.
    #[serde(with = "float")]
    pub confidence: f64,
    /// Share of correct answers, 0 to 1.
    #[serde(with = "float")]
    pub accuracy: f64,
    /// Number of videos.
    pub count: u64,
}

/// A published accuracy in percent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Where it was published.
    pub source: String,
    /// Top-1 accuracy in percent.
    #[serde(with = "float")]
    pub top1: f64,
    /// Top-5 accuracy in percent.
    pub top5: Option<f64>,
}

/// A video on which two engines name different classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Disagreement {
    /// Path of the video below the folder.
    pub path: String,
    /// Class of the video.
    pub label: u64,
    /// The class that each engine names, by engine.
    pub named: BTreeMap<String, u64>,
    /// The larger of the engines' differences between the scores of the two classes.
    #[serde(with = "float")]
    pub margin: f64,
    /// Whether the margin is so small that rounding explains the disagreement.
    pub tie: bool,
    /// Some frames of the views as one JPEG image, a data URI.
    #[serde(default)]
    pub frames: Option<String>,
}

/// One video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Video {
    /// Position in the list, from 0.
    pub index: u64,
    /// Path below the folder.
    pub path: String,
    /// Class of the video.
    pub label: u64,
    /// Number of frames in the file.
    pub frames: u64,
    /// The answers of the engines, in the order of [`EvalRecord::engines`].
    pub says: Vec<Answer>,
    /// Why the video could not be decoded.
    #[serde(default)]
    pub error: Option<String>,
    /// Warning of the decoder.
    #[serde(default)]
    pub warning: Option<String>,
    /// Time to decode the video and to make its views.
    #[serde(with = "float")]
    pub decode_seconds: f64,
}

/// The answer of an engine for a video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The (up to five) classes with the highest scores, the highest first.
    pub top: Vec<u64>,
    /// The scores of these classes: the mean of the softmax over the views.
    #[serde(with = "float::list")]
    pub scores: Vec<f64>,
    /// Score of the class of the video.
    #[serde(with = "float")]
    pub of_label: f64,
    /// Whether the class of the video has the highest score; false if a score is NaN.
    pub right: bool,
    /// Time of the forward passes.
    #[serde(with = "float")]
    pub seconds: f64,
}

impl Answer {
    /// Difference between the two highest scores.
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
    /// Settings of the training by name.
    pub settings: BTreeMap<String, String>,
    /// The training curve.
    pub epochs: Vec<Epoch>,
    /// Whether all epochs were run.
    pub finished: bool,
    /// Command, machine, versions and configuration of the run.
    pub run: Run,
}

/// One epoch of a training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Number of the epoch, from 1.
    pub epoch: u64,
    /// Learning rate at the end of the epoch.
    #[serde(with = "float")]
    pub rate: f64,
    /// Mean loss of the batches.
    #[serde(with = "float")]
    pub loss: f64,
    /// Accuracy on the augmented training batches, 0 to 1.
    #[serde(with = "float")]
    pub train: f64,
    /// Accuracy on the validation part after the epoch.
    pub val: Rate,
    /// Duration of the epoch in seconds.
    #[serde(with = "float")]
    pub seconds: f64,
}

/// The question that an ablation answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ablation {
    /// The part is removed from a trained network: how much does this network rely on it?
    KnockOut,
    /// The network is trained without the part: how much does the part contribute?
    Retrained,
}

/// The outcome of `harness ablate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AblateRecord {
    /// The question that the ablation answers.
    pub question: Ablation,
    /// Name of the data set.
    pub dataset: String,
    /// Names of the classes; empty if they are not known.
    #[serde(default)]
    pub classes: Vec<String>,
    /// The unchanged network first, then the variants without parts.
    pub variants: Vec<Variant>,
    /// Number of test videos.
    pub videos: u64,
    /// Command, machine, versions and configuration of the run.
    pub run: Run,
}

/// One variant of the network with its accuracy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// Settings of the variant, such as `tfc=off`; `as it is` for the unchanged network.
    pub name: String,
    /// Accuracy of each trained network: one for a knock-out, one for each seed if retrained.
    pub accuracy: Vec<Rate>,
    /// Mean accuracy, 0 to 1.
    #[serde(with = "float")]
    pub mean: f64,
    /// Ends of the 95 % interval: Wilson's for one network, Student's t over the seeds otherwise.
    #[serde(with = "float::list")]
    pub interval: Vec<f64>,
    /// Comparison with the unchanged network on the same videos; `None` for that network.
    pub paired: Option<Paired>,
    /// Multiply-accumulates for one clip, without the removed parts.
    pub macs: u64,
    /// Time of the forward pass for one view.
    #[serde(with = "float")]
    pub seconds_per_view: f64,
    /// Outcome of the comparison with the other engine, layer by layer; `None` if it was not made.
    pub checked: Option<String>,
}

/// A comparison of a variant with the unchanged network on the same videos.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Number of videos that only the unchanged network classifies correctly.
    pub lost: u64,
    /// Number of videos that only the variant classifies correctly.
    pub won: u64,
    /// Two-sided p value of the exact McNemar test.
    #[serde(with = "float")]
    pub p: f64,
    /// `lost` and `won` for each class.
    #[serde(default)]
    pub by_class: Vec<(u64, u64)>,
    /// Mean over videos of the relative L2 distance between the logits.
    #[serde(with = "float")]
    pub drift: f64,
}
