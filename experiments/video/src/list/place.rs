//! The path of a video: how it may be written in a list, and where its file is.

use std::path::{Component, Path, PathBuf};

use super::{Entry, Mistake, Rules, shown};

/// Extensions by which a path is known to name a video.
const EXTENSIONS: &[&str] = &[
    "3gp", "asf", "avi", "flv", "gif", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts",
    "mxf", "ogg", "ogv", "rm", "ts", "vob", "webm", "wmv",
];

/// Whether the name ends as that of a video file.
pub(super) fn is_video(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|found| EXTENSIONS.contains(&found.to_ascii_lowercase().as_str()))
}

impl Rules<'_> {
    /// A path relative to the folder of the videos, from one that is relative or inside of that folder.
    pub(super) fn relative(&self, line: usize, path: &str) -> Result<String, Mistake> {
        let outside = |why: &str| {
            let text = format!("`{}` {why}", shown(path));
            Err(Mistake::new(line, "path outside of the folder", text))
        };
        let given = Path::new(path);
        let inner = match given.is_absolute() {
            false => given,
            true => match self.folders.iter().find_map(|f| given.strip_prefix(f).ok()) {
                Some(inner) => inner,
                None => {
                    return outside(&format!(
                        "is not inside of --data {}; use relative paths, or give the folder that \
                         holds it",
                        self.folder.display()
                    ));
                }
            },
        };
        let plain = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
        if inner.as_os_str().is_empty() || !inner.components().all(plain) {
            return outside("is outside of the data set's folder; use relative paths without `..`");
        }
        // Without `./`, so that a video has one path.
        let parts = inner.components().filter(|part| matches!(part, Component::Normal(_)));
        Ok(parts.collect::<PathBuf>().to_string_lossy().into_owned())
    }
}

/// The file of an entry: its path as listed, with the extension `.mp4`, which mmaction2 adds where there
/// is none, or one of the other places of the entry. `None` if none of them is a file.
pub fn file_of(folder: &Path, entry: &Entry) -> Option<PathBuf> {
    let listed = folder.join(&entry.path);
    if listed.is_file() {
        return Some(listed);
    }
    let mut others = Vec::new();
    if !is_video(&entry.path) {
        others.push(format!("{}.mp4", entry.path));
    }
    others.extend(entry.elsewhere.iter().cloned());
    others.into_iter().map(|path| folder.join(path)).find(|path| path.is_file())
}
