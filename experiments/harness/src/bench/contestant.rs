//! A contestant: a process that has loaded the model and runs it when told to.
//!
//! One JSON object a line. The process begins with `{"ready":true,"name","version","load_s",
//! "first_s"}`; then `{"cmd":"run","n"}` is answered by `{"seconds":[…]}`, `{"cmd":"output","path"}`
//! by `{"written"}` (the last output as float32 .npy), `{"cmd":"memory"}` by `{"peak_bytes"}` (what
//! loading and running added to the resident memory), `{"cmd":"profile","n"}` by `{"layers":[{"name",
//! "kind","ms","gflop","mb"}]}`. What fails answers `{"error":"one sentence"}`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use reports::record::LayerTime;
use serde::Deserialize;
use serde_json::json;

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
    from: BufReader<ChildStdout>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Answer {
    error: Option<String>,
    ready: bool,
    version: String,
    load_s: f64,
    first_s: f64,
    seconds: Vec<f64>,
    peak_bytes: u64,
    layers: Vec<LayerTime>,
}

impl Contestant {
    /// Starts a process and waits until it has loaded the model.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
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
            from: BufReader::new(from),
        };
        let answer = contestant.answer()?;
        if !answer.ready {
            bail!("{name}: did not say that it is ready");
        }
        contestant.version = answer.version;
        (contestant.load_s, contestant.first_s) = (answer.load_s, answer.first_s);
        Ok(contestant)
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        let read = self.from.read_line(&mut line);
        if read.with_context(|| format!("{}: cannot be read", self.name))? == 0 {
            let how = self.child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
            bail!("{}: ended without an answer ({how})", self.name);
        }
        let answer: Answer = serde_json::from_str(&line)
            .with_context(|| format!("{}: `{}` is no answer", self.name, line.trim_end()))?;
        match answer.error {
            Some(error) => bail!("{error}"),
            None => Ok(answer),
        }
    }

    fn ask(&mut self, what: serde_json::Value) -> Result<Answer> {
        writeln!(self.to, "{what}").with_context(|| format!("{}: has ended", self.name))?;
        self.answer()
    }

    /// Runs so often and returns the seconds of each run.
    pub fn run(&mut self, n: usize) -> Result<Vec<f64>> {
        Ok(self.ask(json!({"cmd": "run", "n": n}))?.seconds)
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

    /// Where the time goes.
    pub fn profile(&mut self, n: usize) -> Result<Vec<LayerTime>> {
        Ok(self.ask(json!({"cmd": "profile", "n": n}))?.layers)
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        // It has nothing to finish; that it may have ended already is no failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
