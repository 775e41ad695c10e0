//! Global average pool over a map, in one pass (`average_pool.cu`).

use bytemuck::{Pod, Zeroable};
use spec::Precision;

use super::fields::fields;
use super::{blocks, vector};

/// Bytes of shared memory for each thread: a vector of f32 sums, 8 values at most.
pub const SHARED_PER_THREAD: u32 = 32;

/// `LANES` of the kernel: vectors of channels that a block takes.
const LANES: usize = 8;

/// `AveragePoolArgs` of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// Stored [images, pixels, pitch].
    pub x: u64,
    /// f32 [images, pitch].
    pub out: u64,
    /// Pixels of one image.
    pub pixels: i32,
    /// Channels with padding.
    pub pitch: i32,
}

fields!(Args { x, out, pixels, pitch });

/// The grid for a number of images.
pub fn grid(args: &Args, images: usize, precision: Precision) -> [u32; 3] {
    [blocks(images, 1), blocks(args.pitch as usize, vector(precision) * LANES), 1]
}
