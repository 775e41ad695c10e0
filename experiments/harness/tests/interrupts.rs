//! Ctrl-C ends every command with exit code 130 and one sentence, and leaves no process and no half-written
//! file. `eval_runs` and `bench` test the commands that keep what they have done.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::videos::{signal, wait_until};
use common::{Harness, ffmpeg};

/// Starts the program in the temporary folder, with its temporary files in `tmp` there.
fn start(h: &Harness, arguments: &[&str], ffmpeg: Option<&str>) -> Child {
    let temporary = h.path("tmp");
    fs::create_dir_all(&temporary).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.args(arguments).current_dir(h.path("")).env("TMPDIR", temporary);
    ffmpeg.map(|path| command.env("FFMPEG", path));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Asserts that the program was interrupted, with one sentence as its last line; returns stderr.
#[track_caller]
fn interrupted(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    let last = stderr.lines().last().unwrap();
    assert!(last.starts_with("harness: interrupted; "), "{stderr}");
    stderr
}

#[test]
fn a_dump_leaves_no_part() {
    let h = Harness::new();
    let child = start(&h, &["dump", "--engine", "scalar", "--out", "dump.npz"], None);
    wait_until("the file to be begun", || Path::new(&h.path("dump.npz.part")).exists());
    signal(child.id(), "INT");
    let stderr = interrupted(child);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("the same command starts over"), "{stderr}");
    let left: Vec<_> = fs::read_dir(h.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["tmp"]);
    assert_eq!(fs::read_dir(h.path("tmp")).unwrap().count(), 0);
}

#[test]
fn a_study_that_is_stopped_early_does_not_pass() {
    let h = Harness::new();
    for (word, code) in [("INT", 130), ("TERM", 75)] {
        let mut child = start(&h, &["selftest", "--null", "100000", "--json", "null.json"], None);
        std::thread::sleep(std::time::Duration::from_secs(3));
        signal(child.id(), word);
        assert_eq!(child.wait().unwrap().code(), Some(code), "{word}");
        assert_eq!(common::json_of(&h.path("null.json"))["verdict"], "incomplete");
    }
}

#[test]
fn other_signals_end_a_command_as_they_do_by_default() {
    use std::os::unix::process::ExitStatusExt;
    let h = Harness::new();
    let mut child = start(&h, &["dump", "--engine", "scalar", "--out", "dump.npz"], None);
    wait_until("the file to be begun", || Path::new(&h.path("dump.npz.part")).exists());
    signal(child.id(), "TERM");
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    assert!(!Path::new(&h.path("dump.npz.part")).exists());
}

/// An ffmpeg that never ends, and neither does the process that it starts; `pids` gets their numbers.
fn endless_ffmpeg(h: &Harness, real: &str) -> String {
    let (path, pids) = (h.path("ffmpeg"), h.path("pids"));
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = -version ] && exec '{real}' \"$@\"\nsleep 1000 &\necho $$ $! >>'{pids}'\nwait\n"
    );
    // Written by another process: a file that this one has had open for writing may still be so in a fork.
    let write = ["-c", "printf %s \"$1\" >\"$2\"", "sh", &script, &path];
    assert!(Command::new("sh").args(write).status().unwrap().success());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Waits until the endless ffmpeg runs, interrupts the program, and asserts that no process is left.
fn leaves_no_process(h: &Harness, child: Child, times: usize) -> String {
    let pids = h.path("pids");
    wait_until("ffmpeg", || fs::read_to_string(&pids).is_ok_and(|text| text.ends_with('\n')));
    for _ in 0..times {
        signal(child.id(), "INT");
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    let stderr = interrupted(child);
    let text = fs::read_to_string(pids).unwrap();
    for pid in text.split_whitespace() {
        // A process that has ended may wait for its new parent to notice.
        wait_until(&format!("the end of process {pid}"), || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.map_or(true, |stat| stat.contains(") Z "))
        });
    }
    stderr
}

#[test]
fn a_comparison_leaves_no_process() {
    let Some(real) = ffmpeg() else { return };
    let h = Harness::new();
    fs::write(h.path("clip.mp4"), "x").unwrap();
    // The record of an earlier run, which must not stay as the answer.
    fs::write(h.path("old.json"), r#"{"schema":1,"kind":"diff","verdict":"pass"}"#).unwrap();
    let path = endless_ffmpeg(&h, &real);
    let words = ["diff", "--depth", "10", "--input", "clip.mp4", "--json", "old.json"];
    let stderr = leaves_no_process(&h, start(&h, &words, Some(&path)), 1);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert_eq!(fs::read_dir(h.path("tmp")).unwrap().count(), 0);
    let left = common::json_of(&h.path("old.json"));
    assert_eq!((&left["verdict"], &left["exit_code"]), (&"stopped".into(), &130.into()));
    assert!(stderr.contains(left["error"].as_str().unwrap()), "{left}");
}

#[test]
fn an_evaluation_that_is_interrupted_twice_leaves_no_process() {
    let Some(real) = ffmpeg() else { return };
    let h = Harness::new();
    fs::write(h.path("a.mp4"), "x").unwrap();
    fs::write(h.path("list.txt"), "a.mp4 1\n").unwrap();
    let path = endless_ffmpeg(&h, &real);
    let data = h.path("");
    let command = ["eval", "k400", "--data", &data, "--list", "list.txt", "--weights", "formula:0"];
    let more = ["--depth", "10", "--width", "0.125", "--json", "old.json"];
    let child = start(&h, &[&command[..], &more].concat(), Some(&path));
    let stderr = leaves_no_process(&h, child, 2);
    assert_eq!(common::json_of(&h.path("old.json"))["verdict"], "stopped");
    assert!(stderr.contains("and this goes on: harness eval k400"), "{stderr}");
    assert!(stderr.contains(" --out runs/"), "{stderr}");
}
