//! Aligned memory that is allocated once.

#![allow(unsafe_code, reason = "allocates aligned memory")]

use std::alloc::{Layout, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::element::Element;

/// Alignment of every buffer in bytes: a cache line, which is also the widest vector.
pub const ALIGN: usize = 64;

/// Bytes of a large page: one TLB entry covers 2 MiB instead of 4 KiB, and hardware prefetching
/// does not stop at every 4 KiB.
const LARGE: usize = 2 << 20;

/// A block of aligned memory, in large pages if it is large enough. It is zeroed, except for the
/// chunks of an [`Arena`].
pub struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: this value owns its block alone, as a `Vec` of bytes would.
unsafe impl Send for Memory {}
// SAFETY: through a shared reference, only `Arena::array` writes, which holds its arena exclusively
// and writes to a range that no `ArenaSlice` covers yet.
unsafe impl Sync for Memory {}

impl Memory {
    /// Allocates at least `bytes` zeroed bytes.
    pub fn new(bytes: usize) -> Self {
        let mut memory = Memory::untouched(bytes);
        memory.fill(0);
        memory
    }

    /// Allocates without writing, so that the system provides each page only when it is first used.
    fn untouched(bytes: usize) -> Self {
        let align = if bytes >= LARGE { LARGE } else { ALIGN };
        let layout = Layout::from_size_align(bytes.max(1).next_multiple_of(ALIGN), align);
        let layout = layout.expect("the model's description checks that sizes do not overflow");
        // SAFETY: the size of `layout` is not 0: `bytes.max(1)` was rounded up.
        let start = unsafe { std::alloc::alloc(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        if align == LARGE {
            large_pages(start, layout.size());
        }
        Memory { start, layout }
    }

    /// Size in bytes, a multiple of [`ALIGN`].
    pub fn len(&self) -> usize {
        self.layout.size()
    }

    /// Always false: a block has at least [`ALIGN`] bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pointer to the first byte, aligned to [`ALIGN`].
    pub fn start(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Overwrites every byte; with 0xff, every f32 and every bfloat16 is NaN.
    pub fn fill(&mut self, byte: u8) {
        // SAFETY: the block has `self.len()` bytes, and `&mut self` excludes other users.
        unsafe { self.start.write_bytes(byte, self.len()) };
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `untouched` allocated the block with this layout.
        unsafe { std::alloc::dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// Asks the system for large pages. A refusal is ignored: it only costs time.
#[cfg(target_os = "linux")]
fn large_pages(start: NonNull<u8>, bytes: usize) {
    let whole = bytes / LARGE * LARGE;
    // SAFETY: the range lies in the block that `untouched` just allocated, and this advice does not
    // change the contents.
    let _ = unsafe {
        rustix::mm::madvise(start.as_ptr().cast(), whole, rustix::mm::Advice::LinuxHugepage)
    };
}

#[cfg(not(target_os = "linux"))]
fn large_pages(_: NonNull<u8>, _: usize) {}

/// Smallest size in bytes of a chunk of an [`Arena`].
const CHUNK: usize = 8 * LARGE;

/// An allocator of constant arrays, which it packs into a few large chunks.
#[derive(Default)]
pub struct Arena {
    chunk: Option<Arc<Memory>>,
    used: usize,
}

/// A constant array of an [`Arena`]; it keeps its chunk alive.
pub struct ArenaSlice<E> {
    memory: Arc<Memory>,
    offset: usize,
    len: usize,
    element: PhantomData<E>,
}

impl Arena {
    /// Allocates an array of `len` zeros and lets `fill` write it.
    pub fn array<E: Element>(&mut self, len: usize, fill: impl FnOnce(&mut [E])) -> ArenaSlice<E> {
        let [array] = self.arrays([len], |[array]| fill(array));
        array
    }

    /// Allocates arrays of zeros, one after the other, and lets `fill` write them.
    pub fn arrays<E: Element, const N: usize>(
        &mut self,
        lengths: [usize; N],
        fill: impl FnOnce([&mut [E]; N]),
    ) -> [ArenaSlice<E>; N] {
        let sizes = lengths.map(|len| round_up(len * size_of::<E>()));
        let bytes: usize = sizes.iter().sum();
        let chunk = match self.chunk.take() {
            Some(chunk) if self.used + bytes <= chunk.len() => chunk,
            _ => {
                self.used = 0;
                Arc::new(Memory::untouched(bytes.max(CHUNK)))
            }
        };
        let mut offset = self.used;
        self.used += bytes;
        let arrays = std::array::from_fn(|at| {
            let (memory, len) = (chunk.clone(), lengths[at]);
            let slice = ArenaSlice { memory, offset, len, element: PhantomData };
            offset += sizes[at];
            slice
        });
        fill(std::array::from_fn(|at| {
            let slice: &ArenaSlice<E> = &arrays[at];
            // SAFETY: `slice.offset..slice.offset + sizes[at]` lies in the chunk and is handed out only here
            // (`used` and `offset` grow), so nobody else accesses it while it is filled. Offsets are
            // multiples of `ALIGN`, which suffices for `E`, and zero bits are a valid f32 or bfloat16.
            unsafe {
                let start = chunk.start.as_ptr().add(slice.offset);
                start.write_bytes(0, sizes[at]);
                std::slice::from_raw_parts_mut(start.cast::<E>(), slice.len)
            }
        }));
        self.chunk = Some(chunk);
        arrays
    }
}

impl<E> ArenaSlice<E> {
    /// Pointer to the first element, aligned to [`ALIGN`].
    pub fn as_ptr(&self) -> *const E {
        // SAFETY: `Arena::array` made the offset within this chunk.
        unsafe { self.memory.start.as_ptr().add(self.offset).cast::<E>() }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the array has no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

fn round_up(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGN)
}
