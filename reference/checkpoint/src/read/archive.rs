//! Reading a zip archive that is in memory.

use std::borrow::Cow;
use std::io::{Cursor, Read};

use zip::{CompressionMethod, ZipArchive};

use crate::error::{Failure, quoted};

/// A zip archive whose entries are read one by one.
#[derive(Debug)]
pub(crate) struct Archive<'a> {
    bytes: &'a [u8],
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// Number of bytes of uncompressed entries that have been returned so far.
    handed_out: usize,
    /// Whether the archive has checksums; PyTorch can leave them out, and then all are 0.
    checksums: bool,
}

/// The number of entries that a zip archive states at its end, given its last bytes; `None` if it is not
/// stated there. If the zip reader finds fewer, two entries have the same name.
pub fn announced_entries(tail: &[u8]) -> Option<usize> {
    const END: &[u8] = b"PK\x05\x06";
    const END_OF_LARGE: &[u8] = b"PK\x06\x06";
    let find = |bytes: &[u8], mark: &[u8]| bytes.windows(mark.len()).rposition(|w| w == mark);
    let at = find(tail, END)?;
    let count: [u8; 2] = tail.get(at + 10..at + 12)?.try_into().ok()?;
    match u16::from_le_bytes(count) {
        // The number stands in the record of zip64 before.
        u16::MAX => {
            let at = find(&tail[..at], END_OF_LARGE)?;
            let count: [u8; 8] = tail.get(at + 32..at + 40)?.try_into().ok()?;
            usize::try_from(u64::from_le_bytes(count)).ok()
        }
        count => Some(usize::from(count)),
    }
}

fn broken(why: impl std::fmt::Display) -> Failure {
    Failure::damaged(format!("its zip archive cannot be read ({})", quoted(&why.to_string())))
}

impl<'a> Archive<'a> {
    /// Reads the central directory. Fails if two entries have the same name.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, Failure> {
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
        if announced_entries(bytes).is_some_and(|count| count > zip.len()) {
            return Err(Failure::new(
                "its zip archive has two entries with the same name",
                "save the file again, with each array once",
            ));
        }
        Ok(Archive { bytes, zip, handed_out: 0, checksums: true })
    }

    /// Turns checksum verification off if every checksum is 0, because then none was computed.
    pub(super) fn detect_checksums(&mut self) -> Result<(), Failure> {
        self.checksums = false;
        for index in 0..self.zip.len() {
            let entry = self.zip.by_index_raw(index).map_err(broken)?;
            self.checksums |= entry.crc32() != 0;
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.zip.is_empty()
    }

    /// The names of the entries, without those that are not valid text.
    pub(crate) fn names(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.zip.file_names().filter_map(Result::ok)
    }

    pub(super) fn index(&self, name: &str) -> Option<usize> {
        self.zip.index_for_name(name)
    }

    /// Returns the bytes of an uncompressed entry, after its checksum has been verified. The caller asks
    /// for each entry once. Overlapping entries, which could make the checksums take forever, are
    /// detected because together they are longer than the file.
    pub(super) fn stored(&mut self, name: &str) -> Result<&'a [u8], Failure> {
        let missing = || broken(format!("the entry {name} is missing"));
        let index = self.index(name).ok_or_else(missing)?;
        let entry = self.zip.by_index_raw(index).map_err(broken)?;
        if entry.compression() != CompressionMethod::Stored {
            return Err(Failure::new(
                format!("the entry {} is compressed, which torch.save never does", quoted(name)),
                "save the checkpoint again with torch.save",
            ));
        }
        let range = entry.data_start().and_then(|start| {
            let start = usize::try_from(start).ok()?;
            Some(start..start.checked_add(usize::try_from(entry.compressed_size()).ok()?)?)
        });
        let cut = || broken(format!("the entry {name} extends beyond the end of the file"));
        let bytes = range.and_then(|range| self.bytes.get(range)).ok_or_else(cut)?;
        self.handed_out += bytes.len();
        if self.handed_out > self.bytes.len() {
            return Err(broken("its entries overlap"));
        }
        match !self.checksums || crc32fast::hash(bytes) == entry.crc32() {
            true => Ok(bytes),
            false => Err(broken(format!("the checksum of the entry {name} does not match"))),
        }
    }

    /// The uncompressed size that the directory states for an entry. Only reading the entry shows
    /// whether that is true.
    pub(super) fn stated_size(&mut self, index: usize) -> Result<usize, Failure> {
        let size = self.zip.by_index_raw(index).map_err(broken)?.size();
        usize::try_from(size).map_err(broken)
    }

    /// Reads the first bytes of an entry, at most `most`.
    pub(super) fn start(&mut self, index: usize, most: usize) -> Result<Vec<u8>, Failure> {
        let entry = self.zip.by_index(index).map_err(broken)?;
        let mut bytes = Vec::new();
        entry.take(most as u64).read_to_end(&mut bytes).map_err(broken)?;
        Ok(bytes)
    }

    /// Reads the bytes of an entry from `skip` on, of which there must be `len`. The buffer grows with
    /// the bytes that are there and not with the stated size. The checksum is verified at the end.
    pub(crate) fn inflate(
        &mut self,
        index: usize,
        skip: usize,
        len: usize,
    ) -> Result<Vec<u8>, Failure> {
        let whole = skip.saturating_add(len);
        // One byte more, so that the end is reached and the checksum is verified.
        let mut bytes = self.start(index, whole.saturating_add(1))?;
        if bytes.len() != whole {
            let found = bytes.len();
            return Err(broken(format!("an entry should have {whole} bytes, but has {found}")));
        }
        bytes.drain(..skip);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::announced_entries;

    #[test]
    fn the_number_of_entries_is_found_also_in_large_archives() {
        let end = |count: u16| {
            let mut bytes = b"PK\x05\x06".to_vec();
            bytes.extend([0; 6]);
            bytes.extend(count.to_le_bytes());
            bytes.extend([0; 10]);
            bytes
        };
        assert_eq!(announced_entries(&end(3)), Some(3));
        assert_eq!(announced_entries(&end(u16::MAX)), None);
        assert_eq!(announced_entries(b"PK\x05\x06"), None);
        let mut large = b"PK\x06\x06".to_vec();
        large.extend([0; 28]);
        large.extend(70_000u64.to_le_bytes());
        large.extend([0; 16]);
        large.extend(end(u16::MAX));
        assert_eq!(announced_entries(&large), Some(70_000));
    }
}
