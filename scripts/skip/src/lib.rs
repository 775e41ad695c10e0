//! Skipped tests speak.
//!
//! libtest swallows what a passing test prints, so a test that returns early would pass in silence.
//! [`skip!`] writes past the capture to stderr, and appends a line to the file that `HARNESS_SKIPS`
//! names: `scripts/test` sets it and ends with that list, and `.ci/run` fails on a skip that the
//! machine does not explain. What explains a [`Kind`] stands in `kinds.tsv` beside this crate.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Why a test cannot run here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The processor lacks an instruction set, or has them all; the sentence ends with its name.
    Isa,
    /// A GPU is here, and the test is about its absence.
    Gpu,
    /// Built without a feature of Cargo.
    Feature,
    /// No folder `shared` beside the repository.
    Shared,
    /// No browser.
    Chromium,
    /// No PyTorch in Python.
    Pytorch,
    /// No ffmpeg.
    Ffmpeg,
    /// No run-time compiler of NVIDIA's.
    Nvrtc,
    /// No C++ compiler.
    Gxx,
    /// No numpy in Python.
    Numpy,
    /// No ONNX Runtime in Python.
    Onnxruntime,
}

impl Kind {
    /// All kinds, in the order of `kinds.tsv`.
    pub const ALL: [Kind; 11] = [
        Kind::Isa,
        Kind::Gpu,
        Kind::Feature,
        Kind::Shared,
        Kind::Chromium,
        Kind::Pytorch,
        Kind::Ffmpeg,
        Kind::Nvrtc,
        Kind::Gxx,
        Kind::Numpy,
        Kind::Onnxruntime,
    ];

    /// The word in the list.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Isa => "isa",
            Kind::Gpu => "gpu",
            Kind::Feature => "feature",
            Kind::Shared => "shared",
            Kind::Chromium => "chromium",
            Kind::Pytorch => "pytorch",
            Kind::Ffmpeg => "ffmpeg",
            Kind::Nvrtc => "nvrtc",
            Kind::Gxx => "gxx",
            Kind::Numpy => "numpy",
            Kind::Onnxruntime => "onnxruntime",
        }
    }
}

/// Says that a test, or a part of it, is skipped: `skip!(Ffmpeg, "no ffmpeg: {error}")`. The package
/// and the file of the test are said along.
#[macro_export]
macro_rules! skip {
    ($kind:ident, $($text:tt)+) => {
        $crate::note(
            $crate::Kind::$kind,
            concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_CRATE_NAME")),
            format_args!($($text)+),
        )
    };
}

/// What [`skip!`] does. The same line is written once in a process; a text's further lines are left out.
///
/// # Panics
///
/// If the list cannot be written: a skip that nobody hears of is what this crate is against.
pub fn note(kind: Kind, place: &str, text: fmt::Arguments<'_>) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let text = text.to_string();
    let text = text.lines().next().unwrap_or_default().replace('\t', " ");
    let line = format!("{}\t{place}: {text}\n", kind.name());
    if !SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(line.clone()) {
        return;
    }
    // libtest captures what print! and eprint! write, not what goes to the stream itself. A closed
    // stderr is no reason to fail: the list below is what counts.
    let said = format!("skipped: {place}: {text} ({})\n", kind.name());
    let _ = io::stderr().lock().write_all(said.as_bytes());
    if let Some(list) = std::env::var_os("HARNESS_SKIPS") {
        let list = Path::new(&list);
        append(list, &line).unwrap_or_else(|error| {
            panic!(
                "the list of skips {} (HARNESS_SKIPS) cannot be written: {error}",
                list.display()
            )
        });
    }
}

/// One write at the end of the file, so that lines of tests that run at the same time stay whole.
fn append(list: &Path, line: &str) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).open(list)?.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn the_kinds_are_those_of_the_table() {
        let table = include_str!("../kinds.tsv").lines().filter(|line| !line.starts_with('#'));
        let rows: Vec<Vec<&str>> = table.map(|line| line.split('\t').collect()).collect();
        assert!(rows.iter().all(|row| row.len() == 3), "{rows:?}");
        let names: Vec<&str> = rows.iter().map(|row| row[0]).collect();
        assert_eq!(names, Kind::ALL.map(Kind::name));
    }
}
