//! Zip archives from strangers: nothing is inflated further than the caller allows.

use std::io::{Read, Seek};

use zip::ZipArchive;
use zip::result::ZipError;

use super::error::{DAMAGED, Fault, quoted};

/// An archive and what is known of its size.
pub(super) struct Archive<R> {
    zip: ZipArchive<R>,
    length: usize,
}

impl<R: Read + Seek> Archive<R> {
    /// Reads the directory of an archive of `length` bytes.
    pub(super) fn new(reader: R, length: usize) -> Result<Self, Fault> {
        let zip = ZipArchive::new(reader).map_err(|e| broken("the zip archive", &e))?;
        Ok(Archive { zip, length })
    }

    /// Names of all entries, in the order of the directory.
    pub(super) fn names(&self) -> Result<Vec<String>, Fault> {
        let names = self.zip.file_names();
        names
            .map(|name| name.map(|n| n.into_owned()).map_err(|e| broken("the zip archive", &e)))
            .collect()
    }

    /// A whole entry of at most `limit` bytes.
    pub(super) fn read(&mut self, name: &str, limit: usize) -> Result<Vec<u8>, Fault> {
        let bytes = self.prefix(name, limit.saturating_add(1))?;
        if bytes.len() > limit {
            return Err(Fault::new(
                format!("entry {} inflates to more than the {limit} bytes it may take", quoted(name)),
                "get the file from another source",
            ));
        }
        Ok(bytes)
    }

    /// The first bytes of an entry, `most` or fewer.
    pub(super) fn prefix(&mut self, name: &str, most: usize) -> Result<Vec<u8>, Fault> {
        let entry = self.zip.by_name(name).map_err(|e| broken(&entry_text(name), &e))?;
        // A size in the directory is only a claim; what is stored cannot exceed the file.
        let likely = usize::try_from(entry.size()).unwrap_or(usize::MAX).min(self.length).min(most);
        let mut bytes = Vec::with_capacity(likely);
        let mut entry = entry.take(most as u64);
        entry.read_to_end(&mut bytes).map_err(|e| {
            Fault::damaged(format!("{} cannot be read ({})", entry_text(name), quoted(&e.to_string())))
        })?;
        Ok(bytes)
    }
}

fn entry_text(name: &str) -> String {
    format!("entry {}", quoted(name))
}

fn broken(what: &str, error: &ZipError) -> Fault {
    match error {
        ZipError::FileNotFound => Fault::damaged(format!("{what} is missing")),
        other => Fault::new(format!("{what} cannot be read ({})", quoted(&other.to_string())), DAMAGED),
    }
}
