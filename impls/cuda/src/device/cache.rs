//! Compiled kernels on disk, under a key of everything that goes in.

use std::io::Write;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use spec::EngineError;

use super::failed;

/// `$XDG_CACHE_HOME/squeezetime-harness/kernels`, or below `~/.cache`, or below the folder for
/// temporary files.
fn folder() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    cache.unwrap_or_else(std::env::temp_dir).join("squeezetime-harness/kernels")
}

/// The file with a name that was made from exactly these inputs, made now if it is not there. It is
/// written beside and renamed, so that nobody ever reads half of it.
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
    let key: String = hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    let folder = folder();
    let path = folder.join(format!("{name}-{key}.{extension}"));
    if path.exists() {
        return Ok(path);
    }
    let content = make()?;
    let refused = |error: std::io::Error| {
        failed(format!(
            "a compiled kernel cannot be kept in {}: {error}; make room there, or set \
             XDG_CACHE_HOME to another folder",
            folder.display()
        ))
    };
    std::fs::create_dir_all(&folder).map_err(refused)?;
    let mut file = tempfile::NamedTempFile::new_in(&folder).map_err(refused)?;
    file.write_all(&content).map_err(refused)?;
    file.persist(&path).map_err(|error| refused(error.error))?;
    Ok(path)
}
