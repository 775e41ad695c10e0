//! Places the buffers of a run in one block of memory, the arena. Buffers that are never needed at
//! the same time share bytes.

use std::cmp::Reverse;
use std::ops::Range;

/// A buffer, and when it is needed.
#[derive(Debug, Clone, Default)]
pub struct Buffer {
    /// Size in bytes.
    pub bytes: usize,
    /// The steps during which it holds values: from the first that writes it to the last that reads
    /// it, exclusive of the end. Empty for a buffer that is not used.
    pub live: Range<usize>,
}

impl Buffer {
    /// Extends the buffer to at least `bytes` bytes, and its life to `step`.
    pub fn touch(&mut self, step: usize, bytes: usize) {
        let first = if self.live.is_empty() { step } else { self.live.start.min(step) };
        self.bytes = self.bytes.max(bytes);
        self.live = first..self.live.end.max(step + 1);
    }
}

/// Returns the offset of each buffer in bytes, a multiple of `align`, and the size of the arena. The
/// largest buffer is placed first; each goes to the lowest offset at which it overlaps no buffer
/// that is live at the same time.
pub fn place(buffers: &[Buffer], align: usize) -> (Vec<usize>, usize) {
    let size = |at: usize| buffers[at].bytes.next_multiple_of(align);
    let live_together = |a: usize, b: usize| {
        let (a, b) = (&buffers[a].live, &buffers[b].live);
        a.start < b.end && b.start < a.end
    };
    let mut order: Vec<usize> =
        (0..buffers.len()).filter(|&at| !buffers[at].live.is_empty()).collect();
    order.sort_by_key(|&at| (Reverse(buffers[at].bytes), at));
    let mut offsets = vec![0; buffers.len()];
    let mut total = 0;
    for (rank, &at) in order.iter().enumerate() {
        let placed = order[..rank].iter().filter(|&&other| live_together(at, other));
        let mut taken: Vec<(usize, usize)> =
            placed.map(|&other| (offsets[other], offsets[other] + size(other))).collect();
        taken.sort_unstable();
        for (start, end) in taken {
            if offsets[at] + size(at) <= start {
                break;
            }
            offsets[at] = offsets[at].max(end);
        }
        total = total.max(offsets[at] + size(at));
    }
    (offsets, total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buffers_share_bytes_only_if_they_are_not_live_together() {
        let buffer = |bytes, live| Buffer { bytes, live };
        let buffers =
            [buffer(1000, 0..2), buffer(1000, 1..3), buffer(1000, 2..4), buffer(10, 0..0)];
        let (offsets, total) = place(&buffers, 256);
        assert_eq!(total, 2048);
        assert_ne!(offsets[0], offsets[1]);
        assert_ne!(offsets[1], offsets[2]);
        assert_eq!(offsets[0], offsets[2]);
    }

    #[test]
    fn a_buffer_lives_from_the_first_to_the_last_touch() {
        let mut buffer = Buffer::default();
        for (step, bytes) in [(5, 10), (3, 0), (7, 4)] {
            buffer.touch(step, bytes);
        }
        assert_eq!((buffer.bytes, buffer.live), (10, 3..8));
    }

    proptest! {
        #[test]
        fn buffers_that_live_together_do_not_overlap(
            buffers in prop::collection::vec((0usize..5000, 0usize..20, 1usize..6), 0..40),
            align in prop::sample::select(vec![64usize, 256]),
        ) {
            let buffers: Vec<Buffer> = buffers
                .into_iter()
                .map(|(bytes, start, steps)| Buffer { bytes, live: start..start + steps })
                .collect();
            let (offsets, total) = place(&buffers, align);
            for (i, a) in buffers.iter().enumerate() {
                prop_assert!(offsets[i] % align == 0 && offsets[i] + a.bytes <= total);
                for (j, b) in buffers.iter().enumerate().skip(i + 1) {
                    let together = a.live.start < b.live.end && b.live.start < a.live.end;
                    let apart = offsets[i] + a.bytes <= offsets[j]
                        || offsets[j] + b.bytes <= offsets[i];
                    prop_assert!(!together || apart || a.bytes == 0 || b.bytes == 0);
                }
            }
        }
    }
}
