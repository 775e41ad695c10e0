//! The durable file of an evaluation: a header, then a line for each video as soon as it is done.
//!
//! Lines are in the order in which videos were done. A process that is killed leaves at most one
//! half line at the end, which is thrown away on resuming.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use reports::record::Video;
use serde::{Deserialize, Serialize};

/// Name of the file in a run's folder.
pub const JOURNAL_FILE: &str = "videos.jsonl";
/// No journal of the largest data set is larger.
const LARGEST: u64 = 4 << 30;

/// What has to be the same for a run to go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of this file's layout.
    pub journal: u32,
    /// The data set and its list.
    pub list: String,
    /// Digest of the list's content.
    pub entries: String,
    /// The protocol in words, and the order of frames.
    pub protocol: String,
    /// The part of the list, of how many.
    pub shard: Option<String>,
    /// The engines.
    pub engines: Vec<String>,
    /// Digest of the weights.
    pub weights: String,
    /// The network.
    pub model: spec::Config,
    /// The decoder with its version.
    pub decoder: String,
    /// Views at a time: it decides on the last bits.
    pub batch: usize,
}

/// An open journal.
pub struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Begins a journal, or goes on with one: gives the videos that are done.
    pub fn open(folder: &Path, header: &Header, resume: bool) -> Result<(Self, Vec<Video>)> {
        let path = folder.join(JOURNAL_FILE);
        if path.exists() && !resume {
            bail!(
                "{}: is there already; go on with --resume, or give another --out",
                path.display()
            );
        }
        let done = match path.exists() {
            true => read(&path, Some(header))?.1,
            false => {
                let mut first = serde_json::to_vec(header)?;
                first.push(b'\n');
                crate::files::write(&path, &first)?;
                vec![]
            }
        };
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        let mut file = opened.with_context(|| format!("{}: cannot be written", path.display()))?;
        cut_half_line(&mut file)
            .with_context(|| format!("{}: cannot be mended", path.display()))?;
        Ok((Journal { file, path }, done))
    }

    /// Appends a video. It is on the disk when this returns.
    pub fn append(&mut self, video: &Video) -> Result<()> {
        let mut line = serde_json::to_vec(video)?;
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        written.with_context(|| format!("{}: cannot be written", self.path.display()))
    }
}

/// Reads a journal; with `expected`, its header has to be that one.
pub fn read(path: &Path, expected: Option<&Header>) -> Result<(Header, Vec<Video>)> {
    let unreadable = || format!("{}: cannot be read", path.display());
    let file = File::open(path).with_context(unreadable)?;
    let mut lines = BufReader::new(file.take(LARGEST));
    let mut line = String::new();
    lines.read_line(&mut line).with_context(unreadable)?;
    let header: Header = serde_json::from_str(&line)
        .with_context(|| format!("{}: is no journal of this harness", path.display()))?;
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
            break; // The end, or the half line of a process that was killed.
        }
        videos.push(serde_json::from_str(&line).with_context(|| {
            format!("{}: line {number} is damaged; remove it and go on", path.display())
        })?);
    }
    Ok((header, videos))
}

/// The first field that differs, in words.
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
            format!("{key}: {value} there, {} here", expected.get(key).unwrap_or(&value.clone()))
        }
        None => "other fields".to_owned(),
    }
}

fn cut_half_line(file: &mut File) -> std::io::Result<()> {
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    let whole = content.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    file.set_len(whole as u64)?;
    file.seek(SeekFrom::End(0)).map(|_| ())
}
