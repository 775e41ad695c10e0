//! Reads whole files, with limits, and computes their SHA-256.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::{Failure, WeightsError};

/// Largest file that is read, in bytes. Depth 200 with the state of an optimiser takes about 2 GiB.
const MAX_BYTES: u64 = 8 << 30;

/// Reads a regular file of at most 8 GiB.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, WeightsError> {
    let name = path.display().to_string();
    let failure = |what: &str, advice: &str| Failure::new(what, advice).in_file(&name);
    let failed = |why| Failure::io(path, "read", &why);
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return Err(super::format::folder(path).in_file(&name));
    }
    // Reading a device or a pipe might never end.
    if !metadata.is_file() {
        return Err(failure("this is not a regular file", "save the checkpoint to a file first"));
    }
    if metadata.len() > MAX_BYTES {
        let advice = "save only the weights, without the rest of the training state";
        return Err(failure("the file is larger than 8 GiB", advice));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    File::open(path).and_then(|f| f.take(MAX_BYTES).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}
