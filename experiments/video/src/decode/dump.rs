//! What ffmpeg says about a file on its stderr: the streams, and the first thing it complains about.
//!
//! ffmpeg runs with `-loglevel level+info`, so that each line carries its level and a complaint is told
//! from a description. Lines are read one by one and cut at a length, so that a file with megabytes of
//! metadata costs no memory.

use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::Sender;

/// The longest line that is looked at, in bytes.
const MAX_LINE: u64 = 2 << 10;
/// The largest number of video streams that are told apart.
const MAX_STREAMS: usize = 64;

/// A video stream, as ffmpeg describes it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Stream {
    /// The identifier in the container, such as a track's number in MP4.
    pub(crate) id: Option<u32>,
    /// Name of the codec, such as `h264`.
    pub(crate) codec: String,
    /// Number of pixels of a frame; 0 if it is not known.
    pub(crate) pixels: u64,
    /// Bit rate in kbit/s; 0 if the container does not have it.
    pub(crate) bit_rate: u64,
    /// Whether the container marks it as the one to show.
    pub(crate) default: bool,
    /// Whether it is the cover picture of a sound file and not a video.
    pub(crate) cover: bool,
    /// The angle of the display matrix in degrees, clockwise, from 0 to 360. A mirror is not in it.
    pub(crate) rotation: f64,
}

/// The description of a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Dump {
    /// Names of the container's format, such as `mov,mp4,m4a,3gp,3g2,mj2`.
    pub(crate) format: String,
    /// The duration that the container promises, in seconds.
    pub(crate) seconds: Option<f64>,
    /// The video streams, in order, with covers.
    pub(crate) streams: Vec<Stream>,
    /// Whether the file has sound.
    pub(crate) sound: bool,
}

impl Dump {
    /// The streams that are videos; ffmpeg calls the n-th of them `0:V:n`.
    pub(crate) fn videos(&self) -> Vec<&Stream> {
        self.streams.iter().filter(|stream| !stream.cover).collect()
    }

    /// Takes a line of the description; `false` if the description is over.
    fn take(&mut self, line: &str) -> bool {
        if line.starts_with("Stream mapping:") || line.starts_with("Output #") {
            return false;
        }
        if let Some(rest) = line.strip_prefix("Input #0, ") {
            self.format = rest.split(", from '").next().unwrap_or_default().to_owned();
        } else if let Some(rest) = line.strip_prefix("  Duration: ") {
            self.seconds = seconds(rest.split(',').next().unwrap_or_default());
        } else if let Some(rest) = line.strip_prefix("  Stream #0:") {
            match rest.split_once(": Video: ") {
                Some((head, rest)) if self.streams.len() < MAX_STREAMS => {
                    self.streams.push(stream(head, rest));
                }
                _ => self.sound |= rest.contains(": Audio: "),
            }
        } else if let Some((_, angle)) = line.split_once("  displaymatrix: rotation of ")
            && let Some(stream) = self.streams.last_mut()
            && let Some(angle) = angle.split(' ').next().and_then(|n| n.parse::<f64>().ok())
        {
            stream.rotation = (-angle).rem_euclid(360.0);
        }
        true
    }
}

/// Reads `00:01:02.50`.
fn seconds(text: &str) -> Option<f64> {
    let mut sum = 0.0;
    for part in text.split(':') {
        sum = 60.0 * sum + part.trim().parse::<f64>().ok()?;
    }
    Some(sum)
}

/// Reads `0[0x1](und)` and `h264 (High), yuv420p, 426x240 [SAR 1:1 DAR 71:40], 742 kb/s, … (default)`.
fn stream(head: &str, rest: &str) -> Stream {
    let id = head.split_once("[0x").and_then(|(_, rest)| rest.split_once(']'));
    let size = |part: &str| {
        let (width, height) = part.split(' ').next()?.split_once('x')?;
        width.parse::<u64>().ok()?.checked_mul(height.parse().ok()?)
    };
    let rate = |part: &str| part.split_once(" kb/s")?.0.parse().ok();
    Stream {
        id: id.and_then(|(id, _)| u32::from_str_radix(id, 16).ok()),
        codec: rest.split([' ', ',']).next().unwrap_or_default().to_owned(),
        pixels: rest.split(", ").find_map(size).unwrap_or(0),
        bit_rate: rest.split(", ").find_map(rate).unwrap_or(0),
        default: rest.contains("(default)"),
        cover: rest.contains("(attached pic)") || rest.contains("(timed thumbnails)"),
        rotation: 0.0,
    }
}

/// Reads ffmpeg's stderr to its end. Sends the description as soon as it is complete, and returns the first
/// complaint as one sentence; it is empty if there is none.
pub(super) fn read(from: impl Read, described: &Sender<Dump>) -> String {
    let mut from = BufReader::new(from);
    let (mut dump, mut first, mut open) = (Dump::default(), String::new(), true);
    let mut line = Vec::new();
    loop {
        line.clear();
        match from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        if let Some(line) = text.strip_prefix("[info] ") {
            if open && !dump.take(line) {
                open = false;
                // Nobody may be listening any more, which is fine.
                let _ = described.send(dump.clone());
            }
            if first.is_empty() && line.starts_with("Exiting normally, received signal") {
                first = line.trim_end_matches('.').to_owned();
            }
        } else if first.is_empty() {
            first = complaint(text).unwrap_or_default();
        }
    }
    if open {
        let _ = described.send(dump);
    }
    first
}

/// The text of a line with a level at which ffmpeg complains, without the addresses and the path that
/// ffmpeg puts before it.
fn complaint(line: &str) -> Option<String> {
    let levels = ["[error] ", "[fatal] ", "[panic] "];
    let (_, message) = levels.iter().find_map(|level| line.split_once(level))?;
    let message = message.trim();
    let message = match message.rsplit_once(": ") {
        Some((_, reason)) if message.contains("file:") => reason,
        _ => message,
    };
    let clean: String = message.chars().filter(|c| !c.is_control()).take(160).collect();
    let clean = clean.trim_end_matches('.').to_owned();
    (!clean.is_empty()).then_some(clean)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn complaints_are_quoted_without_addresses_and_paths() {
        let cases = [
            ("[mov,mp4,m4a @ 0x5594] [error] moov atom not found", Some("moov atom not found")),
            (
                "[error] file:/a: b/c.mp4: Invalid data found when processing input",
                Some("Invalid data found when processing input"),
            ),
            (
                "[in#0 @ 0x7f] [error] Error opening input: Invalid argument",
                Some("Error opening input: Invalid argument"),
            ),
            ("[info]   Duration: 00:00:05.08", None),
            ("[swscaler @ 0x1] [warning] deprecated pixel format used", None),
            ("", None),
        ];
        for (line, wanted) in cases {
            assert_eq!(complaint(line).as_deref(), wanted, "{line}");
        }
    }

    #[test]
    fn streams_are_read_from_the_description_and_not_from_metadata() {
        let text = "[info] Input #0, mov,mp4,m4a,3gp,3g2,mj2, from 'file:x':\n\
            [info]     Stream #0:9    : Stream #0:9: Video: h264, 9x9, 9 kb/s (default)\n\
            [info]   Duration: 00:01:05.50, start: 0.000000, bitrate: 291 kb/s\n\
            [info]   Stream #0:0[0x1](und): Video: h264 (High) (avc1 / 0x31637661), \
            yuv420p(tv, bt709), 426x240 [SAR 1:1 DAR 71:40], 285 kb/s, 29.97 fps (default)\n\
            [info]       Side data:\n[info]         displaymatrix: rotation of -90.00 degrees\n\
            [info]   Stream #0:1[0x2](und): Audio: aac, 44100 Hz\n\
            [info]   Stream #0:2[0x0]: Video: mjpeg, yuvj420p, 320x240 (attached pic)\n\
            [info] Stream mapping:\n[h264 @ 0x1] [error] no frame!\n[error] second\n";
        let (send, receive) = channel();
        assert_eq!(read(text.as_bytes(), &send), "no frame!");
        let dump = receive.recv().unwrap();
        assert_eq!((dump.seconds, dump.sound, dump.streams.len()), (Some(65.5), true, 2));
        let videos = dump.videos();
        assert_eq!((videos.len(), videos[0].id, videos[0].pixels), (1, Some(1), 426 * 240));
        assert_eq!((videos[0].bit_rate, videos[0].rotation), (285, 90.0));
        assert!(videos[0].default && videos[0].codec == "h264" && dump.format.starts_with("mov,"));
    }
}
