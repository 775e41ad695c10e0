//! Second pass of a global average pool: from sums over tiles to means (`average_tile_sums.cu`).

use bytemuck::{Pod, Zeroable};

use super::blocks;
use super::fields::fields;
use super::tile_sums::TileSums;

/// `CHANNELS` of the kernel: channels of a block.
const CHANNELS: usize = 32;

/// Bytes of shared memory for each thread.
pub const SHARED_PER_THREAD: u32 = 4;

/// `AverageTileSumsArgs` of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// The input: the sums of all tiles of the map.
    pub tile_sums: TileSums,
    /// f32 [images, pitch].
    pub out: u64,
    /// Channels with padding.
    pub pitch: i32,
    /// Pixels of a tile.
    pub tile_pixels: i32,
}

fields!(Args { tile_sums, out, pitch, tile_pixels });

/// The grid for a number of images.
pub fn grid(args: &Args, images: usize) -> [u32; 3] {
    [blocks(images, 1), blocks(args.pitch as usize, CHANNELS), 1]
}
