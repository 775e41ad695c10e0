//! One sentence for every way in which a video or a list can be wrong.

use std::io;
use std::path::{Path, PathBuf};

/// Why there are no frames, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum VideoError {
    /// There is no usable ffmpeg.
    #[error("{0}")]
    Ffmpeg(String),
    /// The file gives no frames.
    #[error("{}: {reason}; get the file again, or leave it out of the list", path.display())]
    Undecodable {
        /// The file.
        path: PathBuf,
        /// What ffmpeg said, or what is the matter.
        reason: String,
    },
    /// A list of videos that cannot be understood.
    #[error("{}, line {line}: {reason}", path.display())]
    List {
        /// The list.
        path: PathBuf,
        /// Its line, from 1 on.
        line: usize,
        /// What was expected, what was found.
        reason: String,
    },
    /// Something cannot be read.
    #[error("{}: cannot be read ({why})", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        why: io::Error,
    },
    /// Something cannot be written.
    #[error("{}: cannot be written ({why})", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        why: io::Error,
    },
    /// Somebody has asked to stop.
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
