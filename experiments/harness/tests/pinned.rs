//! Pins what users read: the help of every command, the refusals of typical mistakes, and tables. Each
//! snapshot in `pinned/` shows commands with their output and exit code as a terminal would. Folders
//! such as `no-libtorch` hold those of one kind of build.
//!
//! After an intended change, `TRYCMD=overwrite cargo test -p harness --test pinned` writes the snapshots
//! again, in each kind of build that has snapshots of its own.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::ffmpeg;
use skip::skip;
use trycmd::TestCases;

/// The folders of snapshots for every build and for this one.
fn folders(kind: &str) -> [PathBuf; 3] {
    let kind = Path::new("tests/pinned").join(kind);
    let of =
        |feature: bool, with: &str, without: &str| kind.join(if feature { with } else { without });
    let cuda = of(cfg!(feature = "cuda"), "cuda", "no-cuda");
    let libtorch = of(cfg!(feature = "libtorch"), "libtorch", "no-libtorch");
    [kind, cuda, libtorch]
}

/// The snapshots in a folder, in order of their names.
fn snapshots(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return vec![] };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "trycmd")).collect();
    found.sort();
    found
}

/// Runs the commands of snapshots and compares their output.
fn check(folders: &[PathBuf]) {
    let cases = TestCases::new();
    cases.register_bin("harness", Path::new(env!("CARGO_BIN_EXE_harness")));
    cases.env("NO_COLOR", "1").env("COLUMNS", "100");
    for path in folders.iter().flat_map(|folder| snapshots(folder)) {
        // A folder NAME.in is copied to a temporary folder, where the commands run, if there is NAME.out.
        let copied = ["in", "out"].iter().all(|ending| path.with_extension(ending).is_dir());
        assert!(copied || path.to_string_lossy().contains("/help/"), "{path:?} needs its folders");
        cases.case(path);
    }
    cases.run();
}

/// A command of a snapshot.
#[derive(Debug, Default)]
struct Step {
    command: String,
    code: Option<String>,
    output: Vec<String>,
}

/// The commands of a snapshot.
fn steps(path: &Path) -> Vec<Step> {
    let text = fs::read_to_string(path).unwrap();
    let mut steps: Vec<Step> = vec![];
    let mut in_block = false;
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            continue;
        } else if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_owned(), ..Step::default() });
        } else if let Some(step) = steps.last_mut() {
            match line.strip_prefix("? ") {
                Some(code) => step.code = Some(code.to_owned()),
                None => step.output.push(line.to_owned()),
            }
        }
    }
    for step in &mut steps {
        // The last line of the output is ended by an empty line.
        assert_eq!(step.output.pop().as_deref().unwrap_or(""), "", "{path:?}: {}", step.command);
    }
    steps
}

/// The commands of all snapshots of a kind, for every build.
fn all_steps(kind: &str) -> Vec<Step> {
    let kind = Path::new("tests/pinned").join(kind);
    let inner = fs::read_dir(&kind).unwrap().map(|entry| entry.unwrap().path());
    let folders = inner.filter(|path| path.is_dir()).chain([kind.clone()]);
    folders.flat_map(|folder| snapshots(&folder)).flat_map(|path| steps(&path)).collect()
}

/// The help of a command, which is given as its words.
fn help(command: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_harness"))
        .args(command)
        .arg("--help")
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names of the snapshots of this command and its subcommands, as the help lists them.
fn commands(command: &[String], names: &mut BTreeSet<String>) {
    let name = if command.is_empty() { "harness".to_owned() } else { command.join("-") };
    names.insert(name);
    let text = help(command);
    let Some((_, list)) = text.split_once("\nCommands:\n") else { return };
    let list = list.split("\n\n").next().unwrap();
    // Lines that are indented further continue a description.
    let words = list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    for word in words.filter(|word| !word.is_empty() && *word != "help") {
        commands(&[command, &[word.to_owned()]].concat(), names);
    }
}

#[test]
fn help_is_as_pinned() {
    check(&folders("help"));
}

#[test]
fn every_command_has_a_snapshot_of_its_help() {
    let mut wanted = BTreeSet::from(["bench-worker".to_owned()]); // It is hidden.
    commands(&[], &mut wanted);
    let paths = folders("help").into_iter().flat_map(|folder| snapshots(&folder));
    let found: BTreeSet<String> =
        paths.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(found, wanted);
}

#[test]
fn refusals_are_as_pinned() {
    check(&folders("refusals"));
}

#[test]
fn refusals_of_videos_are_as_pinned() {
    if ffmpeg().is_some() {
        check(&["tests/pinned/refusals/ffmpeg".into()]);
    }
}

#[test]
fn refusals_without_a_gpu_are_as_pinned() {
    if !cfg!(feature = "cuda") {
        skip!(Feature, "refusals_without_a_gpu_are_as_pinned: built without CUDA");
    } else if Path::new("/dev/nvidia0").exists() {
        skip!(Gpu, "refusals_without_a_gpu_are_as_pinned: this machine has a GPU");
    } else {
        check(&["tests/pinned/refusals/no-gpu".into()]);
    }
}

/// A mistake in the command line is refused like any other.
#[test]
fn a_refusal_is_one_sentence() {
    let refused: Vec<Step> =
        all_steps("refusals").into_iter().filter(|step| step.code.is_some()).collect();
    assert!(refused.len() >= 25, "{}", refused.len());
    for step in refused {
        let first = step.output.first().expect("a message");
        assert_eq!(step.code.as_deref(), Some("2"), "{step:?}");
        let one = step.output.len() == 1 && first.starts_with("harness: ") && !first.ends_with('.');
        assert!(one, "{step:?}");
    }
}

#[test]
fn tables_are_as_pinned() {
    check(&folders("tables"));
}

#[test]
fn pinned_text_fits_100_columns() {
    for step in ["help", "tables"].into_iter().flat_map(all_steps) {
        for line in step.output {
            let width = line.chars().count();
            let fits = width <= 100 || line.starts_with("Usage: ");
            assert!(fits, "{}: {width} columns: {line}", step.command);
        }
    }
}

/// trycmd skips commands of other programs without a word.
#[test]
fn every_pinned_command_is_run() {
    for step in ["help", "refusals", "tables"].into_iter().flat_map(all_steps) {
        let program = step.command.split(' ').next();
        assert_eq!(program, Some("harness"), "{}", step.command);
    }
}
