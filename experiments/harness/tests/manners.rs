//! How the program behaves towards its user: outputs are tried first, stdout holds what was asked for,
//! `--quiet` is quiet, flags follow from the checkpoint, and the last run has a link.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Harness, Run, ffmpeg, json_of};
use serde_json::Value;

const SMALL: [&str; 8] = ["--depth", "18", "--width", "0.125", "--classes", "7", "--size", "64"];
/// A place in which nothing can be written, not even by root: it is below a file.
const BAD: &str = "file/below";

/// The names in the temporary folder.
fn names(h: &Harness) -> Vec<String> {
    let entries = fs::read_dir(h.path("")).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_output_never_replaces_an_input() {
    let h = Harness::new();
    let dump = h.path("a.npz");
    h.run(&[&["dump", "--engine", "scalar", "--out", &dump], &SMALL[..]].concat()).code(0);
    let before = fs::read(&dump).unwrap();
    let candidate = format!("npz:{dump}");
    let crooked = h.path("./a.npz");
    let commands: [&[&str]; 4] = [
        &["diff", "--candidate", &candidate, "--json", &dump],
        &["diff", "--candidate", &candidate, "--html", &crooked],
        &["diff", "--candidate", "scalar", "--input", &dump, "--junit", &dump],
        &["dump", "--engine", "scalar", "--input", &dump, "--out", &dump],
    ];
    for command in commands {
        let run = h.run(&[command, &SMALL[..]].concat()).code(2);
        assert!(run.stderr.contains("would replace it; name another one"), "{}", run.stderr);
        assert!(fs::read(&dump).unwrap() == before, "{command:?}");
    }
    let same = ["diff", "--candidate", &candidate, "--reference", &candidate];
    let run = h.run(&[&same, &SMALL[..]].concat()).code(2);
    assert!(run.stderr.contains("a file agrees with itself"), "{}", run.stderr);
    let copy = h.path("copy.npz");
    fs::copy(&dump, &copy).unwrap();
    let same = ["diff", "--candidate", &candidate, "--reference", &format!("npz:{copy}")];
    let run = h.run(&[&same, &SMALL[..]].concat()).code(0);
    assert!(run.stderr.contains("copies of each other"), "{}", run.stderr);
}

#[test]
fn results_that_cannot_be_printed_are_an_error_and_a_closed_pipe_is_none() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let run = |out: std::process::Stdio, error: std::process::Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.arg("schema").stdout(out).stderr(error).status().unwrap().code()
    };
    let null = std::process::Stdio::null;
    assert_eq!(run(full.try_clone().unwrap().into(), null()), Some(2));
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    let wrong = command.args(["diff", "--candidate", "npz:none.npz"]).stderr(full);
    assert_eq!(wrong.status().unwrap().code(), Some(2), "stderr is full");
    // The record, which had been written before, does not say that the command passed.
    let h = Harness::new();
    let (json, html) = (h.path("record.json"), h.path("report.html"));
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.args(["diff", "--candidate", "scalar", "--no-edge", "--json", &json, "--html", &html]);
    let status = command.args(SMALL).stdout(full).stderr(null()).status().unwrap();
    let left = json_of(&json);
    assert_eq!((status.code(), &left["verdict"]), (Some(2), &"error".into()));
    assert!(left["error"].as_str().unwrap().contains("stdout cannot be written"), "{left}");
}

#[test]
fn an_output_that_cannot_be_written_is_refused_before_any_work() {
    let h = Harness::new();
    fs::write(h.path("file"), "").unwrap();
    let diff: [(&[&str], &str); 8] = [
        (&["diff"], "--json"),
        (&["diff", "--json", "record.json"], "--html"),
        (&["diff"], "--junit"),
        (&["diff"], "--repro"),
        (&["diff", "--candidate", "npz:x.npz"], "--suggest-map"),
        (&["diff", "--candidate", "onnx:x.onnx"], "--model-explorer"),
        (&["diff", "--candidate", "onnx:x.onnx"], "--annotated-onnx"),
        (&["selftest"], "--json"),
    ];
    let others: [(&[&str], &str); 15] = [
        (&["selftest", "--null", "9"], "--html"),
        (&["eval", "mini"], "--out"),
        (&["eval", "mini"], "--json"),
        (&["ablate"], "--out"),
        (&["ablate"], "--html"),
        (&["train", "mini"], "--out"),
        (&["train", "mini"], "--json"),
        (&["bench"], "--out"),
        (&["bench"], "--html"),
        (&["dump", "--engine", "scalar"], "--out"),
        (&["export", "onnx"], "--out"),
        (&["weights", "convert", "formula:0"], "--out"),
        (&["report", "runs"], "--out"),
        (&["man"], "--out"),
        (&["gpu-check"], "--out"),
    ];
    let built = |command: &str| cfg!(feature = "cuda") || command != "gpu-check";
    for (command, flag) in diff.iter().chain(&others).filter(|(c, _)| built(c[0])) {
        let start = Instant::now();
        let run = h.run(&[command, &[*flag, BAD][..]].concat());
        run.refuses(&[&format!("{flag} {BAD}: file is not a folder")]);
        assert!(start.elapsed() < Duration::from_secs(3), "{command:?} {flag}");
        // `--json` names a file that can be written, so the reason for the failure stands there.
        if command.contains(&"--json") {
            assert_eq!(json_of(&h.path("record.json"))["kind"], "failure");
            fs::remove_file(h.path("record.json")).unwrap();
        }
        assert_eq!(names(&h), ["file"], "{command:?} {flag}");
    }
    h.run(&["diff", "--html", "-"]).refuses(&["--html -", "only --json writes to stdout"]);
    h.run(&["diff", "--json", "a", "--html", "a"]).refuses(&["--html a", "--json names the same"]);
    fs::write(h.path("runs"), "").unwrap();
    for command in [&["diff"][..], &["eval", "mini"], &["bench"]] {
        h.run(command).refuses(&["the default folder runs: this is a file"]);
    }
}

/// A limit on the size of files acts as a full disk, and needs no privilege.
#[test]
fn the_table_is_shown_if_the_record_cannot_be_written_in_the_end() {
    let h = Harness::new();
    let output = Command::new("bash")
        .args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "bash"])
        .arg(env!("CARGO_BIN_EXE_harness"))
        .args(["diff", "--no-edge", "--json", "record.json", "--html", "report.html"])
        .args(SMALL)
        .current_dir(h.path(""))
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{out}{err}");
    assert!(out.contains("PASS") && out.contains("logits"), "{out}");
    assert!(err.contains("record.json"), "{err}");
    // What is small enough is written, and says that the record is missing.
    assert_eq!(names(&h), ["record.json"], "nothing is left half-written");
    assert_eq!(json_of(&h.path("record.json"))["verdict"], "error");
}

/// The record on stdout, which holds nothing else.
fn on_stdout(run: Run) -> Value {
    serde_json::from_str(&run.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}{}", run.stdout, run.stderr))
}

#[test]
fn every_record_can_go_to_stdout_and_quiet_leaves_stderr_empty() {
    let h = Harness::new();
    let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mini").display().to_string();
    let videos = ["--data", &data, "--limit", "4", "--protocol", "val"];
    let cases: [(&str, Vec<&str>); 6] = [
        ("diff", [&["diff", "--no-edge"], &SMALL[..]].concat()),
        ("selftest", vec!["selftest", "--depth", "10", "--only", "eps", "--mutations", "1"]),
        ("null", vec!["selftest", "--null", "1"]),
        ("bench", {
            let few = ["--engines", "scalar", "--precision", "f32", "--threads", "1"];
            let short = ["--rounds", "1", "--starts", "1", "--runs", "1", "--no-profile"];
            [&["bench"], &few[..], &short, &SMALL].concat()
        }),
        ("eval", [&["eval", "mini", "--engine", "scalar"], &videos[..]].concat()),
        ("ablate", [&["ablate", "--set", "ioi=off"], &videos[..]].concat()),
    ];
    let with_videos = ffmpeg().is_some();
    for (kind, command) in cases {
        if matches!(kind, "eval" | "ablate") && !with_videos {
            continue;
        }
        let run = h.run(&[&command, &["--json", "-", "--quiet"][..]].concat());
        assert_eq!(run.stderr, "", "{kind}");
        assert!(run.code < 2, "{kind}: {}", run.code);
        assert_eq!(on_stdout(run)["kind"], kind);
        assert!(!Path::new(&h.path("-")).exists());
    }
}

#[test]
fn quiet_silences_neither_errors_nor_results() {
    let h = Harness::new();
    let run = h.run(&[&["--quiet", "diff", "--no-edge"], &SMALL[..]].concat()).code(0);
    assert!(run.stdout.contains("PASS") && run.stderr.is_empty(), "{}", run.stderr);
    h.run(&["diff", "--quiet", "--candidate", "npz:nowhere.npz"]).refuses(&["nowhere.npz"]);
}

#[test]
fn the_last_run_has_a_link() {
    let h = Harness::new();
    for seed in ["formula:1", "formula:2"] {
        h.run(&[&["diff", "--no-edge", "--input", seed], &SMALL[..]].concat()).code(0);
        let record = json_of(&h.path("runs/latest/record.json"));
        assert_eq!(record["run"]["input"], seed);
    }
    let runs = fs::read_dir(h.path("runs")).unwrap().count();
    assert_eq!(runs, 3, "two runs and the link");
    let report = h.run(&["report", "runs/latest"]).code(0);
    assert_eq!(report.stdout, "runs/latest/report.html\n");
    // As a shell expands `runs/*`, and a folder of runs: the last run is counted once.
    let (mut all, latest) = (names_in(&h.path("runs")), "runs/latest".to_owned());
    all.push(latest);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    for arguments in [&all[..], &["runs"]] {
        let report = h.run(&[&["report", "--out", "pages"], arguments].concat()).code(0);
        assert_eq!(report.stdout.lines().count(), 3, "two reports and an index: {}", report.stdout);
    }
}

fn names_in(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let runs = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let mut names: Vec<_> = runs.map(|run| run.path().display().to_string()).collect();
    names.sort();
    names
}

#[test]
fn model_flags_follow_from_the_checkpoint() {
    let h = Harness::new();
    let (model, said) = (
        ["--depth", "18", "--width", "0.3", "--classes", "7", "--frames", "8"],
        "inferred from the checkpoint: depth 18, width 0.3, 8 frames, 7 classes, pos_dim 16,8,4,2\n",
    );
    let more = ["--pos-dim", "16,8,4,2", "--out", "w.safetensors"];
    h.run(&[&["weights", "convert", "formula:0"], &model[..], &more].concat()).code(0);
    let inspected = h.run(&["weights", "inspect", "w.safetensors"]).code(0);
    assert_eq!(inspected.stderr, said);
    assert!(!inspected.stdout.contains("see below"), "{}", inspected.stdout);
    let all = [&["weights", "inspect", "w.safetensors"], &model[..], &more[..2]].concat();
    assert_eq!(h.run(&all).code(0).stderr, "", "nothing is inferred if every flag is given");
    let small = ["--weights", "w.safetensors", "--size", "64"];
    for command in [&["diff", "--no-edge"][..], &["dump", "--engine", "scalar", "--out", "d.npz"]] {
        let run = h.run(&[command, &small].concat()).code(0);
        assert!(run.stderr.starts_with(said), "{}", run.stderr);
    }
    let export = ["export", "onnx", "--out", "m.onnx"];
    assert!(h.run(&[&export[..], &small].concat()).code(0).stderr.starts_with(said));
    // A flag overrides, and what then contradicts the file is named.
    let run = h.run(
        &[&["dump", "--engine", "scalar", "--out", "d.npz", "--classes", "9"], &small[..]].concat(),
    );
    let run = run.code(2);
    assert!(
        run.stderr.contains("tensor `fc.") && run.stderr.contains("expected [9"),
        "{}",
        run.stderr
    );
    assert!(
        run.stderr.starts_with("inferred from the checkpoint: depth 18, width 0.3, 8 frames, pos")
    );
    let inspected = h.run(&["weights", "inspect", "w.safetensors", "--depth", "10"]).code(1);
    assert!(inspected.stdout.contains("is not a tensor of this model"), "{}", inspected.stdout);
}
