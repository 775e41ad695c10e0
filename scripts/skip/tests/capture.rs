//! Tests of skips under libtest. The tests marked `ignore` skip; the other tests run them in a separate
//! process and look at its output and at the list.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use skip::skip;

const THREADS: usize = 8;
const LINES: usize = 100;

#[test]
#[ignore = "run by the tests below"]
fn skips() {
    for _ in 0..3 {
        skip!(Gxx, "no {}\nwith a second line", "compiler");
    }
    skip!(Isa, "this processor has no\tamx");
}

#[test]
#[ignore = "run by the tests below"]
fn skips_in_many_threads() {
    let process = std::process::id();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for line in 0..LINES {
                    skip!(
                        Ffmpeg,
                        "process {process}, thread {thread}, line {line}, {}",
                        "x".repeat(80)
                    );
                }
            });
        }
    });
}

/// A command that runs one ignored test of this program with captured output, as `cargo test` does.
fn libtest(test: &str, list: Option<&Path>) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", test]).env_remove("HARNESS_SKIPS");
    if let Some(list) = list {
        command.env("HARNESS_SKIPS", list);
    }
    command
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_skip_is_printed_past_the_capture_and_listed_once() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("skips");
    let output = libtest("skips", Some(&list)).output().unwrap();
    let (out, err) = texts(&output);
    assert!(out.contains("test skips ... ok"), "{out}");
    assert_eq!(
        err,
        "skipped: skip capture: no compiler (gxx)\n\
         skipped: skip capture: this processor has no amx (isa)\n"
    );
    assert_eq!(
        std::fs::read_to_string(&list).unwrap(),
        "gxx\tskip capture: no compiler\nisa\tskip capture: this processor has no amx\n"
    );
}

#[test]
fn without_a_list_a_skip_is_still_printed() {
    let (out, err) = texts(&libtest("skips", None).output().unwrap());
    assert!(out.contains("test skips ... ok") && err.contains("no compiler (gxx)"), "{out}{err}");
}

#[test]
fn a_list_that_cannot_be_written_fails_the_test() {
    let output = libtest("skips", Some(Path::new("/nowhere/skips"))).output().unwrap();
    let (out, _) = texts(&output);
    assert!(!output.status.success() && out.contains("/nowhere/skips (HARNESS_SKIPS)"), "{out}");
}

#[test]
fn lines_of_concurrent_tests_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("skips");
    let start = |_| {
        let mut command = libtest("skips_in_many_threads", Some(&list));
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let children: Vec<_> = (0..4).map(start).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let text = std::fs::read_to_string(&list).unwrap();
    let end = "x".repeat(80);
    let whole =
        |line: &str| line.starts_with("ffmpeg\tskip capture: process ") && line.ends_with(&end);
    assert_eq!(text.lines().filter(|line| whole(line)).count(), 4 * THREADS * LINES);
    assert_eq!(text.lines().count(), 4 * THREADS * LINES);
}
