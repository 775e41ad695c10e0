//! Reports skipped tests.
//!
//! libtest hides the output of a passing test, so a test that returns early would pass silently. [`skip!`]
//! writes to stderr past that capture, and appends a line to the file that `HARNESS_SKIPS` names.
//! `scripts/test` sets this variable and prints the list at its end; `.ci/run` fails if the machine does
//! not justify a skip. `kinds.tsv` in the folder of this crate says what justifies each [`Kind`].

use std::collections::BTreeSet;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// What a test lacks on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The processor lacks an instruction set, whose name ends the sentence. Also for tests of a missing
    /// instruction set on a processor that has all of them.
    Isa,
    /// The machine has a GPU, and the test needs a machine without one.
    Gpu,
    /// The test was built without the Cargo feature `libtorch`.
    Feature,
    /// The folder `shared` next to the repository is missing.
    Shared,
    /// No browser was found.
    Chromium,
    /// Python has no PyTorch.
    Pytorch,
    /// Python has no Flax.
    Flax,
    /// No ffmpeg was found.
    Ffmpeg,
    /// NVIDIA's run-time compiler was not found.
    Nvrtc,
    /// No C++ compiler was found.
    Gxx,
    /// Python has no numpy.
    Numpy,
    /// Python has no ONNX Runtime.
    Onnxruntime,
    /// Python has no other runtime that `harness bench` measures.
    Peers,
    /// Slurm and munge are not installed.
    Slurm,
    /// Python has no HyperQueue.
    Hyperqueue,
    /// Valgrind is not installed.
    Valgrind,
}

impl Kind {
    /// All kinds, in the order of `kinds.tsv`.
    pub const ALL: [Kind; 16] = [
        Kind::Isa,
        Kind::Gpu,
        Kind::Feature,
        Kind::Shared,
        Kind::Chromium,
        Kind::Pytorch,
        Kind::Flax,
        Kind::Ffmpeg,
        Kind::Nvrtc,
        Kind::Gxx,
        Kind::Numpy,
        Kind::Onnxruntime,
        Kind::Peers,
        Kind::Slurm,
        Kind::Hyperqueue,
        Kind::Valgrind,
    ];

    /// The name in `kinds.tsv` and in the list, such as `gxx`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Isa => "isa",
            Kind::Gpu => "gpu",
            Kind::Feature => "feature",
            Kind::Shared => "shared",
            Kind::Chromium => "chromium",
            Kind::Pytorch => "pytorch",
            Kind::Flax => "flax",
            Kind::Ffmpeg => "ffmpeg",
            Kind::Nvrtc => "nvrtc",
            Kind::Gxx => "gxx",
            Kind::Numpy => "numpy",
            Kind::Onnxruntime => "onnxruntime",
            Kind::Peers => "peers",
            Kind::Slurm => "slurm",
            Kind::Hyperqueue => "hyperqueue",
            Kind::Valgrind => "valgrind",
        }
    }
}

/// Reports that a test or a part of it is skipped: `skip!(Ffmpeg, "no ffmpeg: {error}")`. The report
/// names the package and the test binary.
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

/// Implements [`skip!`]. Only the first line of the text is used, and a process reports the same line once.
///
/// # Panics
///
/// If the file that `HARNESS_SKIPS` names cannot be written, because the skip would stay unnoticed.
pub fn note(kind: Kind, place: &str, text: fmt::Arguments<'_>) {
    static REPORTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let text = text.to_string();
    let text = text.lines().next().unwrap_or_default().replace('\t', " ");
    let line = format!("{}\t{place}: {text}\n", kind.name());
    if !REPORTED.lock().unwrap_or_else(PoisonError::into_inner).insert(line.clone()) {
        return;
    }
    // libtest captures print! and eprint!, but not writes to the stream itself. A closed stderr is
    // ignored, since the list below is what counts.
    let message = format!("skipped: {place}: {text} ({})\n", kind.name());
    let _ = io::stderr().lock().write_all(message.as_bytes());
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

/// Appends a line in a single write, so that the lines of concurrent tests do not mix.
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
