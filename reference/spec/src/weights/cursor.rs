//! Reading forward through bytes that may end anywhere.

use super::error::Fault;

/// A place in a file's bytes.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// The next n bytes.
    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], Fault> {
        let Some(taken) = self.rest().get(..n) else {
            return Err(Fault::damaged(format!(
                "{n} bytes are announced at offset {} but {} are left",
                self.at,
                self.rest().len()
            )));
        };
        self.at += n;
        Ok(taken)
    }

    /// The next bytes, as many as the array holds.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> Result<u8, Fault> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A little-endian length of N bytes, as an address.
    pub(super) fn length<const N: usize>(&mut self) -> Result<usize, Fault> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&self.array::<N>()?);
        // Lengths that do not fit are longer than the file: `take` says so.
        Ok(usize::try_from(u64::from_le_bytes(wide)).unwrap_or(usize::MAX))
    }

    /// Bytes up to a line feed, which is read too.
    pub(super) fn line(&mut self) -> Result<&'a [u8], Fault> {
        let Some(n) = self.rest().iter().position(|b| *b == b'\n') else {
            return Err(Fault::damaged(format!("a line at offset {} has no end", self.at)));
        };
        let line = self.take(n)?;
        self.at += 1;
        Ok(line)
    }
}
