//! Memory between two inaccessible pages, so that a kernel that leaves it causes a fault.

#![allow(unsafe_code, reason = "maps memory")]

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

/// An allocation that ends, rounded up to 16 bytes, where the second inaccessible page starts.
#[derive(Debug)]
pub struct Pages {
    base: *mut u8,
    total: usize,
    start: *mut u8,
}

// SAFETY: the pages belong to this value alone, and a mapping is not bound to a thread.
unsafe impl Send for Pages {}

// SAFETY: shared references give addresses, or make the pages read-only.
unsafe impl Sync for Pages {}

impl Pages {
    pub fn new(bytes: usize) -> std::io::Result<Self> {
        let page = rustix::param::page_size();
        let inner = bytes.max(1).next_multiple_of(page);
        let total = inner + 2 * page;
        // SAFETY: the system chooses an unused address, so no other memory is affected. All
        // offsets lie within the `total` bytes of the mapping.
        unsafe {
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            let base = mmap_anonymous(std::ptr::null_mut(), total, ProtFlags::empty(), flags)?;
            let base = base.cast::<u8>();
            let pages =
                Pages { base, total, start: base.add(page + inner - bytes.next_multiple_of(16)) };
            let open = MprotectFlags::READ | MprotectFlags::WRITE;
            mprotect(base.add(page).cast(), inner, open)?;
            Ok(pages)
        }
    }

    /// The first of the accessible pages, and their size in bytes.
    pub fn inner(&self) -> (*mut u8, usize) {
        let page = rustix::param::page_size();
        // SAFETY: `new` mapped a page at `base`, and more behind it.
        (unsafe { self.base.add(page) }, self.total - 2 * page)
    }

    /// Makes the memory read-only: a write to it is a fault from now on.
    pub fn freeze(&self) -> std::io::Result<()> {
        let (first, bytes) = self.inner();
        // SAFETY: the pages belong to this value.
        unsafe { mprotect(first.cast(), bytes, MprotectFlags::READ) }.map_err(Into::into)
    }

    pub fn start(&self) -> *mut u8 {
        self.start
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: `new` mapped `total` bytes at `base`, and nothing uses them after the drop. A
        // failure only leaves them mapped.
        let _ = unsafe { munmap(self.base.cast(), self.total) };
    }
}
