//! How many frames the container of a file promises, which tells a file that was cut from a whole one.
//!
//! Only the parts of the format that hold this number are read. A file that is damaged or unusual promises
//! nothing.

mod avi;
mod matroska;
mod mp4;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::decode::{Dump, Packet};

/// What a container promises.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Promise {
    /// This many frames in the video with this identifier (in MP4, the track's number).
    Frames {
        /// The identifier of the track; `None` if it is the only video.
        track: Option<u32>,
        /// Number of frames that are stored.
        stored: u64,
        /// Share of the stored frames that an edit list lets be shown.
        shown: f64,
    },
    /// This many units of time, of which a frame may take several (in AVI, frames may be left out).
    Ticks(u64),
    /// This many bytes.
    Bytes(u64),
}

/// The tolerance of a promise: this many frames, and this share of them, may be missing. The frames before
/// the first keyframe of a video that was cut without encoding it again cannot be decoded.
const FREE: (u64, f64) = (4, 0.03);
/// The tolerance where the number is an estimate.
const FREE_ESTIMATE: (u64, f64) = (8, 0.1);

/// The promises of a file, one for each video.
pub(crate) fn promises(path: &Path) -> Vec<Promise> {
    let read = || -> io::Result<Vec<Promise>> {
        let mut file = Source::open(path)?;
        let mut magic = [0; 12];
        file.exact(&mut magic)?;
        file.seek(0)?;
        match &magic {
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => mp4::promises(&mut file),
            [_, _, _, _, b'm', b'o', b'o', b'v' | b'f', ..] => mp4::promises(&mut file),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' '] => avi::promise(&mut file),
            [0x1a, 0x45, 0xdf, 0xa3, ..] => matroska::promise(&mut file),
            _ => Ok(vec![]),
        }
    };
    read().unwrap_or_default()
}

/// The number of frames that a video would have if it were whole, provided that many more are promised than
/// the `shown` ones that came. The packets of the video end after `ticks` units of time.
pub(crate) fn lost(
    promises: &[Promise],
    track: Option<u32>,
    shown: usize,
    ticks: Option<u64>,
    bytes: u64,
    dump: &Dump,
) -> Option<u64> {
    let shown = shown as u64;
    let (promised, free) = match promise(promises, track)? {
        Promise::Frames { stored, shown: share, .. } if share >= 1.0 => (stored, FREE),
        Promise::Frames { stored, shown: share, .. } => {
            ((stored as f64 * share) as u64, FREE_ESTIMATE)
        }
        Promise::Ticks(whole) => {
            let share = whole as f64 / ticks?.max(1) as f64;
            ((shown as f64 * share) as u64, FREE)
        }
        Promise::Bytes(whole) if whole > bytes && dump.videos().len() == 1 => {
            ((shown as f64 * whole as f64 / bytes.max(1) as f64) as u64, FREE_ESTIMATE)
        }
        Promise::Bytes(_) => return None,
    };
    let missing = promised.saturating_sub(shown);
    let much = missing > free.0 && missing as f64 > free.1 * promised as f64;
    much.then_some(promised)
}

/// The number of frames that the first video has if it keeps its promise, as far as it is known.
pub(crate) fn expected(promises: &[Promise]) -> Option<usize> {
    match promises.first()? {
        Promise::Frames { stored, shown, .. } if *shown >= 1.0 => usize::try_from(*stored).ok(),
        Promise::Ticks(ticks) => usize::try_from(*ticks).ok(),
        _ => None,
    }
}

/// The units of time after which the packets of a video end.
pub(crate) fn ticks(packets: &[Packet]) -> Option<u64> {
    let times = || packets.iter().map(|packet| packet.decoded_at);
    let span = times().max()?.checked_sub(times().min()?)? as u64;
    let others = packets.len() as u64 - 1;
    // The last packet is taken to be as long as the others are on average.
    Some(span.checked_div(others).map_or(1, |each| span.saturating_add(each)))
}

fn promise(promises: &[Promise], wanted: Option<u32>) -> Option<Promise> {
    let of_track = |promise: &&Promise| match promise {
        Promise::Frames { track: Some(track), .. } => Some(*track) == wanted,
        _ => true,
    };
    promises.iter().find(of_track).copied()
}

/// A file that is read here and there. It never reads more than it is asked for.
struct Source {
    file: BufReader<File>,
    bytes: u64,
}

impl Source {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Source { file: BufReader::with_capacity(4 << 10, file), bytes })
    }

    fn seek(&mut self, to: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(to)).map(|_| ())
    }

    fn exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact(buffer)
    }

    /// The bytes from `at` on, of which there may be at most `most`.
    fn bytes(&mut self, at: u64, count: u64, most: u64) -> io::Result<Vec<u8>> {
        if count > most.min(self.bytes) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.seek(at)?;
        let mut bytes = vec![0; count as usize];
        self.exact(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_missing_frames_are_not_a_damage_and_many_are() {
        let dump = Dump::default();
        let of = |stored, shown| [Promise::Frames { track: Some(1), stored, shown }];
        assert_eq!(lost(&of(280, 1.0), Some(1), 1, None, 0, &dump), Some(280));
        assert_eq!(lost(&of(280, 1.0), Some(1), 276, None, 0, &dump), None);
        assert_eq!(lost(&of(280, 1.0), Some(1), 270, None, 0, &dump), Some(280));
        assert_eq!(lost(&of(221, 0.69), Some(1), 152, None, 0, &dump), None);
        assert_eq!(lost(&of(280, 1.0), Some(2), 1, None, 0, &dump), None);
        let ticks = [Promise::Ticks(500)];
        assert_eq!(lost(&ticks, None, 250, Some(500), 0, &dump), None);
        assert_eq!(lost(&ticks, None, 125, Some(250), 0, &dump), Some(250));
        assert_eq!(expected(&of(221, 0.69)), None);
        assert_eq!(expected(&of(221, 1.0)), Some(221));
    }
}
