//! The journal of an evaluation: a file with a header line and a line for each finished video.
//!
//! The lines are in the order in which the videos were finished. A process that is killed leaves at most
//! one partial line at the end, which is discarded on resuming.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use record::Video;
use serde::{Deserialize, Serialize};

/// Name of the journal in the folder of a run.
pub const JOURNAL_FILE: &str = "videos.jsonl";
/// The largest journal that is read, in bytes; that of the largest data set is smaller.
const MAX_BYTES: u64 = 4 << 30;

/// The header line; a run is resumed or merged only if it is the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the journal's format.
    pub journal: u32,
    /// The data set and its list.
    pub list: String,
    /// SHA-256 of the list's content.
    pub entries: String,
    /// The protocol and the order of frames, as they are printed.
    pub protocol: String,
    /// The shard, such as `1/4`; `None` for the whole list.
    pub shard: Option<String>,
    /// Names of the engines.
    pub engines: Vec<String>,
    /// SHA-256 of the weights.
    pub weights: String,
    /// Configuration of the network.
    pub model: spec::Config,
    /// The decoder with its version.
    pub decoder: String,
    /// Number of views in a batch, which the last bits of the logits depend on.
    pub batch: usize,
}

/// A journal that is open for appending.
pub struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Creates a journal, or opens one to resume it, and returns the finished videos.
    pub fn open(folder: &Path, header: &Header, resume: bool) -> Result<(Self, Vec<Video>)> {
        let path = folder.join(JOURNAL_FILE);
        if path.exists() && !resume {
            bail!(
                "{}: exists already; continue that run with --resume, or give another --out",
                path.display()
            );
        }
        let done = match path.exists() {
            true => read(&path, Some(header))?.1,
            false => {
                let mut first = serde_json::to_vec(header)?;
                first.push(b'\n');
                crate::disk::write(&path, &first)?;
                vec![]
            }
        };
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        let mut file = opened.with_context(|| format!("{}: cannot be written", path.display()))?;
        cut_partial_line(&mut file).with_context(|| {
            format!("{}: its partial last line cannot be removed", path.display())
        })?;
        Ok((Journal { file, path }, done))
    }

    /// Appends a video; when this returns, the line is on the disk.
    pub fn append(&mut self, video: &Video) -> Result<()> {
        let mut line = serde_json::to_vec(video)?;
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        written.with_context(|| format!("{}: cannot be written", self.path.display()))
    }
}

/// Reads a journal; fails if its header is not `expected`, where that is given.
pub fn read(path: &Path, expected: Option<&Header>) -> Result<(Header, Vec<Video>)> {
    let unreadable = || format!("{}: cannot be read", path.display());
    let file = File::open(path).with_context(unreadable)?;
    let mut lines = BufReader::new(file.take(MAX_BYTES));
    let mut line = String::new();
    lines.read_line(&mut line).with_context(unreadable)?;
    let header: Header = serde_json::from_str(&line)
        .with_context(|| format!("{}: is not a journal of this harness", path.display()))?;
    if let Some(expected) = expected.filter(|expected| **expected != header) {
        bail!(
            "{}: belongs to another run ({}); give the same arguments, or another --out",
            path.display(),
            difference(&header, expected)
        );
    }
    let mut videos = Vec::new();
    for number in 2.. {
        line.clear();
        lines.read_line(&mut line).with_context(unreadable)?;
        if !line.ends_with('\n') {
            break; // The end, or the partial line of a process that was killed.
        }
        videos.push(serde_json::from_str(&line).with_context(|| {
            format!("{}: line {number} is damaged; remove that line and run again", path.display())
        })?);
    }
    Ok((header, videos))
}

/// The first field that differs, with both values.
fn difference(found: &Header, expected: &Header) -> String {
    let fields = |header: &Header| serde_json::to_value(header).unwrap_or_default();
    let (found, expected) = (fields(found), fields(expected));
    let differs = found
        .as_object()
        .into_iter()
        .flatten()
        .find(|(key, value)| expected.get(key.as_str()) != Some(value));
    match differs {
        Some((key, value)) => {
            format!(
                "its {key} is {value}, expected {}",
                expected.get(key).unwrap_or(&value.clone())
            )
        }
        None => "its header differs".to_owned(),
    }
}

fn cut_partial_line(file: &mut File) -> std::io::Result<()> {
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    let whole = content.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    file.set_len(whole as u64)?;
    file.seek(SeekFrom::End(0)).map(|_| ())
}
