//! The run record: the versioned JSON that a run of the harness leaves behind.
//!
//! It is also the command-line contract of `harness diff --json`, so every change that an old
//! reader could misunderstand needs a new [`SCHEMA`]. Fields that a reader does not know are
//! tolerated. Floats may be NaN or infinite and are then written as strings (see [`float`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod bench;
pub mod float;
mod gpu;
mod null;
mod study;

pub use bench::{BenchEntry, BenchRecord, LayerTime, Setting};
pub use gpu::{GpuRecord, GpuStep, KernelSource};
pub use null::{Bar, NullCase, NullGroup, NullRecord, Quantiles, Tail};
pub use study::*;

/// The version of the record's layout that this crate writes and reads.
pub const SCHEMA: u64 = 1;

/// The name of the record inside a run's directory.
pub const RECORD_FILE: &str = "record.json";

/// What one run of the harness found. In JSON, the field `kind` says which of these it is.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// `harness diff`: a candidate held against a reference, layer by layer.
    Diff(Box<DiffRecord>),
    /// `harness selftest`: injected faults, and whether the harness noticed them.
    Selftest(Box<SelftestRecord>),
    /// `harness eval`: accuracy on videos, and whether engines agree.
    Eval(Box<EvalRecord>),
    /// `harness train`: a training curve.
    Train(Box<TrainRecord>),
    /// `harness ablate`: what the parts of the network are worth.
    Ablate(Box<AblateRecord>),
    /// The outcome of `harness bench`.
    Bench(Box<BenchRecord>),
    /// The outcome of `harness gpu-check`.
    Gpu(Box<GpuRecord>),
    /// `harness selftest --null`: right engines, and how far from the bound they stay.
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

    /// How the run was made.
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
    /// The run as a whole.
    pub verdict: Verdict,
    /// Full name of the first module that diverged, in order of execution.
    pub first_divergent: Option<String>,
    /// The first divergent module in words, with what may explain it.
    pub culprit: Option<Culprit>,
    /// Error of the logits when the network runs through.
    pub logits: Option<Errors>,
    /// A layer passes at a budget ratio of at most this.
    #[serde(with = "float")]
    pub bound: f64,
    /// Every module of the network, in order of execution.
    pub layers: Vec<Layer>,
    /// Names in a dump that could not be matched with a module.
    #[serde(default)]
    pub unmatched: Vec<String>,
    /// What became of every array of the dumps.
    #[serde(default)]
    pub ledger: Vec<LedgerEntry>,
    /// What was found out about a dump, or taken for granted, in sentences: which weights and which
    /// clip were used and why, the order of dimensions, the number format, what its hooks recorded.
    #[serde(default)]
    pub remarks: Vec<String>,
    /// Known mistakes that would have changed no compared value in this run.
    #[serde(default)]
    pub not_exercised: Vec<NotExercised>,
    /// The same comparison in a small configuration that exercises what this one does not.
    #[serde(default)]
    pub edge: Option<Edge>,
    /// The steps before the network, where the input is a video and the dump holds them.
    #[serde(default)]
    pub preprocessing: Vec<Stage>,
    /// Where in space the worst layer is wrong.
    #[serde(default)]
    pub heatmap: Option<Heatmap>,
    /// How the run was made.
    pub run: Run,
}

/// What became of an array of a dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Its name in the file.
    pub array: String,
    /// The module that it is named after, if any.
    pub module: Option<String>,
    /// What became of it.
    pub state: ArrayState,
    /// More on it: the reason of a refusal, the array whose bits it has, the module that it shows.
    #[serde(default)]
    pub detail: Option<String>,
}

/// What became of an array of a dump. The verdict is "pass" only if no array is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArrayState {
    /// It was compared with its module.
    Compared,
    /// It has the same bits as another array of its module.
    Same,
    /// Its module is fused into another one in the program that wrote it, and it was compared there.
    Fused,
    /// It is the clip that the networks were given.
    Clip,
    /// The user has not asked for its layer.
    NotSelected,
    /// No module has its name.
    Unknown,
    /// It bears the name of a module and could not be compared.
    Refused,
}

impl ArrayState {
    /// The name in JSON and in tables.
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

/// A known mistake that would have changed no compared value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotExercised {
    /// The mistake in words: "align_corners off".
    pub what: String,
    /// A `--size` at which it would show.
    #[serde(default)]
    pub try_size: Option<String>,
    /// Whether the second, small configuration of this run exercises it.
    #[serde(default)]
    pub at_edge: bool,
}

/// A second comparison, of the same weights at a frame size with edge cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// Height and width of a frame.
    pub size: [u64; 2],
    /// Its verdict, which is part of the run's.
    pub verdict: Verdict,
    /// Modules that were compared.
    pub compared: u64,
    /// Largest budget ratio that a module introduces.
    #[serde(with = "float")]
    pub worst: f64,
    /// Full name of the first module that diverged there.
    #[serde(default)]
    pub first_divergent: Option<String>,
    /// The first divergence in words, with the mistake that explains it.
    #[serde(default)]
    pub culprit: Option<Culprit>,
    /// Known mistakes that are not exercised there either.
    #[serde(default)]
    pub not_exercised: Vec<NotExercised>,
    /// How long it took.
    #[serde(with = "float")]
    pub seconds: f64,
}

/// A step before the network: which frames, their pixels, resized, cropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// The array in the dump: `video.resized`.
    pub name: String,
    /// Bytes are compared exactly; inherited means that the step before is the wrong one.
    pub verdict: LayerVerdict,
    /// How the values differ.
    pub detail: String,
}

/// The verdict on a whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every module was compared (or is covered by one that was), and all are within the bound.
    Pass,
    /// At least one module is beyond the bound.
    Diverged,
    /// Nothing compared is beyond the bound, but something was not compared.
    Incomplete,
}

/// The verdict on one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerVerdict {
    /// Compared, and within the bound.
    Pass,
    /// The layer itself introduces more error than the bound allows.
    Diverged,
    /// The layer is beyond the bound only because its input already was.
    Inherited,
    /// Not compared by itself; the layer in [`Layer::covered_by`] contains it and was compared.
    Covered,
    /// Not compared at all.
    NotCompared,
}

/// The first divergent module, in words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Culprit {
    /// Full name of the module.
    pub name: String,
    /// Its alias (`ctl3`), or that of the CTL that it belongs to.
    pub alias: Option<String>,
    /// Full name of the composite module that it belongs to.
    pub composite: Option<String>,
    /// One sentence: where the error was first introduced.
    pub text: String,
    /// The last module before it that was compared, where others between them were not.
    #[serde(default)]
    pub after: Option<String>,
    /// The modules between [`Culprit::after`] and this one, which were not compared.
    #[serde(default)]
    pub unseen: Vec<String>,
    /// What the evidence suggests, where it suggests something.
    pub explanation: Option<String>,
    /// Known mistakes that were tried as an explanation, the best first.
    #[serde(default)]
    pub hypotheses: Vec<Hypothesis>,
}

/// A known mistake, tried as an explanation of a divergence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hypothesis {
    /// The mistake in words: "eps 1e-3 instead of 1e-5".
    pub what: String,
    /// Budget ratio that remains when the reference makes the same mistake.
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
    /// Largest absolute error over the truth's root mean square.
    #[serde(with = "float")]
    pub max_rel: f64,
    /// Largest distance in units in the last place of the candidate's precision.
    pub ulp: u64,
    /// Cosine of the angle between the two tensors.
    #[serde(with = "float")]
    pub cosine: f64,
    /// Budget ratio: candidate's error over `max(e_ref, n * eps)`.
    #[serde(with = "float")]
    pub ratio: f64,
    /// The yardstick's own relative L2 error against the truth.
    #[serde(with = "float")]
    pub e_ref: f64,
    /// Number of NaN in the candidate.
    pub nan: u64,
    /// Number of infinities in the candidate.
    pub inf: u64,
}

/// One module of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// Full module path, for example `layer1.2.conv2.spatial_conv`.
    pub name: String,
    /// Short name, for example `ctl3`.
    pub alias: Option<String>,
    /// What the module computes.
    pub kind: LayerKind,
    /// The block that it is drawn in: `stem`, `layer1.0`, …, `head`.
    pub block: String,
    /// Shape of its output.
    pub shape: Vec<u64>,
    /// Number of parameters.
    pub params: u64,
    /// Multiply-accumulates for one clip.
    pub macs: u64,
    /// The factor before `eps` in the budget: how many roundings the error is granted.
    #[serde(with = "float")]
    pub n: f64,
    /// Error when the layer is fed the reference's input.
    pub introduced: Option<Errors>,
    /// Error when the network runs through.
    pub inherited: Option<Errors>,
    /// The verdict on this layer.
    pub verdict: LayerVerdict,
    /// For [`LayerVerdict::Covered`]: the layer that covers this one.
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
    /// The network's input, as the first convolution sees it.
    Input,
    /// A convolution.
    Conv,
    /// A batch normalisation.
    Bn,
    /// A rectified linear unit.
    Relu,
    /// A sigmoid.
    Sigmoid,
    /// A pooling or mean.
    Pool,
    /// The addition of the resized positional embedding.
    PosEmbed,
    /// The spatial branch of a CTL.
    SpatialConv,
    /// A whole channel-time learning block.
    Ctl,
    /// A whole residual block.
    Block,
    /// A dense layer.
    Linear,
}

impl LayerKind {
    /// The name in JSON and in tables.
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
    /// The name in JSON and in tables.
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
    /// The name in JSON.
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
    /// Full name of the layer.
    pub layer: String,
    /// Which of the two errors it shows.
    pub what: ErrorKind,
    /// Rows of the map.
    pub height: usize,
    /// Columns of the map.
    pub width: usize,
    /// Row by row: root mean square error over batch and channels, over the truth's rms.
    #[serde(with = "float::list")]
    pub values: Vec<f64>,
}

/// One of the two errors of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The layer is fed the reference's input.
    Introduced,
    /// The network runs through.
    Inherited,
}

impl ErrorKind {
    /// The name in JSON.
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
    /// Changed files, by the kind of change.
    #[serde(default)]
    pub mutations: Vec<Mutation>,
    /// The mistake that was planted against the one that was named; one entry for each kind of fault
    /// and each setting.
    #[serde(default)]
    pub confusion: Vec<Confusion>,
    /// How the run was made.
    pub run: Run,
}

/// Files that were right before one array was changed, and how they fared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mutation {
    /// `dump` or `checkpoint`.
    pub file: String,
    /// How an array was changed: "scaled by 1.001".
    pub what: String,
    /// Files that were made.
    pub made: u64,
    /// Files that were refused.
    pub refused: u64,
    /// Files that diverged, or of which not everything was compared.
    pub noticed: u64,
    /// Files that lack an array for which the next module answers.
    pub covered: u64,
    /// The arrays whose change passed unnoticed.
    pub passed: Vec<String>,
}

impl Mutation {
    /// No files so far.
    pub fn new(file: &str, what: &str) -> Self {
        let (file, what) = (file.to_owned(), what.to_owned());
        Mutation { file, what, made: 0, refused: 0, noticed: 0, covered: 0, passed: vec![] }
    }
}

/// What became of one kind of fault in one setting. The counts add up to what was planted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// The fault in words: "swapped weights".
    pub planted: String,
    /// Whether it is in the catalogue. One that is not has to be located, and must not be named.
    pub known: bool,
    /// Where it was planted: "engine", "dump" or "flax dump".
    pub setting: String,
    /// Named as itself, alone or among mistakes that give the same values there.
    pub itself: u64,
    /// Named as something else.
    pub another: u64,
    /// Found, and not named.
    pub located: u64,
    /// Not found.
    pub missed: u64,
    /// What it was named as instead, and how often.
    #[serde(default)]
    pub others: BTreeMap<String, u64>,
}

impl Confusion {
    /// How often it was planted.
    pub fn planted_times(&self) -> u64 {
        let counts = [self.itself, self.another, self.located, self.missed];
        counts.into_iter().fold(0, u64::saturating_add)
    }

    /// How often it came out as it should: named as itself, or, if it is in no catalogue, located.
    pub fn right(&self) -> u64 {
        if self.known { self.itself } else { self.located }
    }
}

/// One kind of fault, injected at several places.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// The fault in words: "swapped weights".
    pub fault: String,
    /// How often it was injected.
    pub injected: u64,
    /// How often the run diverged because of it.
    pub detected: u64,
    /// How often the right layer was named.
    pub named: u64,
    /// The single injections.
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
    /// Where it was planted: "engine", "dump" or "flax dump".
    #[serde(default)]
    pub setting: String,
    /// Frame size of the model, HxW.
    #[serde(default)]
    pub size: String,
    /// The mistake that was named, in words.
    #[serde(default)]
    pub explanation: Option<String>,
    /// Largest budget ratio that was seen.
    #[serde(with = "float")]
    pub ratio: f64,
}

/// How a run was made: everything that is needed to make it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The command line, word by word.
    pub command: Vec<String>,
    /// The revision of the harness; `null` outside a checkout.
    pub git: Option<Git>,
    /// The machine.
    pub machine: Machine,
    /// Versions of the harness, of rustc, of libtorch, …
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
    /// When it started, in UTC: `2026-11-23T07:01:02Z`.
    pub started: String,
    /// How long it took.
    #[serde(with = "float")]
    pub seconds: f64,
    /// Every seed that was used, by purpose.
    #[serde(default)]
    pub seeds: BTreeMap<String, u64>,
    /// What was tested: `scalar f32 on cpu`.
    pub candidate: String,
    /// What it was held against: `libtorch f64 on cpu`.
    pub reference: String,
    /// Whose error sets the budget: `libtorch f32 on cpu`.
    pub yardstick: String,
    /// The weights: a file, or `formula:0`.
    pub weights: String,
    /// The input: a file, or `formula:0`.
    pub input: String,
    /// The configuration of the network.
    pub model: Model,
}

/// A git revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Git {
    /// The commit.
    pub revision: String,
    /// Whether the checkout had uncommitted changes.
    pub dirty: bool,
}

/// The machine that a run was made on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Name of the processor.
    pub cpu: String,
    /// Number of logical cores.
    pub cores: u64,
    /// Memory in GiB.
    #[serde(with = "float")]
    pub memory_gib: f64,
    /// The operating system.
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
    /// Frames in a clip.
    pub frames: u64,
    /// Height and width of a frame.
    pub size: [u64; 2],
    /// Number of classes.
    pub classes: u64,
    /// Side of the positional embedding in each stage.
    pub pos_dim: Vec<u64>,
    /// Anything else, by name.
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}
