//! How a step is cut into tasks. Sums do not depend on it.

use crate::element::Element;
use crate::kernels::gemm::PANEL;
use crate::plan::{Op, Source, Winograd};
use crate::run::layout::room;

/// Tasks for each thread, so that they end at about the same time.
const TASKS: usize = 4;

/// Bytes of a band that a task works on: they stay in the second cache level.
const BAND: usize = 256 * 1024;

/// A product in blocks of rows and groups of panels.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// Rows that are cut into blocks: of all images, or of one image where there are bands.
    pub rows: usize,
    /// How many such sets of rows there are.
    pub images: usize,
    /// Rows in a block.
    pub block: usize,
    /// Blocks of a set.
    pub blocks: usize,
    /// Vectors of outputs in a group.
    pub group: usize,
    /// Groups.
    pub groups: usize,
}

impl Product {
    /// Cuts a product for a batch.
    pub fn new<E: Element>(
        first: &Source<E>,
        pixels: usize,
        clips: usize,
        threads: usize,
        tile: usize,
    ) -> Self {
        let (images, rows) = if first.banded() { (clips, pixels) } else { (1, clips * pixels) };
        let block = match first.banded() {
            true => first.from.size.1 * lines(first, tile),
            false => 4 * tile,
        };
        let blocks = rows.div_ceil(block);
        let panels = first.weights.vectors.div_ceil(PANEL);
        let wanted = (TASKS * threads).div_ceil((images * blocks).max(1));
        // A band for each group costs more than waiting for the last task.
        let wanted = if first.kernel > 1 { wanted.min(2) } else { wanted };
        let group = panels.div_ceil(wanted.clamp(1, panels.max(1))).max(1) * PANEL;
        let groups = first.weights.vectors.div_ceil(group);
        Product { rows, images, block, blocks, group, groups }
    }

    /// How many tasks.
    pub fn tasks(&self) -> usize {
        self.images * self.blocks * self.groups
    }

    /// The image, first and last + 1 row, first and last + 1 vector of a task.
    pub fn task(&self, index: usize, vectors: usize) -> (usize, (usize, usize), (usize, usize)) {
        let (rest, group) = (index / self.groups, index % self.groups);
        let (image, block) = (rest / self.blocks, rest % self.blocks);
        let from = block * self.block;
        let first = group * self.group;
        let rows = (from, (from + self.block).min(self.rows));
        (image, rows, (first, (first + self.group).min(vectors)))
    }
}

/// Output lines of a band.
fn lines<E: Element>(source: &Source<E>, tile: usize) -> usize {
    let within = BAND / (source.line() * size_of::<E>()).max(1);
    let wanted = 4 * tile / source.from.size.1.max(1);
    wanted.min(within.saturating_sub(source.kernel - 1)).max(1)
}

/// Tiles of a batch.
pub fn tiles<E>(layer: &Winograd<E>, clips: usize) -> usize {
    let (rows, columns) = grid(layer);
    clips * rows * columns
}

/// Rows and columns of tiles in an image.
pub fn grid<E>(layer: &Winograd<E>) -> (usize, usize) {
    let side = layer.tile.side();
    (layer.from.size.0.div_ceil(side), layer.from.size.1.div_ceil(side))
}

/// Tiles that a thread takes through all of a Winograd layer at once: whole GEMM tiles, few enough
/// for the second cache level.
pub fn block(tile: usize) -> usize {
    tile * 12usize.div_ceil(tile)
}

/// Whether a layer has tiles enough that each thread takes blocks of them through the whole layer;
/// otherwise all threads share each of its three phases.
pub fn in_blocks<E>(layer: &Winograd<E>, clips: usize, threads: usize, tile: usize) -> bool {
    tiles(layer, clips).div_ceil(block(tile)) >= TASKS * threads
}

/// Items of a phase that a task takes, of so many.
pub fn share(items: usize, threads: usize) -> usize {
    items.div_ceil(TASKS * threads).max(1)
}

/// Bytes of scratch memory that a task of a step needs.
pub fn scratch<E: Element>(op: &Op<E>, clips: usize, threads: usize, tile: usize) -> usize {
    match op {
        Op::Gemm { first, .. } if first.banded() => {
            let lines = lines(first, tile) + first.kernel - 1;
            // One vector more: the last copy may write beyond the band.
            (lines * first.line() + 16) * size_of::<E>()
        }
        Op::Winograd(layer) if in_blocks(layer, clips, threads, tile) => {
            room(layer, block(tile)).iter().sum()
        }
        _ => 0,
    }
}
