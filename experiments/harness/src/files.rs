//! Writes files atomically.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// Writes a temporary file next to `path` and renames it, so that a reader sees either the old file or the
/// new one. Makes the folder if it does not exist.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let temporary = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let written = (|| {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = fs::File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    written.with_context(|| {
        // A partial file is useless. Removing it fails if it was never made, which is fine.
        let _ = fs::remove_file(&temporary);
        format!("{}: cannot be written", path.display())
    })
}
