//! The stem on sm_90a, which reads the planes of the clip (`hopper_stem.cu`).

use bytemuck::{Pod, Zeroable};
use spec::Precision;

use super::args::Epilogue;
use super::bands::{BandEnd, BandTile, CHUNK, SHARED_BYTES, STEP, TensorMap, Work};
use super::fields::fields;
use super::{File, Variant};
use crate::device::Tensor;

/// Side of the window.
pub const KERNEL: usize = 5;

/// Outputs of a product.
pub const OUTPUTS: usize = 64;

/// Threads in a block: two warpgroups that multiply and two that make bands.
pub const THREADS: u32 = 512;

/// Planes of a band; a step of K.
const PLANES: usize = STEP;

/// Rows of a tile.
const TILE_ROWS: usize = 4;

/// The most pixels in a row of a tile, with which the rows that a product reads end in its band.
const MOST_WIDTH: usize = 29;

/// The most bands that a block has barriers for.
const MOST_BANDS: usize = 3;

const ROW_BYTES: usize = 2 * CHUNK;
const BAND_BYTES: usize = 192 * ROW_BYTES;
const WEIGHT_BYTES: usize = OUTPUTS * ROW_BYTES;
const BARRIER_BYTES: usize = 8 * (1 + 2 * MOST_BANDS);

/// `HopperStemArgs` of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// Stored [outputs, K] in the order of [`positions`], in boxes of 64 values for [`OUTPUTS`] outputs.
    pub weights: TensorMap,
    /// f32 [images, planes, height, width].
    pub clip: u64,
    /// f32 [pixels, pitch]: the sums, where the epilogue is left to `split_k_reduce.cu`.
    pub sums: u64,
    /// Planes of an image.
    pub planes: i32,
    /// Height of the result, half of the clip's.
    pub height: i32,
    /// Width of the result, half of the clip's.
    pub width: i32,
    /// Bands of a tile.
    pub bands: i32,
    /// Rows of four steps of the weights.
    pub weight_rows: i32,
    /// All tiles.
    pub tiles: i32,
    /// Tiles along a row.
    pub across: i32,
    /// Tiles along the height of an image.
    pub down: i32,
    /// Pixels of the result in a row of a tile.
    pub tile_width: i32,
    /// Groups in a row of a band.
    pub pitch: i32,
    /// What happens to the sums.
    pub epilogue: Epilogue,
    /// Alignment.
    pub unused: [u64; 3],
}

fields!(Args {
    weights,
    clip,
    sums,
    planes,
    height,
    width,
    bands,
    weight_rows,
    tiles,
    across,
    down,
    tile_width,
    pitch,
    epilogue,
    unused
});

/// The plane and the pixel of the window of every place along K. Planes from `planes` on do not exist;
/// their weights must be zeros.
pub fn positions(planes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..planes.div_ceil(PLANES)).flat_map(|band| {
        (0..KERNEL * KERNEL)
            .flat_map(move |pixel| (0..PLANES).map(move |plane| (band * PLANES + plane, pixel)))
    })
}

/// Whether the shared memory of a block holds all weights of a stem and the bands of a tile.
pub fn fits(planes: usize, outputs: usize) -> bool {
    let bands = planes.div_ceil(PLANES);
    let bytes = bands * BAND_BYTES + weight_rows(bands) * WEIGHT_BYTES + BARRIER_BYTES;
    bands <= MOST_BANDS && outputs <= OUTPUTS && bytes <= SHARED_BYTES
}

fn steps(bands: usize) -> usize {
    bands * KERNEL * KERNEL
}

fn weight_rows(bands: usize) -> usize {
    steps(bands).div_ceil(CHUNK / STEP)
}

/// How the stem is divided among blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Division {
    /// All tiles.
    pub tiles: usize,
    across: usize,
    down: usize,
    width: usize,
    planes: usize,
    size: (usize, usize),
}

impl Division {
    /// The tiles of `images` images, by the height and width of the result.
    pub fn new(images: usize, size: (usize, usize), planes: usize) -> Self {
        let across = size.1.div_ceil(MOST_WIDTH);
        let (width, down) = (size.1.div_ceil(across), size.0.div_ceil(TILE_ROWS));
        Division { tiles: images * across * down, across, down, width, planes, size }
    }

    fn bands(&self) -> usize {
        self.planes.div_ceil(PLANES)
    }

    /// Groups of 2x2 pixels of a band.
    fn groups(&self) -> usize {
        (TILE_ROWS + 2) * (self.width + 2)
    }

    /// What each tile takes.
    pub fn work(&self) -> Work {
        // Each warpgroup has a product of 64 pixels for every step.
        let products = 2 * steps(self.bands());
        Work {
            products: products * OUTPUTS / 2,
            reads: products * (16 + OUTPUTS / 4),
            loaded: self.bands() * self.groups(),
        }
    }

    /// Bytes of the clip that a tile reads.
    pub fn clip_bytes(&self) -> usize {
        4 * self.groups() * self.planes * size_of::<f32>()
    }

    /// Blocks, which work through the tiles.
    pub fn blocks(&self, multiprocessors: usize) -> u32 {
        self.tiles.min(multiprocessors) as u32
    }

    /// The weights [outputs, K] as a tensor.
    pub fn weights(&self, address: u64, outputs: usize) -> Tensor {
        let (values, outputs) = ((steps(self.bands()) * STEP) as u64, outputs as u64);
        Tensor {
            address,
            dims: [values, outputs, 1, 1],
            strides: [2 * values, 2 * values * outputs, 2 * values * outputs],
            boxes: [CHUNK as u64, OUTPUTS as u64, 1, 1],
        }
    }

    /// The arguments, by the address of the clip and what happens to the sums.
    pub fn args(&self, weights: TensorMap, clip: u64, sums: u64, epilogue: Epilogue) -> Args {
        let int = |value: usize| value as i32;
        Args {
            weights,
            clip,
            sums,
            planes: int(self.planes),
            height: int(self.size.0),
            width: int(self.size.1),
            bands: int(self.bands()),
            weight_rows: int(weight_rows(self.bands())),
            tiles: int(self.tiles),
            across: int(self.across),
            down: int(self.down),
            tile_width: int(self.width),
            pitch: int(self.width + 2),
            epilogue,
            unused: [0; 3],
        }
    }
}

/// The kernel, which leaves the epilogue to another where `sums` says so.
pub fn variant(precision: Precision, sums: bool) -> Variant {
    let end = if sums { BandEnd::Sums } else { BandEnd::Epilogue };
    let tile = BandTile { columns: OUTPUTS, output_groups: 1, narrow: false, end, gated: false };
    Variant::in_bands(File::HopperStem, precision, tile)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last row that the last product of a tile reads, behind which there is room in the band.
    #[test]
    fn no_product_reads_beyond_its_band() {
        for width in 1..400 {
            let division = Division::new(1, (8, width), 48);
            let pitch = division.width + 2;
            assert!(division.across * division.width >= width && division.width <= MOST_WIDTH);
            assert!(division.groups() <= 192 && 2 * pitch - 2 <= 64, "{division:?}");
            assert!((2 + KERNEL / 2) * pitch + KERNEL / 2 + 64 <= 192, "{division:?}");
        }
        assert!(fits(48, 64) && fits(3, 1) && !fits(49, 64) && !fits(48, 65));
        assert_eq!(positions(20).count(), 2 * 25 * 16);
        assert_eq!(positions(48).position(|at| at == (17, 3)), Some(400 + 3 * 16 + 1));
    }
}
