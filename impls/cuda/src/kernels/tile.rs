//! Chooses the tile of a convolution, and how many blocks split its K.

/// The part of a product that a block computes: `pixels` x `outputs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Rows of the tile, `BM` in the kernels.
    pub pixels: usize,
    /// Columns of the tile, `BN` in the kernels.
    pub outputs: usize,
    /// Warps along the rows and along the columns, `WARPS_M` and `WARPS_N` in the kernels.
    pub warps: (usize, usize),
    /// Steps of K that shared memory holds at a time, `SLOTS` in the kernels.
    pub slots: usize,
    /// Multiply-adds per cycle and multiprocessor, in percent of the best tile's. Smaller tiles
    /// read more of shared memory for each of them. The values are estimates from before warps of 64
    /// outputs and steps of 128 bytes, not measurements.
    rate: usize,
}

/// Tiles of convolutions. Those with 16 outputs are for the middle of the global branch, which has
/// 16 channels. A warp of the largest computes 64 x 64, for which it reads 64 bytes of shared memory
/// for each 2048 products; 64 x 32 and 32 x 32 read 96 and 128.
///
/// Three slots of the largest are 96 KiB: two blocks share a multiprocessor with 227 KiB, and one is
/// alone with 4 warps where there are 164 KiB (sm_80) or 100 KiB (sm_86, sm_89). Whether other tiles
/// are faster there is not measured.
pub const TILES: [Tile; 6] = [
    Tile { pixels: 128, outputs: 128, warps: (2, 2), slots: 3, rate: 100 },
    Tile { pixels: 128, outputs: 64, warps: (2, 2), slots: 3, rate: 80 },
    Tile { pixels: 64, outputs: 64, warps: (2, 2), slots: 3, rate: 70 },
    Tile { pixels: 128, outputs: 16, warps: (4, 1), slots: 3, rate: 35 },
    Tile { pixels: 32, outputs: 32, warps: (2, 1), slots: 4, rate: 40 },
    Tile { pixels: 32, outputs: 16, warps: (2, 1), slots: 4, rate: 25 },
];

/// Tiles of the fused CTL block. Its two sets of accumulators leave no registers for a larger one.
pub const CTL_TILES: [Tile; 2] = [TILES[1], TILES[2]];

/// Bytes of K in a step, which is one row of a slot in shared memory.
pub const STEP_BYTES: usize = 128;

/// Bytes in which a block keeps where a row of its tile lies (`Place` in `loader.cuh`).
const PLACE_BYTES: usize = 16;

/// The most blocks that share a sum, and the most where they are a cluster.
const MAX_SPLITS: usize = 16;
const MAX_CLUSTER: usize = 8;

/// The numbers of blocks that may form a cluster. Each block finishes an equal part of the tile's rows.
pub const CLUSTERS: [usize; 3] = [2, 4, MAX_CLUSTER];

/// The fewest steps of K that a split may leave to a block; with fewer, filling the pipeline
/// dominates.
const MIN_STEPS: usize = 4;

impl Tile {
    /// Its pixels and outputs, such as `128x64`.
    pub fn name(&self) -> String {
        format!("{}x{}", self.pixels, self.outputs)
    }

    /// Threads in a block.
    pub fn threads(&self) -> u32 {
        (self.warps.0 * self.warps.1 * 32) as u32
    }

    /// Bytes of shared memory of a block: the larger of the slots and, after the main loop, the
    /// tile as f32 with rows padded by 8 values; and the places of the tile's rows.
    pub fn shared_bytes(&self) -> u32 {
        self.slot_bytes().max(self.staged_bytes()) + self.place_bytes()
    }

    /// Bytes of the slots.
    pub(super) fn slot_bytes(&self) -> u32 {
        (self.slots * (self.pixels + self.outputs) * STEP_BYTES) as u32
    }

    /// Bytes of the tile as f32, with padded rows.
    pub(super) fn staged_bytes(&self) -> u32 {
        (self.pixels * (self.outputs + 8) * size_of::<f32>()) as u32
    }

    /// Bytes of the places of the rows.
    pub(super) fn place_bytes(&self) -> u32 {
        (self.pixels * PLACE_BYTES) as u32
    }

    /// The tile with as many slots as it has, then with fewer, down to two.
    pub(super) fn with_fewer_slots(self) -> impl Iterator<Item = Tile> {
        (2..=self.slots).rev().map(move |slots| Tile { slots, ..self })
    }

    /// The tile with as many slots, from two on, as shared memory holds; None if two are too many.
    pub fn within(self, shared_bytes: usize) -> Option<Tile> {
        self.with_fewer_slots().find(|tile| tile.shared_bytes() as usize <= shared_bytes)
    }

    /// Tiles that cover a product of this size.
    pub fn blocks(&self, pixels: usize, outputs: usize) -> usize {
        pixels.div_ceil(self.pixels) * outputs.div_ceil(self.outputs)
    }
}

/// The properties of a GPU that the choice of tiles depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Number of multiprocessors.
    pub multiprocessors: usize,
    /// Bytes of shared memory that a block can have: 64 KiB on sm_75, 99 KiB or more from sm_80 on.
    pub shared_bytes: usize,
    /// Whether convolutions in half precision run in bands (`bands.cuh`).
    pub bands: BandSupport,
    /// Whether blocks can form clusters, which read each other's shared memory: from sm_90 on.
    pub clusters: bool,
    /// Whether two 1x1 convolutions in bands may be one kernel (`hopper_pair.cu`).
    pub pairs: bool,
}

impl Machine {
    /// Whether the blocks that share a sum add their parts in a cluster, or else by a launch of its own.
    pub fn in_cluster(&self, splits: usize) -> bool {
        self.clusters && CLUSTERS.contains(&splits)
    }
}

/// Whether a GPU runs convolutions in bands, and of what kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum BandSupport {
    /// No: it is not sm_90, or a user has switched it off.
    Off,
    /// Only 1x1 convolutions.
    Flat,
    /// All. Products then read a band from any of its rows on.
    Shifted,
    /// All, and the stem makes its bands from the planes of the clip (`hopper_stem.cu`).
    Planes,
}

impl BandSupport {
    /// What `$HARNESS_CUDA_BANDS` asks for: `planes`, the default, `shifted`, `flat` or `off`.
    pub fn chosen() -> Result<Self, spec::EngineError> {
        let name = std::env::var("HARNESS_CUDA_BANDS").unwrap_or_else(|_| "planes".to_owned());
        match name.as_str() {
            "planes" => Ok(BandSupport::Planes),
            "shifted" => Ok(BandSupport::Shifted),
            "flat" => Ok(BandSupport::Flat),
            "off" => Ok(BandSupport::Off),
            other => Err(spec::EngineError::Device(format!(
                "HARNESS_CUDA_BANDS is `{other}`; it must be planes, shifted, flat or off"
            ))),
        }
    }
}

/// How a convolution is divided among blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling {
    /// The tile of a block.
    pub tile: Tile,
    /// Blocks that share each sum, each with a part of K.
    pub splits: usize,
}

/// Size of a convolution as a matrix product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    /// Pixels of all images, the rows.
    pub pixels: usize,
    /// Channels of the result, the columns.
    pub outputs: usize,
    /// Length of the reduction, in steps of [`STEP_BYTES`].
    pub steps: usize,
}

impl Product {
    /// The tiling with the least estimated time, among those that fit into shared memory.
    pub fn tiling(&self, machine: Machine, may_split: bool) -> Tiling {
        let most = if may_split { self.steps / MIN_STEPS } else { 1 };
        let most = most.max(1).min(if machine.clusters { MAX_CLUSTER } else { MAX_SPLITS });
        let splits = (0..).map(|power| 1 << power).take_while(|&s| s <= most);
        let tiles = TILES.map(|tile| tile.within(machine.shared_bytes));
        let tiles = tiles.iter().flatten();
        let tilings =
            splits.flat_map(|splits| tiles.clone().map(move |&tile| Tiling { tile, splits }));
        tilings
            .min_by_key(|tiling| self.cost(*tiling, machine))
            .expect("the smallest tile fits on every GPU")
    }

    /// Estimated time of a tiling. The unit is the time in which one multiprocessor, with the best
    /// tile, advances one output by one step of K: 64 multiply-adds in half precision, 32 in
    /// float32.
    ///
    /// The convolution takes full waves of blocks over the multiprocessors. Each block adds the
    /// steps that fill its pipeline, one for each slot.
    ///
    /// The reduction of a split K costs `(splits + 4) / 2` units for each output, divided among the
    /// multiprocessors: half a unit for every partial sum, of which 4 bytes are written and read
    /// again, and two for the pass that reads the epilogue's operands and stores the result. These
    /// weights are assumptions from before the engine ran on a GPU, neither derived nor fitted.
    /// They are low for an H100: there, a unit is about 72 ps (128 operations at 30 % of 784
    /// TFLOP/s on 132 multiprocessors), and 8 bytes of L2 traffic (6.5 TB/s, an estimate) take 160
    /// ps, so a partial sum costs two units or more. The second launch is not counted at all. In a
    /// cluster, partial sums are neither written to memory nor read from it, which is assumed to cost half.
    pub(super) fn cost(&self, tiling: Tiling, machine: Machine) -> usize {
        let (Tiling { tile, splits }, Machine { multiprocessors, .. }) = (tiling, machine);
        let steps = self.steps.div_ceil(splits) + tile.slots;
        let block = tile.pixels * tile.outputs * steps * 100 / tile.rate;
        let waves = (tile.blocks(self.pixels, self.outputs) * splits).div_ceil(multiprocessors);
        let reduction = self.pixels * self.outputs * (splits + 4) / 2 / multiprocessors;
        let reduction = match splits {
            1 => 0,
            _ if machine.in_cluster(splits) => reduction / 2,
            _ => reduction,
        };
        waves * block + reduction
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H200: Machine = Machine {
        multiprocessors: 132,
        shared_bytes: 227 << 10,
        bands: BandSupport::Off,
        clusters: true,
        pairs: true,
    };

    #[test]
    fn large_products_take_large_tiles_and_small_ones_are_split() {
        let large = Product { pixels: 64 * 56 * 56, outputs: 128, steps: 18 };
        assert_eq!(large.tiling(H200, true), Tiling { tile: TILES[0], splits: 1 });
        let small = Product { pixels: 49, outputs: 512, steps: 72 };
        assert!(small.tiling(H200, true).splits > 1);
        assert_eq!(small.tiling(H200, false).splits, 1);
        assert!(H200.in_cluster(small.tiling(H200, true).splits));
        let narrow = Product { pixels: 64 * 56 * 56, outputs: 16, steps: 9 };
        assert_eq!(narrow.tiling(H200, true).tile.outputs, 16);
    }

    #[test]
    fn tiles_fit_into_the_shared_memory_of_the_gpu() {
        let t4 = Machine { multiprocessors: 40, shared_bytes: 64 << 10, clusters: false, ..H200 };
        let large = Product { pixels: 64 * 56 * 56, outputs: 128, steps: 18 };
        let tile = large.tiling(t4, true).tile;
        assert_eq!(tile, Tile { slots: 2, ..TILES[1] });
        assert!(tile.shared_bytes() <= 64 << 10);
        let most = TILES.iter().map(Tile::shared_bytes).max();
        assert!(most <= Some(99 * 1024), "{most:?}");
    }
}
