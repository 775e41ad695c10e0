//! The errors of this crate, one sentence each.

use std::io;
use std::path::{Path, PathBuf};

/// An error while finding, listing, decoding or writing videos. Which of the first three it is decides
/// what happens next: a fault of the tool ends the run, what is wrong with a file stays wrong until the
/// file changes, and an accident is tried again.
#[derive(Debug, thiserror::Error)]
pub enum VideoError {
    /// No usable ffmpeg was found, or this one lacks something that decoding needs.
    #[error("{0}")]
    Ffmpeg(String),
    /// Decoding was cut short by something other than the file: a signal, the time limit, the system.
    #[error("{}: {reason}; run again to try it once more", path.display())]
    Accident {
        /// The file.
        path: PathBuf,
        /// What happened, such as the name of the signal.
        reason: String,
        /// Whether it is worth the time to try again at once.
        at_once: bool,
    },
    /// The file itself cannot be decoded.
    #[error("{}: {reason}; get the file again, or leave it out", path.display())]
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
    /// Whether the same file may decode at the next try.
    pub fn is_transient(&self) -> bool {
        match self {
            VideoError::Accident { .. }
            | VideoError::Read { .. }
            | VideoError::Write { .. }
            | VideoError::Stopped => true,
            VideoError::Ffmpeg(_) | VideoError::Undecodable { .. } | VideoError::List { .. } => {
                false
            }
        }
    }

    /// The reason without the path of the file, as it stands next to that path in a table.
    pub fn reason(&self) -> String {
        match self {
            VideoError::Accident { reason, .. }
            | VideoError::Undecodable { reason, .. }
            | VideoError::List { reason, .. } => reason.clone(),
            VideoError::Read { why, .. } => format!("it cannot be read ({why})"),
            VideoError::Write { why, .. } => format!("it cannot be written ({why})"),
            VideoError::Ffmpeg(_) | VideoError::Stopped => self.to_string(),
        }
    }

    pub(crate) fn accident(path: &Path, reason: impl Into<String>) -> Self {
        VideoError::Accident { path: path.to_owned(), reason: reason.into(), at_once: true }
    }

    /// Whether to try again at once: not a file that takes too long, and not one that is not there.
    pub(crate) fn is_worth_another_try(&self) -> bool {
        match self {
            VideoError::Accident { at_once, .. } => *at_once,
            VideoError::Read { why, .. } => why.kind() != io::ErrorKind::NotFound,
            _ => false,
        }
    }

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
