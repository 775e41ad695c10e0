//! A zip archive in memory.

use std::borrow::Cow;
use std::io::{Cursor, Read};

use zip::{CompressionMethod, ZipArchive};

use crate::weights::error::{Fault, quoted};

/// An archive whose entries are looked at one by one.
#[derive(Debug)]
pub(in crate::weights) struct Archive<'a> {
    bytes: &'a [u8],
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// Bytes of stored entries that have been handed out.
    handed_out: usize,
    /// Whether checksums were written; PyTorch can leave them out, and then all are 0.
    checksums: bool,
}

/// How many entries the end of a zip archive announces, from its last bytes; none where the archive
/// is too large to say it there. A reader that finds fewer has met a name twice.
pub fn announced_entries(tail: &[u8]) -> Option<usize> {
    const END: &[u8] = b"PK\x05\x06";
    let at = tail.windows(END.len()).rposition(|window| window == END)?;
    let count: [u8; 2] = tail.get(at + 10..at + 12)?.try_into().ok()?;
    match u16::from_le_bytes(count) {
        u16::MAX => None,
        count => Some(usize::from(count)),
    }
}

fn broken(why: impl std::fmt::Display) -> Fault {
    Fault::damaged(format!("its zip archive cannot be read ({})", quoted(&why.to_string())))
}

impl<'a> Archive<'a> {
    /// Reads the directory.
    pub(in crate::weights) fn open(bytes: &'a [u8]) -> Result<Self, Fault> {
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
        if announced_entries(bytes).is_some_and(|count| count > zip.len()) {
            return Err(Fault::new(
                "its zip archive has two entries of one name",
                "save the file again, each array once",
            ));
        }
        Ok(Archive { bytes, zip, handed_out: 0, checksums: true })
    }

    /// Takes the checksums as not computed where every entry has 0.
    pub(super) fn without_checksums(&mut self) -> Result<(), Fault> {
        self.checksums = false;
        for index in 0..self.zip.len() {
            let entry = self.zip.by_index_raw(index).map_err(broken)?;
            self.checksums |= entry.crc32() != 0;
        }
        Ok(())
    }

    pub(in crate::weights) fn is_empty(&self) -> bool {
        self.zip.is_empty()
    }

    /// Names of the entries; those that are no text are left out.
    pub(in crate::weights) fn names(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.zip.file_names().filter_map(Result::ok)
    }

    pub(super) fn index(&self, name: &str) -> Option<usize> {
        self.zip.index_for_name(name)
    }

    /// The bytes of an entry that is not compressed, with its checksum verified. Each is asked for
    /// once: entries that overlap, so that checksums would take forever, are found by their sum.
    pub(super) fn stored(&mut self, name: &str) -> Result<&'a [u8], Fault> {
        let missing = || broken(format!("the entry {name} is missing"));
        let index = self.index(name).ok_or_else(missing)?;
        let entry = self.zip.by_index_raw(index).map_err(broken)?;
        if entry.compression() != CompressionMethod::Stored {
            return Err(Fault::new(
                format!("the entry {} is compressed, which torch.save never does", quoted(name)),
                "save the checkpoint again with torch.save",
            ));
        }
        let range = entry.data_start().and_then(|start| {
            let start = usize::try_from(start).ok()?;
            Some(start..start.checked_add(usize::try_from(entry.compressed_size()).ok()?)?)
        });
        let cut = || broken(format!("the entry {name} reaches beyond the end"));
        let bytes = range.and_then(|range| self.bytes.get(range)).ok_or_else(cut)?;
        self.handed_out += bytes.len();
        if self.handed_out > self.bytes.len() {
            return Err(broken("its entries overlap"));
        }
        match !self.checksums || crc32fast::hash(bytes) == entry.crc32() {
            true => Ok(bytes),
            false => Err(broken(format!("the entry {name} has another checksum"))),
        }
    }

    /// The size that an entry announces. Only reading it shows whether that is true.
    pub(super) fn announced(&mut self, index: usize) -> Result<usize, Fault> {
        let size = self.zip.by_index_raw(index).map_err(broken)?.size();
        usize::try_from(size).map_err(broken)
    }

    /// The first bytes of an entry, at most `most`.
    pub(super) fn start(&mut self, index: usize, most: usize) -> Result<Vec<u8>, Fault> {
        let entry = self.zip.by_index(index).map_err(broken)?;
        let mut bytes = Vec::new();
        entry.take(most as u64).read_to_end(&mut bytes).map_err(broken)?;
        Ok(bytes)
    }

    /// The bytes of an entry from `skip` on, which must be `len`. The buffer grows with what is
    /// there, never with what is announced; the checksum is verified at the end.
    pub(in crate::weights) fn inflate(
        &mut self,
        index: usize,
        skip: usize,
        len: usize,
    ) -> Result<Vec<u8>, Fault> {
        let whole = skip.saturating_add(len);
        // One byte more, so that the end is reached and the checksum looked at.
        let mut bytes = self.start(index, whole.saturating_add(1))?;
        if bytes.len() != whole {
            let found = bytes.len();
            return Err(broken(format!("{whole} bytes are announced, {found} or more are there")));
        }
        bytes.drain(..skip);
        Ok(bytes)
    }
}
