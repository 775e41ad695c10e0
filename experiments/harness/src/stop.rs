//! The first Ctrl-C asks a long run to stop after its current step; the second one ends it at once.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Handles Ctrl-C from now on.
pub fn listen() {
    let handler = || {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("stopping after this step; press Ctrl-C again to stop at once");
    };
    // Setting the handler twice fails, but a process runs only one command.
    let _ = ctrlc::set_handler(handler);
}

/// Whether the user has asked the run to stop.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}
