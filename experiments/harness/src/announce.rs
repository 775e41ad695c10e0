//! Notes on stderr: what was done, assumed or left out. `--quiet` silences them, and progress. Errors and
//! answers are not notes.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static QUIET: AtomicBool = AtomicBool::new(false);

/// Why stdout could not be written, since the program began.
static LOST: OnceLock<String> = OnceLock::new();

/// Why results are lost, if stdout could not be written.
pub fn lost() -> Option<&'static str> {
    LOST.get().map(String::as_str)
}

/// Takes the result of writing to stdout. A closed pipe (`harness info | head`) is not a failure; a full disk
/// is.
pub fn printed(result: std::io::Result<()>) {
    if let Err(why) = result
        && why.kind() != ErrorKind::BrokenPipe
    {
        let _ = LOST.set(why.to_string());
    }
}

/// Silences notes and progress from now on.
pub fn silence() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Whether notes and progress are silenced.
pub fn is_silent() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Prints a note, for the macro `announce`.
pub fn note(text: Arguments) {
    if !is_silent() {
        line(text);
    }
}

/// Prints a line on stderr, for the macro `stderr_line`. Nobody may be there to read it.
pub fn line(text: Arguments) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints a line on stderr, also with `--quiet`. Other than `eprintln` it does not panic if stderr is closed.
macro_rules! stderr_line {
    ($($text:tt)*) => { $crate::announce::line(format_args!($($text)*)) };
}

/// Prints a note as a line on stderr, unless `--quiet` was given.
macro_rules! announce {
    ($($text:tt)*) => { $crate::announce::note(format_args!($($text)*)) };
}
