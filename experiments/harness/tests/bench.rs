//! `harness bench`: contestants that work, give wrong results, fail or hang, and baselines.

mod common;

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::json_of;
use serde_json::Value;
use tempfile::TempDir;

const SMALL: [&str; 18] = [
    "--depth",
    "10",
    "--width",
    "0.25",
    "--size",
    "64",
    "--classes",
    "7",
    "--precision",
    "f32",
    "--threads",
    "1",
    "--rounds",
    "3",
    "--runs",
    "1",
    "--no-profile",
    "--weights=formula:0",
];

/// A peer in Python that speaks the protocol of the bench. `$HOW` says what goes wrong.
const PEER: &str = r#"
import json, os, signal, sys, time
how = os.environ["HOW"]
log = open(os.environ["LOG"], "a")
open("pid", "w").write(str(os.getpid()))
me = sys.argv[1]
def say(**what):
    print(json.dumps(what), flush=True)
if how == "start":
    sys.exit("the cable is loose")
if how == "unsupported":
    say(error="not here", unsupported=True)
    sys.exit(2)
signals = {"interrupt": 1, "impatient": 2}.get(how, 0)
with open("starts", "a+") as starts:
    starts.write(me + "\n")
    starts.seek(0)
    count = len(starts.readlines())
# The first start checks the peer before all settings, the second one is for the first setting.
if signals and count <= 2:
    say(error="later", unsupported=True)
    sys.exit(2)
if how == "worn" and count == 3:
    sys.exit("the cable is worn")
if how == "late":
    time.sleep(1000)
say(ready=True, name=me, version="1", load_s=0.1, first_s=0.1)
turns = 0
for line in sys.stdin:
    ask = json.loads(line)
    if ask["cmd"] == "run":
        turns += 1
        print(me, file=log, flush=True)
        if how == "middle" and turns == 2:
            sys.exit("out of memory")
        if how == "hang" and turns == 2:
            time.sleep(1000)
        for _ in range(signals):
            os.kill(os.getppid(), signal.SIGINT)
            time.sleep(1)
        say(seconds=[0.001] * ask["n"])
    elif ask["cmd"] == "bytes" and how == "slow bytes":
        say(seconds=[0.5] * ask["n"])
    elif ask["cmd"] == "bytes":
        say(error="only clips", unsupported=True)
    elif ask["cmd"] == "output":
        head = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 7), }"
        head = head.ljust(117) + "\n"
        with open(ask["path"], "wb") as file:
            file.write(b"\x93NUMPY\x01\x00" + bytes([len(head), 0]) + head.encode() + bytes(28))
        say(written=ask["path"])
    else:
        say(peak_bytes=1, layers=[])
"#;

struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("peer.py"), PEER).unwrap();
        Bench(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Runs a bench with peers that behave as `how` says. Returns exit code, stdout and stderr.
    fn run(&self, how: &str, arguments: &[&str]) -> (i32, String, String) {
        let once: &[&str] = if arguments.contains(&"--starts") { &[] } else { &["--starts", "1"] };
        let output = Command::new(env!("CARGO_BIN_EXE_harness"))
            .args(["bench", "--out", "out"])
            .args(SMALL)
            .args(once)
            .args(arguments)
            .current_dir(self.path())
            .env("HARNESS_PEERS", "python3")
            .env("HARNESS_PEER_SCRIPT", self.path().join("peer.py"))
            .env("LOG", self.path().join("log"))
            .env("HOW", how)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    fn record(&self) -> Value {
        json_of(&self.path().join("out/record.json").display().to_string())
    }
}

#[test]
fn our_engines_are_correct_and_the_table_fits_100_columns() {
    let bench = Bench::new();
    let (code, out, err) = bench.run("", &["--engines", "cpu,scalar", "--batch", "1,2"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
    let record = bench.record();
    let settings = record["settings"].as_array().unwrap();
    assert_eq!(settings.len(), 2);
    for setting in settings {
        let entries = setting["entries"].as_array().unwrap();
        assert_eq!(entries.len(), 2, "{setting}");
        assert!(entries.iter().all(|entry| entry["right"] == true), "{setting}");
        assert!(entries.iter().all(|entry| entry["rounds_s"].as_array().unwrap().len() == 3));
        for entry in entries {
            let processes = entry["processes"].as_array().unwrap();
            let rounds = processes.iter().map(|process| process["rounds"].as_u64().unwrap());
            assert_eq!(rounds.sum::<u64>(), 3, "{entry}");
            if cfg!(target_os = "linux") {
                assert!(processes.iter().all(|p| p["page_faults"].is_u64()), "{entry}");
            }
        }
    }
}

#[test]
fn the_time_from_bytes_is_measured_and_the_output_from_them_is_checked() {
    let bench = Bench::new();
    let flags = ["--engines", "cpu,scalar,onnxruntime", "--from-bytes", "--batch", "2"];
    let (code, out, err) = bench.run("slow bytes", &flags);
    assert_eq!(code, 1, "the output of this peer is wrong: {out}{err}");
    assert!(out.contains("bytes") && !out.contains("p99"), "{out}");
    let entries = bench.record()["settings"][0]["entries"].as_array().unwrap().clone();
    for entry in &entries[..2] {
        assert_eq!(entry["right"], true, "{entry}");
        assert!(entry["from_bytes_s"].as_f64().unwrap() > 0.0, "{entry}");
    }
    assert_eq!(entries[2]["from_bytes_s"], 0.5);

    let (code, out, err) = bench.run("", &["--engines", "cpu,onnxruntime", "--from-bytes"]);
    assert_eq!(code, 1, "{out}{err}");
    let entries = bench.record()["settings"][0]["entries"].as_array().unwrap().clone();
    assert_eq!(entries[1]["from_bytes_s"], Value::Null, "a peer that takes clips only stays");
}

#[test]
fn a_wrong_peer_diverges_and_turns_interleave() {
    let bench = Bench::new();
    let (code, out, err) = bench.run("", &["--engines", "onnxruntime,openvino"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("WRONG"), "{out}");
    assert_eq!(bench.record()["verdict"], "diverged");
    let log = std::fs::read_to_string(bench.path().join("log")).unwrap();
    let turns: Vec<&str> = log.lines().collect();
    let (a, b) = ("onnxruntime", "openvino");
    assert_eq!(turns, [a, b, b, a, a, b], "the order rotates from round to round");
}

#[test]
fn a_peer_that_fails_is_left_out_with_its_message_and_the_others_stay() {
    for (how, words) in [("start", "the cable is loose"), ("middle", "out of memory")] {
        let bench = Bench::new();
        let (code, out, err) = bench.run(how, &["--engines", "cpu,onnxruntime"]);
        assert_eq!(code, 1, "{how}: {out}{err}");
        let record = bench.record();
        assert_eq!(record["verdict"], "incomplete", "{how}");
        let setting = &record["settings"][0];
        assert_eq!(setting["entries"][0]["name"], "cpu", "{how}");
        assert!(setting["left_out"][0][1].as_str().unwrap().contains(words), "{setting}");
    }
}

#[test]
fn a_contestant_runs_in_several_processes() {
    let bench = Bench::new();
    let (code, out, err) = bench.run("", &["--engines", "onnxruntime,openvino", "--starts", "2"]);
    assert_eq!(code, 1, "the output of these peers is wrong: {out}{err}");
    let lines = |file: &str| {
        let text = std::fs::read_to_string(bench.path().join(file)).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (a, b) = ("onnxruntime", "openvino");
    assert_eq!(lines("starts"), [a, b, a, b, a, b], "the first start is only a check");
    assert_eq!(lines("log"), [a, b, b, a, a, b], "the order rotates across starts");
    for entry in bench.record()["settings"][0]["entries"].as_array().unwrap() {
        assert_eq!(entry["rounds_s"].as_array().unwrap().len(), 3, "{entry}");
    }

    let bench = Bench::new();
    let (code, out, err) = bench.run("worn", &["--engines", "cpu,onnxruntime", "--starts", "2"]);
    assert_eq!(code, 1, "{out}{err}");
    let setting = &bench.record()["settings"][0];
    assert_eq!(setting["entries"][0]["rounds_s"].as_array().unwrap().len(), 3, "{setting}");
    assert!(setting["left_out"][0][1].as_str().unwrap().contains("worn"), "{setting}");
}

#[test]
fn a_peer_that_is_not_supported_is_not_a_failure() {
    let (code, out, err) = Bench::new().run("unsupported", &["--engines", "cpu,openvino"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("left out: not here"), "{out}");
}

#[test]
fn a_baseline_is_saved_and_compared_and_unsuitable_ones_are_refused() {
    let bench = Bench::new();
    let cpu = ["--engines", "cpu"];
    let with = |more: &[&str]| bench.run("", &[&cpu, more].concat());
    let (code, out, err) = with(&["--save-baseline", "here"]);
    assert_eq!(code, 0, "{out}{err}");
    // Three rounds are too few to prove a regression, whatever the machine does.
    let (code, out, err) = with(&["--baseline", "here"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("baseline here: 0 of 1 medians are significantly longer"), "{out}");
    let (code, _, err) = with(&["--batch-size", "2"]);
    assert!(code == 2 && err.contains("give --batch 2"), "{err}");
    let (code, out, err) = with(&["--baseline", "here", "--batch", "2"]);
    assert_eq!(code, 2, "{out}{err}");
    assert!(out.contains("the baseline lacks f32, batch 2"), "{out}");
    assert!(err.contains("nothing in common"), "{err}");
    for (more, words) in [
        (["--baseline", "here", "--frames", "32"], "another model"),
        (["--baseline", "nobody", "--frames", "16"], "there is no baseline"),
        (["--baseline", "../x", "--frames", "16"], "is not a valid name"),
    ] {
        let (code, out, err) = with(&more);
        assert_eq!(code, 2, "{more:?} {out}{err}");
        assert!(err.contains(words), "{err}");
    }
}

#[test]
fn a_peer_that_hangs_is_ended_and_the_others_go_on() {
    for how in ["late", "hang"] {
        let bench = Bench::new();
        let start = Instant::now();
        let (code, out, err) = bench.run(how, &["--engines", "cpu,onnxruntime", "--patience", "6"]);
        assert_eq!(code, 1, "{how}: {out}{err}");
        assert!(start.elapsed() < Duration::from_secs(300), "{how}: {:?}", start.elapsed());
        let setting = &bench.record()["settings"][0];
        assert_eq!(setting["entries"][0]["name"], "cpu", "{how}");
        let why = setting["left_out"][0][1].as_str().unwrap();
        assert!(why.contains("has not answered for 6 s") && why.contains("--patience"), "{why}");
        let pid = std::fs::read_to_string(bench.path().join("pid")).unwrap();
        assert!(!Path::new("/proc").join(pid).exists(), "{how}: the peer still runs");
    }
}

#[test]
fn ctrl_c_keeps_what_was_measured() {
    // The first Ctrl-C asks the bench to stop, a second one ends it at once.
    for how in ["interrupt", "impatient"] {
        let bench = Bench::new();
        let more = ["--engines", "cpu,onnxruntime", "--batch", "1,2", "--save-baseline", "part"];
        let (code, out, err) = bench.run(how, &more);
        assert_eq!(code, 130, "{how}: {out}{err}");
        assert!(err.contains("stopping after this step"), "{err}");
        let record = bench.record();
        let settings = record["settings"].as_array().unwrap();
        assert_eq!(settings.len(), 1, "{how}: the second setting was interrupted");
        assert_eq!(settings[0]["batch"], 1);
        assert_eq!(record["verdict"], "incomplete", "{how}");
        assert!(
            !bench.path().join("runs").exists(),
            "an interrupted bench must not become a baseline"
        );
        assert!(err.contains("interrupted; 1 of 2 settings are kept"), "{err}");
        if how == "interrupt" {
            assert!(bench.path().join("out/report.html").exists());
        }
    }
}

#[test]
fn invalid_arguments_are_refused_before_anything_is_done() {
    let bench = Bench::new();
    let (code, _, err) = bench.run("", &["--patience", "0"]);
    assert!(code == 2 && err.contains("--patience"), "{err}");
    let lacking = cpu::Isa::ALL.into_iter().find(|isa| isa.detect().is_none());
    match lacking {
        Some(isa) => {
            let (code, _, err) = bench.run("", &["--isa", isa.name()]);
            assert_eq!((code, err.lines().count()), (2, 1), "{err}");
            assert!(err.contains("this CPU does not have it"), "{err}");
        }
        None => skip::skip!(Isa, "the refusal of --isa: this processor has every instruction set"),
    }
    assert!(!bench.path().join("out").exists());
}

/// Runs a bench of peers with the script that belongs to the program, one start each and also from bytes. Returns
/// the exit code and what was printed.
fn run_peers(bench: &Bench, engines: &str, set: &[(&str, &OsStr)]) -> (Option<i32>, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/lib/peer.py");
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.args(["bench", "--out", "out", "--engines", engines, "--starts", "1"]).args(SMALL);
    command.args(["--precision", "bf16", "--from-bytes"]).current_dir(bench.path());
    command.env_remove("HARNESS_XLA").env("HARNESS_PEER_SCRIPT", script).envs(set.iter().copied());
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// The contestants of each setting, of which there is one for each precision; all outputs must be right.
fn took_part(bench: &Bench) -> Vec<Vec<String>> {
    let record = bench.record();
    let entries = |setting: &Value| setting["entries"].as_array().unwrap().clone();
    let settings = record["settings"].as_array().unwrap().iter().map(entries);
    let name = |entry: &Value| {
        assert_eq!(entry["right"], true, "{entry}");
        entry["name"].as_str().unwrap().to_owned()
    };
    settings.map(|entries| entries.iter().map(name).collect()).collect()
}

/// The Flax port, compiled by XLA and converted to LiteRT.
#[test]
fn xla_and_litert_take_part_with_right_outputs() {
    let Some(python) = std::env::var_os("HARNESS_XLA") else {
        return skip::skip!(Peers, "HARNESS_XLA is not set");
    };
    let bench = Bench::new();
    let (code, said) = run_peers(&bench, "cpu,xla,litert", &[("HARNESS_XLA", &python)]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(took_part(&bench), [vec!["cpu", "xla", "litert"], vec!["cpu", "xla"]], "{said}");
    for engine in ["xla", "litert"] {
        let (code, said) = run_peers(&bench, &format!("cpu,{engine}"), &[]);
        assert_ne!(code, Some(0), "a contestant that was named must take part");
        let words: Vec<&str> = said.split_whitespace().collect();
        let missing = "set HARNESS_XLA to a Python with JAX and Flax";
        assert!(words.join(" ").contains(missing), "{said}");
    }
}

/// The runtimes that convert the ONNX file themselves. None of them may install anything: MNN's own script runs pip.
#[test]
fn mnn_ncnn_and_tract_take_part_and_install_nothing() {
    let Some(python) = std::env::var_os("HARNESS_SMALL_PEERS") else {
        return skip::skip!(Peers, "HARNESS_SMALL_PEERS is not set");
    };
    let bench = Bench::new();
    let (tools, mark) = (bench.path().join("bin"), bench.path().join("pip-was-run"));
    std::fs::create_dir(&tools).unwrap();
    for name in ["pip", "pip3"] {
        let pip = tools.join(name);
        std::fs::write(&pip, format!("#!/bin/sh\necho \"$@\" >> '{}'\n", mark.display())).unwrap();
        std::fs::set_permissions(&pip, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let mut path = tools.into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let set = [("HARNESS_SMALL_PEERS", &*python), ("PATH", &*path)];
    let (code, said) = run_peers(&bench, "cpu,mnn,ncnn,tract", &set);
    assert_eq!(code, Some(0), "{said}");
    let all = vec!["cpu", "mnn", "ncnn", "tract"];
    assert_eq!(took_part(&bench), [all, vec!["cpu", "ncnn"]], "{said}");
    assert!(!mark.exists(), "pip was run: {}", std::fs::read_to_string(&mark).unwrap());
}
