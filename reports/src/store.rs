//! Records on disk: reading with every doubt named, writing beside the target and renaming.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{ReportError, Result};
use crate::record::{DiffRecord, RECORD_FILE, Record, SCHEMA};

/// The kinds of records that a report can be made of.
const KINDS: [&str; 8] = ["diff", "selftest", "eval", "train", "ablate", "bench", "gpu", "null"];

/// A record as it stands in the file: its version and kind before its body.
#[derive(Serialize)]
struct Envelope<'a, T> {
    schema: u64,
    kind: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

/// What has to be known before the body can be read.
#[derive(Deserialize)]
#[serde(expecting = "a JSON object")]
struct Header {
    schema: Option<serde_json::Value>,
    kind: Option<serde_json::Value>,
}

/// Reads a record from a file, or from `record.json` in a run's directory.
pub fn read_record(path: &Path) -> Result<Record> {
    let file = record_path(path);
    let text = read_text(&file).map_err(|source| ReportError::read(&file, source))?;
    parse_record(&text, &file)
}

/// Reads a text file, but no endless one: a record is some megabytes at most.
fn read_text(path: &Path) -> io::Result<String> {
    const MOST: u64 = 256 << 20;
    let mut text = String::new();
    let read = File::open(path)?.take(MOST + 1).read_to_string(&mut text)?;
    if read as u64 > MOST {
        let reason = "it is larger than 256 MiB, which no run record is";
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(text)
}

/// The file that `path` means: itself, or the record inside of it when it is a directory.
fn record_path(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(RECORD_FILE) } else { path.to_owned() }
}

/// Reads a record from JSON; `path` serves for the messages only.
pub fn parse_record(text: &str, path: &Path) -> Result<Record> {
    let header: Header = parse(text, path)?;
    check_schema(&header, path)?;
    match header.kind.as_ref().and_then(serde_json::Value::as_str) {
        Some("diff") => {
            let diff: DiffRecord = parse(text, path)?;
            check_heatmap(&diff, path)?;
            Ok(Record::Diff(Box::new(diff)))
        }
        Some("selftest") => Ok(Record::Selftest(Box::new(parse(text, path)?))),
        Some("eval") => Ok(Record::Eval(Box::new(parse(text, path)?))),
        Some("train") => Ok(Record::Train(Box::new(parse(text, path)?))),
        Some("bench") => Ok(Record::Bench(Box::new(parse(text, path)?))),
        Some("null") => Ok(Record::Null(Box::new(parse(text, path)?))),
        Some("gpu") => Ok(Record::Gpu(Box::new(parse(text, path)?))),
        Some("ablate") => Ok(Record::Ablate(Box::new(parse(text, path)?))),
        _ => Err(ReportError::Kind {
            path: path.to_owned(),
            found: in_words(header.kind.as_ref()),
            expected: KINDS.join(", "),
        }),
    }
}

fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T> {
    serde_json::from_str(text).map_err(|error| ReportError::format(path, error.to_string()))
}

fn check_schema(header: &Header, path: &Path) -> Result<()> {
    let found = header.schema.as_ref();
    if found.and_then(serde_json::Value::as_u64) == Some(SCHEMA) {
        return Ok(());
    }
    Err(ReportError::Schema { path: path.to_owned(), found: in_words(found), expected: SCHEMA })
}

/// A heatmap whose values do not fill it would be drawn askew.
fn check_heatmap(diff: &DiffRecord, path: &Path) -> Result<()> {
    let Some(map) = &diff.heatmap else { return Ok(()) };
    if map.height.checked_mul(map.width) == Some(map.values.len()) {
        return Ok(());
    }
    let reason = format!(
        "the heatmap of {} should hold {} x {} values and holds {}",
        map.layer,
        map.height,
        map.width,
        map.values.len()
    );
    Err(ReportError::format(path, reason))
}

/// A JSON value for a message: short, and "none" where there is none.
fn in_words(value: Option<&serde_json::Value>) -> String {
    const LONGEST: usize = 40;
    let text = value.map_or_else(|| "none".to_owned(), ToString::to_string);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The JSON of a record, with a newline at its end.
pub fn to_json(record: &Record) -> serde_json::Result<String> {
    let kind = record.kind();
    let mut text = match record {
        Record::Diff(body) => enveloped(kind, body),
        Record::Selftest(body) => enveloped(kind, body),
        Record::Eval(body) => enveloped(kind, body),
        Record::Train(body) => enveloped(kind, body),
        Record::Ablate(body) => enveloped(kind, body),
        Record::Bench(body) => enveloped(kind, body),
        Record::Gpu(body) => enveloped(kind, body),
        Record::Null(body) => enveloped(kind, body),
    }?;
    text.push('\n');
    Ok(text)
}

fn enveloped(kind: &'static str, body: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&Envelope { schema: SCHEMA, kind, body })
}

/// Writes a record. A reader sees the old file or the new one, never half of one.
pub fn write_record(record: &Record, path: &Path) -> Result<()> {
    let text = to_json(record).map_err(|error| ReportError::write(path, error.into()))?;
    write_whole(path, text.as_bytes())
}

/// Writes a file beside its place and renames it there; missing directories are made.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let beside = beside(path)?;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|source| ReportError::write(path, source))?;
    }
    let written = write_synced(&beside, content).and_then(|()| fs::rename(&beside, path));
    written.map_err(|source| {
        // The half-written file is of no use to anybody; that it may not exist is no failure.
        let _ = fs::remove_file(&beside);
        ReportError::write(path, source)
    })
}

/// A name in the same directory, so that the rename does not cross file systems; the process id
/// keeps two runs apart that write the same report.
fn beside(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        ReportError::write(
            path,
            io::Error::new(io::ErrorKind::InvalidInput, "this is no file name"),
        )
    })?;
    let hidden = format!(".{}.{}.part", name.to_string_lossy(), std::process::id());
    Ok(path.with_file_name(hidden))
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}
