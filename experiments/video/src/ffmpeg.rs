//! Finds the program ffmpeg, and checks once that it can do what decoding needs.

use std::ffi::OsStr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::VideoError;

/// The oldest version that has `-fps_mode`, without which frames would be dropped or doubled.
const OLDEST: (u32, u32) = (5, 1);
/// A folder that does not exist. A static ffmpeg that was built on another system loads character sets from
/// the modules of this one, and dies of it on files that hold text, such as every MPEG-TS. Without modules
/// it leaves the text as it is.
const NO_MODULES: &str = "/nonexistent";

/// An ffmpeg that runs and is new enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ffmpeg {
    /// Path of the program.
    pub path: PathBuf,
    /// Its version, such as `7.0.2-static`.
    pub version: String,
    /// Why another one, which was found first, is not used; the user should be told.
    pub passed_over: Option<String>,
}

impl Ffmpeg {
    /// Finds `$FFMPEG` if it is set, else `ffmpeg` on PATH, else `$HARNESS_FFMPEG`, which `scripts/harness`
    /// sets to the one that `scripts/setup` fetched. One on PATH that is too old is passed over.
    pub fn find() -> Result<Self, VideoError> {
        if let Some(path) = set("FFMPEG") {
            let shown = path.display().to_string();
            let Some(found) = Self::at(path) else {
                return Err(VideoError::Ffmpeg(format!(
                    "FFMPEG is '{shown}', which is not an ffmpeg that runs; correct it, or unset it"
                )));
            };
            return match found.fault() {
                None => Ok(found),
                Some(fault) => {
                    Err(VideoError::Ffmpeg(format!("FFMPEG is '{shown}', {fault}; {REMEDY}")))
                }
            };
        }
        let own = || set("HARNESS_FFMPEG").and_then(Self::at).filter(|own| own.fault().is_none());
        let Some(found) = Self::at("ffmpeg".into()) else {
            return own().ok_or_else(|| {
                VideoError::Ffmpeg(
                    "no ffmpeg was found, which decoding videos needs; run scripts/setup to fetch \
                     one, or set FFMPEG to its path"
                        .to_owned(),
                )
            });
        };
        let Some(fault) = found.fault() else { return Ok(found) };
        let why = format!("the ffmpeg on PATH is {}, {fault}", found.version);
        match own() {
            Some(own) => {
                let note = format!("{why}; ffmpeg {} of .tools is used instead", own.version);
                Ok(Ffmpeg { passed_over: Some(note), ..own })
            }
            None => Err(VideoError::Ffmpeg(format!("{why}; {REMEDY}"))),
        }
    }

    /// A command that runs this program.
    pub fn command(&self) -> Command {
        command(&self.path)
    }

    /// Whether its parts run side by side and have the options for that, which is so from 7.0 on.
    pub(crate) fn is_threaded(&self) -> bool {
        number(&self.version).is_none_or(|(major, _)| major >= 7)
    }

    fn at(path: PathBuf) -> Option<Self> {
        let ask = || command(&path).arg("-version").stderr(Stdio::null()).output().ok();
        // One that was killed while it answered is asked again.
        let whole = |asked: &Output| asked.status.signal().is_none();
        let asked = ask().filter(whole).or_else(ask)?;
        let text = String::from_utf8_lossy(&asked.stdout).into_owned();
        let version = text.strip_prefix("ffmpeg version ")?.split_whitespace().next()?;
        let version: String = version.chars().filter(|c| !c.is_control()).take(60).collect();
        asked.status.success().then_some(Ffmpeg { path, version, passed_over: None })
    }

    /// Why this version cannot be used.
    fn fault(&self) -> Option<&'static str> {
        let too_old = match number(&self.version) {
            Some(version) => version < OLDEST,
            // A build from a repository has no number, so that its own help is asked.
            None => {
                let help = self.command().args(["-hide_banner", "-h", "long"]).output();
                !help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("-fps_mode"))
            }
        };
        too_old.then_some("which is too old (it has no -fps_mode)")
    }
}

/// What to do about an ffmpeg that is too old.
const REMEDY: &str =
    "install 5.1 or later, set FFMPEG to another one, or run scripts/setup to fetch one";

fn command(path: &Path) -> Command {
    let mut command = Command::new(path);
    command.env("GCONV_PATH", NO_MODULES).env_remove("AV_LOG_FORCE_COLOR").stdin(Stdio::null());
    command.env("AV_LOG_FORCE_NOCOLOR", OsStr::new("1"));
    // A Ctrl-C on the terminal reaches its whole group; this program waits for the file at hand.
    command.process_group(0);
    command
}

/// The first two numbers of a version such as `7.0.2-static`, `n6.1` or `5.1.9-0+deb12u1`.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.strip_prefix('n').unwrap_or(version).split(['.', '-']);
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next().and_then(|minor| minor.parse().ok()).unwrap_or(0);
    Some((major, minor))
}

fn set(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let cases = [
            ("7.0.2-static", Some((7, 0))),
            ("4.4.2-0ubuntu0.22.04.1", Some((4, 4))),
            ("5.1.9-0+deb12u1", Some((5, 1))),
            ("n6.1", Some((6, 1))),
            ("8", Some((8, 0))),
            ("N-112345-gabcdef", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(number(text), wanted, "{text}");
        }
    }
}
