//! A cursor over bytes that may be truncated anywhere.

use super::error::Failure;

/// A read position in the bytes of a file.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    /// Number of bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The bytes that have not been read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// Reads the next n bytes.
    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], Failure> {
        let Some(taken) = self.rest().get(..n) else {
            return Err(Failure::damaged(format!(
                "{n} bytes are expected at offset {}, but {} are left",
                self.at,
                self.rest().len()
            )));
        };
        self.at += n;
        Ok(taken)
    }

    /// Reads the next N bytes as an array.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// Reads the next byte.
    pub(super) fn byte(&mut self) -> Result<u8, Failure> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Reads a little-endian length that is stored in N bytes.
    pub(super) fn length<const N: usize>(&mut self) -> Result<usize, Failure> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&self.array::<N>()?);
        // A length that does not fit into usize is longer than any file, so `take` will refuse it.
        Ok(usize::try_from(u64::from_le_bytes(wide)).unwrap_or(usize::MAX))
    }

    /// Reads the bytes up to a line feed; the line feed is read but not returned.
    pub(super) fn line(&mut self) -> Result<&'a [u8], Failure> {
        let Some(n) = self.rest().iter().position(|b| *b == b'\n') else {
            return Err(Failure::damaged(format!(
                "the line at offset {} has no line feed",
                self.at
            )));
        };
        let line = self.take(n)?;
        self.at += 1;
        Ok(line)
    }
}
