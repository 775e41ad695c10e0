//! What a run leaves in the place of its record if it ends without one.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use crate::error::{RecordError, Result};
use crate::{SCHEMA, store};

/// The value of `kind` in JSON. It is not the kind of a record, and no report is made of it.
pub const FAILURE: &str = "failure";

/// Why there is no record. It stands where the record would, so that a program never takes the record of an
/// earlier run for the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Failure {
    /// Why the run ended.
    pub verdict: Ended,
    /// One sentence, as on stderr.
    pub error: String,
    /// The exit code.
    pub exit_code: u8,
}

/// How a run ended that has no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// By wrong usage or another error.
    Error,
    /// By a signal.
    Stopped,
}

#[derive(Serialize)]
struct Envelope<'a> {
    schema: u64,
    kind: &'static str,
    #[serde(flatten)]
    failure: &'a Failure,
}

impl Failure {
    /// Its JSON, with a trailing newline.
    ///
    /// # Errors
    ///
    /// If serde refuses it, which is a bug in this crate.
    pub fn to_json(&self) -> serde_json::Result<String> {
        let envelope = Envelope { schema: SCHEMA, kind: FAILURE, failure: self };
        Ok(serde_json::to_string_pretty(&envelope)? + "\n")
    }

    /// Writes it to a file, which is new or holds a record or a failure: another file may be an input that was
    /// named by mistake, and is kept. Returns whether it was written.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<bool> {
        if path.exists() && !store::is_ours(path) {
            return Ok(false);
        }
        let failed = |source| RecordError::write(path, source);
        let text = self.to_json().map_err(|error| failed(error.into()))?;
        files::write(path, text.as_bytes()).map_err(failed)?;
        Ok(true)
    }
}
