//! The length in the header of an AVI file.

use std::io;

use super::{Promise, Source};

/// The largest header that is read, in bytes; what follows are frames.
const MAX_HEADER: u64 = 1 << 20;

/// The promise of the first video stream. A length of 0, which unfinished recordings have, promises nothing.
pub(super) fn promise(file: &mut Source) -> io::Result<Vec<Promise>> {
    let header = file.bytes(0, file.bytes.min(MAX_HEADER), MAX_HEADER)?;
    // A stream's header is `strh`, its size, `vids`, 28 bytes of other fields, and its length in frames.
    let places = header.windows(4).enumerate().filter(|(_, four)| four == b"strh");
    let mut streams = places.filter_map(|(at, _)| header.get(at + 8..at + 48));
    let length = |stream: &[u8]| [stream[32], stream[33], stream[34], stream[35]];
    let stored = streams
        .find(|stream| stream.starts_with(b"vids"))
        .map_or(0, |stream| u64::from(u32::from_le_bytes(length(stream))));
    Ok((stored > 0).then_some(Promise::Ticks(stored)).into_iter().collect())
}
