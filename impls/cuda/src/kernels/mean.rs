//! The mean over a map (`mean.cu`).

use bytemuck::{Pod, Zeroable};
use spec::Precision;

use super::{blocks, vector};

/// Bytes of shared memory for each thread: a vector of sums, at its widest.
pub const SHARED_PER_THREAD: u32 = 32;

/// Vectors of channels that a block takes.
const LANES: usize = 8;

/// As `MeanArgs`.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// Stored [images, pixels, pitch].
    pub x: u64,
    /// f32 [images, pitch].
    pub out: u64,
    /// Of one image.
    pub pixels: i32,
    /// Channels with padding.
    pub pitch: i32,
}

/// Blocks for so many images.
pub fn grid(args: &Args, images: usize, precision: Precision) -> [u32; 3] {
    [blocks(images, 1), blocks(args.pitch as usize, vector(precision) * LANES), 1]
}
