//! Finds the frames of a dump among the frames of its video. decord's seeks miss on some files; a dump that
//! holds the frames at which they arrive is not at fault, and is told from one that is.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use anyhow::Result;
use video::decode::{Decoder, Limits};
use video::ffmpeg::Ffmpeg;
use video::views::Views;
use video::{Frame, crop, resize};

/// Where the frames of a dump are in the video.
pub struct Found {
    /// The place of each frame, in order; where several frames look alike, the one next to ours.
    pub places: Vec<usize>,
    /// Our places.
    ours: Vec<usize>,
    /// Whether decord takes just these frames, or may do so, and why.
    pub decord: Option<String>,
}

/// A video, and the program that decodes it.
#[derive(Debug, Clone, Copy)]
pub struct Film<'a> {
    /// The decoder.
    pub ffmpeg: &'a Ffmpeg,
    /// The file.
    pub path: &'a Path,
}

/// The step whose results are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Decoded,
    Resized,
    View,
}

impl Step {
    /// The step with this name in a dump.
    pub fn named(name: &str) -> Option<Self> {
        let steps = [("decoded", Step::Decoded), ("resized", Step::Resized), ("view", Step::View)];
        let name = name.strip_prefix("video.")?;
        steps.iter().find(|(other, _)| *other == name).map(|(_, step)| *step)
    }

    fn of(self, frame: &Frame, views: &Views) -> Option<Frame> {
        let (width, height) = views.resized;
        let small = || resize::bilinear(frame, width, height);
        match self {
            Step::Decoded => Some(frame.clone()),
            Step::Resized => Some(small()),
            Step::View => {
                let (side, corner) = (views.protocol().crop, *views.corners.first()?);
                let mut data = Vec::new();
                crop::copy(&small(), corner, side, &mut data);
                Some(Frame { width: side, height: side, data })
            }
        }
    }
}

/// Decodes the video and looks for `theirs`; `None` unless each of them is one of its frames.
pub fn find(film: Film, views: &Views, step: Step, theirs: &[Frame]) -> Result<Option<Found>> {
    let ours: Vec<usize> = views.places.iter().copied().take(theirs.len()).collect();
    if ours.len() != theirs.len() || ours.is_empty() {
        return Ok(None);
    }
    let mut wanted: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (at, frame) in theirs.iter().enumerate() {
        wanted.entry(hash(frame)).or_default().push(at);
    }
    let mut places: Vec<Option<usize>> = vec![None; theirs.len()];
    let (limits, counting) = (Limits::default(), views.protocol().counting);
    let mut decoder = Decoder::open_as(film.ffmpeg, film.path, limits, counting)?;
    let mut frame = Frame { width: 0, height: 0, data: vec![] };
    let mut place = 0usize;
    while decoder.read(&mut frame)? {
        let Some(made) = step.of(&frame, views) else { return Ok(None) };
        for &at in wanted.get(&hash(&made)).into_iter().flatten() {
            let nearer = |old: usize| place.abs_diff(ours[at]) < old.abs_diff(ours[at]);
            if made == theirs[at] && places[at].is_none_or(nearer) {
                places[at] = Some(place);
            }
        }
        place += 1;
    }
    let Some(places) = places.into_iter().collect::<Option<Vec<usize>>>() else { return Ok(None) };
    let decord = views.remark.as_ref().and_then(|remark| {
        let known: Vec<usize> = remark.takes.iter().copied().take(places.len()).collect();
        (known.is_empty() || known == places).then(|| remark.why.clone())
    });
    Ok(Some(Found { places, ours, decord }))
}

impl Found {
    /// What is to be said about the frames.
    pub fn sentence(&self) -> String {
        let pairs = self.places.iter().zip(&self.ours);
        let shifts: Vec<i64> = pairs.map(|(&theirs, &ours)| theirs as i64 - ours as i64).collect();
        let (low, high) = (shifts.iter().min().copied(), shifts.iter().max().copied());
        let by = match (low.unwrap_or(0), high.unwrap_or(0)) {
            (low, high) if low == high && low < 0 => format!("{} earlier", -low),
            (low, high) if low == high => format!("{low} later"),
            (low, high) => format!("{low:+} to {high:+} from ours"),
        };
        let first = |places: &[usize]| -> String {
            let words: Vec<String> = places.iter().take(3).map(usize::to_string).collect();
            words.join(", ")
        };
        let frames = format!(
            "these are frames {}, … of the video, where {}, … are sampled: {by}",
            first(&self.places),
            first(&self.ours)
        );
        match &self.decord {
            Some(why) => format!("{frames}; decord's seeks miss on this file, since {why}"),
            None => frames,
        }
    }
}

fn hash(frame: &Frame) -> u64 {
    let mut hasher = DefaultHasher::new();
    (frame.width, frame.height, &frame.data).hash(&mut hasher);
    hasher.finish()
}
