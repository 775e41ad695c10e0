//! The run record: the versioned JSON that a run of the harness writes.
//!
//! It is also the output format of `harness diff --json`, so every change that an old reader could
//! misunderstand needs a new [`SCHEMA`]. Readers ignore fields that they do not know. Floats may be NaN
//! or infinite and are then written as strings (see [`float`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod bench;
pub mod error;
pub mod float;
mod gpu;
mod null;
mod store;
mod study;

pub use bench::{BenchEntry, BenchRecord, LayerTime, Setting};
pub use error::{RecordError, Result};
pub use gpu::{GpuRecord, GpuStep, KernelSource};
pub use null::{Bar, NullCase, NullGroup, NullRecord, Quantiles, Tail};
pub use store::{parse_record, read_record, to_json, write_record};
pub use study::*;

/// The schema version of records that this crate writes and reads.
pub const SCHEMA: u64 = 1;

/// The file name of the record in the directory of a run.
pub const RECORD_FILE: &str = "record.json";

/// The result of one run of the harness. In JSON, the field `kind` names the variant.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// `harness diff`: a candidate compared with a reference, layer by layer.
    Diff(Box<DiffRecord>),
    /// `harness selftest`: injected faults, and whether they were detected and named.
    Selftest(Box<SelftestRecord>),
    /// `harness eval`: accuracy on videos, and agreement of the engines.
    Eval(Box<EvalRecord>),
    /// `harness train`: the curve and the settings of a training.
    Train(Box<TrainRecord>),
    /// `harness ablate`: accuracy of the network without some of its parts.
    Ablate(Box<AblateRecord>),
    /// `harness bench`: latency of the engines and their peers.
    Bench(Box<BenchRecord>),
    /// `harness gpu-check`: the steps that need a GPU, and the kernels that they checked.
    Gpu(Box<GpuRecord>),
    /// `harness selftest --null`: budget ratios and false alarms of correct engines.
    Null(Box<NullRecord>),
}

impl Record {
    /// The value of `kind` in JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Record::Diff(_) => "diff",
            Record::Selftest(_) => "selftest",
            Record::Eval(_) => "eval",
            Record::Train(_) => "train",
            Record::Ablate(_) => "ablate",
            Record::Bench(_) => "bench",
            Record::Gpu(_) => "gpu",
            Record::Null(_) => "null",
        }
    }

    /// Command, machine, versions and configuration of the run.
    pub fn run(&self) -> &Run {
        match self {
            Record::Diff(diff) => &diff.run,
            Record::Selftest(selftest) => &selftest.run,
            Record::Eval(eval) => &eval.run,
            Record::Train(train) => &train.run,
            Record::Ablate(ablate) => &ablate.run,
            Record::Bench(bench) => &bench.run,
            Record::Gpu(gpu) => &gpu.run,
            Record::Null(null) => &null.run,
        }
    }
}

/// The outcome of `harness diff`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiffRecord {
    /// The verdict on the run as a whole.
    pub verdict: Verdict,
    /// Full name of the first module in order of execution that diverged.
    pub first_divergent: Option<String>,
    /// The first divergent module, with possible explanations.
    pub culprit: Option<Culprit>,
    /// Inherited error of the logits; `None` if they were not compared.
    pub logits: Option<Errors>,
    /// Largest budget ratio that passes.
    #[serde(with = "float")]
    pub bound: f64,
    /// Every module of the network, in order of execution.
    pub layers: Vec<Layer>,
    /// Names of a dump's arrays that match no module.
    #[serde(default)]
    pub unmatched: Vec<String>,
    /// The state of every array of the dumps.
    #[serde(default)]
    pub ledger: Vec<LedgerEntry>,
    /// Facts that were found out or assumed about a dump, as sentences: which weights and clip were
    /// used and why, the order of dimensions, the number format, what its hooks recorded.
    #[serde(default)]
    pub remarks: Vec<String>,
    /// Known mistakes that would have changed no compared value in this run.
    #[serde(default)]
    pub not_exercised: Vec<NotExercised>,
    /// The same comparison in a small configuration that exercises what this one does not.
    #[serde(default)]
    pub edge: Option<Edge>,
    /// The steps before the network; empty unless the input is a video and the dump holds them.
    #[serde(default)]
    pub preprocessing: Vec<Stage>,
    /// The error of the worst layer over space.
    #[serde(default)]
    pub heatmap: Option<Heatmap>,
    /// Command, machine, versions and configuration of the run.
    pub run: Run,
}

/// One array of a dump in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// A second comparison with the same weights, at a small frame size that has edge cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// Height and width of a frame in pixels.
    pub size: [u64; 2],
    /// The verdict on this comparison, which is part of the verdict on the run.
    pub verdict: Verdict,
    /// Number of modules that were compared.
    pub compared: u64,
    /// Largest budget ratio of an introduced error.
    #[serde(with = "float")]
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
    pub seconds: f64,
}

/// A step from the video to the clip: choice of frames, decoding, resizing or cropping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Name of the array in the dump, such as `video.resized`.
    pub name: String,
    /// The verdict. Bytes must be equal; `Inherited` means that an earlier step is the wrong one.
    pub verdict: LayerVerdict,
    /// The difference of the values, in words.
    pub detail: String,
}

/// The verdict on a whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every module was compared or is covered by a compared one, and all are within the bound.
    Pass,
    /// At least one module is above the bound.
    Diverged,
    /// No compared module is above the bound, but something was not compared.
    Incomplete,
}

/// The verdict on one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerVerdict {
    /// The layer was compared and is within the bound.
    Pass,
    /// The introduced error of the layer is above the bound.
    Diverged,
    /// Only the inherited error is above the bound: an earlier layer is the cause.
    Inherited,
    /// The layer was not compared itself; [`Layer::covered_by`], which depends on it, was.
    Covered,
    /// Neither the layer nor one that depends on it directly was compared.
    NotCompared,
}

/// The first divergent module, with possible explanations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Culprit {
    /// Full name of the module.
    pub name: String,
    /// Alias of the module, such as `ctl3`, or of the CTL that contains it.
    pub alias: Option<String>,
    /// Full name of the container that the module belongs to.
    pub composite: Option<String>,
    /// Where the error was first introduced, without a full stop.
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hypothesis {
    /// The mistake in words, such as `eps 1e-3 instead of 1e-5`.
    pub what: String,
    /// Budget ratio that remains if the reference makes the same mistake.
    #[serde(with = "float")]
    pub ratio: f64,
    /// Whether the mistake explains the divergence.
    pub fits: bool,
}

/// The error of one tensor against the float64 truth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Errors {
    /// Relative L2 error.
    #[serde(with = "float")]
    pub rel_l2: f64,
    /// Largest absolute error.
    #[serde(with = "float")]
    pub max_abs: f64,
    /// Largest absolute error divided by the root mean square of the truth.
    #[serde(with = "float")]
    pub max_rel: f64,
    /// Largest error in units in the last place of the candidate's precision.
    pub ulp: u64,
    /// Cosine of the angle between the two tensors.
    #[serde(with = "float")]
    pub cosine: f64,
    /// Budget ratio: the candidate's error divided by `max(a * e_ref, n * eps)`, the larger of the ratios
    /// by relative L2 and by largest error.
    #[serde(with = "float")]
    pub ratio: f64,
    /// Relative L2 error of the yardstick.
    #[serde(with = "float")]
    pub e_ref: f64,
    /// Number of NaN values in the candidate.
    pub nan: u64,
    /// Number of infinite values in the candidate.
    pub inf: u64,
}

/// One module of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// Full module path, such as `layer1.2.conv2.spatial_conv`.
    pub name: String,
    /// Short name, such as `ctl3`.
    pub alias: Option<String>,
    /// What the module computes.
    pub kind: LayerKind,
    /// The block that contains the module: `stem`, `layer1.0`, …, `head`.
    pub block: String,
    /// Output shape for one clip.
    pub shape: Vec<u64>,
    /// Number of parameters.
    pub params: u64,
    /// Multiply-accumulates for one clip.
    pub macs: u64,
    /// The factor on `eps` in the budget: the number of roundings that it allows for.
    #[serde(with = "float")]
    pub n: f64,
    /// Introduced error: the module was fed the reference's input. `None` if it was not measured.
    pub introduced: Option<Errors>,
    /// Inherited error: the whole network ran through. `None` if it was not measured.
    pub inherited: Option<Errors>,
    /// The verdict on the module.
    pub verdict: LayerVerdict,
    /// Full name of the layer that covers this one, for [`LayerVerdict::Covered`].
    #[serde(default)]
    pub covered_by: Option<String>,
    /// A remark for the reader.
    #[serde(default)]
    pub note: Option<String>,
}

/// What a module computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// The input of the network, in the shape that the first convolution takes.
    Input,
    /// A convolution.
    Conv,
    /// A batch normalisation.
    Bn,
    /// A rectified linear unit.
    Relu,
    /// A sigmoid.
    Sigmoid,
    /// A max-pooling or a mean.
    Pool,
    /// The addition of the resized positional embedding in the IOI branch.
    PosEmbed,
    /// The spatial branch of a CTL.
    SpatialConv,
    /// A channel-time learning block (CTL).
    Ctl,
    /// A residual block.
    Block,
    /// A dense layer.
    Linear,
}

impl LayerKind {
    /// The name in JSON and in tables, such as `pos_embed`.
    pub fn as_str(self) -> &'static str {
        match self {
            LayerKind::Input => "input",
            LayerKind::Conv => "conv",
            LayerKind::Bn => "bn",
            LayerKind::Relu => "relu",
            LayerKind::Sigmoid => "sigmoid",
            LayerKind::Pool => "pool",
            LayerKind::PosEmbed => "pos_embed",
            LayerKind::SpatialConv => "spatial_conv",
            LayerKind::Ctl => "ctl",
            LayerKind::Block => "block",
            LayerKind::Linear => "linear",
        }
    }
}

impl LayerVerdict {
    /// The name in JSON and in tables, such as `not_compared`.
    pub fn as_str(self) -> &'static str {
        match self {
            LayerVerdict::Pass => "pass",
            LayerVerdict::Diverged => "diverged",
            LayerVerdict::Inherited => "inherited",
            LayerVerdict::Covered => "covered",
            LayerVerdict::NotCompared => "not_compared",
        }
    }
}

impl Verdict {
    /// The name in JSON, such as `pass`.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Diverged => "diverged",
            Verdict::Incomplete => "incomplete",
        }
    }
}

/// The error of one layer over space.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heatmap {
    /// Full name of the module.
    pub layer: String,
    /// Whether the map shows the introduced or the inherited error.
    pub what: ErrorKind,
    /// Rows of the map.
    pub height: usize,
    /// Columns of the map.
    pub width: usize,
    /// Height x width values, row by row: the root mean square error over batch and channels, divided by
    /// the root mean square of the truth.
    #[serde(with = "float::list")]
    pub values: Vec<f64>,
}

/// One of the two errors of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The error of a layer that was fed the reference's input.
    Introduced,
    /// The error of a layer when the whole network runs through.
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
}

/// The outcome of `harness selftest`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SelftestRecord {
    /// One entry for each kind of fault.
    pub faults: Vec<Fault>,
    /// Changed dumps and checkpoints, one entry for each kind of change.
    #[serde(default)]
    pub mutations: Vec<Mutation>,
    /// The confusion matrix, planted against named: one entry for each kind of fault and setting.
    #[serde(default)]
    pub confusion: Vec<Confusion>,
    /// Command, machine, versions and configuration of the run.
    pub run: Run,
}

/// Correct files in each of which one array was changed, and how many of them were noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mutation {
    /// `dump` or `checkpoint`.
    pub file: String,
    /// How the array was changed, such as `scaled by 1.001`.
    pub what: String,
    /// Number of files made.
    pub made: u64,
    /// Number of files that could not be opened or loaded.
    pub refused: u64,
    /// Number of files that diverged or were compared incompletely.
    pub noticed: u64,
    /// Number of files without an array whose module is covered by the next one.
    pub covered: u64,
    /// The arrays whose change was not noticed.
    pub passed: Vec<String>,
}

impl Mutation {
    /// An entry with all counts at zero.
    pub fn new(file: &str, what: &str) -> Self {
        let (file, what) = (file.to_owned(), what.to_owned());
        Mutation { file, what, made: 0, refused: 0, noticed: 0, covered: 0, passed: vec![] }
    }
}

/// The outcomes of one kind of fault in one setting. The four counts add up to the number planted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// The fault in words, such as `swapped weights`.
    pub planted: String,
    /// Whether the fault is in the catalogue. Others must be located and must not be named.
    pub known: bool,
    /// Where it was planted: `engine`, `dump` or `flax dump`.
    pub setting: String,
    /// Times that it was named as itself, alone or among mistakes that give the same values there.
    pub itself: u64,
    /// Times that another mistake was named.
    pub another: u64,
    /// Times that it was detected and no mistake was named.
    pub located: u64,
    /// Times that it was not detected.
    pub missed: u64,
    /// The mistakes that were named instead, and how often.
    #[serde(default)]
    pub others: BTreeMap<String, u64>,
}

impl Confusion {
    /// Number of times that the fault was planted.
    pub fn planted_times(&self) -> u64 {
        let counts = [self.itself, self.another, self.located, self.missed];
        counts.into_iter().fold(0, u64::saturating_add)
    }

    /// Number of expected outcomes: named as itself or, for a fault outside the catalogue, located only.
    pub fn right(&self) -> u64 {
        if self.known { self.itself } else { self.located }
    }
}

/// One kind of fault, injected into several modules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// The fault in words, such as `swapped weights`.
    pub fault: String,
    /// Number of injections.
    pub injected: u64,
    /// Number of injections with which the run diverged.
    pub detected: u64,
    /// Number of injections for which the right layer was named.
    pub named: u64,
    /// The injections.
    #[serde(default)]
    pub places: Vec<Place>,
}

/// One injected fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Full name of the module that it was injected into.
    pub module: String,
    /// Whether the run diverged.
    pub detected: bool,
    /// The module that was named as the culprit.
    pub named: Option<String>,
    /// Where it was planted: `engine`, `dump` or `flax dump`.
    #[serde(default)]
    pub setting: String,
    /// Frame size of the model as HxW.
    #[serde(default)]
    pub size: String,
    /// The mistake that was named, in words.
    #[serde(default)]
    pub explanation: Option<String>,
    /// Largest budget ratio in the run.
    #[serde(with = "float")]
    pub ratio: f64,
}

/// How a run was made: everything that is needed to repeat it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The command line, one entry for each word.
    pub command: Vec<String>,
    /// Git revision of the harness; `null` outside a checkout.
    pub git: Option<Git>,
    /// The machine on which it ran.
    pub machine: Machine,
    /// Versions of the harness, rustc, libtorch and others, by name.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
    /// Start of the run in UTC, such as `2026-11-23T07:01:02Z`.
    pub started: String,
    /// Duration in seconds.
    #[serde(with = "float")]
    pub seconds: f64,
    /// The seeds that were used, by purpose.
    #[serde(default)]
    pub seeds: BTreeMap<String, u64>,
    /// The candidate, such as `scalar f32 on cpu`.
    pub candidate: String,
    /// The reference, such as `libtorch f64 on cpu`.
    pub reference: String,
    /// The yardstick, whose error sets the budget, such as `libtorch f32 on cpu`.
    pub yardstick: String,
    /// The weights: a file or a formula such as `formula:0`.
    pub weights: String,
    /// The input: a file or a formula such as `formula:0`.
    pub input: String,
    /// The configuration of the network.
    pub model: Model,
}

/// A git revision of the harness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Git {
    /// Hash of the commit.
    pub revision: String,
    /// Whether the checkout had uncommitted changes.
    pub dirty: bool,
}

/// The machine on which a run was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Name of the processor.
    pub cpu: String,
    /// Number of logical cores.
    pub cores: u64,
    /// Memory in GiB.
    #[serde(with = "float")]
    pub memory_gib: f64,
    /// Name of the operating system.
    pub os: String,
}

/// The configuration of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Number of layers: 10 to 200.
    pub depth: u64,
    /// Factor on the channel counts.
    #[serde(with = "float")]
    pub width: f64,
    /// Number of frames in a clip.
    pub frames: u64,
    /// Height and width of a frame in pixels.
    pub size: [u64; 2],
    /// Number of classes.
    pub classes: u64,
    /// Height and width of the positional embedding in each stage.
    pub pos_dim: Vec<u64>,
    /// Other settings by name.
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}
