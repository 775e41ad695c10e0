//! Bringing a file's bytes into memory, or saying why that cannot be.

use std::io::{self, Read};
use std::path::Path;

use super::error::Fault;

/// Largest checkpoint that is read: twice the deepest network with an optimiser's two moments.
const MAX_BYTES: u64 = 8 << 30;

/// Checks that a path is a file of bearable size; its length.
pub(super) fn check(path: &Path) -> Result<usize, Fault> {
    let meta = std::fs::metadata(path).map_err(|e| unreadable(&e))?;
    if meta.is_dir() {
        return Err(Fault::new("it is a folder", "give the checkpoint file inside it"));
    }
    if !meta.is_file() {
        return Err(Fault::new("it is no regular file", "save what it delivers to a file first"));
    }
    match meta.len() {
        0 => Err(Fault::new("it is empty", "get the file again")),
        n if n > MAX_BYTES => Err(Fault::new(
            format!("it has {n} bytes, more than any checkpoint of this network"),
            "check that it is the right file",
        )),
        n => Ok(usize::try_from(n).unwrap_or(usize::MAX)),
    }
}

/// All bytes of a file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let length = check(path)?;
    let file = std::fs::File::open(path).map_err(|e| unreadable(&e))?;
    let mut bytes = Vec::with_capacity(length);
    // The file may grow while it is read; the limit still holds.
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(|e| unreadable(&e))?;
    Ok(bytes)
}

/// Why the system would not give it.
pub(super) fn unreadable(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::NotFound => Fault::new("there is no such file", "check the path"),
        io::ErrorKind::PermissionDenied => {
            Fault::new("it may not be read", "check its permissions")
        }
        _ => Fault::new(format!("it cannot be read ({error})"), "check the path and the disk"),
    }
}
