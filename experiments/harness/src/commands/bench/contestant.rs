//! A contestant: a process that loads the model and runs it when told to.
//!
//! The two sides exchange one JSON object per line. The process begins with
//! `{"ready":true,"name","version","load_s","first_s"}`. Then these commands and answers follow:
//!
//! - `{"cmd":"run","n"}`: `{"seconds":[…]}`
//! - `{"cmd":"bytes","n"}`: `{"seconds":[…]}`, from the clip as bytes [N, T, H, W, 3], which are the numbers that
//!   the clip was normalised from
//! - `{"cmd":"output","path"}`: `{"written"}`; the last output is written as float32 .npy
//! - `{"cmd":"memory"}`: `{"peak_bytes"}`, what loading and running added to the resident memory
//! - `{"cmd":"profile","n"}`: `{"layers":[{"name","kind","ms","gflop","mb"}]}`
//! - `{"cmd":"peaks"}`, which only torch-graph is sent: `{"gflops","gbs"}`
//!
//! A failure is answered by `{"error":"one sentence"}`, with `"unsupported":true` if nothing is broken and
//! the contestant merely does not support what it was asked for.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use record::LayerTime;
use serde::Deserialize;
use serde_json::json;

use super::args::ContestantName;
use super::process;

/// The result of starting a contestant.
pub enum Start {
    /// The contestant has loaded the model.
    Ready(Contestant),
    /// The contestant does not support the setting, for the reason given; nothing is broken.
    Unsupported(String),
}

/// A running contestant.
pub struct Contestant {
    /// The contestant.
    pub name: ContestantName,
    /// Version of the engine or runtime.
    pub version: String,
    /// Time to load the model, in seconds.
    pub load_s: f64,
    /// Time of the first run, in seconds.
    pub first_s: f64,
    /// Number of page faults until it was ready.
    loaded_faults: Option<u64>,
    child: Child,
    to: ChildStdin,
    from: Receiver<std::io::Result<String>>,
    stderr: PathBuf,
    /// A contestant that does not answer for this long is ended.
    patience: Duration,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Answer {
    error: Option<String>,
    unsupported: bool,
    ready: bool,
    version: String,
    load_s: f64,
    first_s: f64,
    seconds: Vec<f64>,
    peak_bytes: u64,
    layers: Vec<LayerTime>,
    gflops: f64,
    gbs: f64,
}

impl Contestant {
    /// Starts a process and waits until it has loaded the model. Its stderr goes into a file in `folder`.
    /// The process is ended if an answer takes longer than `patience`.
    pub fn start(
        name: ContestantName,
        command: &mut Command,
        folder: &Path,
        patience: Duration,
    ) -> Result<Start> {
        let stderr = folder.join(format!("{name}.stderr"));
        let log = File::create(&stderr)
            .with_context(|| format!("{}: cannot be created", stderr.display()))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        // Only this process handles Ctrl-C: a contestant ends when its input ends.
        command.process_group(0);
        let mut child = command.spawn().with_context(|| format!("{name}: cannot be started"))?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{name}: the process has no stdin or stdout");
        };
        let mut contestant = Contestant {
            name,
            version: String::new(),
            load_s: f64::NAN,
            first_s: f64::NAN,
            loaded_faults: None,
            child,
            to,
            from: lines(from),
            stderr,
            patience,
        };
        let answer = contestant.answer()?;
        match answer.error {
            Some(why) if answer.unsupported => return Ok(Start::Unsupported(why)),
            Some(why) => bail!("{why}"),
            None if !answer.ready => bail!("{name}: the first answer was not `ready`"),
            None => {}
        }
        contestant.version = answer.version;
        (contestant.load_s, contestant.first_s) = (answer.load_s, answer.first_s);
        contestant.loaded_faults = process::page_faults(contestant.child.id());
        Ok(Start::Ready(contestant))
    }

    fn answer(&mut self) -> Result<Answer> {
        let line = match self.from.recv_timeout(self.patience) {
            Ok(line) => {
                line.with_context(|| format!("{}: its answer cannot be read", self.name))?
            }
            Err(RecvTimeoutError::Timeout) => {
                // A process that still computes would slow the others down. Killing it fails if it has
                // just ended, which is fine.
                let _ = self.child.kill();
                bail!(
                    "{}: has not answered for {} s and was ended; if it is only slow, give it more \
                     time with --patience",
                    self.name,
                    self.patience.as_secs()
                )
            }
            Err(RecvTimeoutError::Disconnected) => bail!(self.ended()),
        };
        serde_json::from_str(&line)
            .with_context(|| format!("{}: `{}` is not a valid answer", self.name, line.trim_end()))
    }

    /// A sentence on how the process ended, with the last lines of its stderr.
    fn ended(&mut self) -> String {
        // Its stdout is closed, so it cannot answer any more, even if it still runs.
        let _ = self.child.kill();
        let how = self.child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
        let words = std::fs::read(&self.stderr).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        let last: Vec<&str> =
            words.lines().rev().filter(|l| !l.trim().is_empty()).take(3).collect();
        let last = last.into_iter().rev().map(str::trim).collect::<Vec<_>>().join(" | ");
        let colon = if last.is_empty() { "" } else { ": " };
        format!("{}: ended without an answer ({how}){colon}{last}", self.name)
    }

    fn ask(&mut self, what: serde_json::Value) -> Result<Answer> {
        // If writing fails, the process has ended, and `answer` says how.
        let _ = writeln!(self.to, "{what}").and_then(|()| self.to.flush());
        let answer = self.answer()?;
        match answer.error {
            Some(error) => bail!("{error}"),
            None => Ok(answer),
        }
    }

    /// Runs the network `n` times and returns the seconds of each run.
    pub fn run(&mut self, n: usize) -> Result<Vec<f64>> {
        let seconds = self.ask(json!({"cmd": "run", "n": n}))?.seconds;
        if seconds.len() != n {
            bail!("{}: expected the times of {n} runs, got {}", self.name, seconds.len());
        }
        Ok(seconds)
    }

    /// The same from bytes in the host's memory; `None` if the contestant does not support that.
    pub fn run_bytes(&mut self, n: usize) -> Result<Option<Vec<f64>>> {
        let _ =
            writeln!(self.to, "{}", json!({"cmd": "bytes", "n": n})).and_then(|()| self.to.flush());
        let answer = self.answer()?;
        match answer.error {
            Some(_) if answer.unsupported => Ok(None),
            Some(error) => bail!("{error}"),
            None if answer.seconds.len() == n => Ok(Some(answer.seconds)),
            None => bail!("{}: expected {n} times, got {}", self.name, answer.seconds.len()),
        }
    }

    /// Writes the last output as a float32 npy file.
    pub fn output(&mut self, path: &Path) -> Result<()> {
        self.ask(json!({"cmd": "output", "path": path}))?;
        Ok(())
    }

    /// The peak of the resident memory, in bytes, that loading and running added.
    pub fn memory(&mut self) -> Result<u64> {
        Ok(self.ask(json!({"cmd": "memory"}))?.peak_bytes)
    }

    /// Number of page faults since it was ready, and the share of its memory in huge pages.
    pub fn pages(&self) -> (Option<u64>, Option<f64>) {
        let id = self.child.id();
        let faults = process::page_faults(id).zip(self.loaded_faults);
        (faults.map(|(now, then)| now.saturating_sub(then)), process::huge_pages(id))
    }

    /// The measured peaks of the device: GFLOP/s and GB/s.
    pub fn peaks(&mut self) -> Result<(f64, f64)> {
        let answer = self.ask(json!({"cmd": "peaks"}))?;
        Ok((answer.gflops, answer.gbs))
    }

    /// The time of each layer, as the mean of `n` runs.
    pub fn profile(&mut self, n: usize) -> Result<Vec<LayerTime>> {
        Ok(self.ask(json!({"cmd": "profile", "n": n}))?.layers)
    }
}

/// The lines of a pipe, read by a thread so that waiting for one can time out.
fn lines(from: ChildStdout) -> Receiver<std::io::Result<String>> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    receive
}

impl Drop for Contestant {
    fn drop(&mut self) {
        // The process has nothing to finish. Both calls fail if it has ended already, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
