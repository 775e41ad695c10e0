//! First pass of a global average pool: sums over tiles of a map (`tile_sums.cu`, and the end of
//! `conv.cu`).

use bytemuck::{Pod, Zeroable};

use super::fields::fields;
use super::{THREADS, blocks};

/// `TileSums` of the kernels: one sum for each tile, image that it touches, and channel.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct TileSums {
    /// f32 [tiles, segments, pitch]; 0 where the sums are not wanted.
    pub sums: u64,
    /// Pixels of one image.
    pub image_pixels: i32,
    /// The most images that a tile touches, from [`segments`].
    pub segments: i32,
}

fields!(TileSums { sums, image_pixels, segments });

/// The most images of `image_pixels` pixels that a tile of `tile_pixels` pixels can touch.
pub fn segments(tile_pixels: usize, image_pixels: usize) -> usize {
    (tile_pixels - 1) / image_pixels + 2
}

/// `TileSumsArgs` of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// Stored [pixels, pitch].
    pub x: u64,
    /// The result.
    pub tile_sums: TileSums,
    /// Pixels of all images.
    pub pixels: i32,
    /// Channels with padding.
    pub pitch: i32,
    /// Pixels of a tile.
    pub tile_pixels: i32,
    /// Alignment.
    pub unused: i32,
}

fields!(Args { x, tile_sums, pixels, pitch, tile_pixels, unused });

/// The grid: tiles, groups of channels.
pub fn grid(args: &Args) -> [u32; 3] {
    let (pixels, tile_pixels) = (args.pixels as usize, args.tile_pixels as usize);
    [blocks(pixels, tile_pixels), blocks(args.pitch as usize, THREADS as usize), 1]
}
