//! Several inputs: formula clips or the videos in a folder.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use super::InputSource;

/// More inputs than this are refused: the record holds a ratio for each layer and input.
const MOST: usize = 1000;

/// Where several inputs come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClipSource {
    /// This many formula inputs.
    Seeds(usize),
    /// The videos in a folder.
    Folder(PathBuf),
}

impl FromStr for ClipSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<usize>() {
            Ok(count) if (1..=MOST).contains(&count) => Ok(ClipSource::Seeds(count)),
            Ok(_) => Err(format!("`{text}` is not a number of inputs from 1 to {MOST}")),
            Err(_) => Ok(ClipSource::Folder(text.into())),
        }
    }
}

impl ClipSource {
    /// The inputs, in order. `flag` is named in errors.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read, or holds no file or too many.
    pub fn inputs(&self, flag: &str) -> Result<Vec<InputSource>> {
        let all = self.all(flag)?;
        if all.len() > MOST {
            let (source, count) = (self.name(), all.len());
            bail!("{flag} {source}: the folder holds {count} files, expected 1 to {MOST} videos");
        }
        Ok(all)
    }

    /// At most `most` of the inputs: if there are more, some at equal distances.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read, or holds no file.
    pub fn spread(&self, flag: &str, most: usize) -> Result<Vec<InputSource>> {
        let mut all: Vec<Option<InputSource>> = self.all(flag)?.into_iter().map(Some).collect();
        let (total, count) = (all.len(), all.len().min(most));
        Ok((0..count).filter_map(|at| all[at * total / count].take()).collect())
    }

    fn all(&self, flag: &str) -> Result<Vec<InputSource>> {
        let ClipSource::Folder(folder) = self else {
            return Ok((0..self.seeds() as u64).map(InputSource::Formula).collect());
        };
        let mut paths = vec![];
        videos(folder, &mut paths).with_context(|| {
            let shown = folder.display();
            format!("{flag} {shown}: expected a number of clips or a readable folder of videos")
        })?;
        if paths.is_empty() {
            bail!("{flag} {}: the folder holds no videos", folder.display());
        }
        paths.sort();
        Ok(paths.into_iter().map(InputSource::File).collect())
    }

    fn seeds(&self) -> usize {
        if let ClipSource::Seeds(count) = self { *count } else { 0 }
    }

    fn name(&self) -> String {
        match self {
            ClipSource::Seeds(count) => count.to_string(),
            ClipSource::Folder(folder) => folder.display().to_string(),
        }
    }
}

/// Endings of files that lie beside videos: lists and notes.
const NO_VIDEOS: [&str; 4] = ["txt", "csv", "json", "md"];

/// Adds the files of a folder and its subfolders, without hidden ones, lists and notes.
fn videos(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let note =
            path.extension().is_some_and(|e| NO_VIDEOS.iter().any(|no| e.eq_ignore_ascii_case(no)));
        if path.is_dir() && !path.is_symlink() && !hidden {
            videos(&path, found)?;
        } else if path.is_file() && !hidden && !note {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_videos_and_those_of_its_subfolders_by_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        for name in ["c.mp4", "a.mp4", "list.txt", ".hidden", "b/0.mp4", "b/1.MKV"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let source = ClipSource::Folder(folder.path().to_owned());
        let names = |found: Vec<InputSource>| -> Vec<String> {
            let short = |source: InputSource| match source {
                InputSource::File(path) => {
                    path.strip_prefix(folder.path()).unwrap().display().to_string()
                }
                InputSource::Formula(seed) => seed.to_string(),
            };
            found.into_iter().map(short).collect()
        };
        assert_eq!(names(source.inputs("--x").unwrap()), ["a.mp4", "b/0.mp4", "b/1.MKV", "c.mp4"]);
        assert_eq!(names(source.spread("--x", 2).unwrap()), ["a.mp4", "b/1.MKV"]);
        assert_eq!(names(source.spread("--x", 9).unwrap()).len(), 4);
        assert_eq!(names(ClipSource::Seeds(3).spread("--x", 2).unwrap()), ["0", "1"]);
        let empty = ClipSource::Folder(folder.path().join("b/none"));
        assert!(empty.inputs("--x").unwrap_err().to_string().contains("expected a number"));
    }
}
