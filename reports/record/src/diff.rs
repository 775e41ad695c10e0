//! The record of a comparison: the verdict, the culprit, and what was compared.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Body, Clips, Errors, Layer, LayerVerdict, Quantisation, Run, SourceFile, Verdict, float,
};

/// The outcome of `harness diff`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DiffRecord {
    /// Stable: the verdict on the run as a whole.
    pub verdict: Verdict,
    /// Stable: full name of the first module in order of execution that diverged.
    pub first_divergent: Option<String>,
    /// Stable: what has to be mended, as far as can be told, if the verdict is `diverged`.
    #[serde(default)]
    pub cause: Option<Cause>,
    /// Stable: the result in sentences: where it first goes wrong and the mistake that explains it,
    /// or what was not compared. `None` if everything passed.
    #[serde(default)]
    pub explanation: Option<String>,
    /// Stable: the command to run next, for a shell: for example the one that writes the smallest reproduction
    /// of a divergence, or that compares what this run left out. `None` if nothing is left to do.
    #[serde(default)]
    pub next: Option<String>,
    /// The first divergent module, with possible explanations.
    pub culprit: Option<Culprit>,
    /// Accumulated error of the logits; `None` if they were not compared.
    pub logits: Option<Errors>,
    /// Largest error ratio that passes.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub bound: f64,
    /// Every module of the network, in order of execution.
    pub layers: Vec<Layer>,
    /// Names of a dump's arrays that match no module.
    #[serde(default)]
    pub unmatched: Vec<String>,
    /// The state of every array of the dumps.
    #[serde(default)]
    pub ledger: Vec<LedgerEntry>,
    /// Facts that a reader must know to interpret the verdict, as sentences: which weights and clip were used and
    /// why, and of a dump the order of dimensions, the number format, what its hooks recorded.
    #[serde(default)]
    pub remarks: Vec<String>,
    /// Known mistakes that would have changed no compared value in this run.
    #[serde(default)]
    pub not_exercised: Vec<NotExercised>,
    /// The same comparison in a small configuration that exercises what this one does not.
    #[serde(default)]
    pub edge: Option<Edge>,
    /// The results over several inputs; `None` if there was one.
    #[serde(default)]
    pub clips: Option<Clips>,
    /// What the quantisers of an ONNX file cost; `None` if the candidate has none.
    #[serde(default)]
    pub quantisation: Option<Quantisation>,
    /// The steps before the network; empty unless the input is a video and the dump holds them.
    #[serde(default)]
    pub preprocessing: Vec<Stage>,
    /// The error of the first diverged layer over space, or of the worst one if none diverged.
    #[serde(default)]
    pub heatmap: Option<Heatmap>,
    /// The files that were compared or read, with their sha256: weights, candidate, reference and input,
    /// as far as they are files.
    #[serde(default)]
    pub files: Vec<SourceFile>,
    /// Command, machine, versions and configuration of the run.
    pub run: Run,
}

impl Body for DiffRecord {
    fn run(&self) -> &Run {
        &self.run
    }

    /// Refuses a heatmap whose number of values differs from height x width, since it would be drawn skewed.
    fn check(&self) -> Result<(), String> {
        let Some(map) = &self.heatmap else { return Ok(()) };
        if map.height.checked_mul(map.width) == Some(map.values.len()) {
            return Ok(());
        }
        Err(format!(
            "the heatmap of {} holds {} values, but {} x {} were expected",
            map.layer,
            map.values.len(),
            map.height,
            map.width
        ))
    }
}

/// What has to be mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The candidate: the module in `first_divergent`, or its weights.
    Port,
    /// The weights: nearly all layers are off, so the candidate ran with others than were given here.
    Weights,
    /// What was recorded of the module in `first_divergent`: the candidate went on with other values, or these were
    /// rounded when they were written.
    Recording,
    /// A step before the network, such as decoding or resizing, or another clip.
    Preprocessing,
    /// The scales of a quantised file: it has to be quantised again, or compared on a clip like those that it was
    /// calibrated on.
    Quantisation,
    /// The reference, which is a dump here: it does not compute what the network does, and the candidate does.
    Reference,
}

/// One array of a dump in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerEntry {
    /// Name of the array in the file.
    pub array: String,
    /// Full name of the module that the array's name stands for, if any.
    pub module: Option<String>,
    /// The state of the array.
    pub state: ArrayState,
    /// Details: the reason of a refusal, the array with the same bits, or the module whose output it is.
    #[serde(default)]
    pub detail: Option<String>,
}

/// The state of an array of a dump. The verdict can be `pass` only if no array is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArrayState {
    /// It was compared with the output of its module.
    Compared,
    /// It has the same bits as another array of its module.
    Same,
    /// The program that wrote it has fused its module into another one, and it was compared there.
    Fused,
    /// It is the input clip.
    Clip,
    /// `--layer` excludes its module.
    NotSelected,
    /// No module has this name.
    Unknown,
    /// It has the name of a module but could not be compared.
    Refused,
}

impl ArrayState {
    /// The name in JSON and in tables, such as `not_selected`.
    pub fn as_str(self) -> &'static str {
        match self {
            ArrayState::Compared => "compared",
            ArrayState::Same => "same",
            ArrayState::Fused => "fused",
            ArrayState::Clip => "clip",
            ArrayState::NotSelected => "not_selected",
            ArrayState::Unknown => "unknown",
            ArrayState::Refused => "refused",
        }
    }
}

/// A known mistake that would have changed no compared value of this run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotExercised {
    /// The mistake in words, such as `align_corners off`.
    pub what: String,
    /// A value of `--size` at which the mistake would change compared values.
    #[serde(default)]
    pub try_size: Option<String>,
    /// Whether the second, small configuration of this run exercises it.
    #[serde(default)]
    pub at_edge: bool,
}

fn one() -> u64 {
    1
}

/// A second comparison with the same weights, at a small frame size that has edge cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Edge {
    /// Number of clips: two, or one if the candidate cannot run two at once, and in old records.
    #[serde(default = "one")]
    pub clips: u64,
    /// Height and width of a frame in pixels.
    pub size: [u64; 2],
    /// The verdict on this comparison, which is part of the verdict on the run.
    pub verdict: Verdict,
    /// Number of modules that were compared.
    pub compared: u64,
    /// Largest error ratio of an own error.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub worst: f64,
    /// Full name of the first module that diverged in this comparison.
    #[serde(default)]
    pub first_divergent: Option<String>,
    /// The first divergent module, with possible explanations.
    #[serde(default)]
    pub culprit: Option<Culprit>,
    /// Known mistakes that this comparison does not exercise either.
    #[serde(default)]
    pub not_exercised: Vec<NotExercised>,
    /// Duration in seconds.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub seconds: f64,
}

/// A step from the video to the clip: choice of frames, decoding, resizing or cropping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stage {
    /// Name of the array in the dump, such as `video.resized`.
    pub name: String,
    /// The verdict. Bytes must be equal; `inherited` means that an earlier step is the wrong one.
    pub verdict: LayerVerdict,
    /// The difference of the values, in words.
    pub detail: String,
}

/// The first divergent module, with possible explanations.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Culprit {
    /// Full name of the module.
    pub name: String,
    /// Alias of the module, such as `ctl3`, or of the CTL that contains it.
    pub alias: Option<String>,
    /// Full name of the container that the module belongs to.
    pub composite: Option<String>,
    /// Where the candidate first goes wrong, without a full stop.
    pub text: String,
    /// The last compared module before this one; set if modules in between were not compared.
    #[serde(default)]
    pub after: Option<String>,
    /// The modules between [`Culprit::after`] and this one, which were not compared.
    #[serde(default)]
    pub unseen: Vec<String>,
    /// The probable cause as a sentence, if one was recognised.
    pub explanation: Option<String>,
    /// Known mistakes that were tried as an explanation, the best first.
    #[serde(default)]
    pub hypotheses: Vec<Hypothesis>,
}

/// A known mistake, tried as an explanation of a divergence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hypothesis {
    /// The mistake in words, such as `eps 1e-3 instead of 1e-5`.
    pub what: String,
    /// Remaining error / allowed: the error ratio if the reference makes the same mistake.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub ratio: f64,
    /// Whether the mistake explains the divergence.
    pub fits: bool,
}

/// The error of one layer over space.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Heatmap {
    /// Full name of the module.
    pub layer: String,
    /// Whether the map shows the own or the accumulated error.
    pub what: ErrorKind,
    /// Rows of the map.
    pub height: usize,
    /// Columns of the map.
    pub width: usize,
    /// Height x width values, row by row: the root mean square error over batch and channels, divided by
    /// the root mean square of the truth.
    #[serde(with = "float::list")]
    #[schemars(with = "Vec<float::Number>")]
    pub values: Vec<f64>,
}

/// One of the two errors of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Own error: that of a layer that was fed the reference's input.
    Introduced,
    /// Accumulated error: that of a layer when the whole network runs through.
    Inherited,
}

impl ErrorKind {
    /// The name in JSON: `introduced` or `inherited`.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Introduced => "introduced",
            ErrorKind::Inherited => "inherited",
        }
    }

    /// The error in words: `own` or `accumulated`.
    pub fn words(self) -> &'static str {
        match self {
            ErrorKind::Introduced => "own",
            ErrorKind::Inherited => "accumulated",
        }
    }
}
