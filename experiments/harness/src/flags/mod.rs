//! The flags that several commands share. Those of one command are in its folder under `commands`.
//!
//! Scripts rely on commands, flags and values, so they must not change (see `README.md` of this crate).

mod answers;
mod clips;
mod data;
mod device;
mod engine;
mod live;
mod model;
mod onnx;
mod shard;
mod video;

use std::path::PathBuf;

use clap::Args;

pub use self::answers::AnswerArgs;
pub use self::clips::ClipSource;
pub use self::data::{DataArgs, InputSource};
pub use self::device::{DeviceArgs, DeviceName};
pub use self::engine::{EngineName, EvalEngine, Participant};
pub use self::live::{LiveArgs, LiveName, PythonArgs};
pub use self::model::ModelArgs;
pub use self::onnx::{OnnxArgs, RuntimeArgs};
pub use self::shard::{Shard, ShardFlag};
pub use self::video::{MINI_FOLDER, VideoArgs};

/// Reads a number that must be at least 1.
pub fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("`{text}` is not a number above 0"))
}

/// The flags that say where the results of a run go.
#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// Path of the record; the default is record.json in the folder of the run, a new one under runs/.
    /// With `-` the record goes to stdout, and the table to stderr.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Path of the report; the default is report.html in the folder of the run, a new one under runs/.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

impl OutputArgs {
    /// Whether the record goes to stdout, so that nothing else may.
    pub fn record_on_stdout(&self) -> bool {
        self.json.as_deref().is_some_and(|path| path.as_os_str() == "-")
    }
}
