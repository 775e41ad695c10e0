//! How a step is cut into tasks. The results do not depend on it.

use crate::element::Element;
use crate::kernels::gemm::PANEL;
use crate::plan::{Op, OperandSpec, Strassen, Winograd};
use crate::run::layout::workspace_bytes;
use crate::run::rows::RowSplit;
use crate::run::strassen::Scratch;
use crate::run::tiles::TileOrder;

/// Number of tasks for each thread: several, so that all threads end at about the same time.
const TASKS: usize = 4;

/// Maximum size in bytes of the band of a task, so that it stays in the L2 cache.
const BAND: usize = 256 * 1024;

/// Pairs of pixels that go through Strassen's algorithm together, rounded up to whole tiles: few, so that their
/// sums stay in the L2 cache, and enough that reading the weights takes less time than the products.
const PAIRS: usize = 28;

/// The split of a matrix product into blocks of rows and groups of vectors of outputs.
#[derive(Debug, Clone, Copy)]
pub struct GemmSplit {
    /// Rows that are cut into blocks: those of the whole batch, or those of one image if there are
    /// bands.
    pub rows: usize,
    /// Number of times that `rows` rows are computed: once, or for each image if there are bands, which
    /// are groups of rows of one image.
    pub images: usize,
    /// Number of blocks. They are as equal as whole units allow.
    pub blocks: usize,
    /// Rows that are not separated: those of a tile or a line.
    pub unit: usize,
    /// Number of vectors of outputs in a group, a multiple of [`PANEL`].
    pub group: usize,
    /// Number of groups.
    pub groups: usize,
}

impl GemmSplit {
    /// Splits a product whose output has `pixels` pixels in each image.
    pub fn new<E: Element>(
        first: &OperandSpec<E>,
        pixels: usize,
        clips: usize,
        threads: usize,
        tile_rows: usize,
    ) -> Self {
        let (images, rows) = if first.banded() { (clips, pixels) } else { (1, clips * pixels) };
        let (unit, blocks) = match first.banded() {
            true => {
                let width = first.from.size.1;
                (width, rows.div_ceil(width * band_lines(first, clips, threads, tile_rows)))
            }
            // Rather fewer blocks than more: the weights are read once more for each block.
            false => {
                let block = 4 * tile_rows;
                (tile_rows, ((rows + block / 2) / block).max(rows.min(1)))
            }
        };
        let panels = first.weights.vectors.div_ceil(PANEL);
        let wanted = (TASKS * threads).div_ceil((images * blocks).max(1));
        // Every group makes its own band, which costs more than an unequal load.
        let wanted = if first.kernel > 1 { wanted.min(2) } else { wanted };
        let group = panels.div_ceil(wanted.clamp(1, panels.max(1))).max(1) * PANEL;
        let groups = first.weights.vectors.div_ceil(group);
        GemmSplit { rows, images, blocks, unit, group, groups }
    }

    /// Splits a step by Strassen's algorithm: its rows are pairs of pixels of the whole batch, and what is
    /// said of vectors is true of its groups of outputs.
    pub fn pairs<E>(layer: &Strassen<E>, clips: usize, threads: usize, tile_rows: usize) -> Self {
        let (rows, block) = (clips * layer.pairs(), PAIRS.next_multiple_of(tile_rows));
        let blocks = ((rows + block / 2) / block).max(rows.min(1));
        // Every task makes the sums of its inputs itself.
        let wanted = if threads > 1 { (TASKS * threads).div_ceil(blocks.max(1)) } else { 1 };
        let all = layer.groups.len();
        let group = all.div_ceil(wanted.clamp(1, all.max(1))).max(1);
        // Threads get as many rows; one thread gets whole tiles.
        let unit = if threads > 1 { 1 } else { tile_rows };
        GemmSplit { rows, images: 1, blocks, unit, group, groups: all.div_ceil(group) }
    }

    /// Number of units, of which the last one may have fewer rows.
    fn units(&self) -> usize {
        self.rows.div_ceil(self.unit)
    }

    /// The most rows that a block may have: rounded shares differ by at most the share, rounded up.
    pub fn largest_block(&self) -> usize {
        (self.units().div_ceil(self.blocks.max(1)) * self.unit).min(self.rows)
    }

    /// First row of a block; for the number of blocks, the end of the rows.
    fn start(&self, block: usize) -> usize {
        let unit = (self.units() * block + self.blocks / 2) / self.blocks;
        (unit * self.unit).min(self.rows)
    }

    /// Number of tasks.
    pub fn tasks(&self) -> usize {
        self.images * self.blocks * self.groups
    }

    /// The image, the rows and the vectors of outputs of a task (both half-open), for a product
    /// with `vectors` vectors of outputs.
    pub fn task(&self, index: usize, vectors: usize) -> (usize, (usize, usize), (usize, usize)) {
        let (rest, group) = (index / self.groups, index % self.groups);
        let (image, block) = (rest / self.blocks, rest % self.blocks);
        let rows = (self.start(block), self.start(block + 1));
        let first = group * self.group;
        (image, rows, (first, (first + self.group).min(vectors)))
    }
}

/// Number of output lines for which a task makes a band: more of them if there are many for each
/// thread, because every band copies `kernel - 1` lines that another one has, too.
fn band_lines<E: Element>(
    operand: &OperandSpec<E>,
    clips: usize,
    threads: usize,
    tile_rows: usize,
) -> usize {
    let (height, width) = operand.from.size;
    let within = BAND / (operand.line() * size_of::<E>()).max(1);
    let lines = |tiles: usize| tiles * tile_rows / width.max(1);
    let wanted = items_per_task(clips * height, threads).min(lines(16)).max(lines(4));
    wanted.min(within.saturating_sub(operand.kernel - 1)).max(1)
}

/// The Winograd tiles of a batch.
pub fn tiles<E>(layer: &Winograd<E>, clips: usize) -> TileOrder {
    TileOrder::new(layer.tile, layer.from.size, clips)
}

/// The largest number of Winograd tiles that a thread takes through all phases of a layer at once: a
/// multiple of the height of a GEMM tile, and few enough that they stay in the L2 cache.
fn largest_block<E>(tile_rows: usize) -> usize {
    tile_rows * (48 / size_of::<E>()).div_ceil(tile_rows)
}

/// Bytes of weights that every block may read again, because they come from a cache. Larger ones come
/// from memory, or their layers displace each other.
const REREAD: usize = 8 << 20;

/// Number of blocks of tiles, each of which one thread takes through all phases of the layer. Every
/// thread gets the same number of them. None if all threads had better work on each of the three phases
/// together: if there are fewer than two blocks for each thread, if a block has so few tiles that reading
/// the weights takes longer than the products, or if large weights are read so often that this costs more
/// than writing and reading the tiles and products of the whole batch.
pub fn blocks<E: Element>(
    layer: &Winograd<E>,
    clips: usize,
    threads: usize,
    tile_rows: usize,
) -> Option<usize> {
    let (tiles, largest) = (tiles(layer, clips).count(), largest_block::<E>(tile_rows));
    let blocks = tiles.div_ceil(largest).next_multiple_of(threads);
    let weights = layer.weights_bytes();
    let spill = 2 * workspace_bytes(layer, tiles).iter().sum::<usize>();
    let worth_reading = weights <= REREAD || blocks.saturating_sub(1) * weights <= spill;
    (blocks >= 2 * threads && 3 * tiles >= 2 * largest * blocks && worth_reading).then_some(blocks)
}

/// The tiles of a block, out of `tiles` in `blocks` blocks of equal size (half-open).
pub fn tiles_of_block(tiles: usize, blocks: usize, index: usize) -> (usize, usize) {
    (tiles * index / blocks, tiles * (index + 1) / blocks)
}

/// Number of items that each task of a phase takes, so that `items` items make a few tasks for each
/// thread.
pub fn items_per_task(items: usize, threads: usize) -> usize {
    items.div_ceil(TASKS * threads).max(1)
}

/// Size of the scratch memory that a task of a step needs, in bytes.
pub fn scratch_bytes<E: Element>(
    op: &Op<E>,
    clips: usize,
    threads: usize,
    tile_rows: usize,
) -> usize {
    match op {
        Op::Gemm { first, .. } if first.banded() => {
            let lines = band_lines(first, clips, threads, tile_rows) + first.kernel - 1;
            // One vector more, because the last copy may write beyond the band.
            (lines * first.line() + 16) * size_of::<E>()
        }
        Op::Strassen(layer) => {
            let split = GemmSplit::pairs(layer, clips, threads, tile_rows);
            Scratch::new(layer, &split).bytes()
        }
        Op::RowWinograd(layer) => RowSplit::new(layer, clips, threads).scratch_bytes(),
        Op::Winograd(layer) => match blocks(layer, clips, threads, tile_rows) {
            Some(blocks) => {
                let capacity = tiles(layer, clips).count().div_ceil(blocks);
                workspace_bytes(layer, capacity).iter().sum()
            }
            None => 0,
        },
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_all_rows_once_and_none_is_larger_than_the_largest() {
        for rows in 0..120 {
            for (blocks, unit) in (1..9).flat_map(|blocks| [(blocks, 1), (blocks, 6), (blocks, 14)])
            {
                let split = GemmSplit { rows, images: 1, blocks, unit, group: 2, groups: 3 };
                let mut end = 0;
                for index in 0..split.tasks() {
                    let (_, (from, to), vectors) = split.task(index, 5);
                    assert_eq!(vectors, [(0, 2), (2, 4), (4, 5)][index % 3]);
                    assert!(from <= to && to - from <= split.largest_block(), "{split:?} {index}");
                    if index % 3 == 0 {
                        assert_eq!(from, end, "{split:?} {index}");
                        end = to;
                    }
                }
                assert_eq!(end, rows, "{split:?}");
            }
        }
    }
}
