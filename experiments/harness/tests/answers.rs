//! Answers for programs: the record on stdout, JUnit XML, the schema, and the command to run next.

mod common;

use std::path::Path;

use common::{Harness, Run};
use serde_json::Value;

const SMALL: [&str; 8] = ["--depth", "18", "--width", "0.125", "--classes", "7", "--size", "64"];

/// The record on stdout, which holds nothing else.
fn on_stdout(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e}: {}", run.stdout))
}

fn diff(h: &Harness, more: &[&str]) -> Run {
    h.run(&[&["diff", "--json", "-", "--html", &h.path("r.html")], more, &SMALL[..]].concat())
}

/// The clip of a dump that was made from another one.
#[test]
fn another_clip_than_that_of_the_dump_is_not_blamed_on_the_port() {
    let h = Harness::new();
    let (dump, small) = (h.path("dump.npz"), ["--depth", "10", "--width", "0.125", "--size", "64"]);
    let engine = ["dump", "--engine", "scalar", "--out", &dump];
    h.run(&[&engine[..], &small].concat()).code(0);
    let candidate = format!("npz:{dump}");
    let flags = ["--candidate", &candidate, "--input", "formula:3"];
    let record = h.diff(&[&flags[..], &small].concat()).fails();
    assert_eq!(record["first_divergent"], "input");
    assert_eq!(record["cause"], "preprocessing");
    let explanation = record["explanation"].as_str().unwrap();
    assert!(explanation.contains("leave out --input"), "{explanation}");
    let next = record["next"].as_str().unwrap();
    assert!(!next.contains("--input") && !next.contains("--repro"), "{next}");
}

/// A folder with other files is refused before the work, not after it.
#[test]
fn a_reproduction_that_cannot_be_written_is_refused_at_once() {
    let h = Harness::new();
    std::fs::write(h.path("mine.txt"), "kept").unwrap();
    let folder = h.path("");
    let small = ["--depth", "10", "--width", "0.125", "--size", "64", "--candidate", "scalar"];
    let run = h.run(&[&["diff", "--json", "-", "--repro", &folder], &small[..]].concat());
    let run = run.refuses(&["the folder is not empty"]);
    assert_eq!(on_stdout(&run)["kind"], "failure");
}

#[test]
fn the_record_on_stdout_is_alone_there() {
    let h = Harness::new();
    let run = diff(&h, &["--no-edge"]).code(0);
    let record = on_stdout(&run);
    assert_eq!((&record["schema"], &record["kind"]), (&1.into(), &"diff".into()));
    assert_eq!(record["verdict"], "pass");
    assert!(record["first_divergent"].is_null() && record["explanation"].is_null());
    assert!(run.stderr.contains("PASS") && run.stderr.contains("verdict"), "{}", run.stderr);
    assert!(!Path::new(&h.path("-")).exists());
    // The fields for programs come first.
    let top: Vec<&str> = run.stdout.lines().skip(1).take(7).collect();
    let keys = ["schema", "kind", "verdict", "first_divergent", "cause", "explanation", "next"];
    for (line, key) in top.iter().zip(keys) {
        assert!(line.trim().starts_with(&format!("\"{key}\":")), "{line}");
    }
    let refused = h.run(&["diff", "--json", "-", "--candidate", "npz:nowhere.npz"]).code(2);
    assert_eq!(on_stdout(&refused)["verdict"], "error");
}

#[test]
fn every_outcome_has_its_next_command() {
    let h = Harness::new();
    let next = |flags: &[&str]| {
        let run = diff(&h, flags);
        on_stdout(&run)["next"].as_str().unwrap_or("nothing").to_owned()
    };
    let scalar = &["--no-edge"][..];
    assert!(next(&[scalar, &["--layer", "conv1"]].concat()).starts_with("harness diff --json -"));
    assert!(!next(&[scalar, &["--layer", "conv1"]].concat()).contains("--layer"));
    assert!(next(scalar).contains("--size 57x65"), "{}", next(scalar));
    assert!(next(&[]).contains("--clips 8"), "{}", next(&[]));
    assert_eq!(next(&["--clips", "2"]), "nothing");
    assert!(next(&["--inject", "relu-missing@layer2.0"]).contains("--repro repro"));
    let repro = h.path("folder of mine");
    let next = next(&["--inject", "relu-missing@layer2.0", "--repro", &repro]);
    assert_eq!(next, format!("python3 '{repro}/check.py'"));
}

#[test]
fn junit_has_a_test_for_each_layer() {
    let h = Harness::new();
    let path = h.path("junit.xml");
    diff(&h, &["--junit", &path, "--inject", "relu-missing@layer2.0"]).code(1);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("<?xml") && text.contains("<testsuite name=\"layer2.0\""));
    assert!(text.contains("type=\"diverged\""), "{text}");
    assert!(text.contains("First goes wrong at layer2.0"));
}

#[test]
fn the_schema_is_printed() {
    let h = Harness::new();
    let run = h.run(&["schema"]).code(0);
    let schema: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(schema["$id"], "urn:squeezetime-harness:record:1");
    let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reports/record/schema.json");
    assert_eq!(std::fs::read_to_string(published).unwrap(), run.stdout);
}

/// A port with three mistakes is mended by a program that reads nothing but the record: it mends the
/// mistake at the module that the record names, and dumps again.
#[test]
fn three_mistakes_are_found_one_after_the_other_by_reading_the_record() {
    let h = Harness::new();
    // Each with the words by which a record names it.
    let mut mistakes = vec![
        ("bn-statistics@layer3.0.bn1", "layer3.0.bn1", "running statistics"),
        ("relu-missing@layer2.0", "layer2.0", "ReLU"),
        ("align-corners@layer1.1.conv2", "layer1.1.conv2", "align_corners"),
    ];
    let mut order = vec![];
    for _ in 0..=mistakes.len() {
        let out = h.path("port.npz");
        let mut flags = vec!["dump", "--engine", "scalar", "--out", &out];
        for (fault, ..) in &mistakes {
            flags.extend(["--inject", fault]);
        }
        h.run(&[&flags[..], &SMALL].concat()).code(0);
        let record = on_stdout(&diff(&h, &["--candidate", &format!("npz:{out}")]));
        if record["verdict"] == "pass" {
            break;
        }
        assert_eq!(record["verdict"], "diverged");
        let place = record["first_divergent"].as_str().unwrap();
        let explanation = record["explanation"].as_str().unwrap();
        let mended = mistakes.iter().position(|(_, module, words)| {
            place.starts_with(module) && explanation.contains(words)
        });
        let mended = mended.unwrap_or_else(|| panic!("{place}: {explanation}"));
        order.push(mistakes.remove(mended).1);
    }
    assert_eq!(order, ["layer1.1.conv2", "layer2.0", "layer3.0.bn1"]);
    assert!(mistakes.is_empty());
}
