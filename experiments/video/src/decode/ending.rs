//! How ffmpeg ended, and whose fault that was.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use super::Dump;
use crate::{VideoError, signals};

/// What is known when ffmpeg has ended.
pub(super) struct Ending<'a> {
    pub(super) path: &'a Path,
    /// The version of ffmpeg.
    pub(super) version: &'a str,
    pub(super) status: io::Result<ExitStatus>,
    /// The time limit, if it was exceeded.
    pub(super) timed_out: Option<Duration>,
    /// Why the stream of frames could not be read to its end.
    pub(super) broken: Option<io::Error>,
    /// Number of frames that came.
    pub(super) count: usize,
    /// ffmpeg's first complaint, or nothing.
    pub(super) complaint: String,
    pub(super) dump: &'a Dump,
}

/// Complaints that are about this ffmpeg, and not about the file.
const TOOL: [&str; 7] = [
    "cannot be applied to",
    "Unrecognized option",
    "Option not found",
    "Unknown encoder",
    "No such filter",
    "Error splitting the argument list",
    "is not a suitable output format",
];
/// Complaints about the machine, and not about the file. ffmpeg also says `Input/output error` about files
/// that are cut, so that one is only believed if the file cannot be read either.
const MACHINE: [&str; 6] = [
    "Cannot allocate memory",
    "Resource temporarily unavailable",
    "Too many open files",
    "Stale file handle",
    "Connection timed out",
    "Exiting normally, received signal",
];

/// `Ok` if the file was decoded to its end.
pub(super) fn judge(ending: &Ending) -> Result<(), VideoError> {
    let accident = |reason: String| Err(VideoError::accident(ending.path, reason));
    let permanent = |reason: String| Err(VideoError::undecodable(ending.path, reason));
    let says = |texts: &[&str]| texts.iter().any(|text| ending.complaint.contains(text));
    if let Some(time) = ending.timed_out {
        let (count, time) = (ending.count, time.as_secs_f64());
        return Err(VideoError::Accident {
            path: ending.path.to_owned(),
            reason: format!("decoding took longer than {time} s ({count} frames by then)"),
            at_once: false,
        });
    }
    let status = match &ending.status {
        Ok(status) => status,
        Err(why) => return accident(format!("the end of ffmpeg could not be awaited ({why})")),
    };
    // A stream of frames that makes no sense is ended by us, with a signal.
    let nonsense = ending.broken.as_ref().filter(|why| why.kind() == io::ErrorKind::InvalidData);
    if let Some(why) = nonsense {
        return permanent(why.to_string());
    }
    if let Some(number) = status.signal() {
        return accident(signals::sentence(number));
    }
    if says(&TOOL) {
        return Err(VideoError::Ffmpeg(format!(
            "ffmpeg {} cannot decode as this program needs it ({}); set FFMPEG to another ffmpeg, of \
             version 5.1 or later",
            ending.version, ending.complaint
        )));
    }
    if says(&MACHINE) {
        return accident(format!("ffmpeg: {}", ending.complaint));
    }
    if says(&["Input/output error"])
        && let Some(why) = unreadable(ending.path)
    {
        return accident(format!("it cannot be read ({why})"));
    }
    if let Some(why) = &ending.broken {
        return accident(format!("ffmpeg ended in the middle of frame {} ({why})", ending.count));
    }
    if ending.count > 0 && status.success() {
        return Ok(());
    }
    permanent(reason(ending))
}

/// Why a file that was read to its end did not give frames.
fn reason(ending: &Ending) -> String {
    let dump = ending.dump;
    let described = !dump.format.is_empty();
    if described && dump.videos().is_empty() {
        let what = match (dump.streams.is_empty(), dump.sound) {
            (false, _) => "the file holds no video, but only a cover picture",
            (true, true) => "the file holds no video, but only sound",
            (true, false) => "the file holds no video stream",
        };
        return what.to_owned();
    }
    match ending.complaint.is_empty() {
        false => format!("ffmpeg: {}", ending.complaint),
        true if ending.count == 0 => "the file holds no video frame".to_owned(),
        true => "ffmpeg failed without a message".to_owned(),
    }
}

/// Why this process cannot read the file to its end either.
fn unreadable(path: &Path) -> Option<io::Error> {
    let read = std::fs::File::open(path).and_then(|mut file| io::copy(&mut file, &mut io::sink()));
    read.err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: i32, count: usize, complaint: &str, dump: &Dump) -> Result<(), VideoError> {
        judge(&Ending {
            path: Path::new("x.mp4"),
            version: "7.0",
            status: Ok(ExitStatus::from_raw(status)),
            timed_out: None,
            broken: None,
            count,
            complaint: complaint.to_owned(),
            dump,
        })
    }

    #[test]
    fn each_end_has_its_own_sentence_and_kind() {
        let sound = Dump { format: "mov".to_owned(), sound: true, ..Dump::default() };
        let none = Dump::default();
        // A status below 128 is a signal, and 256 is the exit code 1.
        let cases = [
            (9, 5, "", &none, true, "SIGKILL"),
            (11, 0, "", &none, true, "SIGSEGV"),
            (256, 0, "moov atom not found", &none, false, "ffmpeg: moov atom not found"),
            (256, 0, "Cannot allocate memory", &none, true, "Cannot allocate memory"),
            (255 << 8, 5, "Exiting normally, received signal 15", &none, true, "signal 15"),
            (0, 0, "", &none, false, "holds no video frame"),
            (256, 0, "Stream map '0:V:0' matches no streams", &sound, false, "only sound"),
        ];
        for (status, count, complaint, dump, transient, words) in cases {
            let why = judged(status, count, complaint, dump).unwrap_err();
            assert_eq!(why.is_transient(), transient, "{why}");
            assert!(why.to_string().contains(words), "{why}");
        }
        let tool = judged(256, 0, "Unrecognized option 'fps_mode'", &none).unwrap_err();
        assert!(matches!(tool, VideoError::Ffmpeg(_)) && !tool.is_transient());
        assert!(judged(0, 3, "a complaint", &none).is_ok());
    }
}
