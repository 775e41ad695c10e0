//! Signals: Ctrl-C, SIGTERM, SIGHUP, and SIGUSR1, with which schedulers warn a job that its time is nearly
//! over.
//!
//! A command that keeps what it has done ends gently, after its current step; a second Ctrl-C ends it at
//! once. Any other command ends at once. Whoever ends at once leaves no child process and no unfinished file.

mod children;

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

use record::Ended;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

use crate::{announce, failure};

/// Exit code of a program that Ctrl-C has ended.
pub const INTERRUPTED: u8 = 130;

/// The signal that asks the run to stop; 0 if there is none.
static ASKED: AtomicI32 = AtomicI32::new(0);
static GENTLE: AtomicBool = AtomicBool::new(false);
static ENDING: AtomicBool = AtomicBool::new(false);
/// What is kept, and how to go on.
static KEPT: Mutex<Option<String>> = Mutex::new(None);

/// What is kept by a command that says nothing else.
const NOTHING: &str = "only complete files are kept, and the same command starts over";

/// Handles the signals from now on.
pub fn listen() {
    // Only invalid signals make this fail; a run without the handler ends at once, as any program does.
    match Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1]) {
        Ok(signals) => {
            std::thread::spawn(move || handle(signals));
        }
        Err(why) => announce!("signals end this run at once, since none can be handled: {why}"),
    }
}

/// From now on a signal stops the run after the current step: the command asks [`asked`]. `kept` says in
/// half a sentence what is kept by then and how to go on; it is replaced by the next call.
pub fn gently(kept: impl Into<String>) {
    *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept.into());
    GENTLE.store(true, Ordering::SeqCst);
}

fn handle(mut signals: Signals) {
    for signal in &mut signals {
        let before = ASKED.load(Ordering::SeqCst);
        if !GENTLE.load(Ordering::SeqCst) || (signal == SIGINT && before == SIGINT) {
            end(signal);
        }
        // Ctrl-C has the last word.
        if before == 0 || signal == SIGINT {
            ASKED.store(signal, Ordering::SeqCst);
        }
        match signal {
            SIGINT => stderr_line!("stopping after this step; press Ctrl-C again to stop at once"),
            _ if before == 0 => {
                announce!("stopping after this step, since {} asks for it", name(signal));
            }
            _ => {}
        }
    }
}

/// Ends the program now. Destructors do not run, those of libtorch neither: other threads still compute.
fn end(signal: i32) -> ! {
    ENDING.store(true, Ordering::SeqCst);
    announce::silence();
    children::kill();
    let (why, code) = match signal {
        SIGINT => (format!("interrupted; {}", kept()), INTERRUPTED),
        _ => (format!("ended by {}", name(signal)), 128 + signal as u8),
    };
    // Before the unfinished files are removed, after which no file can be begun.
    failure::leave(Ended::Stopped, &why, code);
    files::remove_unfinished();
    if signal == SIGINT {
        if std::io::stderr().is_terminal() {
            let _ = write!(std::io::stderr(), "\r\x1b[2K"); // A progress bar may be there.
        }
        stderr_line!("harness: {why}");
        low_level::exit(i32::from(code));
    }
    // It returns only for signals that have no default.
    let _ = low_level::emulate_default_handler(signal);
    low_level::exit(128 + signal)
}

fn name(signal: i32) -> &'static str {
    match signal {
        SIGHUP => "SIGHUP",
        SIGINT => "SIGINT",
        SIGTERM => "SIGTERM",
        SIGUSR1 => "SIGUSR1",
        _ => "a signal",
    }
}

fn kept() -> String {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.clone().unwrap_or_else(|| NOTHING.to_owned())
}

/// Whether the run was asked to stop.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst) != 0
}

/// Whether Ctrl-C asked the run to stop.
pub fn interrupted() -> bool {
    ASKED.load(Ordering::SeqCst) == SIGINT
}

/// Why a run was stopped and what is kept, in one sentence.
pub fn in_words() -> String {
    match ASKED.load(Ordering::SeqCst) {
        SIGINT => format!("interrupted; {}", kept()),
        signal => format!("stopped by {}; {}", name(signal), kept()),
    }
}

/// Waits for the end of the program, if it is being ended: what fails in the meantime, such as reading from
/// a child that was killed, is not worth a word.
pub fn give_way() {
    while ENDING.load(Ordering::SeqCst) {
        std::thread::park();
    }
}
