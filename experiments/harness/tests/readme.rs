//! What the READMEs say about the binary: the output that they show, and the flags that they name.
//!
//! In shown output, a line `…` stands for any lines, and numbers with a point or an exponent may differ,
//! because they vary with the machine and the reference. Whole numbers may differ only where a test runs
//! fewer videos than the README shows.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::{Harness, ffmpeg};
use skip::skip;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All READMEs, by their paths in the repository.
fn readmes() -> Vec<String> {
    fn search(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name();
            if entry.file_type().unwrap().is_dir() {
                search(&entry.path(), found);
            } else if name == "README.md" {
                found.push(entry.path());
            }
        }
    }
    let root = root();
    let mut found = vec![root.join("README.md")];
    for folder in ["experiments", "impls", "reference", "reports", "scripts"] {
        search(&root.join(folder), &mut found);
    }
    let relative = |path: PathBuf| path.strip_prefix(&root).unwrap().display().to_string();
    found.into_iter().map(relative).collect()
}

/// The contents of the fenced blocks of a text.
fn blocks(text: &str) -> Vec<Vec<&str>> {
    let mut blocks = vec![];
    let mut open: Option<Vec<&str>> = None;
    for line in text.lines() {
        match &mut open {
            _ if line.starts_with("```") => match open.take() {
                Some(block) => blocks.push(block),
                None => open = Some(vec![]),
            },
            Some(block) => block.push(line),
            None => {}
        }
    }
    blocks
}

/// A command of the harness with the output that a README shows.
struct Shown {
    readme: String,
    /// The arguments of `harness`.
    arguments: Vec<String>,
    output: Vec<String>,
}

/// The command that a block begins with; None if it is not one of the harness.
fn shown(readme: &str, block: &[&str]) -> Option<Shown> {
    let mut lines = block.iter();
    let mut command = (*lines.next()?).to_owned();
    while let Some(start) = command.strip_suffix('\\') {
        command = format!("{start} {}", lines.next()?);
    }
    let words: Vec<&str> = command.split_whitespace().collect();
    let ["$", "harness" | "scripts/harness", arguments @ ..] = words.as_slice() else {
        return None;
    };
    Some(Shown {
        readme: readme.to_owned(),
        arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
        output: lines.map(|&line| line.to_owned()).collect(),
    })
}

/// All commands of the harness whose output the READMEs show.
fn all_shown() -> Vec<Shown> {
    let mut all = vec![];
    for readme in readmes() {
        let text = read(&readme);
        all.extend(blocks(&text).iter().filter_map(|block| shown(&readme, block)));
    }
    all
}

/// The shown command whose arguments begin with these.
fn find(start: &str) -> Shown {
    let begins = |shown: &Shown| shown.arguments.join(" ").starts_with(start);
    let mut found = all_shown().into_iter().filter(begins);
    found.next().unwrap_or_else(|| panic!("no README shows the output of harness {start}"))
}

/// Which numbers of shown output may differ from those of a run.
#[derive(Clone, Copy, PartialEq)]
enum Vary {
    Fractions,
    All,
}

/// A line with `#` for each number that may vary, and for the blanks before it, which align it.
fn masked(line: &str, vary: Vary) -> String {
    let mut masked = String::new();
    for piece in line.split_inclusive(' ') {
        let word = piece.trim_end();
        let core = word.trim_start_matches('(').trim_end_matches([',', ';', ')']);
        let varies = vary == Vary::All || core.contains(['.', 'e']);
        let is_number = core.starts_with(|c: char| c.is_ascii_digit() || c == '-')
            && core.parse::<f64>().is_ok();
        if is_number && varies {
            masked.truncate(masked.trim_end().len());
            masked += &piece.replacen(core, " #", 1);
        } else {
            masked += piece;
        }
    }
    masked.trim_end().to_owned()
}

/// Asserts that the lines are those that a README shows.
fn compare(shown: &Shown, output: &[String], vary: Vary) {
    let all: Vec<String> = output.iter().map(|line| masked(line, vary)).collect();
    // Without libtorch the plain loops are the reference.
    let truth = if cfg!(feature = "libtorch") { "libtorch f64" } else { "scalar f64" };
    let wanted = shown.output.iter().map(|line| masked(line, vary).replace("libtorch f64", truth));
    let wanted: Vec<String> = wanted.collect();
    let place = format!("{}: harness {}", shown.readme, shown.arguments.join(" "));
    // Every part between two `…` must follow the part before it, and the first part starts the output.
    let mut rest = all.as_slice();
    let parts: Vec<&[String]> = wanted.split(|line| line == "…").collect();
    for (number, part) in parts.iter().enumerate() {
        let at = match number {
            0 => rest.starts_with(part).then_some(0),
            _ if number + 1 == parts.len() && !part.is_empty() => {
                rest.ends_with(part).then(|| rest.len() - part.len())
            }
            _ => (0..=rest.len()).find(|&at| rest[at..].starts_with(part)),
        };
        let Some(at) = at else {
            let part = part.join("\n");
            panic!("{place}: not in the output:\n{part}\n--- output\n{}", output.join("\n"));
        };
        rest = &rest[at + part.len()..];
    }
    assert!(
        parts.len() > 1 || rest.is_empty(),
        "{place}: the output goes on:\n{}",
        rest.join("\n")
    );
}

/// Runs a command in a temporary folder that has the folder `reference` of the repository and the videos
/// of `mini`. Returns the lines on stdout, which must fit 100 columns.
fn run(arguments: &[String], code: i32) -> Vec<String> {
    let h = Harness::new();
    let videos = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mini");
    fs::create_dir_all(&videos).unwrap();
    fs::create_dir_all(h.path("runs/data")).unwrap();
    symlink(&videos, h.path("runs/data/mini")).unwrap();
    symlink(root().join("reference"), h.path("reference")).unwrap();
    let run = h.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).code(code);
    let lines: Vec<String> = run.stdout.lines().map(str::to_owned).collect();
    for line in &lines {
        assert!(line.chars().count() <= 100, "{}: {line}", arguments.join(" "));
    }
    lines
}

/// Arguments with more arguments.
fn with(arguments: &[String], more: &[&str]) -> Vec<String> {
    let more = more.iter().map(|&word| word.to_owned());
    arguments.iter().cloned().chain(more).collect()
}

#[test]
fn the_readmes_show_what_these_tests_check() {
    let mut commands: Vec<String> =
        all_shown().iter().map(|shown| shown.arguments[..2].join(" ")).collect();
    commands.sort();
    let checked =
        ["ablate mini", "ablate mini", "diff --candidate", "eval mini", "selftest --mutations"];
    assert_eq!(commands, checked, "check the output of a new command in this file");
}

#[test]
fn the_output_of_diff_is_as_shown() {
    let shown = find("diff ");
    let output = run(&shown.arguments, 1);
    compare(&shown, &output, Vary::Fractions);
    // The guide of the harness shows the end of the same output.
    let guide = read("experiments/harness/README.md");
    let end = blocks(&guide).into_iter().find(|block| block[0].starts_with("not exercised:"));
    let end = end.expect("the guide shows what the run could not see").into_iter();
    let output_of_end = ["…"].into_iter().chain(end).map(str::to_owned).collect();
    let readme = "experiments/harness/README.md".to_owned();
    compare(&Shown { readme, output: output_of_end, ..shown }, &output, Vary::Fractions);
}

#[test]
fn the_table_of_selftest_is_as_shown() {
    let mut shown = find("selftest ");
    let more = ["--only", "relu-missing", "--mutations", "0"];
    let output = run(&with(&["selftest".to_owned()], &more), 0);
    // Only the head, the row of this mistake and the sum: the whole run takes minutes.
    assert_eq!(shown.output[..2], output[..2]);
    let row = |line: &&String| line.starts_with("missing ReLU ");
    assert_eq!(shown.output.iter().find(row), output.iter().find(row));
    let sum = |line: &&String| line.contains(" planted: ");
    shown.output = shown.output.iter().filter(sum).cloned().collect();
    let sums: Vec<String> = output.iter().filter(sum).cloned().collect();
    assert_eq!(sums.len(), 1);
    compare(&shown, &sums, Vary::All);
}

#[test]
fn the_table_of_eval_is_as_shown() {
    if !cfg!(feature = "libtorch") {
        skip!(Feature, "the_table_of_eval_is_as_shown: built without libtorch");
    } else if ffmpeg().is_some() {
        let shown = find("eval mini");
        let output = run(&with(&shown.arguments, &["--videos", "10"]), 0);
        compare(&shown, &output, Vary::All);
    }
}

#[test]
fn the_tables_of_ablate_are_as_shown() {
    if !cfg!(feature = "libtorch") {
        skip!(Feature, "the_tables_of_ablate_are_as_shown: built without libtorch");
    } else if ffmpeg().is_some() {
        let shown = find("ablate mini");
        let output = run(&with(&shown.arguments, &["--videos", "4"]), 0);
        // With few videos, the cells need not have the same form: the first column must be the same.
        let names = |lines: &[String]| -> Vec<String> {
            let table = lines.iter().skip(2).take_while(|line| !line.starts_with("With"));
            table.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
        };
        assert_eq!(shown.output[1], output[1]);
        assert_eq!(names(&shown.output), names(&output));
        // The networks that were trained without a part are in the same table.
        assert_eq!(find("ablate mini --retrain").output[1], output[1]);
    }
}

/// The flags in a text, such as `--size`.
fn flags(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let words = text.split(|c: char| !is_part(c));
    let is_flag = |word: &&str| {
        word.strip_prefix("--")
            .is_some_and(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
    };
    words.filter(is_flag).collect()
}

/// The pinned help of a command, such as `weights-inspect`, for builds with every feature. `pinned.rs`
/// checks that it is the real one.
fn pinned_help(command: &str) -> Option<String> {
    let folders = ["", "cuda/", "libtorch/"];
    let path = |folder| format!("experiments/harness/tests/pinned/help/{folder}{command}.trycmd");
    let path = folders.into_iter().map(path).find(|path| root().join(path).is_file())?;
    Some(read(&path))
}

/// The pinned help of all commands.
fn all_help() -> String {
    let mut text = String::new();
    for folder in ["", "cuda", "libtorch"] {
        let folder = root().join("experiments/harness/tests/pinned/help").join(folder);
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_file() {
                text += &fs::read_to_string(path).unwrap();
            }
        }
    }
    text
}

#[test]
fn every_flag_in_a_readme_exists() {
    let help = all_help();
    let ours = flags(&help);
    let of_scripts: Vec<String> = ["scripts", "scripts/cluster"]
        .into_iter()
        .flat_map(|folder| fs::read_dir(root().join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && path.extension().is_none_or(|ending| ending == "py"))
        .chain([root().join("impls/cuda/probes/probes.cu")])
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let theirs: BTreeSet<&str> = of_scripts.iter().flat_map(|text| flags(text)).collect();
    let of_cargo = ["--no-default-features", "--release", "--test"];
    let of_schedulers =
        ["--array", "--crash-limit", "--dependency", "--env", "--parsable", "--requeue", "--wrap"];
    for readme in readmes() {
        for flag in flags(&read(&readme)) {
            let others = of_cargo.contains(&flag) || of_schedulers.contains(&flag);
            let exists = ours.contains(flag) || theirs.contains(flag) || others;
            assert!(exists, "{readme}: {flag} is not a flag of a command or of a script");
        }
    }
}

/// The commands whose names begin a code span, such as `weights-inspect` for `weights inspect FILE`.
fn commands_in(cell: &str) -> Vec<String> {
    let spans = cell.split('`').skip(1).step_by(2);
    let name = |span: &str| {
        let words: Vec<&str> = span.split([' ', '|', '\\']).collect();
        let longest = (1..=words.len()).rev().map(|n| words[..n].join("-"));
        longest.into_iter().find(|name| pinned_help(name).is_some())
    };
    spans.filter_map(name).collect()
}

#[test]
fn the_flags_of_the_guide_belong_to_their_commands() {
    let guide = read("experiments/harness/README.md");
    let mut rows = 0;
    for row in guide.lines().filter(|line| line.starts_with("| `")) {
        let commands = commands_in(row.split(" | ").next().unwrap());
        if commands.is_empty() {
            continue;
        }
        rows += 1;
        let help: String = commands.iter().filter_map(|command| pinned_help(command)).collect();
        for flag in flags(row) {
            assert!(flags(&help).contains(flag), "{commands:?} have no {flag}");
        }
    }
    assert!(rows >= 12, "{rows} commands");
}
