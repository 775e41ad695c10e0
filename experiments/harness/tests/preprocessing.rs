//! Compares the steps before the network with a dump that has a mistake in one of them.
#![cfg(feature = "libtorch")]

mod common;

use std::fs::File;
use std::process::Command;

use common::{Harness, ffmpeg};
use ndarray::{Array1, Array4};
use ndarray_npy::{NpzReader, NpzWriter};

const SMALL: [&str; 4] = ["--depth", "10", "--width", "0.125"];

/// Dumps a video with its steps, lets `change` alter the steps, and compares. Returns the exit code and
/// stdout; None without ffmpeg.
fn diff(change: impl Fn(&mut Array1<i64>, [&mut Array4<u8>; 3])) -> Option<(i32, String)> {
    let harness = Harness::new();
    let ffmpeg = ffmpeg()?;
    let video = harness.path("clip.avi");
    let source = "testsrc2=size=80x60:rate=25:duration=4";
    let made = Command::new(ffmpeg)
        .args(["-v", "error", "-f", "lavfi", "-i", source, "-c:v", "mpeg4", &video])
        .status();
    assert!(made.is_ok_and(|status| status.success()), "{source}");
    let (dump, changed) = (harness.path("dump.npz"), harness.path("changed.npz"));
    let layers = ["--layer", "input,conv1,fc"];
    let all = ["dump", "--engine", "torch", "--input", &video, "--out", &dump];
    harness.run(&[&all[..], &layers, &SMALL].concat()).code(0);
    let mut npz = NpzReader::new(File::open(&dump).unwrap()).unwrap();
    let mut indexes: Array1<i64> = npz.by_name("video.indexes").unwrap();
    let mut decoded: Array4<u8> = npz.by_name("video.decoded").unwrap();
    let mut resized: Array4<u8> = npz.by_name("video.resized").unwrap();
    let mut view: Array4<u8> = npz.by_name("video.view").unwrap();
    change(&mut indexes, [&mut decoded, &mut resized, &mut view]);
    let mut out = NpzWriter::new(File::create(&changed).unwrap());
    out.add_array("video.indexes", &indexes).unwrap();
    out.add_array("video.decoded", &decoded).unwrap();
    out.add_array("video.resized", &resized).unwrap();
    out.add_array("video.view", &view).unwrap();
    for name in ["input", "conv1", "logits"] {
        let array: ndarray::ArrayD<f32> = npz.by_name(name).unwrap();
        out.add_array(name, &array).unwrap();
    }
    out.finish().unwrap();
    let candidate = format!("npz:{changed}");
    let all = ["--candidate", &candidate, "--input", &video, "--layer", "input,conv1,fc"];
    let run = harness.diff(&[&all[..], &SMALL].concat());
    Some((run.code, run.stdout))
}

#[test]
fn steps_without_a_mistake_are_the_same() {
    let Some((code, said)) = diff(|_, _| ()) else { return };
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches("the same, value for value").count(), 4, "{said}");
}

#[test]
fn a_wrong_resize_is_named_and_the_crop_after_it_is_not() {
    let run = diff(|_, [_, resized, view]| {
        let (side, high, wide) = (view.shape()[1], resized.shape()[1], resized.shape()[2]);
        resized.mapv_inplace(|byte| byte ^ 1);
        let (top, left) = ((high - side) / 2, (wide - side) / 2);
        let cut = resized.slice(ndarray::s![.., top..top + side, left..left + side, ..]);
        view.assign(&cut);
    });
    let Some((code, said)) = run else { return };
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("first goes wrong before the network, at video.resized"), "{said}");
    assert!(said.contains("video.view         accumulated"), "{said}");
}

#[test]
fn frames_that_are_one_too_late_are_found_in_the_indexes() {
    let Some((code, said)) = diff(|indexes, _| *indexes += 1) else { return };
    assert!(code == 1 && said.contains("at video.indexes"), "{said}");
}
