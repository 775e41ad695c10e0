//! What can go wrong, each as one sentence that says what to do next.

use std::io;
use std::path::{Path, PathBuf};

/// A failure to read or write a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A file could not be read.
    #[error(
        "cannot read the run record {path}: {reason}; give a record, or the folder of a run, which holds record.json"
    )]
    Read {
        /// The record, or the folder of the run.
        path: PathBuf,
        /// The error of the operating system.
        reason: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {reason}; choose another path")]
    Write {
        /// The file to write.
        path: PathBuf,
        /// The error of the operating system.
        reason: io::Error,
    },
    /// A file is not a run record.
    #[error("{path} is not a run record: {reason}; make it again with `harness diff --json FILE`")]
    Format {
        /// The file that was read.
        path: PathBuf,
        /// What is wrong, and at which line and column.
        reason: String,
    },
    /// A record has a schema version that this crate does not read.
    #[error(
        "{path} has schema {found}, but this harness reads schema {expected}; use the harness that wrote it or run the comparison again"
    )]
    Schema {
        /// The file that was read.
        path: PathBuf,
        /// The schema version in the file.
        found: String,
        /// The schema version that this crate reads.
        expected: u64,
    },
    /// A run failed and has no record.
    #[error(
        "{path} is of a run that failed, and holds no result: {why}; mend that, and run it again"
    )]
    Failed {
        /// The file that was read.
        path: PathBuf,
        /// Why the run failed.
        why: String,
    },
    /// A record is of a kind that this crate does not know.
    #[error(
        "{path} is a record of kind {found}, but reports are made of the kinds {expected}; use the harness that wrote it"
    )]
    Kind {
        /// The file that was read.
        path: PathBuf,
        /// The value of `kind` in the file.
        found: String,
        /// The kinds that this crate knows, separated by commas.
        expected: String,
    },
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, RecordError>;

impl RecordError {
    pub(crate) fn read(path: &Path, reason: io::Error) -> Self {
        RecordError::Read { path: path.to_owned(), reason }
    }

    pub(crate) fn write(path: &Path, reason: io::Error) -> Self {
        RecordError::Write { path: path.to_owned(), reason }
    }

    pub(crate) fn format(path: &Path, reason: impl Into<String>) -> Self {
        RecordError::Format { path: path.to_owned(), reason: reason.into() }
    }
}
