//! Finds the program ffmpeg.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::VideoError;

/// An ffmpeg that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ffmpeg {
    /// Path of the program.
    pub path: PathBuf,
    /// Its version, such as `7.0.2-static`.
    pub version: String,
}

impl Ffmpeg {
    /// Finds `$FFMPEG` if it is set, else `ffmpeg` on PATH, else `$HARNESS_FFMPEG`, which `scripts/harness`
    /// sets to the one that `scripts/setup` fetched.
    pub fn find() -> Result<Self, VideoError> {
        if let Some(path) = set("FFMPEG") {
            return Self::at(path.clone()).ok_or_else(|| {
                let shown = path.display();
                VideoError::Ffmpeg(format!(
                    "FFMPEG is '{shown}', which is not an ffmpeg that runs; correct it, or unset it"
                ))
            });
        }
        let own = set("HARNESS_FFMPEG").and_then(Self::at);
        Self::at("ffmpeg".into()).or(own).ok_or_else(|| {
            VideoError::Ffmpeg(
                "no ffmpeg was found, which decoding videos needs; run scripts/setup to fetch one, \
                 or set FFMPEG to its path"
                    .to_owned(),
            )
        })
    }

    fn at(path: PathBuf) -> Option<Self> {
        let asked = Command::new(&path)
            .arg("-version")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&asked.stdout).into_owned();
        let version = text.strip_prefix("ffmpeg version ")?.split_whitespace().next()?.to_owned();
        asked.status.success().then_some(Ffmpeg { path, version })
    }
}

fn set(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
