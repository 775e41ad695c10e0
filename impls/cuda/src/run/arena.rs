//! Places the buffers of a run in one block of memory, the arena. Buffers that are never needed at
//! the same time share bytes.

use std::ops::Range;

/// Alignment of every buffer, in bytes.
const ALIGN: usize = 256;

/// A buffer, and when it is needed.
#[derive(Debug, Clone)]
pub struct Buffer {
    /// Size in bytes.
    pub bytes: usize,
    /// The actions during which it holds values, by index: from the first that writes it to the
    /// last that reads it, exclusive of the end. Empty for a buffer that is not used.
    pub live: Range<usize>,
}

/// Returns the offset of each buffer in bytes, and the size of the arena. The largest buffer is
/// placed first; each goes to the lowest offset at which it overlaps no buffer that is live at the
/// same time.
pub fn place_buffers(buffers: &[Buffer]) -> (Vec<usize>, usize) {
    let size = |at: usize| buffers[at].bytes.next_multiple_of(ALIGN);
    let live_together = |a: usize, b: usize| {
        let (a, b) = (&buffers[a].live, &buffers[b].live);
        a.start < b.end && b.start < a.end
    };
    let mut order: Vec<usize> =
        (0..buffers.len()).filter(|&at| !buffers[at].live.is_empty()).collect();
    order.sort_by_key(|&at| (std::cmp::Reverse(buffers[at].bytes), at));
    let mut offsets = vec![0; buffers.len()];
    let mut total = 0;
    for (rank, &at) in order.iter().enumerate() {
        let placed = order[..rank].iter().filter(|&&other| live_together(at, other));
        let mut taken: Vec<(usize, usize)> =
            placed.map(|&other| (offsets[other], offsets[other] + size(other))).collect();
        taken.sort_unstable();
        // The fold ends early, with an error, at the first gap that is large enough.
        let lowest = taken.into_iter().try_fold(0, |offset, (start, end)| {
            if offset + size(at) <= start { Err(offset) } else { Ok(offset.max(end)) }
        });
        offsets[at] = lowest.unwrap_or_else(|gap| gap);
        total = total.max(offsets[at] + size(at));
    }
    (offsets, total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_share_bytes_only_if_they_are_not_live_together() {
        let buffer = |bytes, live| Buffer { bytes, live };
        let buffers =
            [buffer(1000, 0..2), buffer(1000, 1..3), buffer(1000, 2..4), buffer(10, 0..0)];
        let (offsets, total) = place_buffers(&buffers);
        assert_eq!(total, 2048);
        assert_ne!(offsets[0], offsets[1]);
        assert_ne!(offsets[1], offsets[2]);
        assert_eq!(offsets[0], offsets[2]);
    }
}
