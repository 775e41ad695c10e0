//! Tests of the built-in data set and its files.

mod common;

use std::collections::BTreeSet;

use common::ffmpeg;
use video::dataset::{Dataset, Mode};
use video::decode::Limits;
use video::mini::{self, CLASSES, Part};
use video::views;

#[test]
fn every_part_has_its_own_videos_and_each_class_equally_often() {
    for part in [Part::Train, Part::Val, Part::Test] {
        let entries = part.entries();
        assert_eq!(entries.len(), part.videos());
        for label in 0..CLASSES.len() {
            let count = entries.iter().filter(|entry| entry.label == Some(label)).count();
            assert_eq!(count * CLASSES.len(), part.videos());
        }
    }
    let firsts: BTreeSet<Vec<u8>> = [Part::Train, Part::Val, Part::Test]
        .into_iter()
        .flat_map(|part| [0, 1].map(|index| mini::frames(part, index).swap_remove(0).data))
        .collect();
    assert_eq!(firsts.len(), 6, "no two videos begin alike");
}

/// The same seed gives the same pixels on every machine; a change needs a new version number.
#[test]
fn pixels_are_what_they_were() {
    let frames = mini::frames(Part::Test, 3);
    assert_eq!(frames.len(), mini::FRAMES);
    let mean = |frame: &video::Frame| {
        frame.data.iter().map(|&byte| f64::from(byte)).sum::<f64>() / frame.data.len() as f64
    };
    // The last bits of sin and cos may differ between machines, so this compares means and not hashes.
    assert!((mean(&frames[0]) - PIXELS.0).abs() < 0.01, "{}", mean(&frames[0]));
    assert!((mean(&frames[60]) - PIXELS.1).abs() < 0.01, "{}", mean(&frames[60]));
}

/// Mean values of the first and the last frame.
const PIXELS: (f64, f64) = (90.4018, 87.5354);

#[test]
fn files_hold_the_frames_that_were_drawn() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.mp4");
    mini::encode(&ffmpeg, Part::Val, 5, &path).unwrap();
    let protocol = Dataset::Mini.protocol(Mode::Test);
    let views = views::load_whole(&ffmpeg, &path, &protocol, Limits::default()).unwrap();
    assert_eq!(views.frames, mini::FRAMES);
    assert_eq!((views.resized, views.corners[0]), ((85, 64), (10, 0)));
    assert_eq!(views.indexes[0], (0..16).map(|t| 4 * t).collect::<Vec<_>>());
    for (index, decoded) in &views.decoded {
        let drawn = &mini::frames(Part::Val, 5)[*index];
        let square = |(a, b): (&u8, &u8)| (f64::from(*a) - f64::from(*b)).powi(2);
        let sum: f64 = decoded.data.iter().zip(&drawn.data).map(square).sum();
        let rms = (sum / drawn.data.len() as f64).sqrt();
        assert!(rms < 20.0, "frame {index}: {rms}");
    }
}
