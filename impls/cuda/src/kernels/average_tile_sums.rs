//! Second pass of a global average pool: from sums over tiles to means (`average_tile_sums.cu`).

use bytemuck::{Pod, Zeroable};

use super::fields::fields;
use super::tile_sums::TileSums;
use super::{THREADS, blocks};

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
    [blocks(images, 1), blocks(args.pitch as usize, THREADS as usize), 1]
}
