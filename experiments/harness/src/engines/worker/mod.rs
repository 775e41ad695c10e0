//! A Python program as a child process, with which messages are exchanged.
//!
//! A message is one line of JSON and then the values of its tensors, one after the other, as little-endian
//! float32 or float64 in row-major order. Both sides send messages of this form:
//!
//! ```text
//! {"kind":"value","name":"layer1.0.conv1","tensors":[{"dtype":"f32","shape":[1,8,16,16]}]}\n
//! <8192 bytes>
//! ```
//!
//! A message with the entry `error` is a failure in one sentence. The Python side is in `channel.py`, which
//! every program can import as `harness_channel`; it is embedded in the binary, which therefore works
//! outside of the clone. What the program prints goes to stderr and cannot break the protocol.

mod ending;
mod message;
mod python;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use spec::Tensor;

pub use self::message::{Message, printable};
pub use self::python::{find_peers, find_python};

/// The Python side of the protocol, which programs import as `harness_channel`.
const CHANNEL: (&str, &str) = ("harness_channel.py", include_str!("channel.py"));

/// Lines of stderr that are kept.
const KEPT_LINES: usize = 40;

/// The largest number of bytes that is kept of a line of stderr.
const LINE_BYTES: u64 = 2000;

/// What is started, and how long it may take.
pub struct Program<'a> {
    /// The name of the program in errors, such as `python:port.py:make_model`.
    pub name: String,
    /// The Python interpreter; [`find_python`] finds one.
    pub python: PathBuf,
    /// File names and texts of the program. The first file is run; it can import the others.
    pub files: &'a [(&'a str, &'a str)],
    /// Arguments of the program.
    pub arguments: Vec<OsString>,
    /// Variables of the environment that are set for it.
    pub environment: Vec<(String, OsString)>,
    /// The program is ended if it sends no message for this long while one is awaited.
    pub patience: Duration,
    /// The largest total size in bytes of the tensors of one message.
    pub max_bytes: usize,
}

/// A running program. It is killed when this is dropped.
pub struct Worker {
    name: String,
    child: Child,
    to: Option<Sender<Vec<u8>>>,
    from: Receiver<Result<Message>>,
    words: Arc<Mutex<VecDeque<String>>>,
    listener: Option<JoinHandle<()>>,
    patience: Duration,
    /// Holds the program's files.
    _folder: files::Folder,
}

impl Worker {
    /// Starts a program. It is in the current directory of this process, in a process group of its own, so
    /// that Ctrl-C reaches this process only.
    ///
    /// # Errors
    ///
    /// If its files cannot be written or the interpreter cannot be started.
    pub fn start(program: Program<'_>) -> Result<Self> {
        let Program { name, python, files, arguments, environment, patience, max_bytes } = program;
        let folder = files::Folder::new()
            .context("the temporary folder for a Python program cannot be created")?;
        for (file, text) in files.iter().chain([&CHANNEL]) {
            let path = folder.path().join(file);
            std::fs::write(&path, text)
                .with_context(|| format!("{}: cannot be written", path.display()))?;
        }
        let Some((main, _)) = files.first() else { bail!("{name}: the program has no file") };
        let mut child = Command::new(&python)
            .arg("-u")
            .arg(folder.path().join(main))
            .args(arguments)
            .envs(environment)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("{name}: {} cannot be started", python.display()))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(to), Some(from), Some(errors)) = pipes else {
            bail!("{name}: the process has no stdin, stdout or stderr");
        };
        let words = Arc::default();
        let listener = Some(listen(errors, Arc::clone(&words)));
        Ok(Worker {
            name,
            child,
            to: Some(writer(to)),
            from: reader(from, max_bytes),
            words,
            listener,
            patience,
            _folder: folder,
        })
    }

    /// Sends a message and waits for the answer.
    ///
    /// # Errors
    ///
    /// As [`Worker::receive`].
    pub fn ask(&mut self, head: &Value, tensors: &[&Tensor]) -> Result<Message> {
        self.send(head, tensors);
        self.receive()
    }

    /// Sends a message. If the program has ended, the next [`Worker::receive`] says how.
    pub fn send(&mut self, head: &Value, tensors: &[&Tensor]) {
        if let Some(to) = &self.to {
            let _ = to.send(message::encode(head, tensors));
        }
    }

    /// Waits for the next message.
    ///
    /// # Errors
    ///
    /// If the message is an error of the program, if it is malformed or too large, if the program has ended,
    /// or if it is silent for longer than its time; it is then killed.
    pub fn receive(&mut self) -> Result<Message> {
        let message = match self.from.recv_timeout(self.patience) {
            Ok(message) => message.with_context(|| format!("{}: a broken message", self.name))?,
            Err(RecvTimeoutError::Timeout) => {
                // Killing fails if the process has just ended, which is fine.
                let _ = self.child.kill();
                let seconds = self.patience.as_secs();
                bail!(
                    "{}: has sent nothing for {seconds} s and was ended; if it is only slow, give it \
                     more time with --patience SECONDS",
                    self.name
                )
            }
            Err(RecvTimeoutError::Disconnected) => bail!(self.ended()),
        };
        match message.error() {
            Some(error) => bail!("{}: {error}", self.name),
            None => Ok(message),
        }
    }

    /// The last lines that the program wrote to stderr, at most `count`, without empty ones.
    pub fn last_words(&self, count: usize) -> Vec<String> {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        words.iter().skip(words.len().saturating_sub(count)).cloned().collect()
    }

    /// A sentence on how the process ended.
    fn ended(&mut self) -> String {
        let how = ending::of(&mut self.child);
        // The thread ends when stderr is closed, unless the program has left children behind.
        if let Some(listener) = self.listener.take() {
            ending::wait_for(&listener);
        }
        let last = self.last_words(3).join(" | ");
        let colon = if last.is_empty() { "" } else { "; its last lines: " };
        format!("{}: the program {how} without an answer{colon}{last}", self.name)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The process has nothing to finish. Both calls fail if it has ended already, which is fine.
        self.to = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes messages from a thread, so that a program that does not read cannot block this one.
fn writer(mut to: ChildStdin) -> Sender<Vec<u8>> {
    let (send, receive) = channel::<Vec<u8>>();
    std::thread::spawn(move || {
        for bytes in receive {
            if to.write_all(&bytes).and_then(|()| to.flush()).is_err() {
                break;
            }
        }
    });
    send
}

/// Reads messages in a thread, so that waiting for one can time out. Only one is read ahead.
fn reader(from: ChildStdout, max_bytes: usize) -> Receiver<Result<Message>> {
    let (send, receive) = sync_channel(1);
    std::thread::spawn(move || {
        let mut from = BufReader::with_capacity(1 << 16, from);
        while let Some(message) = message::decode(&mut from, max_bytes).transpose() {
            // After a broken message nothing that follows can be understood.
            let broken = message.is_err();
            if send.send(message).is_err() || broken {
                break;
            }
        }
    });
    receive
}

/// Keeps the last lines of stderr.
fn listen(from: ChildStderr, words: Arc<Mutex<VecDeque<String>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = vec![];
        loop {
            line.clear();
            match (&mut from).take(LINE_BYTES).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let text = printable(String::from_utf8_lossy(&line).trim());
            if text.is_empty() {
                continue;
            }
            let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
            words.push_back(text);
            if words.len() > KEPT_LINES {
                words.pop_front();
            }
        }
    })
}

#[cfg(test)]
mod tests;
