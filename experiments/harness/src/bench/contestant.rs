//! A contestant: a process that has loaded the model and runs it when told to.
//!
//! One JSON object a line. The process begins with `{"ready":true,"name","version","load_s",
//! "first_s"}`; then `{"cmd":"run","n"}` is answered by `{"seconds":[…]}`, `{"cmd":"output","path"}`
//! by `{"written"}` (the last output as float32 .npy), `{"cmd":"memory"}` by `{"peak_bytes"}` (what
//! loading and running added to the resident memory), `{"cmd":"profile","n"}` by `{"layers":[{"name",
//! "kind","ms","gflop","mb"}]}`, and `{"cmd":"peaks"}`, which only torch-graph is asked, by
//! `{"gflops","gbs"}`. What fails answers `{"error":"one sentence"}`, with
//! `"unsupported":true` where nothing is broken: the contestant cannot do what it was asked for.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reports::record::LayerTime;
use serde::Deserialize;
use serde_json::json;

/// What became of a start.
pub enum Start {
    /// The model is loaded.
    Ready(Contestant),
    /// It cannot do this, and says why; nothing is broken.
    Unsupported(String),
}

/// A running contestant.
pub struct Contestant {
    /// Its name.
    pub name: String,
    /// Version of what computes.
    pub version: String,
    /// Seconds to load the model.
    pub load_s: f64,
    /// Seconds of the first run.
    pub first_s: f64,
    child: Child,
    to: ChildStdin,
    from: Receiver<std::io::Result<String>>,
    stderr: PathBuf,
    /// Who does not answer for so long hangs.
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
    /// Starts a process and waits until it has loaded the model. `folder` keeps what it complains;
    /// whoever takes longer than `patience` for an answer is ended.
    pub fn start(
        name: &str,
        command: &mut Command,
        folder: &Path,
        patience: Duration,
    ) -> Result<Start> {
        let stderr = folder.join(format!("{name}.stderr"));
        let complaints = File::create(&stderr)
            .with_context(|| format!("{}: cannot be made", stderr.display()))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints);
        // Ctrl-C is for us alone: a contestant ends when its input does.
        command.process_group(0);
        let mut child = command.spawn().with_context(|| format!("{name}: cannot be started"))?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{name}: has no input or output");
        };
        let mut contestant = Contestant {
            name: name.to_owned(),
            version: String::new(),
            load_s: f64::NAN,
            first_s: f64::NAN,
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
            None if !answer.ready => bail!("{name}: did not say that it is ready"),
            None => {}
        }
        contestant.version = answer.version;
        (contestant.load_s, contestant.first_s) = (answer.load_s, answer.first_s);
        Ok(Start::Ready(contestant))
    }

    fn answer(&mut self) -> Result<Answer> {
        let line = match self.from.recv_timeout(self.patience) {
            Ok(line) => line.with_context(|| format!("{}: cannot be read", self.name))?,
            Err(RecvTimeoutError::Timeout) => {
                // What still computes would slow the others down; it may have ended just now.
                let _ = self.child.kill();
                bail!(
                    "{}: has not answered for {} s and was ended; if it is only slow, give it more \
                     by --patience",
                    self.name,
                    self.patience.as_secs()
                )
            }
            Err(RecvTimeoutError::Disconnected) => bail!(self.ended()),
        };
        serde_json::from_str(&line)
            .with_context(|| format!("{}: `{}` is no answer", self.name, line.trim_end()))
    }

    /// How it ended, and its last words.
    fn ended(&mut self) -> String {
        // Its output is closed; should it live on, it has no more to say.
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
        // Where this fails it has ended, and `answer` says how.
        let _ = writeln!(self.to, "{what}").and_then(|()| self.to.flush());
        let answer = self.answer()?;
        match answer.error {
            Some(error) => bail!("{error}"),
            None => Ok(answer),
        }
    }

    /// Runs so often and returns the seconds of each run.
    pub fn run(&mut self, n: usize) -> Result<Vec<f64>> {
        let seconds = self.ask(json!({"cmd": "run", "n": n}))?.seconds;
        if seconds.len() != n {
            bail!("{}: was to run {n} times and gave {} times", self.name, seconds.len());
        }
        Ok(seconds)
    }

    /// Writes the last output as a float32 npy file.
    pub fn output(&mut self, path: &Path) -> Result<()> {
        self.ask(json!({"cmd": "output", "path": path}))?;
        Ok(())
    }

    /// Bytes that loading and running added to the resident memory, at most.
    pub fn memory(&mut self) -> Result<u64> {
        Ok(self.ask(json!({"cmd": "memory"}))?.peak_bytes)
    }

    /// What the device does at most, in thousands of millions: operations and bytes a second.
    pub fn peaks(&mut self) -> Result<(f64, f64)> {
        let answer = self.ask(json!({"cmd": "peaks"}))?;
        Ok((answer.gflops, answer.gbs))
    }

    /// Where the time goes.
    pub fn profile(&mut self, n: usize) -> Result<Vec<LayerTime>> {
        Ok(self.ask(json!({"cmd": "profile", "n": n}))?.layers)
    }
}

/// The lines of an output, read by a thread so that waiting for one can end.
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
        // It has nothing to finish; that it may have ended already is no failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
