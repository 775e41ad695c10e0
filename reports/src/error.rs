//! What can go wrong, each as one sentence that says what to do next.

use std::io;
use std::path::{Path, PathBuf};

/// A failure to read a record or to write a report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file could not be read.
    #[error(
        "cannot read the run record {path}: {source}; name a record or a run's directory that holds record.json"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {source}; name a place in a directory that can be written to")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not a run record.
    #[error("{path} is not a run record: {reason}; make it again with `harness diff --json FILE`")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        reason: String,
    },
    /// The layout of a record is of another version.
    #[error(
        "{path} has schema {found}, but this harness reads schema {expected}; use the harness that wrote it or run the comparison again"
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: String,
        /// The version that is read.
        expected: u64,
    },
    /// The record is of a kind that this crate does not know.
    #[error(
        "{path} is a record of kind {found}, but reports are made of the kinds {expected}; use the harness that wrote it"
    )]
    Kind {
        /// The file.
        path: PathBuf,
        /// The kind in the file.
        found: String,
        /// The kinds that are known.
        expected: String,
    },
    /// The table of a record could not be built or written.
    #[error(
        "cannot make the table of layers: {0}; this is a fault of the harness, please report it with the record"
    )]
    Table(#[from] polars::error::PolarsError),
    /// A plot could not be drawn.
    #[error(
        "cannot draw the plot {plot}: {reason}; this is a fault of the harness, please report it with the record"
    )]
    Plot {
        /// Which plot.
        plot: &'static str,
        /// Why.
        reason: String,
    },
    /// The page could not be rendered.
    #[error(
        "cannot render the page {page}: {reason}; this is a fault of the harness, please report it with the record"
    )]
    Page {
        /// Which template.
        page: &'static str,
        /// Why.
        reason: String,
    },
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, ReportError>;

impl ReportError {
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        ReportError::Read { path: path.to_owned(), source }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        ReportError::Write { path: path.to_owned(), source }
    }

    pub(crate) fn format(path: &Path, reason: impl Into<String>) -> Self {
        ReportError::Format { path: path.to_owned(), reason: reason.into() }
    }
}
