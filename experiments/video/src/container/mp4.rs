//! The number of samples of each video track of an MP4 or QuickTime file.

use std::io;

use super::{Promise, Source};

/// The largest index (`moov`) that is read: an hour of video has about 4 MiB.
const MAX_INDEX: u64 = 64 << 20;
/// The largest number of boxes at the top of a file, of which a fragmented file has many.
const MAX_BOXES: usize = 100_000;
/// The depth to which boxes are nested on the way to a number.
const MAX_DEPTH: usize = 6;

/// The promises of all video tracks. A fragmented file, whose index has no samples, promises nothing.
pub(super) fn promises(file: &mut Source) -> io::Result<Vec<Promise>> {
    let mut at = 0;
    for _ in 0..MAX_BOXES {
        let head = file.bytes(at, 16.min(file.bytes.saturating_sub(at)), 16)?;
        let Some((kind, size, head_size)) = head_of(&head, file.bytes - at) else { break };
        if kind == *b"moov" {
            let index = file.bytes(at + head_size, size - head_size, MAX_INDEX)?;
            return Ok(tracks(&index));
        }
        at += size;
        if at >= file.bytes {
            break;
        }
    }
    Ok(vec![])
}

/// Kind and size of a box and size of its head, from its first bytes; `left` is what the box may have.
fn head_of(bytes: &[u8], left: u64) -> Option<([u8; 4], u64, u64)> {
    let kind = bytes.get(4..8)?.try_into().ok()?;
    let (size, head) = match number(bytes, 0, 4)? {
        0 => (left, 8),
        1 => (number(bytes, 8, 8)?, 16),
        size => (size, 8),
    };
    (size >= head).then_some((kind, size, head))
}

/// A big-endian number of `size` bytes.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(size)?)?;
    Some(bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
}

/// What a track says about itself.
#[derive(Default)]
struct Track {
    id: Option<u32>,
    video: bool,
    samples: u64,
    /// Duration of the stored samples, in seconds.
    stored: f64,
    /// Duration of the parts that are shown, in units of the file.
    shown: Option<u64>,
}

fn tracks(index: &[u8]) -> Vec<Promise> {
    let (mut scale, mut tracks) = (0, Vec::new());
    visit(index, 0, &mut |kind, content| match kind {
        b"mvhd" => scale = times(content).map_or(0, |(scale, _)| scale),
        b"trak" => tracks.push(Track::default()),
        _ => {
            if let Some(track) = tracks.last_mut() {
                // A box that is too short says nothing.
                let _ = take(track, kind, content);
            }
        }
    });
    let promise = |track: &Track| {
        let stored = track.samples;
        let shown = match track.shown {
            Some(shown) if scale > 0 && track.stored > 0.0 => {
                shown as f64 / scale as f64 / track.stored
            }
            _ => 1.0,
        };
        // The offset by which the first frame of a video with B-frames is late is not a cut.
        let shown = if shown > 0.97 { 1.0 } else { shown };
        (track.video && stored > 0).then_some(Promise::Frames { track: track.id, stored, shown })
    };
    tracks.iter().filter_map(promise).collect()
}

/// Visits the boxes that are on the way to the numbers, outer ones first.
fn visit(bytes: &[u8], depth: usize, see: &mut dyn FnMut(&[u8; 4], &[u8])) {
    let mut rest = bytes;
    while let Some((kind, size, head)) = head_of(rest, rest.len() as u64) {
        let Some(content) = rest.get(head as usize..size as usize) else { break };
        see(&kind, content);
        let outer: [&[u8; 4]; 6] = [b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moov"];
        if outer.contains(&&kind) && depth < MAX_DEPTH {
            visit(content, depth + 1, see);
        }
        rest = &rest[size as usize..];
    }
}

/// Units of a second, and duration in these units, of a box `mvhd` or `mdhd`.
fn times(content: &[u8]) -> Option<(u64, u64)> {
    match *content.first()? {
        1 => Some((number(content, 20, 4)?, number(content, 24, 8)?)),
        _ => Some((number(content, 12, 4)?, number(content, 16, 4)?)),
    }
}

fn take(track: &mut Track, kind: &[u8; 4], content: &[u8]) -> Option<()> {
    match kind {
        b"tkhd" => {
            let at = if *content.first()? == 1 { 20 } else { 12 };
            track.id = u32::try_from(number(content, at, 4)?).ok();
        }
        b"mdhd" => {
            let (scale, duration) = times(content)?;
            track.stored = duration as f64 / scale.max(1) as f64;
        }
        b"hdlr" => track.video |= content.get(8..12)? == b"vide",
        b"stsz" | b"stz2" => track.samples = number(content, 8, 4)?,
        b"elst" => track.shown = edits(content),
        _ => {}
    }
    Some(())
}

/// The sum of the durations of an edit list's parts, without those that show nothing.
fn edits(content: &[u8]) -> Option<u64> {
    let wide = *content.first()? == 1;
    let (size, number_size) = if wide { (20, 8) } else { (12, 4) };
    let mut sum = 0u64;
    for edit in content.get(8..)?.chunks_exact(size) {
        let empty = edit[number_size..2 * number_size].iter().all(|&byte| byte == 0xff);
        if !empty {
            sum = sum.checked_add(number(edit, 0, number_size)?)?;
        }
    }
    // A duration of 0 means all of it.
    (sum > 0).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        [&(content.len() as u32 + 8).to_be_bytes()[..], kind, content].concat()
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn samples_and_the_share_that_is_shown_are_read() {
        let track = [
            boxed(b"tkhd", &words(&[0, 0, 0, 7, 0])),
            boxed(b"edts", &boxed(b"elst", &words(&[0, 2, 500, u32::MAX, 0, 5000, 0, 0]))),
            boxed(
                b"mdia",
                &[
                    boxed(b"mdhd", &words(&[0, 0, 0, 25, 250])),
                    boxed(b"hdlr", &[&words(&[0, 0])[..], b"vide"].concat()),
                    boxed(b"minf", &boxed(b"stbl", &boxed(b"stsz", &words(&[0, 0, 250])))),
                ]
                .concat(),
            ),
        ];
        let index =
            [boxed(b"mvhd", &words(&[0, 0, 0, 1000, 5000])), boxed(b"trak", &track.concat())];
        let wanted = Promise::Frames { track: Some(7), stored: 250, shown: 0.5 };
        assert_eq!(tracks(&index.concat()), [wanted]);
    }

    #[test]
    fn sizes_without_sense_end_the_search() {
        for bytes in [&b"\0\0\0\x03moov"[..], b"\xff\xff\xff\xfftrak", b"\0\0\0\x01trak\xff", b""] {
            assert_eq!(tracks(bytes), []);
        }
    }
}
