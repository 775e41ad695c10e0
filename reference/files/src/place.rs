//! Whether a file or folder can be written, tried before the work whose result it will hold.

use std::fs;
use std::io;
use std::path::Path;

/// Why a file cannot be written to this path, as the end of a sentence. A file that exists is not
/// touched, and nothing is left behind. Folders that do not exist count as writable if they can be made.
///
/// # Errors
/// The reason and what to do.
pub fn check_file(path: &Path) -> Result<(), String> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if path.is_dir() || bytes.ends_with(b"/") {
        return Err("this is a folder; name a file in it".to_owned());
    }
    if path.file_name().is_none() {
        return Err("this does not name a file; name one".to_owned());
    }
    if is_special(path) {
        let opened = fs::File::options().write(true).open(path);
        return opened.map(drop).map_err(unwritable);
    }
    try_in(path.parent().unwrap_or(path))
}

/// Opens a regular file. A device or a pipe might never end.
///
/// # Errors
/// If it cannot be opened, or is something else.
pub fn open_regular(path: &Path) -> io::Result<fs::File> {
    if is_special(path) {
        return Err(io::Error::other("it is not a regular file; save it to one first"));
    }
    fs::File::open(path)
}

/// Why files cannot be written into the folder at this path, as the end of a sentence. The folder need
/// not exist; it is not made.
///
/// # Errors
/// The reason and what to do.
pub fn check_folder(path: &Path) -> Result<(), String> {
    if path.exists() && !path.is_dir() {
        return Err("this is a file; name a folder".to_owned());
    }
    try_in(path)
}

/// Tries a temporary file in the folder, or in the next folder above it that exists.
fn try_in(folder: &Path) -> Result<(), String> {
    let here = Path::new(".");
    let exists = |at: &&Path| !at.as_os_str().is_empty() && fs::symlink_metadata(at).is_ok();
    let place = folder.ancestors().find(exists).unwrap_or(here);
    if !place.is_dir() {
        return Err(format!("{} is not a folder; name another place", shown(place)));
    }
    tempfile::Builder::new().prefix(".harness-").tempfile_in(place).map(drop).map_err(unwritable)
}

fn shown(path: &Path) -> String {
    super::printable(&path.display().to_string())
}

fn unwritable(why: io::Error) -> String {
    // The error of a temporary file names that file, which nobody knows.
    let why = match why.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::from(why.kind()),
    };
    format!("it cannot be written ({why}); name another place")
}

/// Whether the path leads to a device, a pipe or a socket.
pub(crate) fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_tried_without_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "old").unwrap();
        for good in ["file", "new", "new/folder/file"] {
            check_file(&at(good)).unwrap();
        }
        check_folder(&at("new/folder")).unwrap();
        check_folder(folder.path()).unwrap();
        check_file(Path::new("/dev/null")).unwrap();
        check_file(Path::new("only-a-name")).unwrap();
        for (bad, words) in [
            (check_file(folder.path()), "this is a folder"),
            (check_file(&at("new/")), "this is a folder"),
            (check_file(Path::new("/")), "folder"),
            (check_file(&at("file/below")), "is not a folder"),
            (check_folder(&at("file")), "this is a file"),
            (check_folder(&at("file/a/b")), "is not a folder"),
            (check_file(Path::new("/proc/none")), "cannot be written"),
        ] {
            let why = bad.unwrap_err();
            assert!(why.contains(words) && why.contains("; name "), "{why}");
        }
        assert_eq!(fs::read(at("file")).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
