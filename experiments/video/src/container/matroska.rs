//! The number of bytes in the header of a Matroska or WebM file.

use std::io;

use super::{Promise, Source};

/// The identifier of the segment, which is everything after the head of the file.
const SEGMENT: u64 = 0x1853_8067;

/// The end of the segment. One that was written without going back has no size, and promises nothing.
pub(super) fn promise(file: &mut Source) -> io::Result<Vec<Promise>> {
    let head = file.bytes(0, file.bytes.min(4096), 4096)?;
    let end = || {
        let (_, at) = variable(&head, 0, true)?;
        let (size, at) = variable(&head, at, false)?;
        let at = at.checked_add(usize::try_from(size?).ok()?)?;
        let (id, at) = variable(&head, at, true)?;
        let (size, at) = variable(&head, at, false)?;
        (id == Some(SEGMENT)).then_some(size?.checked_add(at as u64)?)
    };
    Ok(end().map(Promise::Bytes).into_iter().collect())
}

/// A number whose first byte says how long it is, and where the next one begins. Identifiers keep the bit
/// that marks the length. A size of ones is not known, which gives no number.
fn variable(bytes: &[u8], at: usize, keep: bool) -> Option<(Option<u64>, usize)> {
    let first = *bytes.get(at)?;
    let length = first.leading_zeros() as usize + 1;
    let bytes = bytes.get(at..at.checked_add(length).filter(|_| length <= 8)?)?;
    let whole = bytes.iter().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
    let bits = 7 * length;
    let value = if keep { whole } else { whole & ((1 << bits) - 1) };
    let known = keep || value != (1 << bits) - 1;
    Some((known.then_some(value), at + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_length_that_their_first_byte_says() {
        assert_eq!(variable(&[0x81], 0, false), Some((Some(1), 1)));
        assert_eq!(variable(&[0x40, 0x02], 0, false), Some((Some(2), 2)));
        assert_eq!(variable(&[0xff], 0, false), Some((None, 1)));
        assert_eq!(variable(&[0x1a, 0x45, 0xdf, 0xa3], 0, true), Some((Some(0x1a45_dfa3), 4)));
        assert_eq!(variable(&[0x00; 9], 0, false), None);
        assert_eq!(variable(&[0x40], 0, false), None);
    }
}
