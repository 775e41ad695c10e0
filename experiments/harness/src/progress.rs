//! Progress on stderr: bars if it is a terminal, and a line every ten seconds if it is a log.

use std::io::IsTerminal;
use std::ops::Deref;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::announce;

/// The time between two lines.
const EVERY: Duration = Duration::from_secs(10);

/// A bar, or lines in its place. Both end when it is dropped.
pub struct Bar {
    bar: ProgressBar,
    /// Its end tells the thread that prints lines to stop.
    _lines: Option<Sender<()>>,
}

impl Deref for Bar {
    type Target = ProgressBar;

    fn deref(&self) -> &ProgressBar {
        &self.bar
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A bar of `steps` steps under the title `what`. It draws nothing after `--quiet`.
pub fn bar(what: &str, steps: u64) -> Bar {
    let terminal = std::io::stderr().is_terminal();
    let target = match terminal && !announce::is_silent() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(Some(steps), target);
    let style = "{msg} {bar:32} {pos}/{len} [{elapsed} < {eta}]";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    let print = |line: String| announce!("{line}");
    let _lines = (!terminal && !announce::is_silent()).then(|| lines(bar.clone(), EVERY, print));
    Bar { bar, _lines }
}

/// Prints the state of a bar again and again from a thread, also while a step takes long, until the sender
/// is dropped.
fn lines(bar: ProgressBar, every: Duration, print: impl Fn(String) + Send + 'static) -> Sender<()> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        while receive.recv_timeout(every) == Err(RecvTimeoutError::Timeout) && !bar.is_finished() {
            print(line(&bar));
        }
    });
    send
}

fn line(bar: &ProgressBar) -> String {
    let (what, length) = (bar.message(), bar.length().unwrap_or(0));
    in_words(&what, bar.position(), length, bar.elapsed())
}

fn in_words(what: &str, done: u64, all: u64, time: Duration) -> String {
    let start = format!("{what}: {done} of {all}");
    if done == 0 {
        return start;
    }
    let rate = done as f64 / time.as_secs_f64().max(1e-9);
    let left = all.saturating_sub(done) as f64 / rate;
    let left = match left {
        left if left < 120.0 => format!("{left:.0} s"),
        left if left < 7200.0 => format!("{:.0} min", left / 60.0),
        left => format!("{:.1} h", left / 3600.0),
    };
    format!("{start}, {rate:.2}/s, {left} left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_long_it_takes() {
        let line = |done, all| in_words("videos", done, all, Duration::from_secs(10));
        assert_eq!(line(0, 10), "videos: 0 of 10");
        assert_eq!(line(5, 10), "videos: 5 of 10, 0.50/s, 10 s left");
        assert_eq!(line(5, 1005), "videos: 5 of 1005, 0.50/s, 33 min left");
        assert_eq!(line(5, 100_000), "videos: 5 of 100000, 0.50/s, 55.6 h left");
    }

    #[test]
    fn lines_come_while_a_step_takes_long_and_end_with_the_bar() {
        let bar = ProgressBar::with_draw_target(Some(4), ProgressDrawTarget::hidden());
        bar.set_message("steps");
        let (print, printed) = channel();
        let lines = lines(bar.clone(), Duration::from_millis(20), move |line| {
            let _ = print.send(line);
        });
        let next = || printed.recv_timeout(Duration::from_secs(10));
        assert_eq!(next().unwrap(), "steps: 0 of 4");
        bar.inc(3);
        let later = std::iter::from_fn(|| next().ok()).find(|line| line.starts_with("steps: 3"));
        assert!(later.is_some());
        drop(lines);
        let rest = std::iter::from_fn(|| next().ok()).count();
        assert!(rest < 100, "the thread has ended, and its sender with it");
    }
}
