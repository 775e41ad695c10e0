//! Sums over tiles of a map (`pool.cu`, and in the epilogue of `conv.cu`).

use bytemuck::{Pod, Zeroable};

use super::{THREADS, blocks};

/// As `Pool`.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Pool {
    /// f32 [tiles, segments, pitch]; 0 where they are not wanted.
    pub sums: u64,
    /// Pixels of an image.
    pub image: i32,
    /// [`segments`].
    pub segments: i32,
}

/// Images that a tile of so many pixels touches at most.
pub fn segments(rows: usize, image: usize) -> usize {
    (rows - 1) / image + 2
}

/// As `PoolArgs`.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// Stored [pixels, pitch].
    pub x: u64,
    /// The result.
    pub pool: Pool,
    /// Of all images.
    pub pixels: i32,
    /// Channels with padding.
    pub pitch: i32,
    /// Pixels of a tile.
    pub rows: i32,
    /// Padding.
    pub unused: i32,
}

/// Blocks.
pub fn grid(args: &Args) -> [u32; 3] {
    let (pixels, rows) = (args.pixels as usize, args.rows as usize);
    [blocks(pixels, rows), blocks(args.pitch as usize, THREADS as usize), 1]
}
