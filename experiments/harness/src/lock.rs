//! One writer for the folder of a run: a lock file with the host and the process that writes there.
//!
//! On one machine, and on network file systems that support it, the kernel's lock on the file decides: it
//! ends with its process, however that ends. Where another machine holds the file, its modification time is
//! the sign of life: the writer renews it every few seconds, and a file that stays the same for
//! [`PATIENCE`] belongs to a process that is gone. A process that was suspended for longer finds out before
//! it writes that the lock is not its own any more.

mod owner;

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use video::VideoError;

use self::owner::Owner;
use crate::stop;

/// Name of the lock file in the folder of a run.
pub const LOCK_FILE: &str = "writer.lock";
/// How long a writer on another machine may give no sign of life.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// The time between two signs of life.
const BEAT: Duration = Duration::from_secs(10);
/// The largest lock file that is read, in bytes.
const MAX_BYTES: u64 = 4096;

/// The right to write into a folder, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    owner: Owner,
    beats: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Lock {
    /// Takes the lock of a folder, which is made if it does not exist. The lock of a process that is gone
    /// is taken over; whether one on another machine is gone shows within `patience`.
    pub fn acquire(folder: &Path, patience: Duration) -> Result<Lock> {
        let unwritable = || format!("{}: cannot be written", folder.display());
        fs::create_dir_all(folder).with_context(unwritable)?;
        let (path, owner) = (folder.join(LOCK_FILE), Owner::here());
        // Each round ends with the lock, with a refusal, or because the file has just changed hands.
        for _ in 0..10 {
            if let Some(file) = create(folder, &path, &owner).with_context(unwritable)? {
                return Ok(Lock::hold(file, path, owner));
            }
            match take_over(&path, &owner, patience)? {
                Some(file) => return Ok(Lock::hold(file, path, owner)),
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        bail!("{}: other processes take it in turns; give another --out", path.display())
    }

    fn hold(file: File, path: PathBuf, owner: Owner) -> Lock {
        let (stop, stopped) = mpsc::channel();
        let beats = std::thread::spawn(move || {
            // The file is kept open here, and with it the kernel's lock.
            while stopped.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                let _ = file.set_modified(SystemTime::now());
            }
        });
        Lock { path, owner, beats: Some((stop, beats)) }
    }

    /// Fails if another process has taken the lock, which happens if this one was suspended.
    pub fn check(&self) -> Result<()> {
        let found = File::open(&self.path).ok().and_then(|file| read(&file));
        if found.as_ref() == Some(&self.owner) {
            return Ok(());
        }
        let by = found.map_or("was removed".to_owned(), |by| format!("was taken by {by}"));
        bail!(
            "{}: this lock {by}, so this process stops; what it wrote until now is kept",
            self.path.display()
        )
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed before the kernel's lock ends: who opens the file later finds a new one.
        if self.check().is_ok() {
            let _ = fs::remove_file(&self.path);
        }
        if let Some((stop, beats)) = self.beats.take() {
            drop(stop);
            let _ = beats.join();
        }
    }
}

/// Makes the lock file with its content; `None` if there is one already.
fn create(folder: &Path, path: &Path, owner: &Owner) -> io::Result<Option<File>> {
    let mut file = tempfile::Builder::new().prefix(".writer.").tempfile_in(folder)?;
    file.write_all(&serde_json::to_vec(owner)?)?;
    // A file system without locks leaves the file itself, whose creation is atomic.
    let _ = file.as_file().try_lock();
    match file.persist_noclobber(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        // Some file systems cannot rename a file without replacing another one.
        Err(_) => create_in_place(path, owner),
    }
}

fn create_in_place(path: &Path, owner: &Owner) -> io::Result<Option<File>> {
    let mut file = match File::create_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        created => created?,
    };
    let _ = file.try_lock();
    file.write_all(&serde_json::to_vec(owner)?)?;
    Ok(Some(file))
}

/// Takes over the lock of a process that is gone. `None` if the file is another one by now.
fn take_over(path: &Path, owner: &Owner, patience: Duration) -> Result<Option<File>> {
    let Ok(mut file) = File::options().read(true).write(true).open(path) else { return Ok(None) };
    let found = read(&file);
    let locked = match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => return Err(busy(path, found.as_ref())),
        Err(TryLockError::Error(_)) => false,
    };
    if !is_at(&file, path) {
        return Ok(None);
    }
    let gone = match &found {
        Some(found) => owner.knows_gone(found, locked),
        None => None,
    };
    let why = match gone {
        Some(true) => "is not running any more".to_owned(),
        Some(false) => return Err(busy(path, found.as_ref())),
        None => {
            watch(&file, path, found.as_ref(), patience)?;
            format!("has given no sign of life for {} s", patience.as_secs())
        }
    };
    let before = found.map_or("an unknown process".to_owned(), |found| found.to_string());
    announce!("taking over {}: {} {why}", path.display(), files::printable(&before));
    let unwritable = || format!("{}: cannot be written", path.display());
    let content = serde_json::to_vec(owner)?;
    let written =
        file.rewind().and_then(|()| file.set_len(0)).and_then(|()| file.write_all(&content));
    written.and_then(|()| file.sync_all()).with_context(unwritable)?;
    if !locked {
        // Of two processes that took over at the same time, the last one to write has the lock.
        std::thread::sleep(Duration::from_secs(2));
    }
    let now = File::open(path).ok().and_then(|file| read(&file));
    Ok((now.as_ref() == Some(owner)).then_some(file))
}

/// Waits for a sign of life of the owner, and fails if there is one.
fn watch(file: &File, path: &Path, found: Option<&Owner>, patience: Duration) -> Result<()> {
    // Opened each time, since network file systems look for changes then.
    let state = || File::open(path).and_then(|f| f.metadata()).and_then(|m| m.modified()).ok();
    let (start, before) = (Instant::now(), state());
    let by = found.map_or("an unknown process".to_owned(), Owner::to_string);
    announce!(
        "{}: waiting up to {} s for a sign of life of {}",
        path.display(),
        patience.as_secs(),
        files::printable(&by)
    );
    while start.elapsed() < patience {
        std::thread::sleep(patience.min(Duration::from_millis(500)));
        if stop::asked() {
            return Err(VideoError::Stopped.into());
        }
        if state() != before || !is_at(file, path) {
            return Err(busy(path, found));
        }
    }
    Ok(())
}

fn busy(path: &Path, found: Option<&Owner>) -> anyhow::Error {
    let by = found.map_or("another process".to_owned(), Owner::to_string);
    let folder = path.parent().unwrap_or(path);
    anyhow::anyhow!(
        "{}: {by} is writing there; wait for its end, or give another --out (if that process does not \
         exist any more, remove {LOCK_FILE} there)",
        folder.display()
    )
}

fn read(mut file: &File) -> Option<Owner> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Whether an open file is the one that has this path now.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(600);

    fn leave(folder: &Path, owner: &Owner) {
        fs::write(folder.join(LOCK_FILE), serde_json::to_vec(owner).unwrap()).unwrap();
    }

    fn abroad() -> Owner {
        Owner { host: "other".to_owned(), boot: "b".to_owned(), job: None, ..Owner::here() }
    }

    #[test]
    fn a_folder_has_one_writer_and_the_lock_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::acquire(folder.path(), SHORT).unwrap();
        let why = Lock::acquire(folder.path(), SHORT).unwrap_err().to_string();
        let me = format!("process {} on host", std::process::id());
        assert!(why.contains(&me) && why.contains("--out"), "{why}");
        first.check().unwrap();
        drop(first);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        Lock::acquire(folder.path(), SHORT).unwrap();
    }

    #[test]
    fn the_lock_of_a_process_that_is_gone_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        leave(folder.path(), &Owner { process: 1, ..Owner::here() });
        let start = Instant::now();
        Lock::acquire(folder.path(), PATIENCE).unwrap();
        assert!(start.elapsed() < Duration::from_secs(5), "nothing is waited for");
        for content in ["", "{\"host\": 3", "\u{0}"] {
            fs::write(folder.path().join(LOCK_FILE), content).unwrap();
            Lock::acquire(folder.path(), SHORT).unwrap();
        }
    }

    #[test]
    fn a_writer_on_another_machine_is_recognised_by_its_signs_of_life() {
        let folder = tempfile::tempdir().unwrap();
        leave(folder.path(), &abroad());
        let lock = Lock::acquire(folder.path(), SHORT).unwrap();
        leave(folder.path(), &abroad());
        let why = lock.check().unwrap_err().to_string();
        assert!(why.contains("taken by") && why.contains("on host other"), "{why}");
        let path = folder.path().join(LOCK_FILE);
        let alive = std::thread::spawn(move || {
            for _ in 0..20 {
                std::thread::sleep(Duration::from_millis(100));
                File::options()
                    .write(true)
                    .open(&path)
                    .unwrap()
                    .set_modified(SystemTime::now())
                    .unwrap();
            }
        });
        drop(lock);
        let why = Lock::acquire(folder.path(), Duration::from_secs(60)).unwrap_err().to_string();
        assert!(why.contains("on host other") && why.contains("remove writer.lock"), "{why}");
        alive.join().unwrap();
    }
}
