//! The mean from sums over tiles (`combine.cu`).

use bytemuck::{Pod, Zeroable};

use super::pool::Pool;
use super::{THREADS, blocks};

/// As `CombineArgs`.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// The sums.
    pub pool: Pool,
    /// f32 [images, pitch].
    pub out: u64,
    /// Channels with padding.
    pub pitch: i32,
    /// Pixels of a tile.
    pub rows: i32,
}

/// Blocks for so many images.
pub fn grid(args: &Args, images: usize) -> [u32; 3] {
    [blocks(images, 1), blocks(args.pitch as usize, THREADS as usize), 1]
}
