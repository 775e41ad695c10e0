//! Aligned memory that is allocated once, and the layout of all buffers in it.

#![allow(unsafe_code, reason = "allocates aligned memory")]

use std::alloc::{Layout, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::element::Element;

/// Bytes to which every buffer is aligned: a cache line, and the widest vector.
pub const ALIGN: usize = 64;

/// A large page: one entry of the processor's table of addresses covers 2 MiB instead of 4 KiB, and
/// prefetching does not stop every 4 KiB.
const LARGE: usize = 2 << 20;

/// A block of aligned bytes, zeroed unless it is a store's, in large pages where it is large.
pub struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the block belongs to this value alone, as a `Vec` of bytes would.
unsafe impl Send for Memory {}
// SAFETY: shared, it is only read.
unsafe impl Sync for Memory {}

impl Memory {
    /// At least so many bytes.
    pub fn new(bytes: usize) -> Self {
        let mut memory = Memory::untouched(bytes);
        memory.fill(0);
        memory
    }

    /// Bytes that nobody has written yet, so that the system need not have provided them either.
    fn untouched(bytes: usize) -> Self {
        let align = if bytes >= LARGE { LARGE } else { ALIGN };
        let layout = Layout::from_size_align(bytes.max(1).next_multiple_of(ALIGN), align);
        let layout = layout.expect("sizes were checked when the model was described");
        // SAFETY: the size is not 0.
        let start = unsafe { std::alloc::alloc(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        if align == LARGE {
            large_pages(start, layout.size());
        }
        Memory { start, layout }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.layout.size()
    }

    /// Whether there are none, which cannot be.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first byte.
    pub fn start(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Overwrites everything: with 0xff, every f32 and bfloat16 is NaN.
    pub fn fill(&mut self, byte: u8) {
        // SAFETY: the block has this size.
        unsafe { self.start.write_bytes(byte, self.len()) };
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { std::alloc::dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// Asks for large pages; where there are none, nothing is lost but time.
#[cfg(target_os = "linux")]
fn large_pages(start: NonNull<u8>, bytes: usize) {
    let whole = bytes / LARGE * LARGE;
    // SAFETY: the range lies in a block that was just allocated, and the advice changes no contents.
    let _ = unsafe {
        rustix::mm::madvise(start.as_ptr().cast(), whole, rustix::mm::Advice::LinuxHugepage)
    };
}

#[cfg(not(target_os = "linux"))]
fn large_pages(_: NonNull<u8>, _: usize) {}

/// Bytes of a chunk of a [`Store`].
const CHUNK: usize = 8 * LARGE;

/// Many constant arrays, side by side in a few large blocks.
#[derive(Default)]
pub struct Store {
    chunk: Option<Arc<Memory>>,
    used: usize,
}

/// An array in a [`Store`].
pub struct Block<E> {
    memory: Arc<Memory>,
    offset: usize,
    len: usize,
    element: PhantomData<E>,
}

impl Store {
    /// An array of so many zeros, filled by a function. All bits zero must be a value of `E`.
    pub fn array<E: Element>(&mut self, len: usize, fill: impl FnOnce(&mut [E])) -> Block<E> {
        let bytes = round_up(len * size_of::<E>());
        let chunk = match self.chunk.take() {
            Some(chunk) if self.used + bytes <= chunk.len() => chunk,
            _ => {
                self.used = 0;
                Arc::new(Memory::untouched(bytes.max(CHUNK)))
            }
        };
        let offset = self.used;
        self.used += bytes;
        // SAFETY: this part of the chunk is handed out once, so that nobody else reads or writes it
        // while it is filled; it is aligned for `E`, lies in the chunk and is zeroed first.
        let values = unsafe {
            let start = chunk.start.as_ptr().add(offset);
            start.write_bytes(0, bytes);
            std::slice::from_raw_parts_mut(start.cast::<E>(), len)
        };
        fill(values);
        self.chunk = Some(chunk.clone());
        Block { memory: chunk, offset, len, element: PhantomData }
    }
}

impl<E> Block<E> {
    /// The first element.
    pub fn as_ptr(&self) -> *const E {
        // SAFETY: the offset lies in the chunk.
        unsafe { self.memory.start.as_ptr().add(self.offset).cast::<E>() }
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A buffer of some bytes that is needed from one step to another.
#[derive(Debug, Clone)]
pub struct Need {
    /// Its size.
    pub bytes: usize,
    /// The first step that writes it up to the last that reads it.
    pub steps: Range<usize>,
}

/// Gives every buffer an offset so that buffers that are needed at the same time do not overlap, the
/// largest first, each at the lowest place; returns offsets and the bytes for all.
pub fn lay_out(needs: &[Need]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..needs.len()).collect();
    order.sort_by_key(|&at| (std::cmp::Reverse(needs[at].bytes), at));
    let mut offsets = vec![0; needs.len()];
    let mut placed: Vec<usize> = vec![];
    let mut total = 0;
    for at in order {
        let need = &needs[at];
        let meets = |other: &usize| {
            let steps = &needs[*other].steps;
            steps.start < need.steps.end && need.steps.start < steps.end
        };
        let mut busy: Vec<(usize, usize)> = placed
            .iter()
            .filter(|other| meets(other))
            .map(|&other| (offsets[other], offsets[other] + round_up(needs[other].bytes)))
            .collect();
        busy.sort_unstable();
        let mut offset = 0;
        for (start, end) in busy {
            if offset + round_up(need.bytes) <= start {
                break;
            }
            offset = offset.max(end);
        }
        offsets[at] = offset;
        total = total.max(offset + round_up(need.bytes));
        placed.push(at);
    }
    (offsets, total)
}

fn round_up(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn buffers_that_live_together_do_not_overlap(
            needs in prop::collection::vec((0usize..5000, 0usize..20, 1usize..6), 0..40)
        ) {
            let needs: Vec<Need> = needs
                .into_iter()
                .map(|(bytes, start, steps)| Need { bytes, steps: start..start + steps })
                .collect();
            let (offsets, total) = lay_out(&needs);
            for (i, a) in needs.iter().enumerate() {
                prop_assert!(offsets[i] % ALIGN == 0 && offsets[i] + a.bytes <= total);
                for (j, b) in needs.iter().enumerate().skip(i + 1) {
                    let together = a.steps.start < b.steps.end && b.steps.start < a.steps.end;
                    let apart = offsets[i] + a.bytes <= offsets[j]
                        || offsets[j] + b.bytes <= offsets[i];
                    prop_assert!(!together || apart || a.bytes == 0 || b.bytes == 0);
                }
            }
        }
    }
}
