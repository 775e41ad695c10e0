//! The errors of this crate. Each message is one sentence that ends with what to do next.

use std::io;
use std::path::{Path, PathBuf};

/// A failure to write a report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file could not be written.
    #[error("cannot write {path}: {reason}; choose another path")]
    Write {
        /// The file to write.
        path: PathBuf,
        /// The error of the operating system.
        reason: io::Error,
    },
    /// The table of a record could not be built or written.
    #[error(
        "cannot make the table of the record: {0}; this is a bug in the harness, please report it with the record"
    )]
    Table(#[from] polars::error::PolarsError),
    /// Two records of different kinds were to be compared.
    #[error(
        "cannot compare a record of harness {first} with one of harness {second}; give two records of the same kind"
    )]
    Kinds {
        /// Kind of the first record.
        first: &'static str,
        /// Kind of the second record.
        second: &'static str,
    },
    /// The times of a bench were to be shown with the accuracy of another network.
    #[error(
        "the bench measured another network ({bench}) than the one that was evaluated ({eval}); give a bench with the same flags"
    )]
    Networks {
        /// The network of the bench.
        bench: String,
        /// The network of the evaluation.
        eval: String,
    },
    /// A plot could not be drawn.
    #[error(
        "cannot draw the plot {plot}: {reason}; this is a bug in the harness, please report it with the record"
    )]
    Plot {
        /// Name of the plot.
        plot: &'static str,
        /// The message of plotters.
        reason: String,
    },
    /// The page could not be rendered.
    #[error(
        "cannot render the page {page}: {reason}; this is a bug in the harness, please report it with the record"
    )]
    Page {
        /// Name of the template.
        page: &'static str,
        /// The message of minijinja.
        reason: String,
    },
}

/// A result whose error is a [`ReportError`].
pub type Result<T> = std::result::Result<T, ReportError>;

impl ReportError {
    pub(crate) fn write(path: &Path, reason: io::Error) -> Self {
        ReportError::Write { path: path.to_owned(), reason }
    }
}
