//! Cuts the views of a protocol from a video file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use crate::container;
use crate::decode::{Decoder, Limits, Packet};
use crate::decord::{Count, Remark};
use crate::ffmpeg::Ffmpeg;
use crate::protocol::Protocol;
use crate::{Frame, VideoError, crop, normalize, resize, sample};

/// The pauses before a file is tried again after an accident.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// The largest number of pixels of a resized frame: a strip of one pixel becomes a very long one.
const MAX_PIXELS: usize = 1 << 26;

/// The largest number of bytes of all resized frames of a video that are kept: thousands of those of a usual
/// shape.
const MAX_BYTES: usize = 1 << 30;

/// The views of a video, with the results of all steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Views {
    /// Number of frames that clips are sampled from, as [`Protocol::counting`] counts them.
    pub frames: usize,
    /// Width and height of the decoded frames, in pixels.
    pub source: (usize, usize),
    /// Width and height after resizing, in pixels.
    pub resized: (usize, usize),
    /// Left and top of each crop, in pixels of the resized frame.
    pub corners: Vec<(usize, usize)>,
    /// Indexes of the frames of each clip: `indexes[clip][t]`.
    pub indexes: Vec<Vec<usize>>,
    /// The places of these frames among those that came out of the decoder, clip after clip. They are the
    /// indexes, except beyond the last frame and where an edit list hides frames.
    pub places: Vec<usize>,
    /// The sampled frames as decoded, by their index; empty unless [`load_whole`] has kept them.
    pub decoded: BTreeMap<usize, Frame>,
    /// The sampled frames after resizing, by their index.
    pub small: BTreeMap<usize, Frame>,
    /// ffmpeg's warning about a file that it has decoded nevertheless.
    pub warning: Option<String>,
    /// Number of frames that came out of the decoder.
    pub came: usize,
    /// Number of frames that the container promises, if those are many more than came.
    pub promised: Option<u64>,
    /// What decord would have done otherwise.
    pub remark: Option<Remark>,
    protocol: Protocol,
}

/// Decodes a file, and resizes the frames that the protocol samples as they are decoded, so that memory
/// holds one frame of the file's size and at most `limits.memory` bytes of resized ones. After an accident
/// the file is tried again.
pub fn load(
    ffmpeg: &Ffmpeg,
    path: &Path,
    protocol: &Protocol,
    limits: Limits,
) -> Result<Views, VideoError> {
    again(|| Loading { ffmpeg, path, protocol, limits, whole: false }.run())
}

/// Like [`load`], and keeps the sampled frames in the size of the file, too.
pub fn load_whole(
    ffmpeg: &Ffmpeg,
    path: &Path,
    protocol: &Protocol,
    limits: Limits,
) -> Result<Views, VideoError> {
    again(|| Loading { ffmpeg, path, protocol, limits, whole: true }.run())
}

/// Tries until there is no accident, a few times.
fn again(mut once: impl FnMut() -> Result<Views, VideoError>) -> Result<Views, VideoError> {
    for pause in PAUSES {
        match once() {
            Err(why) if why.is_worth_another_try() => std::thread::sleep(pause),
            other => return other,
        }
    }
    once()
}

/// The task of making views of a file.
struct Loading<'a> {
    ffmpeg: &'a Ffmpeg,
    path: &'a Path,
    protocol: &'a Protocol,
    limits: Limits,
    whole: bool,
}

/// The frames that are kept, by their place among the decoded ones.
#[derive(Default)]
struct Kept {
    decoded: BTreeMap<usize, Frame>,
    small: BTreeMap<usize, Frame>,
    sizes: BTreeMap<usize, (usize, usize)>,
    /// Bytes of the resized frames.
    bytes: usize,
}

/// What decoding a file once gave.
struct Pass {
    shown: usize,
    kept: Kept,
    warning: Option<String>,
    packets: Option<Vec<Packet>>,
    decoder: Decoder,
}

impl Loading<'_> {
    fn run(&self) -> Result<Views, VideoError> {
        let protocol = self.protocol;
        let bytes = std::fs::metadata(self.path).map_or(0, |meta| meta.len());
        let promises = container::promises(self.path);
        let guess = container::expected(&promises).map(|count| places(&self.indexes(count)));
        let mut pass = self.pass(guess.as_ref())?;
        let track = pass.decoder.stream().and_then(|stream| stream.id);
        let dump = pass.decoder.dump();
        let ticks = pass.packets.as_deref().and_then(container::ticks);
        let promised = container::lost(&promises, track, pass.shown, ticks, bytes, dump);
        let stream = pass.decoder.stream();
        let packets = pass.packets.take();
        let count = Count::new(protocol.counting, pass.shown, packets, dump, stream);
        let indexes = self.indexes(count.frames);
        let asked: Vec<usize> = indexes.iter().flatten().copied().collect();
        let (taken, remark) = count.places(&asked);
        // decord refuses most damaged files, so that there is nothing to say about its frames.
        let remark = remark.filter(|_| promised.is_none());
        let needed: BTreeSet<usize> = taken.iter().copied().collect();
        let has = |kept: &Kept| needed.iter().all(|place| kept.small.contains_key(place));
        let mut kept = std::mem::take(&mut pass.kept);
        if !has(&kept) {
            let second = self.pass(Some(&needed))?;
            if second.shown != pass.shown {
                let reason = format!(
                    "the file gave {} frames, but {} when it was decoded again",
                    pass.shown, second.shown
                );
                return Err(VideoError::accident(self.path, reason));
            }
            kept = second.kept;
        }
        let of = |frames: &BTreeMap<usize, Frame>| -> BTreeMap<usize, Frame> {
            let pairs = asked.iter().zip(&taken);
            pairs.filter_map(|(&index, at)| Some((index, frames.get(at)?.clone()))).collect()
        };
        let (small, decoded) = (of(&kept.small), of(&kept.decoded));
        let sizes = needed.iter().filter_map(|place| kept.sizes.get(place));
        let sizes: BTreeSet<(usize, usize)> = sizes.copied().collect();
        let (Some(&source), true) = (sizes.first(), has(&kept)) else {
            let reason = "none of the sampled frames could be decoded";
            return Err(VideoError::undecodable(self.path, reason));
        };
        if sizes.len() > 1 {
            return Err(VideoError::undecodable(self.path, "its frames have different sizes"));
        }
        let resized = resize::target(source.0, source.1, protocol.short_side);
        Ok(Views {
            frames: count.frames,
            source,
            resized,
            corners: protocol.crops.corners(resized.0, resized.1, protocol.crop),
            indexes,
            places: taken,
            decoded,
            small,
            warning: pass.warning,
            came: pass.shown,
            promised,
            remark,
            protocol: *protocol,
        })
    }

    fn indexes(&self, frames: usize) -> Vec<Vec<usize>> {
        let Protocol { frames: each, interval, clips, .. } = *self.protocol;
        sample::frame_indexes(frames, each, interval, clips)
    }

    /// Decodes the file once. Keeps the `wanted` frames and the last one; if it is not known yet which are
    /// wanted, all resized frames up to the limit of the memory.
    fn pass(&self, wanted: Option<&BTreeSet<usize>>) -> Result<Pass, VideoError> {
        let Loading { ffmpeg, path, limits, .. } = *self;
        let mut decoder = Decoder::open_as(ffmpeg, path, limits, self.protocol.counting)?;
        let mut frame = Frame { width: 0, height: 0, data: Vec::new() };
        let (mut kept, mut shown, mut bytes) = (Kept::default(), 0, 0);
        let mut last_kept = false;
        while decoder.read(&mut frame)? {
            last_kept = match wanted {
                Some(wanted) => wanted.contains(&shown),
                None => bytes <= limits.memory,
            };
            if last_kept {
                bytes += self.keep(&mut kept, shown, &frame)?;
            }
            if wanted.is_none() && bytes > limits.memory {
                kept = Kept::default();
            }
            shown += 1;
        }
        if !last_kept {
            self.keep(&mut kept, shown - 1, &frame)?;
        }
        let (warning, packets) = (decoder.warning(), decoder.packets());
        Ok(Pass { shown, kept, warning, packets, decoder })
    }

    /// Resizes and keeps a frame; returns the number of bytes that this takes.
    fn keep(&self, kept: &mut Kept, place: usize, frame: &Frame) -> Result<usize, VideoError> {
        let (width, height) = resize::target(frame.width, frame.height, self.protocol.short_side);
        if width.saturating_mul(height) > MAX_PIXELS {
            let reason = format!("its frames are too narrow ({} x {})", frame.width, frame.height);
            return Err(VideoError::undecodable(self.path, reason));
        }
        if kept.bytes + 3 * width * height > MAX_BYTES {
            let reason = format!(
                "its frames are too narrow ({} x {}): those that are sampled take more than {} GiB",
                frame.width,
                frame.height,
                MAX_BYTES >> 30
            );
            return Err(VideoError::undecodable(self.path, reason));
        }
        let small = resize::bilinear(frame, width, height);
        let mut bytes = small.data.len();
        kept.bytes += bytes;
        kept.sizes.insert(place, (frame.width, frame.height));
        kept.small.insert(place, small);
        if self.whole {
            bytes += frame.data.len();
            kept.decoded.insert(place, frame.clone());
        }
        Ok(bytes)
    }
}

fn places(indexes: &[Vec<usize>]) -> BTreeSet<usize> {
    indexes.iter().flatten().copied().collect()
}

impl Views {
    /// The protocol of the views.
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// The number of views. The index of a view is `crop * clips + clip`, as in the official evaluation.
    pub fn len(&self) -> usize {
        self.corners.len() * self.indexes.len()
    }

    /// Whether there are no views.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pixels [T, H, W, 3] of a view as RGB bytes.
    pub fn pixels(&self, view: usize) -> Vec<u8> {
        let (corner, clip) = (view / self.indexes.len(), view % self.indexes.len());
        let side = self.protocol.crop;
        let mut out = Vec::with_capacity(3 * side * side * self.protocol.frames);
        for index in &self.indexes[clip] {
            crop::copy(&self.small[index], self.corners[corner], side, &mut out);
        }
        out
    }

    /// The network's input: all views, normalised, as [views, 3, T, H, W].
    pub fn input(&self) -> Vec<f32> {
        let mut out = Vec::new();
        for view in 0..self.len() {
            normalize::append(&self.pixels(view), &mut out);
        }
        out
    }
}
