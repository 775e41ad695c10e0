//! Runs `harness eval` and `diff` on files as people have them: damaged, cut, turned, with other frames in
//! decord, and decoded by an ffmpeg that is too old or is killed.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::videos::SMALL;
use common::{Harness, Run, ffmpeg, json_of};
use serde_json::Value;
use skip::skip;

/// The folder of the shared files; `None`, after a message, if the test must be skipped.
fn cases() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases/video");
    if !folder.is_dir() {
        skip!(Shared, "../shared/cases is not here");
        return None;
    }
    Some(folder)
}

/// Evaluates the files of a folder with `scalar`; returns the run and its record.
fn eval(harness: &Harness, folder: &Path, names: &[&str], more: &[&str]) -> (Run, Value) {
    let list = harness.path("list.txt");
    let lines: String = names.iter().map(|name| format!("{name} 1\n")).collect();
    fs::write(&list, lines).unwrap();
    let (data, out) = (folder.display().to_string(), harness.path("run"));
    let _ = fs::remove_dir_all(&out);
    let fixed =
        ["eval", "k400", "--protocol", "val", "--engine", "scalar", "--data", &data, "--list"];
    let run = harness.run(&[&fixed[..], &[&list, "--out", &out], &SMALL, more].concat());
    (run, json_of(&format!("{out}/record.json")))
}

/// The video with this name in a record.
fn video<'a>(record: &'a Value, name: &str) -> &'a Value {
    let videos = record["videos"].as_array().unwrap();
    videos.iter().find(|video| video["path"] == name).unwrap()
}

const ALL: [&str; 7] = [
    "audio_cover.m4a",
    "cut_copy.mp4",
    "faststart_3.mp4",
    "hflip.mp4",
    "open.mp4",
    "open.ts",
    "two_both.mp4",
];

#[test]
fn each_shared_file_gives_what_its_row_says() {
    let (Some(cases), Some(_)) = (cases(), ffmpeg()) else { return };
    let harness = Harness::new();
    let (run, record) = eval(&harness, &cases, &ALL, &[]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    let frames = [221, 77, 180, 180, 90];
    for (name, frames) in [ALL[1], ALL[3], ALL[4], ALL[5], ALL[6]].into_iter().zip(frames) {
        let video = video(&record, name);
        assert_eq!((&video["frames"], &video["error"]), (&frames.into(), &Value::Null), "{name}");
    }
    let (cover, part) = (video(&record, ALL[0]), video(&record, ALL[2]));
    assert!(cover["error"].as_str().unwrap().contains("only a cover picture"), "{cover}");
    assert_eq!((&part["damage"]["came"], &part["damage"]["promised"]), (&1.into(), &280.into()));
    let decord: Vec<&str> = record["manifest"]["decord"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["path"].as_str().unwrap())
        .collect();
    assert_eq!(decord, ["open.mp4", "open.ts"]);
    let open = &record["manifest"]["decord"][0];
    assert_eq!((&open["evaluated"][0], &open["decord_takes"][0]), (&59.into(), &60.into()));
    for words in [
        "audio_cover.m4a: the file holds no video, but only a cover picture",
        "faststart_3.mp4: 1 of 280 promised frames came",
        "open.mp4: its groups of pictures are open",
        "INCOMPLETE",
    ] {
        assert!(run.stdout.contains(words), "no {words:?} in: {}", run.stdout);
    }
    let bound = ["decoder", "preprocessing", "network"];
    assert!(bound.contains(&record["speed"]["bound"].as_str().unwrap()), "{}", record["speed"]);
    assert!(run.stdout.contains("views/s; bound by the "), "{}", run.stdout);
}

#[test]
fn damage_may_be_allowed_and_a_player_shows_other_frames() {
    let (Some(cases), Some(_)) = (cases(), ffmpeg()) else { return };
    let harness = Harness::new();
    let names = ["faststart_3.mp4", "cut_copy.mp4"];
    let (run, _) = eval(&harness, &cases, &names, &["--allow-damaged"]);
    assert!(run.code == 0 && run.stdout.contains("1 damaged (allowed)"), "{}", run.stdout);
    let more = ["--allow-damaged", "--frames", "decoded"];
    let (run, record) = eval(&harness, &cases, &names, &more);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(video(&record, names[1])["frames"], 152);
    harness.run(&["info", "--frames", "decoded"]).refuses(&["--frames", "decoded"]);
}

/// A folder with a short video.
fn folder(harness: &Harness, ffmpeg: &str, name: &str) -> PathBuf {
    let folder = PathBuf::from(harness.path("data"));
    fs::create_dir(&folder).unwrap();
    let source = "testsrc2=size=96x72:rate=25:duration=3";
    common::videos::make(ffmpeg, source, &folder.join("x.mp4"));
    fs::rename(folder.join("x.mp4"), folder.join(name)).unwrap();
    folder
}

#[test]
fn escape_bytes_in_names_do_not_reach_the_terminal() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let harness = Harness::new();
    let name = "a\u{1b}[31mred\u{7}.mp4";
    let folder = folder(&harness, &ffmpeg, name);
    fs::write(folder.join("b\u{1b}[2J.mp4"), "no video\n".repeat(9)).unwrap();
    let (run, _) = eval(&harness, &folder, &[name, "b\u{1b}[2J.mp4"], &[]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    for text in [&run.stdout, &run.stderr] {
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }
    // The same where nothing was evaluated.
    let (run, _) = eval(&harness, &folder, &["b\u{1b}[2J.mp4"], &[]);
    assert!(!run.stdout.contains("NaN") && !run.stdout.contains("-0.00"), "{}", run.stdout);
}

fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs `eval` on a folder with a PATH of its own.
fn with_path(harness: &Harness, path: &Path, own: Option<&str>, folder: &Path) -> (i32, String) {
    let list = harness.path("list.txt");
    fs::write(&list, "x.mp4 1\n").unwrap();
    let out = harness.path("run");
    let _ = fs::remove_dir_all(&out);
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.args(["eval", "k400", "--protocol", "val", "--engine", "scalar", "--data"]);
    command.arg(folder).args(["--list", &list, "--out", &out]).args(SMALL);
    command.env("PATH", path).env_remove("FFMPEG").env_remove("HARNESS_FFMPEG");
    if let Some(own) = own {
        command.env("HARNESS_FFMPEG", own);
    }
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[test]
fn an_ffmpeg_that_is_too_old_is_passed_over_or_ends_the_run() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let ffmpeg = if ffmpeg == "ffmpeg" { which(&ffmpeg) } else { ffmpeg };
    let harness = Harness::new();
    let folder = folder(&harness, &ffmpeg, "x.mp4");
    let bin = PathBuf::from(harness.path("bin"));
    fs::create_dir(&bin).unwrap();
    script(&bin.join("ffmpeg"), "echo 'ffmpeg version 4.4.2-0ubuntu0.22.04.1 Copyright'");
    let (code, said) = with_path(&harness, &bin, Some(&ffmpeg), &folder);
    assert!(code == 0 && said.contains("4.4.2") && said.contains("is used instead"), "{said}");
    let (code, said) = with_path(&harness, &bin, None, &folder);
    assert!(code == 2 && said.contains("too old") && said.contains("5.1"), "{said}");
    assert!(!Path::new(&harness.path("run")).exists(), "it is refused before any work");
}

fn which(name: &str) -> String {
    let path = std::env::var("PATH").unwrap();
    let found = path.split(':').map(|folder| format!("{folder}/{name}"));
    found.into_iter().find(|path| Path::new(path).exists()).unwrap()
}

/// A dump of frames of a file on which decord's seeks miss: those that decord takes are not blamed, and
/// others are, by name.
#[test]
#[cfg(feature = "libtorch")]
fn the_frames_of_decord_are_recognised_in_a_dump() {
    use video::decode::{Decoder, Limits};
    use video::ffmpeg::Ffmpeg;

    let (Some(cases), Some(_)) = (cases(), ffmpeg()) else { return };
    let harness = Harness::new();
    let path = cases.join("open.mp4");
    let mut frames = vec![];
    let mut decoder = Decoder::open(&Ffmpeg::find().unwrap(), &path, Limits::default()).unwrap();
    while let Some(frame) = decoder.next_frame().unwrap() {
        frames.push(frame);
    }
    let video = path.display().to_string();
    let sampled: Vec<usize> = (0..16).map(|t| 59 + 4 * t).collect();
    // decord's frames are the next ones, except for the last, which is behind another keyframe.
    let mut decord: Vec<usize> = sampled.iter().map(|at| at + 1).collect();
    decord[15] = 122;
    let earlier: Vec<usize> = sampled.iter().map(|at| at - 2).collect();
    let words = ["decord's seeks miss on this file", "frames 57, 61, 65, … of the video"];
    for (takes, code, words) in [(decord, 0, words[0]), (earlier, 1, words[1])] {
        let some: Vec<_> = takes.iter().map(|&at| frames[at].clone()).collect();
        let dump = dump_of(&harness, &sampled, &some);
        let candidate = format!("npz:{dump}");
        let all = ["--candidate", &candidate, "--input", &video, "--layer", "input,conv1,fc"];
        let run = harness.diff(&[&all[..], &SMALL_MODEL].concat());
        assert_eq!(run.code, code, "{}{}", run.stdout, run.stderr);
        assert!(run.stdout.contains(words), "no {words:?} in {}", run.stdout);
        assert_eq!(run.stdout.contains("2 earlier"), code == 1, "{}", run.stdout);
    }
}

#[cfg(feature = "libtorch")]
const SMALL_MODEL: [&str; 4] = ["--depth", "10", "--width", "0.125"];

/// A dump as mmaction2 and a right port would make it: the sampled indexes, the frames that came for them,
/// and what the network makes of these.
#[cfg(feature = "libtorch")]
fn dump_of(harness: &Harness, sampled: &[usize], frames: &[video::Frame]) -> String {
    use ndarray::{Array, Array1, Array5, ArrayD};
    use ndarray_npy::{NpzReader, NpzWriter};
    use std::fs::File;
    use video::{crop, normalize, resize};

    let (width, height) = resize::target(frames[0].width, frames[0].height, 256);
    let mut pixels = vec![];
    for frame in frames {
        let small = resize::bilinear(frame, width, height);
        crop::copy(&small, ((width - 224) / 2, (height - 224) / 2), 224, &mut pixels);
    }
    let mut clip = vec![];
    normalize::append(&pixels, &mut clip);
    let (input, own, dump) =
        (harness.path("input.npz"), harness.path("own.npz"), harness.path("dump.npz"));
    let clip = Array5::from_shape_vec((1, 3, 16, 224, 224), clip).unwrap();
    let mut out = NpzWriter::new(File::create(&input).unwrap());
    out.add_array("input", &clip).unwrap();
    out.finish().unwrap();
    let all = ["dump", "--engine", "torch", "--input", &input, "--out", &own];
    harness.run(&[&all[..], &["--layer", "input,conv1,fc"], &SMALL_MODEL].concat()).code(0);
    let mut own = NpzReader::new(File::open(&own).unwrap()).unwrap();
    let mut out = NpzWriter::new(File::create(&dump).unwrap());
    let indexes: Array1<i64> = sampled.iter().map(|&at| at as i64).collect();
    out.add_array("video.indexes", &indexes).unwrap();
    let shape = [frames.len(), frames[0].height, frames[0].width, 3];
    let decoded: Vec<u8> = frames.iter().flat_map(|frame| frame.data.iter().copied()).collect();
    out.add_array("video.decoded", &Array::from_shape_vec(shape, decoded).unwrap()).unwrap();
    for name in ["input", "conv1", "logits"] {
        let array: ArrayD<f32> = own.by_name(name).unwrap();
        out.add_array(name, &array).unwrap();
    }
    out.finish().unwrap();
    dump
}

#[test]
#[cfg(feature = "libtorch")]
fn a_dump_with_nothing_but_steps_is_refused_without_counting_its_0_arrays() {
    use ndarray::Array1;
    use ndarray_npy::NpzWriter;

    let harness = Harness::new();
    let dump = harness.path("dump.npz");
    let mut out = NpzWriter::new(fs::File::create(&dump).unwrap());
    out.add_array("video.indexes", &Array1::<i64>::zeros(16)).unwrap();
    out.finish().unwrap();
    let candidate = format!("npz:{dump}");
    let run = harness.diff(&[&["--candidate", &candidate][..], &SMALL_MODEL].concat());
    assert!(run.code == 2 && !run.stderr.contains(" 0 arrays"), "{}", run.stderr);
    assert!(run.stderr.contains("video."), "{}", run.stderr);
}
