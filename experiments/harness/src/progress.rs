//! Progress on stderr: bars if it is a terminal, and a line every ten seconds if it is a log.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The time between two lines.
const EVERY: Duration = Duration::from_secs(10);

/// A bar of `steps` steps under the title `what`; it draws nothing if stderr is not a terminal.
pub fn bar(what: &str, steps: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    let style = "{msg} {bar:32} {pos}/{len} [{elapsed} < {eta}]";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}

/// Prints how many videos are done, every ten seconds, if stderr is not a terminal.
pub struct Lines {
    what: &'static str,
    start: Instant,
    last: Mutex<Instant>,
    shown: bool,
}

impl Lines {
    /// Begins. `what` says what is done with the videos, such as `evaluated`.
    pub fn new(what: &'static str) -> Self {
        let start = Instant::now();
        let shown = !std::io::stderr().is_terminal();
        Lines { what, start, last: Mutex::new(start), shown }
    }

    /// Says that `done` of `all` videos are done.
    pub fn at(&self, done: usize, all: usize) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shown && last.elapsed() >= EVERY {
            *last = Instant::now();
            eprintln!("{} {}", self.what, line(done, all, self.start.elapsed()));
        }
    }
}

fn line(done: usize, all: usize, time: Duration) -> String {
    let rate = done as f64 / time.as_secs_f64().max(1e-9);
    let left = (all.saturating_sub(done)) as f64 / rate.max(1e-9);
    let left = match left {
        left if left < 120.0 => format!("{left:.0} s"),
        left if left < 7200.0 => format!("{:.0} min", left / 60.0),
        left => format!("{:.1} h", left / 3600.0),
    };
    format!("{done} of {all} videos, {rate:.2} videos/s, {left} left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_long_it_takes() {
        let ten = Duration::from_secs(10);
        assert_eq!(line(5, 10, ten), "5 of 10 videos, 0.50 videos/s, 10 s left");
        assert_eq!(line(5, 1005, ten), "5 of 1005 videos, 0.50 videos/s, 33 min left");
        assert_eq!(line(5, 100_000, ten), "5 of 100000 videos, 0.50 videos/s, 55.6 h left");
    }
}
