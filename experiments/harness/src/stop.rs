//! Signals that end a long run after its current step: Ctrl-C, SIGTERM, SIGHUP, and SIGUSR1, with which
//! schedulers warn a job that its time is nearly over. A second Ctrl-C ends the run at once.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

static ASKED: AtomicBool = AtomicBool::new(false);

/// Handles the signals from now on.
pub fn listen() {
    static ONCE: Once = Once::new();
    // Only invalid signals make this fail; a run without the handler ends at once, as any program does.
    ONCE.call_once(|| match Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1]) {
        Ok(signals) => {
            std::thread::spawn(move || handle(signals));
        }
        Err(why) => eprintln!("signals end this run at once, since none can be handled: {why}"),
    });
}

fn handle(mut signals: Signals) {
    let mut interrupted = false;
    for signal in &mut signals {
        if signal == SIGINT && std::mem::replace(&mut interrupted, true) {
            std::process::exit(130);
        }
        if ASKED.swap(true, Ordering::SeqCst) {
            continue;
        }
        match signal {
            SIGINT => eprintln!("stopping after this step; press Ctrl-C again to stop at once"),
            _ => eprintln!("stopping after this step, since {} asks for it", name(signal)),
        }
    }
}

fn name(signal: i32) -> &'static str {
    match signal {
        SIGHUP => "SIGHUP",
        SIGTERM => "SIGTERM",
        SIGUSR1 => "SIGUSR1",
        _ => "a signal",
    }
}

/// Whether the run was asked to stop.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}
