//! What a command leaves where `--json` wants its record, if it ends without one.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use record::{Ended, Failure};

use crate::announce;

static RECORDED: AtomicBool = AtomicBool::new(false);

/// Notes that the record has been written.
pub fn record_is_written() {
    RECORDED.store(true, Ordering::Relaxed);
}

/// Writes the reason for the missing record to the file that `--json` names, or to stdout for `--json -`. Does nothing
/// if the flag is absent or a record has been written. A failure to write is ignored, because stderr has the reason.
pub fn leave(verdict: Ended, error: &str, exit_code: u8) {
    if !RECORDED.load(Ordering::Relaxed) {
        replace(verdict, error, exit_code);
    }
}

/// Does the same although a record may have been written, whose verdict is not that of the command.
pub fn replace(verdict: Ended, error: &str, exit_code: u8) {
    let Some(path) = wanted(std::env::args_os().skip(1)) else { return };
    let failure = Failure { verdict, error: error.to_owned(), exit_code };
    if path.as_os_str() != "-" {
        let _ = failure.write(&path);
    } else if let Ok(text) = failure.to_json() {
        let mut out = std::io::stdout();
        announce::printed(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }
}

/// The value of `--json` among the words of a command, which need not be a right one.
fn wanted(words: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    let mut words = words.take_while(|word| word != "--");
    while let Some(word) = words.next() {
        if word == "--json" {
            return words.next().map(PathBuf::from);
        }
        if let Some(value) = word.to_str().and_then(|word| word.strip_prefix("--json=")) {
            return Some(value.into());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_the_record_is_found_among_words() {
        let of = |line: &str| wanted(line.split(' ').map(OsString::from));
        assert_eq!(of("diff --json a.json --nonsense"), Some("a.json".into()));
        assert_eq!(of("eval mini --json=-"), Some("-".into()));
        assert_eq!(of("diff --candidate cpu"), None);
        assert_eq!(of("diff --json"), None);
        assert_eq!(of("diff -- --json a.json"), None);
    }
}
