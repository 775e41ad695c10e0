//! A training that is killed can be resumed.
#![cfg(feature = "libtorch")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Harness, json_of};

/// Schedulers start a job again that ends with 75, and give up one that ends with 2.
#[test]
fn a_training_that_is_stopped_in_its_first_epoch_starts_again() {
    let harness = Harness::new();
    let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mini").display().to_string();
    let (out, short) = (harness.path("out"), harness.path("short"));
    // Makes the videos, so that the signal comes while the network is trained.
    let train = ["train", "mini", "--data", &data];
    let few = ["--videos", "20", "--epochs", "1", "--batch", "20", "--out", &short];
    let run = harness.run(&[&train[..], &few].concat());
    if run.stderr.contains("no ffmpeg was found") {
        return skip::skip!(Ffmpeg, "no ffmpeg was found");
    }
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let mut child = Command::new(env!("CARGO_BIN_EXE_harness"))
        .args(train)
        .args(["--videos", "200", "--batch", "20", "--out", &out])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut said: Vec<String> = vec![];
    while said.last().is_none_or(|line| !line.contains("steps in an epoch")) {
        said.push(lines.next().expect("the training should begin"));
    }
    // An epoch of ten steps takes two seconds.
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
    said.extend(lines);
    let said = said.join("\n");
    assert_eq!(child.wait().unwrap().code(), Some(75), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.contains("no epoch of this run has ended"), "{said}");
    assert!(!Path::new(&out).join("model.safetensors").exists());
}

#[test]
fn a_killed_training_goes_on_to_the_same_bits() {
    let harness = Harness::new();
    let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mini").display().to_string();
    let fixed =
        ["train", "mini", "--data", &data, "--videos", "60", "--epochs", "3", "--batch", "20"];
    let (whole, killed) = (harness.path("whole"), harness.path("killed"));
    let run = harness.run(&[&fixed[..], &["--out", &whole]].concat());
    if run.stderr.contains("no ffmpeg was found") {
        return skip::skip!(Ffmpeg, "no ffmpeg was found");
    }
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let mut child = Command::new(env!("CARGO_BIN_EXE_harness"))
        .args(fixed)
        .args(["--out", &killed])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !Path::new(&killed).join("training.safetensors").exists() {
        assert!(start.elapsed() < Duration::from_secs(300), "no epoch ended within 300 s");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let run = harness.run(&[&fixed[..], &["--out", &killed]].concat());
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let on_stdout = ["--out", &killed, "--resume", "--json", "-", "--quiet"];
    let alone = harness.run(&[&fixed[..], &on_stdout].concat()).code(0);
    let record: serde_json::Value = serde_json::from_str(&alone.stdout).unwrap();
    assert_eq!((record["kind"].as_str(), alone.stderr.as_str()), (Some("train"), ""));
    assert!(!run.stderr.contains("epoch   1 of"), "it started from the beginning: {}", run.stderr);
    let model = |folder: &str| fs::read(Path::new(folder).join("model.safetensors")).unwrap();
    assert!(model(&whole) == model(&killed), "the resumed weights differ");
    let record = json_of(&format!("{killed}/record.json"));
    assert_eq!(record["epochs"].as_array().unwrap().len(), 3);
    let other = [&fixed[..], &["--out", &killed, "--resume", "--seed", "1"]].concat();
    let run = harness.run(&other);
    assert!(run.code == 2 && run.stderr.contains("other settings"), "{}", run.stderr);
}
