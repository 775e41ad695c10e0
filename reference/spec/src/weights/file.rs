//! Files, as a whole.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::error::{Fault, WeightsError};

/// Largest file that is read: depth 200 with an optimiser's state takes about 2 GiB.
const MOST: u64 = 8 << 30;

/// The bytes of a regular file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, WeightsError> {
    let name = path.display().to_string();
    let fault = |what: &str, advice: &str| Fault::new(what, advice).at(&name);
    let failed = |why| Fault::io(path, "read", &why);
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return Err(super::format::folder(path).at(&name));
    }
    // A device or a pipe may never end.
    if !metadata.is_file() {
        return Err(fault("this is no regular file", "save the checkpoint to a file first"));
    }
    if metadata.len() > MOST {
        let advice = "save the weights without the rest of the training";
        return Err(fault("the file is larger than 8 GiB", advice));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    File::open(path).and_then(|f| f.take(MOST).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}

/// SHA-256 in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
