//! The run record: the versioned JSON that a run of the harness writes.
//!
//! It is also the output format of `harness diff --json`, so every change that an old reader could
//! misunderstand needs a new [`SCHEMA`]. Readers ignore fields that they do not know. Floats may be NaN
//! or infinite and are then written as strings (see [`float`]).
//!
//! To add a kind of record, write its type with a [`Body`] in a module and add a line to the list below.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod ablate;
mod bench;
mod clips;
mod diff;
pub mod error;
mod eval;
mod failure;
mod files;
pub mod float;
mod gpu;
mod layer;
mod null;
mod quantised;
mod run;
mod schema;
mod selftest;
mod store;
mod strips;
mod train;

pub use ablate::{AblateRecord, Ablation, Paired, Variant};
pub use bench::{Baseline, BenchEntry, BenchProcess, BenchRecord, LayerTime, Setting, Spread};
pub use clips::{ClipResult, Clips, OverClips};
pub use diff::{
    ArrayState, Cause, Culprit, DiffRecord, Edge, ErrorKind, Heatmap, Hypothesis, LedgerEntry,
    NotExercised, Stage,
};
pub use error::{RecordError, Result};
pub use eval::{
    Answer, Bin, Damage, DecordFile, DecordRemark, Disagreement, EvalRecord, FileState, Manifest,
    Part, Published, Score, Speed, Video,
};
pub use failure::{Ended, FAILURE, Failure};
pub use files::SourceFile;
pub use gpu::{GpuRecord, GpuStep, KernelSource};
pub use layer::{Errors, Layer, LayerKind, LayerVerdict};
pub use null::{Bar, NullCase, NullGroup, NullRecord, Quantiles, Tail, measure_words};
pub use quantised::{IntegerKernels, Quantisation, Quantiser};
pub use run::{Git, Machine, Model, Run};
pub use schema::schema;
pub use selftest::{Confusion, Fault, Mutation, Place, SelftestRecord};
pub use store::{parse_record, read_record, to_json, write_record};
pub use strips::{Strip, StripReason, Strips};
pub use train::{Epoch, TrainRecord};

/// The schema version of records that this crate writes and reads.
pub const SCHEMA: u64 = 1;

/// The file name of the record in the directory of a run.
pub const RECORD_FILE: &str = "record.json";

/// The content of a record, whatever its kind.
pub trait Body {
    /// Command, machine, versions and configuration of the run.
    fn run(&self) -> &Run;

    /// Checks what the types alone do not ensure.
    ///
    /// # Errors
    ///
    /// What was found and what was expected, as a clause.
    fn check(&self) -> std::result::Result<(), String> {
        Ok(())
    }

    /// Reads what belongs to the record and lies in files next to it. What is missing stays empty.
    fn read_beside(&mut self, _folder: &Path) {}
}

/// Makes [`Record`] and everything that depends on the kind from one list: the value of `kind` in JSON,
/// the variant, and the type of its content.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:literal => $Variant:ident($Body:ident),)*) => {
        /// The result of one run of the harness. In JSON, the field `kind` names the variant; [`to_json`]
        /// also writes the schema version.
        #[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
        #[serde(tag = "kind")]
        pub enum Record {
            $($(#[$doc])* #[serde(rename = $kind)] $Variant(Box<$Body>),)*
        }

        impl Record {
            /// The value of `kind` in JSON.
            pub fn kind(&self) -> &'static str {
                match self { $(Record::$Variant(_) => $kind,)* }
            }

            fn body(&self) -> &dyn Body {
                match self { $(Record::$Variant(body) => body.as_ref(),)* }
            }

            fn body_mut(&mut self) -> &mut dyn Body {
                match self { $(Record::$Variant(body) => body.as_mut(),)* }
            }
        }

        /// The values of `kind` that this crate reads, and how the rest of such a file is read.
        const KINDS: &[(&str, store::Parse)] =
            &[$(($kind, |text| store::parse_body::<$Body>(text).map(Record::$Variant)),)*];
    };
}

kinds! {
    /// `harness diff`: a candidate compared with a reference, layer by layer.
    "diff" => Diff(DiffRecord),
    /// `harness selftest`: injected faults, and whether they were detected and named.
    "selftest" => Selftest(SelftestRecord),
    /// `harness eval`: accuracy on videos, and agreement of the engines.
    "eval" => Eval(EvalRecord),
    /// `harness train`: the curve and the settings of a training.
    "train" => Train(TrainRecord),
    /// `harness ablate`: accuracy of the network without some of its parts.
    "ablate" => Ablate(AblateRecord),
    /// `harness bench`: latency of the engines and their peers.
    "bench" => Bench(BenchRecord),
    /// `harness gpu-check`: the steps that need a GPU, and the kernels that they checked.
    "gpu" => Gpu(GpuRecord),
    /// `harness selftest --null`: error ratios and false alarms of correct engines.
    "null" => Null(NullRecord),
}

impl Record {
    /// Command, machine, versions and configuration of the run.
    pub fn run(&self) -> &Run {
        self.body().run()
    }
}

/// The verdict on a whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every module was compared or checked through a compared one, and all are within the bound.
    Pass,
    /// At least one module is above the bound.
    Diverged,
    /// No compared module is above the bound, but something was not compared.
    Incomplete,
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

/// A share with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rate {
    /// Number of correct answers.
    pub hits: u64,
    /// Number of all answers.
    pub of: u64,
    /// Lower end of the Wilson interval, 0 to 1.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub low: f64,
    /// Upper end of the Wilson interval, 0 to 1.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub high: f64,
}

impl Rate {
    /// The share, 0 to 1; NaN if there are no answers.
    pub fn share(&self) -> f64 {
        self.hits as f64 / self.of as f64
    }
}
