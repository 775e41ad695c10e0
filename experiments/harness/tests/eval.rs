//! Runs `harness eval` on real video files, which the tests make themselves.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use common::{Harness, ffmpeg, json_of};
use serde_json::Value;

/// A small network, which is fast even at 224 x 224.
const SMALL: [&str; 8] =
    ["--depth", "10", "--width", "0.125", "--classes", "10", "--weights", "formula:0"];

/// A folder with a list and twelve videos whose names contain a space. It is made once.
fn videos() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let ffmpeg = ffmpeg()?;
            let folder = tempfile::TempDir::new().unwrap().keep();
            let mut list = String::new();
            for i in 0..12 {
                let name = format!("clip {i}.mp4");
                let source = format!("testsrc2=size=96x72:rate=25:duration={}", 1 + i % 3);
                make(&ffmpeg, &source, &folder.join(&name));
                list += &format!("{name} {}\n", i % 10);
            }
            fs::write(folder.join("list.txt"), list).unwrap();
            Some(folder)
        })
        .as_deref()
}

fn make(ffmpeg: &str, source: &str, path: &Path) {
    let mut command = Command::new(ffmpeg);
    command.args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", source, "-c:v", "mpeg4"]);
    assert!(command.arg(path).status().unwrap().success(), "{source}");
}

/// The arguments of an evaluation of the videos in a folder that a list names.
fn arguments<'a>(folder: &'a str, list: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["eval", "k400", "--protocol", "val", "--data", folder, "--list", list];
    [&fixed[..], &SMALL, more].concat()
}

#[test]
fn a_killed_run_resumes_to_the_same_table() {
    let Some(folder) = videos() else { return };
    let harness = Harness::new();
    let (data, list) =
        (folder.display().to_string(), folder.join("list.txt").display().to_string());
    let whole = harness.path("whole");
    let run = harness.run(&arguments(&data, &list, &["--out", &whole]));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let wanted = fs::read(Path::new(&whole).join("videos.parquet")).unwrap();
    for round in 0..10u64 {
        let out = harness.path(&format!("killed{round}"));
        let more = ["--out", out.as_str()];
        let mut child = Command::new(env!("CARGO_BIN_EXE_harness"))
            .args(arguments(&data, &list, &more))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(60 * (round + 1)));
        child.kill().unwrap();
        child.wait().unwrap();
        let more = ["--out", out.as_str(), "--resume"];
        let run = harness.run(&arguments(&data, &list, &more));
        assert_eq!(run.code, 0, "round {round}: {}{}", run.stdout, run.stderr);
        let got = fs::read(Path::new(&out).join("videos.parquet")).unwrap();
        assert!(got == wanted, "round {round}: the table differs");
    }
}

#[test]
fn an_incomplete_line_of_the_journal_is_dropped_and_other_settings_are_refused() {
    let Some(folder) = videos() else { return };
    let harness = Harness::new();
    let (data, list) =
        (folder.display().to_string(), folder.join("list.txt").display().to_string());
    let out = harness.path("run");
    let all = ["--out", out.as_str()];
    assert_eq!(harness.run(&arguments(&data, &list, &all)).code, 0);
    let table = fs::read(Path::new(&out).join("videos.parquet")).unwrap();
    let journal = Path::new(&out).join("videos.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    let cut: String = text.lines().take(6).map(|line| format!("{line}\n")).collect();
    fs::write(&journal, cut + "{\"index\": 7, \"pa").unwrap();
    let resume = ["--out", out.as_str(), "--resume"];
    let run = harness.run(&arguments(&data, &list, &resume));
    assert!(
        run.code == 0 && run.stderr.contains("5 videos are done, and 7 are left"),
        "{}",
        run.stderr
    );
    assert!(fs::read(Path::new(&out).join("videos.parquet")).unwrap() == table);
    // The journal is complete again.
    let run = harness.run(&arguments(&data, &list, &resume));
    assert!(
        run.code == 0 && run.stderr.contains("12 videos are done, and 0 are left"),
        "{}",
        run.stderr
    );
    assert!(fs::read(Path::new(&out).join("videos.parquet")).unwrap() == table);
    let again = harness.run(&arguments(&data, &list, &all));
    assert!(again.code == 2 && again.stderr.contains("--resume"), "{}", again.stderr);
    let other = ["--out", out.as_str(), "--resume", "--order", "reversed"];
    let other = harness.run(&arguments(&data, &list, &other));
    assert!(other.code == 2 && other.stderr.contains("protocol"), "{}", other.stderr);
}

#[test]
fn shards_merge_to_the_whole() {
    let Some(folder) = videos() else { return };
    let harness = Harness::new();
    let (data, list) =
        (folder.display().to_string(), folder.join("list.txt").display().to_string());
    let outs = ["whole", "first", "second", "merged"].map(|name| harness.path(name));
    let [whole, first, second, merged] = outs.each_ref().map(String::as_str);
    for more in [
        vec!["--out", whole],
        vec!["--out", first, "--shard", "1/2"],
        vec!["--out", second, "--shard", "2/2"],
        vec!["--out", merged, "--merge", first, second],
    ] {
        let run = harness.run(&arguments(&data, &list, &more));
        assert_eq!(run.code, 0, "{more:?}: {}{}", run.stdout, run.stderr);
    }
    let table = |folder: &str| fs::read(Path::new(folder).join("videos.parquet")).unwrap();
    assert!(table(merged) == table(whole));
    let more = ["--out", &harness.path("x"), "--merge", first, first];
    let twice = harness.run(&arguments(&data, &list, &more));
    assert!(
        twice.code == 2 && twice.stderr.contains("is also in another of the runs"),
        "{}",
        twice.stderr
    );
}

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
