//! Keeps compiled kernels on disk, under a hash of everything that they were made from.

use std::path::PathBuf;

use sha2::{Digest, Sha256};
use spec::EngineError;

use super::failed;

/// `squeezetime-harness/kernels` in `$XDG_CACHE_HOME`, in `~/.cache`, or in the folder for
/// temporary files: the first of them that is set.
fn folder() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    cache.unwrap_or_else(std::env::temp_dir).join("squeezetime-harness/kernels")
}

/// Path of the file `NAME-HASH.EXTENSION`, where the hash is over `inputs`. If there is none yet,
/// `make` makes its content. The content is written to a temporary file that is then renamed, so
/// that no other process reads a part of it.
pub fn cached(
    name: &str,
    extension: &str,
    inputs: &[&[u8]],
    make: impl FnOnce() -> Result<Vec<u8>, EngineError>,
) -> Result<PathBuf, EngineError> {
    let mut hash = Sha256::new();
    for input in inputs {
        hash.update((input.len() as u64).to_le_bytes());
        hash.update(input);
    }
    let key = files::hex(&hash.finalize()[..12]);
    let folder = folder();
    let path = folder.join(format!("{name}-{key}.{extension}"));
    if path.exists() {
        return Ok(path);
    }
    let content = make()?;
    let refused = |error: std::io::Error| {
        failed(format!(
            "cannot write a compiled kernel to {}: {error}; free some disk space there, or set \
             XDG_CACHE_HOME to another folder",
            folder.display()
        ))
    };
    files::write(&path, &content).map_err(refused)?;
    Ok(path)
}
