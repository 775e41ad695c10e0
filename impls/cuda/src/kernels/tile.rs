//! Which tile computes a convolution, and among how many blocks its depth is split.

/// A block's share: pixels x outputs, by warps (rows, columns), with a pipeline of so many steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tile {
    /// BM.
    pub pixels: usize,
    /// BN.
    pub outputs: usize,
    /// WARPS_M, WARPS_N.
    pub warps: (usize, usize),
    /// STEPS.
    pub steps: usize,
    /// Products per cycle and multiprocessor in percent of the best tile's: smaller tiles read more of
    /// shared memory for each product. An estimate until a GPU has measured it.
    rate: usize,
}

/// Tiles of convolutions. 16 outputs are the middle of the global branch.
pub const TILES: [Tile; 6] = [
    Tile { pixels: 128, outputs: 128, warps: (2, 4), steps: 4, rate: 100 },
    Tile { pixels: 128, outputs: 64, warps: (4, 2), steps: 4, rate: 80 },
    Tile { pixels: 64, outputs: 64, warps: (2, 2), steps: 4, rate: 70 },
    Tile { pixels: 128, outputs: 16, warps: (4, 1), steps: 4, rate: 35 },
    Tile { pixels: 32, outputs: 32, warps: (2, 1), steps: 4, rate: 40 },
    Tile { pixels: 32, outputs: 16, warps: (2, 1), steps: 4, rate: 25 },
];

/// Tiles of the fused block, which has two sets of sums.
pub const CTL_TILES: [Tile; 2] = [TILES[1], TILES[2]];

/// Bytes of a row of a step in shared memory.
const ROW: usize = 64;

/// Most blocks that share a sum.
const MOST_SPLITS: usize = 16;

/// Steps of the depth that a block should have at least: its pipeline has to fill.
const LEAST_STEPS: usize = 8;

impl Tile {
    /// Threads of a block.
    pub fn threads(&self) -> u32 {
        (self.warps.0 * self.warps.1 * 32) as u32
    }

    /// Shared memory of a block: the pipeline, or the sums on their way out.
    pub fn shared_bytes(&self) -> u32 {
        let pipeline = self.steps * (self.pixels + self.outputs) * ROW;
        let sums = self.pixels * (self.outputs + 8) * size_of::<f32>();
        pipeline.max(sums) as u32
    }

    /// Blocks of a product.
    pub fn blocks(&self, pixels: usize, outputs: usize) -> usize {
        pixels.div_ceil(self.pixels) * outputs.div_ceil(self.outputs)
    }
}

/// What a GPU has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Multiprocessors.
    pub processors: usize,
    /// Bytes of shared memory that a block can have: 64 KiB on sm_75, 99 or more from sm_80 on.
    pub shared_bytes: usize,
}

/// How a convolution is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The tile.
    pub tile: Tile,
    /// Blocks that share each sum.
    pub splits: usize,
}

/// What a product is: pixels x outputs over a depth of so many steps of 64 bytes.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// Of all images.
    pub pixels: usize,
    /// Channels of the result.
    pub outputs: usize,
    /// Of the depth.
    pub steps: usize,
}

impl Product {
    /// The cut that is estimated to take the least time.
    pub fn cut(&self, machine: Machine, may_split: bool) -> Cut {
        let fits = |tile: &Tile| tile.shared_bytes() as usize <= machine.shared_bytes;
        let most = if may_split { self.steps / LEAST_STEPS } else { 1 };
        let splits =
            (0..).map(|power| 1 << power).take_while(|&s| s <= MOST_SPLITS.min(most.max(1)));
        let cuts = splits.flat_map(|splits| TILES.map(|tile| Cut { tile, splits }));
        let cuts = cuts.filter(|cut| fits(&cut.tile));
        cuts.min_by_key(|cut| self.cost(*cut, machine.processors))
            .expect("small tiles fit everywhere")
    }

    /// Time in products at the best rate, over 100: full waves of blocks over the multiprocessors, and
    /// what a split sum costs to write and to read again.
    fn cost(&self, cut: Cut, processors: usize) -> usize {
        let Cut { tile, splits } = cut;
        // A product of a step and its fill-in: a pipeline takes some steps to start.
        let steps = self.steps.div_ceil(splits) + tile.steps;
        let block = tile.pixels * tile.outputs * steps * 100 / tile.rate;
        let waves = (tile.blocks(self.pixels, self.outputs) * splits).div_ceil(processors);
        let again =
            if splits > 1 { self.pixels * self.outputs * (splits + 4) / processors } else { 0 };
        waves * block + again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H200: Machine = Machine { processors: 132, shared_bytes: 227 << 10 };

    #[test]
    fn large_products_take_large_tiles_and_small_ones_are_split() {
        let large = Product { pixels: 64 * 56 * 56, outputs: 128, steps: 36 };
        assert_eq!(large.cut(H200, true), Cut { tile: TILES[0], splits: 1 });
        let small = Product { pixels: 49, outputs: 512, steps: 144 };
        assert!(small.cut(H200, true).splits > 1);
        assert_eq!(small.cut(H200, false).splits, 1);
        let narrow = Product { pixels: 64 * 56 * 56, outputs: 16, steps: 18 };
        assert_eq!(narrow.cut(H200, true).tile.outputs, 16);
    }

    #[test]
    fn tiles_fit_into_the_shared_memory_of_the_gpu() {
        let t4 = Machine { processors: 40, shared_bytes: 64 << 10 };
        let large = Product { pixels: 64 * 56 * 56, outputs: 128, steps: 36 };
        assert_eq!(large.cut(t4, true).tile, TILES[1]);
        let most = TILES.iter().map(Tile::shared_bytes).max();
        assert!(most <= Some(99 * 1024), "{most:?}");
    }
}
