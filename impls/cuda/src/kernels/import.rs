//! The clip to channels-last pixels (`import.cu`).

use bytemuck::{Pod, Zeroable};
use spec::Precision;

use super::{THREADS, blocks, vector};

/// As `ImportArgs`.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// f32 [images, planes, pixels].
    pub clip: u64,
    /// Stored [images, pixels, pitch].
    pub out: u64,
    /// Clips.
    pub images: i32,
    /// Of one.
    pub pixels: i32,
    /// 3 T.
    pub planes: i32,
    /// Channels with padding.
    pub pitch: i32,
}

/// Blocks.
pub fn grid(args: &Args, precision: Precision) -> [u32; 3] {
    let pixels = args.images as usize * args.pixels as usize;
    [blocks(pixels, THREADS as usize), blocks(args.pitch as usize, vector(precision)), 1]
}
