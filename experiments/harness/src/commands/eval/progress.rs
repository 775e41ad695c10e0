//! Lines of progress for logs, where a progress bar cannot be drawn.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// The time between two lines.
const EVERY: Duration = Duration::from_secs(10);

/// Prints how many videos are done, every ten seconds, if stderr is not a terminal.
pub struct Lines {
    start: Instant,
    last: Instant,
    all: usize,
    done: usize,
    shown: bool,
}

impl Lines {
    /// Begins with none of `all` videos done.
    pub fn of(all: usize) -> Self {
        let start = Instant::now();
        Lines { start, last: start, all, done: 0, shown: !std::io::stderr().is_terminal() }
    }

    /// Counts a video that is done.
    pub fn step(&mut self) {
        self.done += 1;
        if self.shown && self.last.elapsed() >= EVERY {
            self.last = Instant::now();
            eprintln!("{}", line(self.done, self.all, self.start.elapsed()));
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
