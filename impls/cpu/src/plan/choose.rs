//! The choice of the algorithm for a convolution, from a model of its cost in cycles.

use crate::kernels::rows;
use crate::kernels::strassen::PRODUCTS;
use crate::kernels::winograd::Tile;

/// The properties of a layer and of the machine that the choice depends on.
#[derive(Debug, Clone, Copy)]
pub struct Layer {
    /// Number of input channels.
    pub channels: usize,
    /// Output channels of all convolutions of the layer.
    pub outputs: usize,
    /// Height and width of the map.
    pub size: (usize, usize),
    /// Number of f32 in a vector.
    pub lanes: usize,
    /// Input channels that are accumulated in the time of one vector instruction
    /// ([`crate::kernels::gemm::ProductKernel::K_PER_INSTRUCTION`]): 2 with bfloat16 dot products,
    /// more with a matrix unit.
    pub k_per_instruction: usize,
    /// Size of a weight in bytes.
    pub bytes: usize,
}

/// How convolutions are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Convolution {
    /// With the algorithm that is expected to be the fastest within the allowed error of the
    /// precision.
    #[default]
    Auto,
    /// Directly, as a matrix product.
    Direct,
    /// By Winograd's algorithm, 3x3 convolutions with this tile and 7x7 convolutions along the rows. Others
    /// directly.
    Winograd(Tile),
    /// 1x1 convolutions by Strassen's algorithm, where blocks are whole vectors. Others directly.
    Strassen,
}

/// Multiply-adds of f32 that a core executes in one cycle: two vectors of AVX2, or one of AVX-512 on
/// processors that have one unit for it. Counting vectors instead would make AVX2 look half as fast as it
/// is, next to the reading of the weights.
const MACS_PER_CYCLE: f64 = 16.0;

/// Bytes that one core reads from memory in one cycle, approximately (measured: 24 GB/s at 3.7
/// GHz). This gives the cost of the weights, which are read once for each clip. The cost model
/// ignores the number of threads and the size of the batch, so that the results do not depend on
/// them.
const BYTES_PER_CYCLE: f64 = 6.5;

/// Instructions for the transforms, for each plane and each vector of an input or output tile:
/// counted in the kernels, including loads and stores. In f32, and in bfloat16 with its conversions.
/// They take as many cycles as the multiply-adds of as many vectors.
const TRANSFORM: [f64; 2] = [6.0, 8.0];

/// The same for Strassen's algorithm in f32: for each product and each vector of a half of the
/// channels or outputs. Measured on an EPYC of the generation Zen 4.
const BLOCK_SUMS: f64 = 4.0;

impl Layer {
    /// Cycles for one clip: max(products, reading of the weights of `planes` matrices) + transforms.
    /// `rows` are those of all products together.
    fn cycles(&self, planes: usize, rows: usize, transforms: f64) -> f64 {
        let outputs = self.outputs.next_multiple_of(self.lanes);
        let macs = (rows * self.channels * outputs) as f64;
        let products = macs / (MACS_PER_CYCLE * self.k_per_instruction as f64);
        let weights = planes * self.channels * self.outputs * self.bytes;
        products.max(weights as f64 / BYTES_PER_CYCLE) + transforms
    }

    fn direct(&self, kernel: usize) -> f64 {
        let taps = kernel * kernel;
        self.cycles(taps, taps * self.size.0 * self.size.1, 0.0)
    }

    fn winograd(&self, tile: Tile) -> f64 {
        // Lines of the transformed tiles of one row or column of tiles.
        let lines = |length| {
            let [whole, short] = tile.cover(length);
            whole * (tile.side() + 2) + short * (tile.short_side() + 2)
        };
        let rows = lines(self.size.0) * lines(self.size.1);
        let values = (self.channels + self.outputs).next_multiple_of(self.lanes);
        let each = TRANSFORM[usize::from(self.bytes < 4)] / MACS_PER_CYCLE;
        self.cycles(tile.planes(), rows, (rows * values) as f64 * each)
    }

    /// The algorithm for a 3x3 convolution: a Winograd tile, or None for a direct convolution. With
    /// [`Convolution::Auto`], it is the cheapest one. All are within the allowed error of `harness
    /// diff` in both precisions: in bfloat16, the error ratio of F(4x4) is 2.4 and that of F(2x2)
    /// 0.9; 4 or less passes.
    pub fn choose(&self, requested: Convolution) -> Option<Tile> {
        match requested {
            Convolution::Direct | Convolution::Strassen => None,
            Convolution::Winograd(tile) => Some(tile),
            Convolution::Auto => {
                let tiles: &[Tile] = &[Tile::F2, Tile::F4];
                let costs = tiles.iter().map(|&tile| (self.winograd(tile), Some(tile)));
                let all = costs.chain([(self.direct(3), None)]);
                all.min_by(|a, b| a.0.total_cmp(&b.0)).and_then(|(_, tile)| tile)
            }
        }
    }

    /// Whether a 1x1 convolution is computed by Strassen's algorithm. With [`Convolution::Auto`], it is in
    /// f32 if that is cheaper. In bfloat16 the differences of inputs would be rounded once more: a pass was
    /// measured to take 2 % less time, and the error of the logits to be 1.2 times as large.
    pub fn strassen(&self, requested: Convolution) -> bool {
        match requested {
            Convolution::Direct | Convolution::Winograd(_) => false,
            Convolution::Strassen => true,
            Convolution::Auto => {
                let half =
                    Layer { channels: self.channels / 2, outputs: self.outputs / 2, ..*self };
                let rows = PRODUCTS * (self.size.0 * self.size.1).div_ceil(2);
                let values = (rows * (half.channels + half.outputs)) as f64;
                let sums = values * BLOCK_SUMS / MACS_PER_CYCLE;
                self.bytes == 4 && half.cycles(PRODUCTS, rows, sums) < self.direct(1)
            }
        }
    }

    /// Whether a 7x7 convolution is computed by Winograd's algorithm along the rows. With
    /// [`Convolution::Auto`], it is if that is cheaper.
    pub fn row_winograd(&self, requested: Convolution) -> bool {
        match requested {
            Convolution::Direct | Convolution::Strassen => false,
            Convolution::Winograd(_) => true,
            Convolution::Auto => {
                let tiles = rows::tiles(self.size.1);
                let lines = self.size.0 * rows::POINTS;
                let values = lines * ((tiles + 1) * self.channels + tiles * self.outputs);
                let each = TRANSFORM[usize::from(self.bytes < 4)] / MACS_PER_CYCLE;
                let parts: usize = (0..rows::POINTS).map(rows::parts).sum();
                let planes = rows::KERNEL * parts;
                let products = self.size.0 * tiles * planes;
                self.cycles(planes, products, values as f64 * each) < self.direct(rows::KERNEL)
            }
        }
    }
}
