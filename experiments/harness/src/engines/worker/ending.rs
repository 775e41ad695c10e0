//! How a process ended, in words.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

/// How often and how many times an end is looked for.
const STEP: Duration = Duration::from_millis(20);
const STEPS: usize = 100;

/// Words for the signals that end a program which computes.
const SIGNALS: [(i32, &str); 7] = [
    (4, "SIGILL, an instruction that this CPU lacks"),
    (6, "SIGABRT, an abort in a library"),
    (7, "SIGBUS, an access to memory that is not there"),
    (8, "SIGFPE, a division by zero"),
    (9, "SIGKILL, which the system sends if memory runs out"),
    (11, "SIGSEGV, an invalid access to memory"),
    (15, "SIGTERM, which somebody sent"),
];

/// Waits for a process that has closed its output, kills it if it still runs, and says how it ended.
pub fn of(child: &mut Child) -> String {
    for _ in 0..STEPS {
        match child.try_wait() {
            Ok(Some(status)) => return in_words(status),
            Ok(None) => sleep(STEP),
            Err(error) => return format!("ended ({error})"),
        }
    }
    // It has closed its output, so it cannot answer any more.
    let _ = child.kill();
    let _ = child.wait();
    "closed its output".to_owned()
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => match SIGNALS.iter().find(|(number, _)| *number == signal) {
            Some((_, words)) => format!("was ended by {words},"),
            None => format!("was ended by signal {signal}"),
        },
        (None, None) => "ended".to_owned(),
    }
}

/// Waits for a thread for a limited time.
pub fn wait_for(thread: &JoinHandle<()>) {
    for _ in 0..STEPS {
        if thread.is_finished() {
            return;
        }
        sleep(STEP);
    }
}
