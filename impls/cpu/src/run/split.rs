//! How a step is cut into tasks. Sums do not depend on it.

use crate::element::Element;
use crate::kernels::gemm::PANEL;
use crate::plan::{Op, Source, Winograd};
use crate::run::layout::room;

/// Tasks for each thread, so that they end at about the same time.
const TASKS: usize = 4;

/// Bytes of gathered rows that a task works on: they stay in the second cache level.
const GATHERED: usize = 256 * 1024;

/// A product in blocks of rows and groups of panels.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// Rows that are cut into blocks: of all images, or of one image where rows are gathered.
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
        let (images, rows) = if first.gathers() { (clips, pixels) } else { (1, clips * pixels) };
        let largest = match first.gathers() {
            true => GATHERED / (first.weights.k * size_of::<E>()).max(1) / tile * tile,
            false => usize::MAX,
        };
        let block = (4 * tile).min(largest).max(tile);
        let blocks = rows.div_ceil(block);
        let panels = first.weights.vectors.div_ceil(PANEL);
        let wanted = (TASKS * threads).div_ceil((images * blocks).max(1));
        // Gathering again for each group costs more than waiting for the last task.
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

/// Elements of a gathered row: whole vectors of 16. What the last copy writes too much has room behind
/// all rows ([`scratch`]).
pub fn row<E: Element>(source: &Source<E>) -> usize {
    source.weights.k.next_multiple_of(16)
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
        Op::Gemm { first, finish, .. } if first.gathers() => {
            let product = Product::new(first, finish.out.pixels(), clips, threads, tile);
            // One vector more: the last copy of a row may write beyond it.
            (product.block * row(first) + 16) * size_of::<E>()
        }
        Op::Winograd(layer) if in_blocks(layer, clips, threads, tile) => {
            room(layer, block(tile)).iter().sum()
        }
        _ => 0,
    }
}
