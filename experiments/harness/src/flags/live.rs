//! A live model as a participant, and the flags that say how it is made and run.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value};

/// The name of a live model: `FILE:FUNCTION`, where the function of the Python program returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveName {
    /// The Python program.
    pub file: PathBuf,
    /// The function that returns the model.
    pub function: String,
}

impl fmt::Display for LiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.function)
    }
}

impl FromStr for LiveName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        match text.rsplit_once(':') {
            Some((file, function))
                if !file.is_empty() && !function.is_empty() && function.chars().all(word) =>
            {
                Ok(LiveName { file: file.into(), function: function.to_owned() })
            }
            _ => Err(format!(
                "`python:{text}` does not name a function; write python:FILE.py:FUNCTION, where FUNCTION \
                 returns the model"
            )),
        }
    }
}

/// The Python that runs a model or a runtime.
#[derive(Debug, Clone, Args)]
pub struct PythonArgs {
    /// The Python that runs it [default: $HARNESS_PYTHON, or that of $VIRTUAL_ENV, or python3].
    #[arg(long, value_name = "PATH")]
    pub python: Option<PathBuf>,
    /// Seconds without a message after which the program is ended.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds)]
    pub patience: Duration,
}

/// The flags for a live model, which Python runs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Live model (--candidate python:FILE:FUNCTION)")]
pub struct LiveArgs {
    /// The Python that runs it.
    #[command(flatten)]
    pub run: PythonArgs,
    /// Arguments of FUNCTION as a JSON object. Arguments named depth, width, frames, size, classes, pos_dim,
    /// seed, device or weights are given without this.
    #[arg(long, value_name = "JSON", value_parser = object, default_value = "{}")]
    pub kwargs: Map<String, Value>,
    /// Layout of the clip that the model takes: ncthw, nthwc, ntchw, nchw or nhwc (the last two with the
    /// frames of each colour as channels) [default: ncthw, or the only other one that it takes].
    #[arg(long, value_parser = ["ncthw", "nthwc", "ntchw", "nchw", "nhwc"])]
    pub layout: Option<String>,
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(format!("`{text}` is not a JSON object; write one such as '{{\"depth\": 18}}'")),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    super::positive(text).map(|seconds| Duration::from_secs(seconds as u64))
}
