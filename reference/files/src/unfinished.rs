//! Files and folders that must not outlive the program: a program that is interrupted ends without
//! running destructors, and calls [`remove_unfinished`] first.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn all() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file or folder that is not complete yet. It is removed when this is dropped, unless it has another
/// name by then.
#[derive(Debug)]
pub struct Unfinished(PathBuf);

impl Unfinished {
    /// Makes a file or folder, and remembers it before an interruption can come in between.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn make<T, E>(
        make: impl FnOnce() -> Result<T, E>,
        path: impl FnOnce(&T) -> PathBuf,
    ) -> Result<(T, Self), E> {
        let mut all = all();
        let made = make()?;
        let path = path(&made);
        all.insert(path.clone());
        Ok((made, Unfinished(path)))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut all = all();
        remove(&self.0);
        all.remove(&self.0);
    }
}

/// Removes every unfinished file and folder. After this no file can be begun or finished: the program
/// must end at once.
pub fn remove_unfinished() {
    let unfinished = all();
    for path in unfinished.iter() {
        remove(path);
    }
    std::mem::forget(unfinished);
}

/// What is gone already need not be removed, and nobody is left to be told of another failure.
fn remove(path: &Path) {
    let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

/// A temporary folder, which is removed with its content at the end, also if the program is interrupted.
#[derive(Debug)]
pub struct Folder {
    folder: TempDir,
    _unfinished: Unfinished,
}

impl Folder {
    /// Makes a folder in the system's place for temporary files.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn new() -> io::Result<Self> {
        let make = || tempfile::Builder::new().prefix("harness-").tempdir();
        let (folder, unfinished) = Unfinished::make(make, |made| made.path().to_owned())?;
        Ok(Folder { folder, _unfinished: unfinished })
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}
