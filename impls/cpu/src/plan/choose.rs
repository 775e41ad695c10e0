//! Which algorithm a 3x3 convolution gets.

use crate::kernels::winograd::Tile;

/// What is known of a layer and the machine.
#[derive(Debug, Clone, Copy)]
pub struct Layer {
    /// Input channels.
    pub channels: usize,
    /// Output channels of all arms.
    pub outputs: usize,
    /// Height and width.
    pub size: (usize, usize),
    /// f32 in a vector.
    pub lanes: usize,
    /// Channels that are multiplied in the time of one vector instruction: 2 with bfloat16 dot
    /// products, more with a matrix unit.
    pub depth: usize,
    /// Bytes of a weight.
    pub bytes: usize,
}

/// How 3x3 convolutions are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Convolution {
    /// What is expected to be fastest, within the error budget of the precision.
    #[default]
    Auto,
    /// As a matrix product.
    Direct,
    /// Winograd with this tile.
    Winograd(Tile),
}

/// Bytes that one core reads from memory in one cycle, about: weights that are read once per
/// inference cost that much (measured: 24 GB/s at 3.7 GHz). The choice depends neither on threads
/// nor on the batch, so that neither do the results.
const BYTES_PER_CYCLE: f64 = 6.5;

/// Instructions that transform one vector of an input tile and of an output tile, for each plane:
/// counted in the kernels, with loads and stores.
const TRANSFORM: f64 = 6.0;

impl Layer {
    /// Cycles of a multiplication per clip, of a bound by weights, and of transforms.
    fn cycles(&self, planes: usize, rows: usize, transforms: f64) -> f64 {
        let vectors = self.outputs.div_ceil(self.lanes) as f64;
        let products = (planes * rows * self.channels) as f64 * vectors / self.depth as f64;
        let weights = planes * self.channels * self.outputs * self.bytes;
        products.max(weights as f64 / BYTES_PER_CYCLE) + transforms
    }

    fn direct(&self) -> f64 {
        self.cycles(9, self.size.0 * self.size.1, 0.0)
    }

    fn winograd(&self, tile: Tile) -> f64 {
        let tiles = self.size.0.div_ceil(tile.side()) * self.size.1.div_ceil(tile.side());
        let vectors = (self.channels + self.outputs).div_ceil(self.lanes);
        let transforms = (tiles * vectors * tile.planes()) as f64 * TRANSFORM;
        self.cycles(tile.planes(), tiles, transforms)
    }

    /// The cheapest. All of them are within the error budget of `harness diff` in both precisions: in
    /// bfloat16 F(4x4) comes to a ratio of 2.4, F(2x2) to 0.9, where 4 passes.
    pub fn choose(&self, wish: Convolution) -> Option<Tile> {
        match wish {
            Convolution::Direct => None,
            Convolution::Winograd(tile) => Some(tile),
            Convolution::Auto => {
                let tiles: &[Tile] = &[Tile::F2, Tile::F4];
                let costs = tiles.iter().map(|&tile| (self.winograd(tile), Some(tile)));
                let all = costs.chain([(self.direct(), None)]);
                all.min_by(|a, b| a.0.total_cmp(&b.0)).and_then(|(_, tile)| tile)
            }
        }
    }
}
