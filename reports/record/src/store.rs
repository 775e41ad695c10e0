//! Reads and writes records. A file is written under a temporary name and renamed into place.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{RecordError, Result};
use crate::{Body, FAILURE, KINDS, RECORD_FILE, Record, SCHEMA};

/// Reads the record of one kind from JSON. The error says what is wrong with the text, as a clause.
pub(crate) type Parse = fn(&str) -> std::result::Result<Record, String>;

/// The content of a record file: the version, then the kind and the fields of the record.
#[derive(Serialize)]
struct Envelope<'a> {
    schema: u64,
    #[serde(flatten)]
    record: &'a Record,
}

/// The fields that decide how the rest of the file is read.
#[derive(Deserialize)]
#[serde(expecting = "a JSON object")]
struct Header {
    schema: Option<serde_json::Value>,
    kind: Option<serde_json::Value>,
    #[serde(default)]
    error: Option<String>,
}

/// Reads a record from a file, or from `record.json` in the directory of a run, and the pictures that lie
/// next to it.
///
/// # Errors
///
/// If the file cannot be read, has another schema version or kind, or is not a run record.
pub fn read_record(path: &Path) -> Result<Record> {
    let file = record_path(path);
    let text = read_text(&file).map_err(|source| RecordError::read(&file, source))?;
    let mut record = parse_record(&text, &file)?;
    record.body_mut().read_beside(file.parent().unwrap_or(Path::new("")));
    Ok(record)
}

/// Reads a text file of limited size: a record has a few megabytes, and the path may be a device.
fn read_text(path: &Path) -> io::Result<String> {
    const MAX_BYTES: u64 = 256 << 20;
    let mut text = String::new();
    let read = File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_BYTES {
        let reason = "the file is larger than 256 MiB, the limit for a run record";
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(text)
}

/// The record file for a path: the file itself, or `record.json` inside it if it is a directory.
fn record_path(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(RECORD_FILE) } else { path.to_owned() }
}

/// Whether a file holds a record, or what a run left that failed, of any version.
pub(crate) fn is_ours(path: &Path) -> bool {
    let header = read_text(path).ok().and_then(|text| parse::<Header>(&text).ok());
    header.is_some_and(|header| header.schema.is_some() && header.kind.is_some())
}

/// Parses a record from JSON; `path` is used in error messages only.
///
/// # Errors
///
/// If the text has another schema version or kind, or is not a run record.
pub fn parse_record(text: &str, path: &Path) -> Result<Record> {
    let fail = |reason| RecordError::format(path, reason);
    let header: Header = parse(text).map_err(fail)?;
    check_schema(&header, path)?;
    let kind = header.kind.as_ref();
    let name = kind.and_then(serde_json::Value::as_str);
    if name == Some(FAILURE) {
        let why = header.error.unwrap_or_default();
        return Err(RecordError::Failed { path: path.to_owned(), why });
    }
    let Some((_, parse)) = KINDS.iter().find(|(kind, _)| Some(*kind) == name) else {
        return Err(RecordError::Kind {
            path: path.to_owned(),
            found: for_message(kind),
            expected: KINDS.iter().map(|(kind, _)| *kind).collect::<Vec<_>>().join(", "),
        });
    };
    parse(text).map_err(fail)
}

/// Reads and checks the content of a record.
pub(crate) fn parse_body<T: Body + DeserializeOwned>(
    text: &str,
) -> std::result::Result<Box<T>, String> {
    let body: Box<T> = parse(text)?;
    body.check()?;
    Ok(body)
}

fn parse<T: DeserializeOwned>(text: &str) -> std::result::Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn check_schema(header: &Header, path: &Path) -> Result<()> {
    let found = header.schema.as_ref();
    if found.and_then(serde_json::Value::as_u64) == Some(SCHEMA) {
        return Ok(());
    }
    Err(RecordError::Schema { path: path.to_owned(), found: for_message(found), expected: SCHEMA })
}

/// A JSON value for an error message, shortened; `none` if the field is missing.
fn for_message(value: Option<&serde_json::Value>) -> String {
    const MAX_CHARS: usize = 40;
    let text = value.map_or_else(|| "none".to_owned(), ToString::to_string);
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The JSON of a record, with a trailing newline.
///
/// # Errors
///
/// If serde refuses the record, which is a bug in this crate.
pub fn to_json(record: &Record) -> serde_json::Result<String> {
    let mut text = serde_json::to_string_pretty(&Envelope { schema: SCHEMA, record })?;
    text.push('\n');
    Ok(text)
}

/// Writes a record as JSON. Readers see the old file or the complete new one.
///
/// # Errors
///
/// If a directory cannot be made or the file cannot be written.
pub fn write_record(record: &Record, path: &Path) -> Result<()> {
    let text = to_json(record).map_err(|error| RecordError::write(path, error.into()))?;
    files::write(path, text.as_bytes()).map_err(|source| RecordError::write(path, source))
}
