//! Files of the commands.

use std::path::Path;

use anyhow::{Context, Result};

/// Writes a file whole or not at all, and names it in the error.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    files::write(path, content).with_context(|| format!("{}: cannot be written", path.display()))
}
