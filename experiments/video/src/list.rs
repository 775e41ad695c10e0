//! Reads lists of videos, which have `path label` on each line, as the data sets are published.

use std::path::{Component, Path, PathBuf};

use crate::VideoError;

/// The largest list that is read, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// A video in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path, relative to the data set's folder.
    pub path: String,
    /// Index of the class.
    pub label: usize,
}

/// Reads a list. The label follows the last space, so a path may contain spaces. Fails if a label is not
/// below `classes`, the number of classes.
pub fn read(path: &Path, classes: usize) -> Result<Vec<Entry>, VideoError> {
    let meta = std::fs::metadata(path).map_err(|why| VideoError::read(path, why))?;
    if meta.len() > MAX_BYTES {
        let reason = format!("the list has {} bytes; at most {MAX_BYTES} are read", meta.len());
        return Err(VideoError::List { path: path.to_owned(), line: 1, reason });
    }
    let bytes = std::fs::read(path).map_err(|why| VideoError::read(path, why))?;
    let fail =
        |line: usize, reason: String| VideoError::List { path: path.to_owned(), line, reason };
    let text = std::str::from_utf8(&bytes).map_err(|why| {
        let line = 1 + bytes[..why.valid_up_to()].iter().filter(|&&b| b == b'\n').count();
        fail(line, "this is not UTF-8 text; give a list of lines `path label`".to_owned())
    })?;
    let entries = parse(text.trim_start_matches('\u{feff}'), classes);
    let entries = entries.map_err(|(line, reason)| fail(line, reason))?;
    if entries.is_empty() {
        return Err(fail(1, "the list holds no video; expected lines `path label`".to_owned()));
    }
    Ok(entries)
}

/// Parses the lines; an error comes with the number of its line, from 1.
fn parse(text: &str, classes: usize) -> Result<Vec<Entry>, (usize, String)> {
    let mut entries = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() {
            continue;
        }
        entries.push(entry(line, classes).map_err(|reason| (at + 1, reason))?);
    }
    Ok(entries)
}

fn entry(line: &str, classes: usize) -> Result<Entry, String> {
    let shown: String = line.chars().take(80).collect();
    let (path, label) = line
        .rsplit_once([' ', '\t'])
        .ok_or_else(|| format!("expected `path label`, found `{shown}`; add the label"))?;
    let label: usize = label.parse().map_err(|_| {
        format!("the label `{label}` of `{shown}` is not a whole number; correct it")
    })?;
    if label >= classes {
        return Err(format!(
            "label {label} of `{shown}` is not below the number of classes, {classes}; check \
             --classes and the list"
        ));
    }
    let path = path.trim_end();
    let plain = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
    if path.is_empty() || !Path::new(path).components().all(plain) {
        return Err(format!(
            "`{shown}` is outside of the data set's folder; use relative paths without `..`"
        ));
    }
    Ok(Entry { path: path.to_owned(), label })
}

/// The indexes of the entries whose files are not in the folder.
pub fn missing(folder: &Path, entries: &[Entry]) -> Vec<usize> {
    let there = |entry: &Entry| folder.join(&entry.path).is_file();
    (0..entries.len()).filter(|&at| !there(&entries[at])).collect()
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
mod tests {
    use super::*;

    #[test]
    fn the_label_follows_the_last_space() {
        let entries = parse("a b/c d.mp4 3\r\n\n x.mp4\t0\n", 4).unwrap();
        let pairs: Vec<_> = entries.iter().map(|e| (e.path.as_str(), e.label)).collect();
        assert_eq!(pairs, [("a b/c d.mp4", 3), (" x.mp4", 0)]);
    }

    #[test]
    fn bad_lines_are_named() {
        for text in ["a 0\nb", "a 0\nb x", "a 0\nb 4", "a 0\n/b 0", "a 0\n../b 0", "a 0\nb -1"] {
            assert_eq!(parse(text, 4).unwrap_err().0, 2, "{text}");
        }
    }
}
