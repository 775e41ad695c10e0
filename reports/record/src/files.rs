//! The files that a run read, with their hashes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A file that a run read. Files to which it refers, such as a module that a Python file imports or the
/// external data of an ONNX file, are not listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceFile {
    /// What the file was read as: `weights`, `candidate`, `reference` or `input`.
    pub role: String,
    /// Its path, as it was given.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The sha256 of its bytes, in hexadecimal.
    pub sha256: String,
}
