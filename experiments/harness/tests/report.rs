//! Runs `harness report` with the times of a bench over published methods, and as PDF.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::videos::{SMALL, arguments, videos};
use common::{Harness, json_of};
use skip::skip;

/// The record of an evaluation on the small network, in the folder `eval`.
fn evaluated(h: &Harness) -> Option<String> {
    let folder = videos()?;
    let (data, list) =
        (folder.display().to_string(), folder.join("list.txt").display().to_string());
    let out = h.path("eval");
    h.run(&arguments(&data, &list, &["--limit", "2", "--no-strips", "--out", &out])).code(0);
    // Two videos and a small network have no published accuracy, and no plots of it.
    let path = format!("{out}/record.json");
    let mut record = json_of(&path);
    assert!(record["published"].is_null());
    record["published"] = serde_json::json!({"source": "a paper", "top1": 71.64, "top5": 89.3});
    fs::write(path, record.to_string()).unwrap();
    Some(out)
}

/// The record of a bench on the small network, in a folder of its own.
fn benched(h: &Harness, more: &[&str]) -> String {
    let out = h.path(&format!("bench{}", more.len()));
    let fixed = ["bench", "--engines", "cpu", "--batch", "1", "--rounds", "2", "--runs", "1"];
    let rest = ["--precision", "f32", "--no-profile", "--starts", "1", "--out", out.as_str()];
    h.run(&[&fixed[..], &SMALL, &rest, more].concat()).code(0);
    out
}

#[test]
fn times_of_a_bench_are_marked_as_those_of_another_machine() {
    let h = Harness::new();
    let Some(eval) = evaluated(&h) else { return };
    let bench = benched(&h, &[]);
    let (plain, out) = (fs::read_to_string(format!("{eval}/report.html")).unwrap(), h.path("out"));
    let run = h.run(&["report", &eval, "--published", &bench, "--out", &out]).code(0);
    let page = fs::read_to_string(run.stdout.trim()).unwrap();
    let machine = json_of(&format!("{bench}/record.json"))["run"]["machine"].clone();
    let marked = format!("another machine: {}", machine["cpu"].as_str().unwrap());
    assert!(page.contains(&marked) && !plain.contains("another machine:"), "{marked}");
    assert_eq!(page.matches("<td>cpu f32 t1</td>").count(), 2, "latency and throughput");
    assert!(machine["extensions"].as_array().is_some_and(|list| !list.is_empty()), "{machine}");

    // A bench of another network, a record of another kind, and no page that has such plots.
    let other = benched(&h, &["--set", "tfc=off"]);
    let refused = |bench: &str, run: &str, words: &[&str]| {
        h.run(&["report", run, "--published", bench, "--out", &h.path("no")]).refuses(words);
        assert!(!Path::new(&h.path("no")).join("01-eval.html").exists());
    };
    refused(&other, &eval, &["another network", "tfc", "the same flags"]);
    refused(&eval, &eval, &["harness eval", "harness bench"]);
    refused(&bench, &bench, &["none of the records", "k400"]);
}

/// Whether a browser that prints is on PATH.
fn has_browser() -> bool {
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).any(|at| names.iter().any(|name| at.join(name).is_file()));
    if !found {
        skip!(Chromium, "no browser that could print reports");
    }
    found
}

#[test]
fn reports_are_printed_with_all_their_sections() {
    if !has_browser() {
        return;
    }
    let h = Harness::new();
    let record = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reports/runs/mini-knock-out");
    fs::create_dir(h.path("a run 100%")).unwrap();
    fs::copy(record.join("record.json"), h.path("a run 100%/record.json")).unwrap();
    let run = h.run(&["report", &h.path("a run 100%"), "--pdf"]).code(0);
    let pdf = fs::read(run.stdout.lines().nth(1).unwrap()).unwrap();
    assert!(pdf.starts_with(b"%PDF-") && pdf.len() > 20_000, "{} bytes", pdf.len());
    let pages = pdf.windows(12).filter(|bytes| bytes.starts_with(b"/Type /Page\n")).count();
    assert!((2..=8).contains(&pages), "{pages} pages");
}

#[test]
fn without_a_browser_nothing_is_written() {
    let h = Harness::new();
    let record = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reports/runs/mini-eval");
    let refused = |name: &str, value: &str, words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_harness"))
            .args(["report", "--pdf", "--out", &h.path("out")])
            .arg(&record)
            .env_remove("HARNESS_CHROMIUM")
            .env(name, value)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{stderr}");
        assert!(!Path::new(&h.path("out")).exists());
    };
    refused("PATH", "", &["no Chromium", "HARNESS_CHROMIUM", "from any browser"]);
    refused("HARNESS_CHROMIUM", "/nowhere/chromium", &["/nowhere/chromium", "not a file"]);
    // A program that prints nothing.
    refused_run(&h, &record);
}

fn refused_run(h: &Harness, record: &Path) {
    let output = Command::new(env!("CARGO_BIN_EXE_harness"))
        .args(["report", "--pdf", "--out", &h.path("silent")])
        .arg(record)
        .env("HARNESS_CHROMIUM", "/bin/true")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("printed no PDF"), "{stderr}");
    assert!(!Path::new(&h.path("silent/01-mini-eval.pdf")).exists());
}
