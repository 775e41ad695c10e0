//! Compares the steps before the network: sampling, decoding, resizing and cropping. Bytes are compared
//! exactly. Each of our steps is also applied to the dump's result of the step before, so that the first
//! mistake is named and not its consequences.

mod found;

use std::path::Path;

use anyhow::{Context, Result, bail};
use record::{Culprit, LayerVerdict, Stage};
use video::Frame;
use video::views::Views;
use video::{crop, normalize, resize};

pub use self::found::Film;
use self::found::{Found, Step};
use compare::dump::{Npz, STEPS, Writer};

/// The largest number of values in an array: 16 frames of 4096 x 4096.
const MAX_VALUES: usize = 3 * 16 * 4096 * 4096;

/// The result of one step. Bytes and frame indexes are exact in float32, up to 2^24.
struct Array {
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// Our own results, in the order of [`STEPS`].
fn own(views: &Views) -> [Array; 4] {
    let indexes = &views.indexes[0];
    let frames = |of: &dyn Fn(usize) -> Frame| {
        let all: Vec<Frame> = indexes.iter().map(|&index| of(index)).collect();
        stacked(&all)
    };
    let side = views.protocol().crop;
    [
        Array { shape: vec![indexes.len()], values: indexes.iter().map(|&i| i as f32).collect() },
        frames(&|index| views.decoded[&index].clone()),
        frames(&|index| views.small[&index].clone()),
        Array {
            shape: vec![indexes.len(), side, side, 3],
            values: views.pixels(0).iter().map(|&byte| f32::from(byte)).collect(),
        },
    ]
}

fn stacked(frames: &[Frame]) -> Array {
    let (height, width) = frames.first().map_or((0, 0), |frame| (frame.height, frame.width));
    let values = frames.iter().flat_map(|frame| frame.data.iter().map(|&byte| f32::from(byte)));
    Array { shape: vec![frames.len(), height, width, 3], values: values.collect() }
}

/// The frames of an array [T, h, w, 3] of bytes; `None` if the array is not one.
fn frames(array: &Array) -> Option<Vec<Frame>> {
    let [_, height, width, 3] = array.shape[..] else { return None };
    if array.values.iter().any(|&value| value != value.clamp(0.0, 255.0).round()) {
        return None;
    }
    let size = 3 * height * width;
    let frame = |values: &[f32]| Frame {
        width,
        height,
        data: values.iter().map(|&value| value as u8).collect(),
    };
    (size > 0).then(|| array.values.chunks_exact(size).map(frame).collect())
}

/// Writes the results of our steps into a dump.
pub fn write(views: &Views, writer: &mut Writer) -> Result<()> {
    for (name, array) in STEPS.iter().zip(own(views)) {
        match *name {
            "video.indexes" => {
                let values = array.values.iter().map(|&value| value as i64).collect();
                writer.plain::<i64>(name, &array.shape, values)?;
            }
            _ => {
                let values = array.values.iter().map(|&value| value as u8).collect();
                writer.plain::<u8>(name, &array.shape, values)?;
            }
        }
    }
    Ok(())
}

/// The clip [1, 3, T, H, W] that the frames of a dump make, if they are the ones at which decord's seeks
/// arrive in this video, with what is to be said about them. The dump is then compared on its own frames.
pub fn clip_of_decord(
    path: &Path,
    film: Film,
    views: &Views,
) -> Result<Option<(Vec<f32>, String)>> {
    if views.remark.is_none() {
        return Ok(None);
    }
    let npz = Npz::open(path)?;
    let names = npz.names();
    for name in STEPS.iter().rev().filter(|name| names.iter().any(|other| other == *name)) {
        let Some(step) = Step::named(name) else { continue };
        let theirs = read(&npz, name)?;
        let Some(theirs) = frames(&theirs) else { continue };
        if let Some(found) = found::find(film, views, step, &theirs)?
            && found.decord.is_some()
            && let Some(pixels) = pixels(step, &theirs, views)
        {
            let mut clip = Vec::new();
            normalize::append(&pixels, &mut clip);
            return Ok(Some((clip, found.sentence())));
        }
    }
    Ok(None)
}

/// The first view that frames make from a step on.
fn pixels(step: Step, theirs: &[Frame], views: &Views) -> Option<Vec<u8>> {
    let (width, height) = views.resized;
    let (side, corner) = (views.protocol().crop, *views.corners.first()?);
    let mut pixels = Vec::new();
    for frame in theirs {
        match step {
            Step::View => pixels.extend(&frame.data),
            Step::Resized => crop::copy(frame, corner, side, &mut pixels),
            Step::Decoded => {
                crop::copy(&resize::bilinear(frame, width, height), corner, side, &mut pixels);
            }
        }
    }
    Some(pixels)
}

/// Compares the steps whose results a dump holds with ours. Frames that differ are looked for in the video.
pub fn compare(path: &Path, film: Film, views: &Views) -> Result<Vec<Stage>> {
    let npz = Npz::open(path)?;
    let names = npz.names();
    let mut found = Vec::new();
    for name in STEPS {
        found.push(match names.iter().any(|other| other == name) {
            true => Some(read(&npz, name)?),
            false => None,
        });
    }
    let ours = own(views);
    let mut stages = Vec::new();
    for (at, name) in STEPS.iter().enumerate() {
        let Some(theirs) = &found[at] else { continue };
        let difference = difference(&ours[at], theirs);
        // If our step makes their result of their previous result, the step itself is right.
        let before = at.checked_sub(1).and_then(|before| found[before].as_ref());
        let step = before.and_then(|before| step(name, before, views));
        let follows = step.is_some_and(|made| self::difference(&made, theirs).is_none());
        let (verdict, detail) = match difference {
            None => (LayerVerdict::Pass, "the same, value for value".to_owned()),
            Some(text) if follows => (LayerVerdict::Inherited, text),
            Some(text) => match elsewhere(name, theirs, film, views)? {
                Some(found) if found.decord.is_some() => (LayerVerdict::Pass, found.sentence()),
                Some(found) => (LayerVerdict::Diverged, found.sentence()),
                None => (LayerVerdict::Diverged, text),
            },
        };
        stages.push(Stage { name: (*name).to_owned(), verdict, detail });
    }
    Ok(stages)
}

/// Where the frames of a step are in the video, if they are there.
fn elsewhere(name: &str, theirs: &Array, film: Film, views: &Views) -> Result<Option<Found>> {
    match (Step::named(name), frames(theirs)) {
        (Some(step), Some(theirs)) => found::find(film, views, step, &theirs),
        _ => Ok(None),
    }
}

fn read(npz: &Npz, name: &str) -> Result<Array> {
    let (shape, values) = npz.read_plain(name, MAX_VALUES).context("a step before the network")?;
    if shape.iter().product::<usize>() != values.len() {
        bail!(
            "`{name}` has {} values, but the shape {shape:?}; write the dump again",
            values.len()
        );
    }
    Ok(Array { shape, values })
}

/// The result of our step `name` for a dump's result `before` of the previous step.
fn step(name: &str, before: &Array, views: &Views) -> Option<Array> {
    match name {
        "video.resized" => {
            let (width, height) = views.resized;
            let small = frames(before)?;
            let small: Vec<Frame> =
                small.iter().map(|frame| resize::bilinear(frame, width, height)).collect();
            Some(stacked(&small))
        }
        "video.view" => {
            let (side, corner) = (views.protocol().crop, *views.corners.first()?);
            let mut pixels = Vec::new();
            let all = frames(before)?;
            for frame in &all {
                if frame.width < corner.0 + side || frame.height < corner.1 + side {
                    return None;
                }
                crop::copy(frame, corner, side, &mut pixels);
            }
            let values = pixels.iter().map(|&byte| f32::from(byte)).collect();
            Some(Array { shape: vec![all.len(), side, side, 3], values })
        }
        _ => None,
    }
}

/// A sentence on how two arrays differ; `None` if they are the same.
fn difference(ours: &Array, theirs: &Array) -> Option<String> {
    if ours.shape != theirs.shape {
        return Some(format!("shape {:?}, expected {:?}", theirs.shape, ours.shape));
    }
    // NaN differs from everything, including NaN.
    let differs = |(a, b): &(&f32, &f32)| a != b;
    let pairs = || ours.values.iter().zip(&theirs.values);
    let count = pairs().filter(differs).count();
    if count == 0 {
        return None;
    }
    let first = pairs().position(|pair| differs(&pair)).unwrap_or(0);
    let most = pairs()
        .map(|(a, b)| (a - b).abs())
        .fold(0.0f32, |m, d| if d.is_nan() { f32::NAN } else { m.max(d) });
    let frame = first / (ours.values.len() / ours.shape[0].max(1)).max(1);
    Some(format!(
        "{:.2} % of the values differ, by at most {most}; the first is in frame {frame}: {} instead of {}",
        100.0 * count as f64 / ours.values.len() as f64,
        theirs.values[first],
        ours.values[first],
    ))
}

/// The first step that diverged, as the culprit of a comparison.
pub fn culprit(stages: &[Stage]) -> Option<Culprit> {
    let stage = stages.iter().find(|stage| stage.verdict == LayerVerdict::Diverged)?;
    Some(Culprit {
        name: stage.name.clone(),
        alias: None,
        composite: None,
        text: format!("first goes wrong before the network, at {}: {}", stage.name, stage.detail),
        after: None,
        unseen: vec![],
        explanation: None,
        hypotheses: vec![],
    })
}
