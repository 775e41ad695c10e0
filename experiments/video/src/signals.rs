//! The names of the signals that end a process.

/// The signals that end programs, with what usually sends them.
const SIGNALS: [(i32, &str, &str); 11] = [
    (1, "SIGHUP", "the terminal was closed"),
    (2, "SIGINT", "Ctrl-C"),
    (4, "SIGILL", "this ffmpeg was built for another processor"),
    (6, "SIGABRT", "ffmpeg gave up by itself"),
    (7, "SIGBUS", "the file changed or the disk failed while it was read"),
    (8, "SIGFPE", "ffmpeg has a fault"),
    (9, "SIGKILL", "the system ran out of memory, or somebody killed it"),
    (11, "SIGSEGV", "ffmpeg has a fault"),
    (15, "SIGTERM", "somebody ended it"),
    (24, "SIGXCPU", "its processor time was used up"),
    (25, "SIGXFSZ", "a file became too large"),
];

/// What happened to an ffmpeg that the signal with this number ended.
pub(crate) fn sentence(number: i32) -> String {
    match SIGNALS.iter().find(|(known, _, _)| *known == number) {
        Some((_, name, cause)) => format!("ffmpeg was ended by {name} ({cause})"),
        None => format!("ffmpeg was ended by signal {number}"),
    }
}
