//! The journal of an evaluation: a file with a header line and a line for each finished video, in the order
//! in which they were finished. Lines are only ever appended. A video that is evaluated again gets another
//! line; a line that cannot be read, such as the partial one of a process that was killed, costs the video
//! on it and nothing else.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use record::Video;
use serde::{Deserialize, Serialize};

/// Name of the journal in the folder of a run.
pub const JOURNAL_FILE: &str = "videos.jsonl";
/// The version of the format.
pub const VERSION: u32 = 2;
/// The largest journal that is read, in bytes; that of the largest data set is smaller.
const MAX_BYTES: u64 = 4 << 30;
/// The longest line that is read, in bytes.
const MAX_LINE: u64 = 4 << 20;

/// The header line: all that decides the results of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the journal's format.
    pub journal: u32,
    /// Name of the data set.
    pub dataset: String,
    /// Name of the list, which may differ from machine to machine.
    pub list: String,
    /// Number of videos in the whole list.
    pub listed: usize,
    /// SHA-256 of the list's entries.
    pub entries: String,
    /// `val` or `test`.
    pub mode: String,
    /// The protocol in words.
    pub protocol: String,
    /// Number of views of a video.
    pub views: usize,
    /// The order of frames, as it is printed.
    pub order: String,
    /// The shard, such as `1/4`; `None` for the whole list.
    pub shard: Option<String>,
    /// Names of the engines.
    pub engines: Vec<String>,
    /// SHA-256 of the weights.
    pub weights: String,
    /// Source of the weights, which may differ from machine to machine.
    pub source: String,
    /// Configuration of the network.
    pub model: spec::Config,
    /// The decoder with its version.
    pub decoder: String,
    /// Number of views in a batch, which the last bits of the logits depend on.
    pub batch: usize,
}

/// What a journal holds.
#[derive(Debug)]
pub struct Journal {
    /// Its header.
    pub header: Header,
    /// The finished videos by their index in the list.
    pub videos: BTreeMap<u64, Video>,
    /// The numbers of the lines that could not be read, from 1.
    pub damaged: Vec<usize>,
}

/// A journal that is open for appending.
pub struct Writer {
    file: File,
    path: PathBuf,
}

impl Writer {
    /// Creates the journal of a run, or opens it to continue the run.
    pub fn open(folder: &Path, header: &Header) -> Result<(Self, Journal)> {
        let path = folder.join(JOURNAL_FILE);
        if !path.exists() {
            let mut first = serde_json::to_vec(header)?;
            first.push(b'\n');
            crate::disk::write(&path, &first)?;
        }
        let journal = read(&path)?;
        let differs = difference(&journal.header, header, &["list", "source"]);
        if let Some(differs) = differs {
            bail!(
                "{}: belongs to another run ({differs}); give the same arguments, or another --out",
                path.display(),
            );
        }
        let unwritable = || format!("{}: cannot be written", path.display());
        let file = OpenOptions::new().read(true).append(true).open(&path);
        let mut file = file.with_context(unwritable)?;
        end_partial_line(&mut file).with_context(unwritable)?;
        Ok((Writer { file, path }, journal))
    }

    /// Appends a video; when this returns, the line is on the disk.
    pub fn append(&mut self, video: &Video) -> Result<()> {
        let mut line = serde_json::to_vec(video)?;
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        written.with_context(|| {
            format!(
                "{}: cannot be written; what was finished before is kept, so make room and run the \
                 same command again",
                self.path.display()
            )
        })
    }
}

/// Reads a journal. Of two lines with the same video the one with answers counts, or else the later one.
pub fn read(path: &Path) -> Result<Journal> {
    let unreadable = || format!("{}: cannot be read", path.display());
    let file = File::open(path).with_context(unreadable)?;
    let mut lines = BufReader::new(file.take(MAX_BYTES));
    let mut line = Vec::new();
    next_line(&mut lines, &mut line).with_context(unreadable)?;
    let header: Header = serde_json::from_slice(&line).with_context(|| {
        format!(
            "{}: its first line is not the header of a journal of this version; give another --out",
            path.display()
        )
    })?;
    if header.journal != VERSION {
        bail!(
            "{}: has version {}, and this harness reads version {VERSION}; give another --out",
            path.display(),
            header.journal
        );
    }
    let mut journal = Journal { header, videos: BTreeMap::new(), damaged: vec![] };
    for number in 2.. {
        if !next_line(&mut lines, &mut line).with_context(unreadable)? {
            break;
        }
        match video_of(&line, &journal.header) {
            Some(video) => journal.add(video),
            // The newline that ends the partial line of another process may stand alone.
            None if line.trim_ascii().is_empty() => {}
            None => journal.damaged.push(number),
        }
    }
    Ok(journal)
}

impl Journal {
    fn add(&mut self, video: Video) {
        let of_another_file = |known: &Video| match (known.file, video.file) {
            (Some(before), Some(now)) => before.bytes != now.bytes,
            _ => false,
        };
        let gives_way = |known: &Video| {
            known.error.is_some() || video.error.is_none() || of_another_file(known)
        };
        if self.videos.get(&video.index).is_none_or(gives_way) {
            self.videos.insert(video.index, video);
        }
    }
}

/// Reads the next line, or as much of it as is allowed; `false` at the end.
fn next_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    from.by_ref().take(MAX_LINE).read_until(b'\n', line)?;
    if line.len() as u64 == MAX_LINE && !line.ends_with(b"\n") {
        from.skip_until(b'\n')?;
    }
    Ok(!line.is_empty())
}

/// The video on a line; `None` if the line is damaged.
fn video_of(line: &[u8], header: &Header) -> Option<Video> {
    let video: Video = serde_json::from_slice(line.strip_suffix(b"\n")?).ok()?;
    let answered = video.error.is_some() || video.says.len() == header.engines.len();
    (answered && video.index < header.listed as u64).then_some(video)
}

/// The first field that differs, with both values; those named in `except` may differ.
pub fn difference(found: &Header, expected: &Header, except: &[&str]) -> Option<String> {
    let fields = |header: &Header| serde_json::to_value(header).unwrap_or_default();
    let (found, expected) = (fields(found), fields(expected));
    let (key, value) = found
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| !except.contains(&key.as_str()))
        .find(|(key, value)| expected.get(key.as_str()) != Some(value))?;
    let wanted = expected.get(key).cloned().unwrap_or_default();
    let words = key.replace('_', " ");
    Some(match key.as_str() {
        "entries" => "the list has changed since".to_owned(),
        "engines" | "weights" | "views" => format!("its {words} are {value}, expected {wanted}"),
        _ => format!("its {words} is {value}, expected {wanted}"),
    })
}

/// Ends the partial line of a process that was killed, so that the next line begins where it should.
fn end_partial_line(file: &mut File) -> std::io::Result<()> {
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(-1)).is_ok() {
        file.read_exact(&mut last)?;
    }
    match last {
        [b'\n'] => Ok(()),
        _ => file.write_all(b"\n"),
    }
}
