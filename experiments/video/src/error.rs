//! The errors of this crate, one sentence each.

use std::io;
use std::path::{Path, PathBuf};

/// An error while finding, listing, decoding or writing videos.
#[derive(Debug, thiserror::Error)]
pub enum VideoError {
    /// No usable ffmpeg was found.
    #[error("{0}")]
    Ffmpeg(String),
    /// The file cannot be decoded.
    #[error("{}: {reason}; get the file again, or leave it out of the list", path.display())]
    Undecodable {
        /// The file.
        path: PathBuf,
        /// ffmpeg's message, or another reason.
        reason: String,
    },
    /// A line of a list of videos is invalid.
    #[error("{}, line {line}: {reason}", path.display())]
    List {
        /// The list.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// What was expected and what was found.
        reason: String,
    },
    /// A file cannot be read.
    #[error("{}: cannot be read ({why})", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        why: io::Error,
    },
    /// A file cannot be written.
    #[error("{}: cannot be written ({why})", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        why: io::Error,
    },
    /// The user has stopped the run.
    #[error("stopped")]
    Stopped,
}

impl VideoError {
    pub(crate) fn read(path: &Path, why: io::Error) -> Self {
        VideoError::Read { path: path.to_owned(), why }
    }

    pub(crate) fn write(path: &Path, why: io::Error) -> Self {
        VideoError::Write { path: path.to_owned(), why }
    }

    pub(crate) fn undecodable(path: &Path, reason: impl Into<String>) -> Self {
        VideoError::Undecodable { path: path.to_owned(), reason: reason.into() }
    }
}
