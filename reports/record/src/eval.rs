//! The record of an evaluation: accuracy of the engines, and their answer for each video.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::strips::Strips;
use crate::{Body, Rate, Run, Verdict, float};

/// The outcome of `harness eval`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// Strips of frames of the worst mistakes and of disagreements; `None` in old records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strips: Option<Strips>,
    /// Largest margin that is a tie.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub tie: f64,
    /// The accuracy in the paper, if the protocol has one.
    pub published: Option<Published>,
    /// How fast the run was; `None` in merged and in old records.
    #[serde(default)]
    pub speed: Option<Speed>,
    /// Multiply-accumulates for one view; `None` in old records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macs: Option<u64>,
    /// All videos, in the order of the list.
    pub videos: Vec<Video>,
    /// Command, machine, versions and configuration of the run.
    pub run: Run,
}

impl Body for EvalRecord {
    fn run(&self) -> &Run {
        &self.run
    }

    fn read_beside(&mut self, folder: &Path) {
        if let Some(strips) = &mut self.strips {
            strips.read(folder);
        }
    }
}

/// The videos of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// The list of videos: a file, or the name of the data set.
    pub list: String,
    /// Number of videos in the list, in this shard of it, or up to `--limit`.
    pub listed: u64,
    /// Number of videos in the whole list; `None` in records before this field.
    #[serde(default)]
    pub in_list: Option<u64>,
    /// Number of videos evaluated.
    pub evaluated: u64,
    /// Paths of the list that are not in the folder.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Paths of videos that could not be decoded, with the reason.
    #[serde(default)]
    pub undecodable: Vec<(String, String)>,
    /// Paths of videos whose containers promise many more frames than came, with both numbers. In records
    /// before `warned` was added, those of `warned`.
    #[serde(default)]
    pub damaged: Vec<(String, String)>,
    /// Whether damaged videos were allowed.
    #[serde(default)]
    pub damage_allowed: bool,
    /// Paths of videos that were decoded with ffmpeg warnings, with the warning.
    #[serde(default)]
    pub warned: Vec<(String, String)>,
    /// Videos on which decord 0.6.0 takes other frames than those that were evaluated.
    #[serde(default)]
    pub decord: Vec<DecordFile>,
    /// The shard, such as `1/4`; `None` for the whole list.
    pub shard: Option<String>,
    /// Name and version of the decoder.
    pub decoder: String,
    /// Whether the run was stopped before its end.
    #[serde(default)]
    pub interrupted: bool,
}

/// A video on which decord's seeks arrive at other frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DecordFile {
    /// Path of the video.
    pub path: String,
    /// Why decord takes other frames, and which.
    #[serde(flatten)]
    pub remark: DecordRemark,
}

/// What decord does otherwise on a video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DecordRemark {
    /// Why decord takes other frames.
    pub why: String,
    /// The indexes of the frames that were evaluated, in the order of the clips.
    #[serde(default)]
    pub evaluated: Vec<u64>,
    /// The frame that decord takes for each of them; empty where that is not known.
    #[serde(default)]
    pub decord_takes: Vec<u64>,
}

/// How fast a run was, and what bound it. Only the videos of this run count, and not those of one that it
/// continues.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Speed {
    /// Number of videos.
    pub videos: u64,
    /// Number of views.
    pub views: u64,
    /// Time from the first video to the last one.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub seconds: f64,
    /// The parts of the work.
    pub parts: Vec<Part>,
    /// The slowest part, which bound the run.
    pub bound: String,
}

/// A part of the work of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// Name of the part: `decoder`, `preprocessing` or `network`.
    pub name: String,
    /// Number of threads that did it side by side.
    pub threads: u64,
    /// Time of all threads together.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub seconds: f64,
    /// Videos a second that this part would reach alone.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub videos_per_second: f64,
}

/// The accuracy of one engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Score {
    /// Engine, precision and device, such as `scalar f32 on cpu`.
    pub engine: String,
    /// Videos whose own class has the highest score.
    pub top1: Rate,
    /// Videos whose own class is among the five highest scores.
    pub top5: Rate,
    /// Mean of the accuracies of the classes, 0 to 1.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub mean_class: f64,
    /// Number of videos as `confusion[label][predicted]`; empty for more than 64 classes.
    #[serde(default)]
    pub confusion: Vec<Vec<u64>>,
    /// Accuracy by confidence, in tenths.
    pub calibration: Vec<Bin>,
    /// Expected calibration error, 0 to 1.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub calibration_error: f64,
    /// Time of the forward pass for one view.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub seconds_per_view: f64,
}

/// Videos whose confidence falls into one tenth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bin {
    /// Mean confidence, 0 to 1.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub confidence: f64,
    /// Share of correct answers, 0 to 1.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub accuracy: f64,
    /// Number of videos.
    pub count: u64,
}

/// A published accuracy in percent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Published {
    /// Where it was published.
    pub source: String,
    /// Top-1 accuracy in percent.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub top1: f64,
    /// Top-5 accuracy in percent.
    pub top5: Option<f64>,
}

/// A video on which two engines name different classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Disagreement {
    /// Path of the video below the folder.
    pub path: String,
    /// Class of the video, if it is known.
    pub label: Option<u64>,
    /// The class that each engine names, by engine.
    pub named: BTreeMap<String, u64>,
    /// The larger of the engines' differences between the scores of the two classes.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub margin: f64,
    /// Whether the margin is so small that rounding explains the disagreement.
    pub tie: bool,
    /// Some frames of the views as one JPEG image, a data URI. Only in records before [`Strips`] was added.
    #[serde(default)]
    pub frames: Option<String>,
}

/// One video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Video {
    /// Position in the list, from 0.
    pub index: u64,
    /// Path below the folder, as in the list.
    pub path: String,
    /// Class of the video, if it is known. A video without it does not count for the accuracy.
    pub label: Option<u64>,
    /// Number of frames in the file.
    pub frames: u64,
    /// The answers of the engines, in the order of [`EvalRecord::engines`].
    pub says: Vec<Answer>,
    /// Why the video could not be decoded.
    #[serde(default)]
    pub error: Option<String>,
    /// Whether `error` was an accident (a signal, the time limit, the disk) and not the file's fault.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transient: bool,
    /// The file when it was decoded; `None` if it was not there, and in old records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileState>,
    /// Set if the container promises many more frames than came: the file is damaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<Damage>,
    /// Warning of the decoder.
    #[serde(default)]
    pub warning: Option<String>,
    /// What decord does otherwise on this video.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decord: Option<DecordRemark>,
    /// Time to decode the video and to make its views.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub decode_seconds: f64,
}

/// How many frames of a damaged file are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Damage {
    /// Number of frames that were decoded.
    pub came: u64,
    /// Number of frames that the container promises.
    pub promised: u64,
}

/// What tells that a file was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileState {
    /// Size in bytes.
    pub bytes: u64,
    /// Time of the last modification, in nanoseconds since 1970.
    pub modified: i64,
}

/// The answer of an engine for a video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// The (up to five) classes with the highest scores, the highest first.
    pub top: Vec<u64>,
    /// The scores of these classes: the mean of the softmax over the views.
    #[serde(with = "float::list")]
    #[schemars(with = "Vec<float::Number>")]
    pub scores: Vec<f64>,
    /// Score of the class of the video; NaN if that is not known.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub of_label: f64,
    /// Whether the class of the video has the highest score; false if a score is NaN, or if the class is
    /// not known.
    pub right: bool,
    /// Time of the forward passes.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
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
