//! Runs the binary in a temporary folder, and checks its exit code, its stderr and its record.

#![allow(dead_code, reason = "every test file uses a part of it")]

pub mod arrays;
pub mod videos;

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use skip::skip;
use tempfile::TempDir;

/// The path of a golden.
pub fn golden(name: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../reference/goldens");
    root.join(name).display().to_string()
}

/// The ffmpeg that the program would use. If there is none, the test is reported as skipped.
pub fn ffmpeg() -> Option<String> {
    let candidates =
        [std::env::var("FFMPEG").ok(), Some("ffmpeg".into()), std::env::var("HARNESS_FFMPEG").ok()];
    let runs = |path: &String| {
        let quiet = || Stdio::null();
        let run = Command::new(path).arg("-version").stdout(quiet()).stderr(quiet()).status();
        run.is_ok_and(|status| status.success())
    };
    let found = candidates.into_iter().flatten().find(runs);
    if found.is_none() {
        skip!(Ffmpeg, "no ffmpeg was found");
    }
    found
}

/// Changes the values of a tensor in a safetensors file.
pub fn edit_weights(file: &str, tensor: &str, edit: fn(f32) -> f32) {
    let mut bytes = std::fs::read(file).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let offsets = &header[tensor]["data_offsets"];
    let at = |index: usize| 8 + length + offsets[index].as_u64().unwrap() as usize;
    for value in bytes[at(0)..at(1)].chunks_exact_mut(4) {
        let edited = edit(f32::from_le_bytes((&*value).try_into().unwrap()));
        value.copy_from_slice(&edited.to_le_bytes());
    }
    std::fs::write(file, bytes).unwrap();
}

/// Reads a record.
pub fn json_of(path: &str) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Runs the binary in a temporary folder, which is removed afterwards.
pub struct Harness {
    folder: TempDir,
    last_stderr: RefCell<String>,
}

/// The result of a run.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    record: Option<PathBuf>,
}

impl Harness {
    pub fn new() -> Self {
        Harness { folder: TempDir::new().unwrap(), last_stderr: RefCell::default() }
    }

    /// A path in the temporary folder.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        let output = Command::new(env!("CARGO_BIN_EXE_harness"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let stderr = text(output.stderr);
        self.last_stderr.replace(stderr.clone());
        let code = output.status.code().unwrap_or(-1);
        Run { code, stdout: text(output.stdout), stderr, record: None }
    }

    /// Runs `harness diff` and writes its record and report to the temporary folder.
    pub fn diff(&self, arguments: &[&str]) -> Run {
        let (json, html) = (self.path("record.json"), self.path("report.html"));
        let _ = std::fs::remove_file(&json);
        let fixed = ["diff", "--json", &json, "--html", &html];
        let run = self.run(&[&fixed, arguments].concat());
        Run { record: Some(json.into()), ..run }
    }

    pub fn html(&self) -> String {
        std::fs::read_to_string(self.path("report.html")).unwrap()
    }

    /// The rest of the line on the last run's stderr that begins with `start`.
    pub fn stderr_line(&self, start: &str) -> String {
        let stderr = self.last_stderr.borrow();
        let line = stderr.lines().find_map(|line| line.strip_prefix(start));
        line.unwrap_or_else(|| panic!("no line starts with {start:?}: {stderr}")).to_owned()
    }
}

impl Run {
    #[track_caller]
    pub fn code(self, code: i32) -> Run {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        self
    }

    /// Asserts exit code 0 and returns the record.
    #[track_caller]
    pub fn passes(self) -> Value {
        self.code(0).json()
    }

    /// Asserts exit code 1 and returns the record.
    #[track_caller]
    pub fn fails(self) -> Value {
        self.code(1).json()
    }

    /// Asserts exit code 2, and one line on stderr that contains all of these texts, which `--json` has, too.
    #[track_caller]
    pub fn refuses(self, words: &[&str]) -> Run {
        let run = self.code(2);
        let lines: Vec<&str> = run.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "one sentence: {}", run.stderr);
        assert!(lines[0].starts_with("harness: "), "{}", lines[0]);
        for word in words {
            assert!(lines[0].contains(word), "no {word:?} in: {}", lines[0]);
        }
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
        if run.record.is_some() {
            let left = run.json();
            assert_eq!(left["verdict"], "error");
            assert_eq!(left["exit_code"], 2);
            assert_eq!(left["error"], lines[0]["harness: ".len()..]);
        }
        run
    }

    fn json(&self) -> Value {
        let path = self.record.as_ref().expect("a diff");
        json_of(&path.display().to_string())
    }
}
