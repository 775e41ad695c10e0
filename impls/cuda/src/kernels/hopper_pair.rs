//! Two 1x1 convolutions on sm_90a, of which the second reads what the first stores (`hopper_pair.cu`).

use bytemuck::{Pod, Zeroable};
use spec::{EngineError, Precision};

use super::args::Epilogue;
use super::bands::{self, BandEnd, BandTile, Bands, CHUNK, Place, SHARED_BYTES, STEP, TensorMap};
use super::fields::fields;
use super::tile_sums::TileSums;
use super::windows::Shape;
use super::{File, Variant};
use crate::device::Device;

/// Inputs that the first convolution can have.
pub const MAX_SOURCES: usize = 2;

/// Pixels of a tile.
pub const COLUMNS: usize = 128;

/// The most outputs of the second convolution, whose sums are in registers.
const MOST_OUTPUTS: usize = 128;

/// Slots of a ring for which there are barriers.
const MOST_SLOTS: usize = 16;

/// Unit in which shared memory is divided: 64 rows of 128 bytes.
const UNIT: usize = 64 * 2 * CHUNK;
const UNITS: usize = (SHARED_BYTES - 2048) / UNIT;

/// Units of 64 channels of a tile.
const TILE_UNITS: usize = COLUMNS / 64;

/// `HopperPairArgs` of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// The inputs of the first convolution, whose convolutions are added.
    pub sources: [bands::Source; MAX_SOURCES],
    /// The weights of the second, stored [outputs, K].
    pub reduce_weights: TensorMap,
    /// The result of the first, stored [pixels, pitch].
    pub wide: TensorMap,
    /// The same for its residual; zeros where there is none.
    pub residual: TensorMap,
    /// The result of the second, stored [pixels, pitch].
    pub out: TensorMap,
    /// The tiles.
    pub bands: Bands,
    /// How many of `sources` are used.
    pub source_count: i32,
    /// Whether there is a residual.
    pub has_residual: i32,
    /// Chunks of 64 channels of the wide map.
    pub chunks: i32,
    /// The same for all sources.
    pub blocks: i32,
    /// Slots of bands.
    pub band_slots: i32,
    /// Slots of weights of the first convolution.
    pub expand_slots: i32,
    /// Slots of weights of the second.
    pub reduce_slots: i32,
    /// Stages.
    pub stages: i32,
    /// Whether there are slots for all weights.
    pub resident: i32,
    /// Alignment.
    pub unused: i32,
    /// What happens to the sums of the first; scale, bias, residual and ReLU are supported.
    pub expand: Epilogue,
    /// The same for the second, without a residual.
    pub reduce: Epilogue,
    /// For the average pool over the second result, in tiles of [`bands::SUM_PIXELS`].
    pub tile_sums: TileSums,
    /// Alignment.
    pub unused_too: u64,
}

fields!(Args {
    sources,
    reduce_weights,
    wide,
    residual,
    out,
    bands,
    source_count,
    has_residual,
    chunks,
    blocks,
    band_slots,
    expand_slots,
    reduce_slots,
    stages,
    resident,
    unused,
    expand,
    reduce,
    tile_sums,
    unused_too
});

/// Two convolutions, the channels with padding.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// Pixels of all images.
    pub pixels: usize,
    /// Channels of each input of the first.
    pub inputs: &'a [usize],
    /// Whether the first has a residual.
    pub residual: bool,
    /// Channels between the two.
    pub wide: usize,
    /// Channels of the result of the second.
    pub outputs: usize,
}

/// How two convolutions are divided among blocks, and the shared memory of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Division {
    /// All tiles.
    pub tiles: usize,
    /// Whether the weights stay in shared memory.
    pub resident: bool,
    /// Chunks of which a block can have one while another is in use.
    pub stages: usize,
    pixels: usize,
    residual: bool,
    chunks: usize,
    blocks: usize,
    output_groups: usize,
    band_slots: usize,
    expand_slots: usize,
    reduce_slots: usize,
}

impl Division {
    /// Prefers memory for all weights to two sets of bands, and these to stages. None where there are more outputs
    /// than the second warpgroup has registers for, or more inputs than weights could be loaded for in time.
    pub fn new(pair: Pair<'_>) -> Option<Self> {
        let Pair { pixels, inputs, residual, wide, outputs } = pair;
        let (chunks, output_groups) = (wide.div_ceil(CHUNK), outputs.div_ceil(64));
        let blocks: usize = inputs.iter().map(|channels| channels.div_ceil(CHUNK)).sum();
        if outputs > MOST_OUTPUTS || inputs.len() > MAX_SOURCES || blocks > 2 {
            return None;
        }
        let all = [true, false].into_iter().flat_map(|resident| {
            let bands = [2 * blocks, blocks].into_iter();
            bands.flat_map(move |bands| (2..=6).rev().map(move |stages| (resident, bands, stages)))
        });
        let mut divisions = all.map(|(resident, band_slots, stages)| Division {
            tiles: pixels.div_ceil(COLUMNS),
            resident,
            stages,
            pixels,
            residual,
            chunks,
            blocks,
            output_groups,
            band_slots,
            expand_slots: if resident { chunks * blocks } else { 2 * blocks },
            reduce_slots: if resident { chunks } else { 2 },
        });
        divisions.find(|division| {
            let slots = [division.expand_slots, division.reduce_slots];
            division.units() <= UNITS && slots.iter().all(|slots| *slots <= MOST_SLOTS)
        })
    }

    /// Shared memory in units.
    fn units(&self) -> usize {
        let tiles = self.band_slots + self.stages + self.output_groups;
        self.expand_slots + self.reduce_slots * self.output_groups + tiles * TILE_UNITS
    }

    /// Rows of 128 bytes that are loaded for a tile.
    pub fn loaded(&self) -> usize {
        let of_maps = self.blocks + if self.residual { self.chunks } else { 0 };
        let of_weights = self.chunks * (self.blocks + self.output_groups) * 64;
        of_maps * COLUMNS + if self.resident { 0 } else { of_weights }
    }

    /// Cycles of a tile, by the model of [`bands::Work`]. A product has 64 outputs and 16 values of K. The first
    /// warpgroup ends a chunk after another, each with half of the pixels of the largest tiles there.
    pub fn cycles(&self) -> usize {
        let steps = CHUNK / STEP;
        let products = self.chunks * (self.blocks + self.output_groups) * steps;
        let (of_product, of_reads) = (COLUMNS / 2, 16 + COLUMNS / 4);
        let first = self.chunks * (self.blocks * steps * of_product + 1500 / 2);
        let together = (products * of_product).max(products * of_reads + self.loaded());
        first.max(together) + 1500
    }

    /// Blocks, which work through the tiles.
    pub fn blocks(&self, multiprocessors: usize) -> u32 {
        self.tiles.min(multiprocessors) as u32
    }

    fn bands(&self) -> Bands {
        let (columns, tiles) = (COLUMNS as i32, self.tiles as i32);
        Bands {
            tiles,
            output_tiles: 1,
            across: tiles,
            down: 1,
            tile_x: columns,
            tile_y: 1,
            tile_images: 1,
            pitch: columns,
            image_rows: 1,
            rows: 1,
            band_images: 1,
            result_pixels: columns,
            width: self.pixels as i32,
            height: 1,
            images: 1,
            ..Bands::zeroed()
        }
    }

    /// The boxes in which maps are loaded, and weights of `output_groups` times 64 outputs.
    fn boxes(&self, output_groups: usize) -> bands::Division {
        bands::Division {
            tile: BandTile { output_groups, ..self.tile() },
            bands: self.bands(),
            steps: 0,
            loads: 0,
            flat: true,
        }
    }

    fn tile(&self) -> BandTile {
        BandTile {
            columns: COLUMNS,
            output_groups: self.output_groups,
            narrow: false,
            end: BandEnd::Epilogue,
            gated: false,
        }
    }

    /// The arguments: the inputs of the first convolution, that of the second, which is the wide map, and what happens
    /// to the sums of each.
    pub fn args(
        &self,
        device: &dyn Device,
        (inputs, wide): (&[Place], Place),
        [expand, reduce]: [Epilogue; 2],
        tile_sums: TileSums,
    ) -> Result<Args, EngineError> {
        let (first, second) = (self.boxes(1), self.boxes(self.output_groups));
        let mut sources = [bands::Source::zeroed(); MAX_SOURCES];
        for (source, input) in sources.iter_mut().zip(inputs) {
            *source = first.sources(device, *input)?[0];
        }
        let map = |address: u64, pitch| match address {
            0 => Ok(TensorMap::zeroed()),
            _ => device.tensor_map(&first.tensor(address, pitch, true)),
        };
        let int = |value: usize| value as i32;
        Ok(Args {
            sources,
            reduce_weights: second.sources(device, wide)?[0].weights,
            wide: map(wide.pixels, wide.shape.channels)?,
            residual: map(expand.residual, wide.shape.channels)?,
            out: map(reduce.out, reduce.pitch as usize)?,
            bands: self.bands(),
            source_count: int(inputs.len()),
            has_residual: i32::from(self.residual),
            chunks: int(self.chunks),
            blocks: int(self.blocks),
            band_slots: int(self.band_slots),
            expand_slots: int(self.expand_slots),
            reduce_slots: int(self.reduce_slots),
            stages: int(self.stages),
            resident: i32::from(self.resident),
            unused: 0,
            expand,
            reduce,
            tile_sums,
            unused_too: 0,
        })
    }

    /// The kernel.
    pub fn variant(&self, precision: Precision) -> Variant {
        Variant::in_bands(File::HopperPair, precision, self.tile())
    }
}

/// An input of a 1x1 convolution with `outputs` channels of its result.
pub fn place(pixels: u64, channels: usize, weights: u64, outputs: usize) -> Place {
    let shape = Shape { channels, kernel: 1, stride: 1 };
    Place { pixels, weights, outputs, shape, gate: (0, 0) }
}

/// Every kernel of a precision.
pub fn variants(precision: Precision) -> impl Iterator<Item = Variant> {
    [64, 128].into_iter().filter_map(move |outputs| {
        let pair = Pair { pixels: 1, inputs: &[64], residual: true, wide: 64, outputs };
        Some(Division::new(pair)?.variant(precision))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn division(inputs: &[usize], wide: usize, outputs: usize) -> Option<Division> {
        Division::new(Pair { pixels: 1000, inputs, residual: inputs.len() == 1, wide, outputs })
    }

    /// With resident weights in the first stage of the network, and with weights that are loaded for each tile in the
    /// second.
    #[test]
    fn shared_memory_suffices() {
        let stage1 = [division(&[64], 256, 64), division(&[64, 64], 256, 64)].map(Option::unwrap);
        assert!(stage1.iter().all(|d| d.resident && d.tiles == 8), "{stage1:?}");
        assert_eq!(stage1.map(|d| (d.stages, d.band_slots)), [(6, 2), (3, 4)]);
        let stage2 = division(&[128], 512, 128).unwrap();
        assert!(!stage2.resident && stage2.stages == 4, "{stage2:?}");
        assert!(division(&[128, 256], 512, 128).is_none() && division(&[256], 1024, 256).is_none());
        for (inputs, wide, outputs) in [(8, 24, 8), (128, 4096, 128), (64, 704, 72), (16, 1096, 8)]
        {
            let division = division(&[inputs], wide, outputs).unwrap();
            assert!(division.units() * UNIT + 2048 <= SHARED_BYTES && division.stages >= 2);
        }
    }
}
