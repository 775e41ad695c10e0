//! Ctrl-C asks a long run to end after the step that it is in; a second one ends it at once.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Listens from now on.
pub fn listen() {
    let handler = || {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("stopping after this step; once more to stop at once");
    };
    // It can be set once; a second command in the same process does not exist.
    let _ = ctrlc::set_handler(handler);
}

/// Whether somebody has asked.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}
