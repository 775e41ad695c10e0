//! Counts what kernels with the emulated matrix unit read and write, and in which cache it lies: a
//! model of the memory of a processor that this machine need not have.
//!
//! The caches are those of one core of a Sapphire Rapids Xeon, with least recently used lines
//! replaced: 48 KiB (12 ways) and 2 MiB (16 ways); every access refreshes both. Stores count as loads.
//! Not counted are prefetches, translations of addresses, lines that are written back, fills with zeros
//! and accesses to single values. Only the thread that called [`start`] counts, until [`stop`].

use std::cell::RefCell;
use std::ops::AddAssign;

/// Bytes in a cache line.
pub const LINE: usize = 64;

/// Vector operations in the time of one division of 16 f32.
pub const DIVISION: u64 = 32;

/// What was counted since the last [`take`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Cycles of the matrix unit, which takes one for each row of pixels of a product.
    pub unit_cycles: u64,
    /// Vector operations between registers, of which a core executes two in a cycle.
    pub operations: u64,
    /// Lines that the matrix unit loaded or stored: found in the L1 cache, in the L2 cache, in
    /// neither.
    pub tiles: [u64; 3],
    /// Lines that vector instructions loaded or stored, likewise.
    pub vectors: [u64; 3],
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, more: Traffic) {
        self.unit_cycles += more.unit_cycles;
        self.operations += more.operations;
        for level in 0..3 {
            self.tiles[level] += more.tiles[level];
            self.vectors[level] += more.vectors[level];
        }
    }
}

/// A cache with least recently used replacement: for each set, its lines, the latest first.
struct Cache {
    ways: usize,
    sets: Vec<Vec<usize>>,
}

impl Cache {
    fn new(bytes: usize, ways: usize) -> Self {
        Cache { ways, sets: vec![vec![]; bytes / LINE / ways] }
    }

    /// Makes a line the latest of its set; returns whether it was there.
    fn touch(&mut self, line: usize) -> bool {
        let set = line % self.sets.len();
        let set = &mut self.sets[set];
        let found = set.iter().position(|&other| other == line);
        match found {
            Some(at) => set[..=at].rotate_right(1),
            None => {
                set.truncate(self.ways - 1);
                set.insert(0, line);
            }
        }
        found.is_some()
    }
}

struct Memory {
    near: Cache,
    far: Cache,
    counted: Traffic,
}

impl Memory {
    /// 0 for a line in the L1 cache, 1 for one in the L2 cache, 2 for others.
    fn level(&mut self, line: usize) -> usize {
        match (self.near.touch(line), self.far.touch(line)) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        }
    }
}

thread_local! {
    static MEMORY: RefCell<Option<Memory>> = const { RefCell::new(None) };
}

fn with(count: impl FnOnce(&mut Memory)) {
    MEMORY.with_borrow_mut(|memory| {
        if let Some(memory) = memory {
            count(memory);
        }
    });
}

/// Begins to count accesses of this thread, with empty caches.
pub fn start() {
    let (near, far) = (Cache::new(48 << 10, 12), Cache::new(2 << 20, 16));
    MEMORY.set(Some(Memory { near, far, counted: Traffic::default() }));
}

/// What this thread counted since [`start`] or since it was last called; nothing if it never began.
pub fn take() -> Traffic {
    let mut counted = Traffic::default();
    with(|memory| counted = std::mem::take(&mut memory.counted));
    counted
}

/// Ends the counting of this thread.
pub fn stop() {
    MEMORY.set(None);
}

fn lines(from: *const u8, bytes: usize) -> std::ops::RangeInclusive<usize> {
    from.addr() / LINE..=(from.addr() + bytes.max(1) - 1) / LINE
}

/// Counts operations between registers.
pub(super) fn vector_operations(count: u64) {
    with(|memory| memory.counted.operations += count);
}

/// Counts an access of a vector instruction.
pub(super) fn touch(from: *const u8, bytes: usize) {
    with(|memory| {
        for line in lines(from, bytes) {
            let level = memory.level(line);
            memory.counted.vectors[level] += 1;
        }
    });
}

/// Counts the row of a tile that is loaded or stored.
pub(super) fn tile_row(from: *const u8, bytes: usize) {
    with(|memory| {
        for line in lines(from, bytes) {
            let level = memory.level(line);
            memory.counted.tiles[level] += 1;
        }
    });
}

/// Counts a product of tiles with this many rows of pixels.
pub(super) fn product(rows: usize) {
    with(|memory| memory.counted.unit_cycles += rows as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_where_a_cache_of_that_size_holds_them() {
        let byte = |at: usize| std::ptr::without_provenance::<u8>(at);
        touch(byte(0), 64);
        start();
        // 32 KiB fit the L1 cache: the first time they come from memory, then from there.
        for _ in 0..2 {
            (0..512).for_each(|line| tile_row(byte(line * LINE), 64));
        }
        assert_eq!(take().tiles, [512, 0, 512]);
        // 1 MiB fits the L2 cache only.
        for _ in 0..2 {
            (0..16384).for_each(|line| touch(byte((1 << 30) + line * LINE), 32));
        }
        assert_eq!(take().vectors, [0, 16384, 16384]);
        // A row that begins within a line touches two.
        tile_row(byte(10), 64);
        product(13);
        vector_operations(2);
        let tiles = [0, 2, 0];
        let want = Traffic { unit_cycles: 13, operations: 2, tiles, ..Traffic::default() };
        assert_eq!(take(), want);
        // Lines whose addresses differ by a multiple of 4 KiB share one set of 12 lines.
        for _ in 0..2 {
            (0..13).for_each(|line| touch(byte((1 << 40) + line * 4096), 4));
        }
        assert_eq!(take().vectors, [0, 13, 13]);
        stop();
        product(16);
        assert_eq!(take(), Traffic::default());
    }

    #[test]
    fn a_thread_that_did_not_start_counts_nothing() {
        std::thread::spawn(|| {
            product(16);
            assert_eq!(take(), Traffic::default());
        })
        .join()
        .expect("the thread ends");
    }
}
