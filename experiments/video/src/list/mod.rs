//! Reads lists of videos in the forms in which people have them.
//!
//! `lines` reads `path label` on each line, as mmaction2 publishes its lists; `tables` reads files with
//! commas: `path,label`, and the CSV of Kinetics; `place` finds the file of an entry. Every mistake is named
//! with its line, and what had to be assumed is said in [`List::remarks`].

mod lines;
mod place;
mod tables;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::VideoError;

pub use place::file_of;

/// The largest list that is read, in bytes.
const MAX_BYTES: u64 = 256 << 20;
/// The number of mistakes that a refusal names with their lines.
const NAMED: usize = 5;

/// A video in a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Path as in the list, relative to the data set's folder.
    pub path: String,
    /// Index of the class; `None` if the list does not give it.
    pub label: Option<usize>,
    /// Other paths below the folder where the file may be.
    pub elsewhere: Vec<String>,
}

/// A list that was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct List {
    /// The videos, in the order of the list.
    pub entries: Vec<Entry>,
    /// What the list does not say and was assumed, one sentence each.
    pub remarks: Vec<String>,
}

/// A mistake in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mistake {
    /// The number of the line, from 1.
    line: usize,
    /// The kind in a few words.
    kind: &'static str,
    /// What was expected, what was found and what to do, as a clause.
    text: String,
}

impl Mistake {
    fn new(line: usize, kind: &'static str, text: impl Into<String>) -> Self {
        Mistake { line, kind, text: text.into() }
    }
}

/// The entries with the numbers of their lines, the mistakes, and what had to be assumed.
#[derive(Debug, Default)]
struct Parsed {
    entries: Vec<(usize, Entry)>,
    mistakes: Vec<Mistake>,
    remarks: Vec<String>,
}

/// What the entries of a list are checked against.
#[derive(Debug, Clone)]
struct Rules<'a> {
    /// The number of classes.
    classes: usize,
    /// The folder of the videos, in the forms in which an absolute path may begin with it.
    folders: Vec<PathBuf>,
    /// The folder of the videos, as it was given.
    folder: &'a Path,
}

/// Reads the list of the videos in `folder`. Labels are indexes of classes below `classes`, or -1 where
/// they are not known.
///
/// # Errors
/// If the file cannot be read, has another form, or has mistakes, which are named with their lines.
pub fn read(path: &Path, folder: &Path, classes: usize) -> Result<List, VideoError> {
    let text = text_of(path)?;
    let rules = Rules::new(folder, classes);
    let fail =
        |line: usize, reason: String| VideoError::List { path: path.to_owned(), line, reason };
    let mut parsed = parse(&text, &rules).map_err(|mistake| fail(mistake.line, mistake.text))?;
    if let Some(first) = parsed.mistakes.first() {
        return Err(fail(first.line, in_words(&parsed.mistakes)));
    }
    if let Some(mistake) = parsed.contradiction() {
        return Err(fail(mistake.line, mistake.text));
    }
    if parsed.entries.is_empty() {
        return Err(fail(1, "the list holds no video; expected lines `path label`".to_owned()));
    }
    parsed.remark_on_labels();
    parsed.remark_on_repetitions();
    let entries = parsed.entries.into_iter().map(|(_, entry)| entry).collect();
    Ok(List { entries, remarks: parsed.remarks })
}

fn text_of(path: &Path) -> Result<String, VideoError> {
    let fail =
        |line: usize, reason: String| VideoError::List { path: path.to_owned(), line, reason };
    let meta = std::fs::metadata(path).map_err(|why| VideoError::read(path, why))?;
    if meta.len() > MAX_BYTES {
        let reason = format!("the list has {} bytes; at most {MAX_BYTES} are read", meta.len());
        return Err(fail(1, reason));
    }
    let bytes = std::fs::read(path).map_err(|why| VideoError::read(path, why))?;
    let text = String::from_utf8(bytes).map_err(|why| {
        let valid = &why.as_bytes()[..why.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|&&byte| byte == b'\n').count();
        fail(line, "this is not UTF-8 text; give a list of lines `path label`".to_owned())
    })?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

/// Recognises the form of a list and parses it; fails if it is a known form that is not read.
fn parse(text: &str, rules: &Rules) -> Result<Parsed, Mistake> {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("");
    if first.starts_with('{') || first.starts_with('[') {
        let text = "this is JSON; give a list of lines `path label`, or the CSV of Kinetics";
        return Err(Mistake::new(1, "JSON", text));
    }
    match tables::form_of(first) {
        Some(form) => tables::parse(text, form, rules),
        None => lines::parse(text, rules),
    }
}

/// The first mistake in full, and the next ones with their lines and kinds.
fn in_words(mistakes: &[Mistake]) -> String {
    let Some((first, more)) = mistakes.split_first() else { return String::new() };
    let named: Vec<String> =
        more.iter().take(NAMED).map(|m| format!("line {}: {}", m.line, m.kind)).collect();
    let dots = if more.len() > NAMED { "; …" } else { "" };
    match more.len() {
        0 => first.text.clone(),
        count => format!("{}; {count} more mistakes ({}{dots})", first.text, named.join("; ")),
    }
}

impl Parsed {
    fn remark_on_labels(&mut self) {
        let without = self.entries.iter().filter(|(_, entry)| entry.label.is_none()).count();
        if without == self.entries.len() {
            self.remarks.push(
                "the list has no labels, so only the agreement of engines is measured".to_owned(),
            );
        } else if without > 0 {
            self.remarks.push(format!(
                "{without} of the {} videos have no label (-1) and do not count for the accuracy",
                self.entries.len()
            ));
        }
    }

    /// The places in the list at which a video is listed again, each with the first place of that video. The
    /// extension `.mp4` may be left out.
    fn repetitions(&self) -> Vec<(usize, usize)> {
        let mut seen: HashMap<&str, usize> = HashMap::new();
        let again = self.entries.iter().enumerate().filter_map(|(at, (_, entry))| {
            let name = entry.path.strip_suffix(".mp4").unwrap_or(&entry.path);
            let before = *seen.entry(name).or_insert(at);
            (before != at).then_some((at, before))
        });
        again.collect()
    }

    /// The first video that is listed with two labels.
    fn contradiction(&self) -> Option<Mistake> {
        self.repetitions().into_iter().find_map(|(at, before)| {
            let [(line, entry), (first, other)] = [&self.entries[at], &self.entries[before]];
            let (label, earlier) = (entry.label?, other.label?);
            let text = format!(
                "`{}` has the label {label} here and {earlier} in line {first}; a video has one label",
                shown(&entry.path)
            );
            (label != earlier).then(|| Mistake::new(*line, "two labels", text))
        })
    }

    fn remark_on_repetitions(&mut self) {
        let again = self.repetitions();
        if let Some((at, before)) = again.first() {
            self.remarks.push(format!(
                "{} videos are listed more than once and count each time (line {} repeats line {})",
                again.len(),
                self.entries[*at].0,
                self.entries[*before].0
            ));
        }
    }
}

impl Rules<'_> {
    fn new(folder: &Path, classes: usize) -> Rules<'_> {
        let forms = [std::path::absolute(folder).ok(), folder.canonicalize().ok()];
        Rules { classes, folders: forms.into_iter().flatten().collect(), folder }
    }

    /// The index of the class; `None` for -1.
    fn label(&self, line: usize, label: i64, shown: &str) -> Result<Option<usize>, Mistake> {
        match usize::try_from(label) {
            Ok(index) if index < self.classes => Ok(Some(index)),
            Err(_) if label == -1 => Ok(None),
            Ok(index) if index == self.classes => Err(Mistake::new(
                line,
                "label too large",
                format!(
                    "label {label} of `{shown}` is not below the number of classes, {}; labels \
                     count from 0, so subtract 1 if these count from 1, or check --classes",
                    self.classes
                ),
            )),
            Ok(_) => Err(Mistake::new(
                line,
                "label too large",
                format!(
                    "label {label} of `{shown}` is not below the number of classes, {}; check \
                     --classes and the list",
                    self.classes
                ),
            )),
            Err(_) => Err(Mistake::new(
                line,
                "negative label",
                format!("label {label} of `{shown}` is negative; only -1, for no label, may be"),
            )),
        }
    }
}

/// A part of a line as an error shows it.
fn shown(text: &str) -> String {
    files::printable(&text.chars().take(80).collect::<String>())
}

/// Finds the list `name` in the data set's folder or in the folder above it.
pub fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    [Some(folder), folder.parent()]
        .into_iter()
        .flatten()
        .map(|at| at.join(name))
        .find(|p| p.is_file())
}

#[cfg(test)]
mod tests;
