//! Cuts the views of a protocol from a video file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::decode::{Decoder, Limits};
use crate::ffmpeg::Ffmpeg;
use crate::protocol::Protocol;
use crate::{Frame, VideoError, crop, normalize, resize, sample};

/// The views of a video, with the results of all steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Views {
    /// Number of frames in the file.
    pub frames: usize,
    /// Width and height of the decoded frames, in pixels.
    pub source: (usize, usize),
    /// Width and height after resizing, in pixels.
    pub resized: (usize, usize),
    /// Left and top of each crop, in pixels of the resized frame.
    pub corners: Vec<(usize, usize)>,
    /// Indexes of the frames of each clip: `indexes[clip][t]`.
    pub indexes: Vec<Vec<usize>>,
    /// The sampled frames as decoded, by their index.
    pub decoded: BTreeMap<usize, Frame>,
    /// The sampled frames after resizing, by their index.
    pub small: BTreeMap<usize, Frame>,
    /// ffmpeg's warning about a file that it has decoded nevertheless.
    pub warning: Option<String>,
    protocol: Protocol,
}

/// Decodes a file, and keeps and resizes the frames that the protocol samples.
pub fn load(
    ffmpeg: &Ffmpeg,
    path: &Path,
    protocol: &Protocol,
    limits: Limits,
) -> Result<Views, VideoError> {
    let (frames, mut decoded, warning) = gather(ffmpeg, path, protocol, limits)?;
    let indexes = sample::frame_indexes(frames, protocol.frames, protocol.interval, protocol.clips);
    let wanted: BTreeSet<usize> = indexes.iter().flatten().copied().collect();
    decoded.retain(|index, _| wanted.contains(index));
    let Some(first) = decoded.values().next() else {
        return Err(VideoError::undecodable(path, "none of the sampled frames could be decoded"));
    };
    let source = (first.width, first.height);
    if decoded.values().any(|frame| (frame.width, frame.height) != source) {
        return Err(VideoError::undecodable(path, "its frames have different sizes"));
    }
    let resized = resize::target(source.0, source.1, protocol.short_side);
    let small = decoded
        .iter()
        .map(|(&index, frame)| (index, resize::bilinear(frame, resized.0, resized.1)))
        .collect();
    let corners = protocol.crops.corners(resized.0, resized.1, protocol.crop);
    let protocol = *protocol;
    Ok(Views { frames, source, resized, corners, indexes, decoded, small, warning, protocol })
}

/// The number of frames, the kept frames by their index, and ffmpeg's warning.
type Gathered = (usize, BTreeMap<usize, Frame>, Option<String>);

/// Decodes a file and keeps at least the frames that the protocol samples. Which these are is known only
/// when all frames are counted, so all are kept up to the memory limit; a larger file is decoded twice.
fn gather(
    ffmpeg: &Ffmpeg,
    path: &Path,
    protocol: &Protocol,
    limits: Limits,
) -> Result<Gathered, VideoError> {
    let mut decoder = Decoder::open(ffmpeg, path, limits)?;
    let (mut kept, mut bytes, mut count) = (BTreeMap::new(), 0usize, 0usize);
    while let Some(frame) = decoder.next_frame()? {
        bytes = bytes.saturating_add(frame.data.len());
        if bytes <= limits.memory {
            kept.insert(count, frame);
        } else {
            kept.clear();
        }
        count += 1;
    }
    let warning = decoder.warning();
    if bytes <= limits.memory {
        return Ok((count, kept, warning));
    }
    let indexes = sample::frame_indexes(count, protocol.frames, protocol.interval, protocol.clips);
    let wanted: BTreeSet<usize> = indexes.into_iter().flatten().collect();
    let mut decoder = Decoder::open(ffmpeg, path, limits)?;
    let mut index = 0;
    while let Some(frame) = decoder.next_frame()? {
        if wanted.contains(&index) {
            kept.insert(index, frame);
        }
        index += 1;
    }
    if index != count {
        let reason = format!("the file gave {count} frames, but {index} when it was decoded again");
        return Err(VideoError::undecodable(path, reason));
    }
    Ok((count, kept, warning))
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
