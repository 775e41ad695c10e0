//! Runs `harness eval` on real video files, which the tests make themselves.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::videos::{arguments, make, videos};
use common::{Harness, ffmpeg, json_of};
use serde_json::Value;

#[test]
fn undecodable_files_are_listed_and_make_the_exit_code_1() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let harness = Harness::new();
    let folder = PathBuf::from(harness.path("data"));
    fs::create_dir(&folder).unwrap();
    make(&ffmpeg, "testsrc=size=64x48:rate=25:duration=4", &folder.join("good.mp4"));
    make(&ffmpeg, "testsrc=size=64x48:rate=1:duration=1", &folder.join("one.mp4"));
    fs::write(folder.join("empty.mp4"), "").unwrap();
    fs::write(folder.join("text.mp4"), "not a video\n".repeat(50)).unwrap();
    let good = fs::read(folder.join("good.mp4")).unwrap();
    fs::write(folder.join("broken.mp4"), &good[..good.len() / 3]).unwrap();
    let list = "good.mp4 1\nbroken.mp4 1\nempty.mp4 1\ntext.mp4 1\none.mp4 1\n";
    fs::write(folder.join("list.txt"), list).unwrap();
    let (data, list) =
        (folder.display().to_string(), folder.join("list.txt").display().to_string());
    let out = harness.path("run");
    let run = harness.run(&arguments(&data, &list, &["--out", &out]));
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    let record = json_of(&format!("{out}/record.json"));
    let bad: Vec<&str> = record["manifest"]["undecodable"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| pair[0].as_str().unwrap())
        .collect();
    assert_eq!(bad, ["broken.mp4", "empty.mp4", "text.mp4"]);
    let frames: Vec<u64> = record["videos"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["frames"].as_u64().unwrap())
        .collect();
    assert_eq!(frames, [100, 0, 0, 0, 1]);
    assert_eq!(record["verdict"], "incomplete");
    assert!(
        run.stdout.contains("3 undecodable") && run.stdout.contains("INCOMPLETE"),
        "{}",
        run.stdout
    );
}

#[test]
fn missing_files_stop_the_run_before_it_starts() {
    let Some(folder) = videos() else { return };
    let harness = Harness::new();
    let data = folder.display().to_string();
    let list = harness.path("more.txt");
    fs::write(&list, "clip 0.mp4 0\ngone.mp4 1\n").unwrap();
    let out = harness.path("run");
    let refused = harness.run(&arguments(&data, &list, &["--out", &out]));
    assert!(refused.code == 2 && refused.stderr.contains("gone.mp4"), "{}", refused.stderr);
    assert!(!Path::new(&out).exists());
    let more = ["--out", out.as_str(), "--allow-missing"];
    let run = harness.run(&arguments(&data, &list, &more));
    assert_eq!(run.code, 1, "{}", run.stderr);
    let page = fs::read_to_string(format!("{out}/report.html")).unwrap();
    let (at, verdict) = (page.find("files are missing").unwrap(), page.find("<main").unwrap());
    assert!(at < verdict, "the report says so before its content");
}

fn share(record: &Value, engine: usize) -> (f64, f64, f64) {
    let top1 = &record["engines"][engine]["top1"];
    let number = |key: &str| top1[key].as_f64().unwrap();
    (number("hits") / number("of"), number("low"), number("high"))
}

/// The built-in network on the built-in data set, with the frames in several orders.
#[test]
fn only_the_order_of_frames_tells_the_classes_apart() {
    if ffmpeg().is_none() {
        return;
    }
    let harness = Harness::new();
    let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mini").display().to_string();
    let eval = |order: &str| {
        let out = harness.path(order.split(':').next().unwrap());
        let fixed = ["eval", "mini", "--part", "val", "--data", &data, "--out", &out, "--order"];
        let run = harness.run(&[&fixed[..], &[order]].concat());
        assert_eq!(run.code, 0, "{order}: {}{}", run.stdout, run.stderr);
        json_of(&format!("{out}/record.json"))
    };
    let natural = eval("natural");
    assert!(share(&natural, 0).0 >= 0.9, "{:?}", share(&natural, 0));
    assert_eq!(natural["disagreements"].as_array().unwrap().len(), 0);
    // Chance is one in ten, which lies in the 95 % interval of these seeds.
    for order in ["shuffled:1", "still:1"] {
        let (accuracy, low, high) = share(&eval(order), 0);
        assert!(low <= 0.1 && 0.1 <= high, "{order}: {accuracy} ({low} to {high})");
    }
    assert!(share(&eval("reversed"), 0).0 < 0.1, "each class is the reversal of another");
}

#[test]
fn invalid_arguments_are_refused() {
    let harness = Harness::new();
    if ffmpeg().is_none() {
        return;
    }
    harness.run(&["eval", "k400"]).refuses(&["--weights"]);
    harness.run(&["eval", "k400", "--weights", "formula:0"]).refuses(&["--data"]);
    harness.run(&["eval", "mini", "--size", "32"]).refuses(&["64x64", "--size"]);
    harness.run(&["eval", "mini", "--list", "x"]).refuses(&["--list"]);
}
