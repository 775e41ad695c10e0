//! Decoded frames to the network's input (`normalize.cu`).

use bytemuck::{Pod, Zeroable};

use super::{THREADS, blocks};

/// As `NormalizeArgs`.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// Bytes [images, frames, pixels, 3].
    pub rgb: u64,
    /// f32 [images, 3, frames, pixels].
    pub clip: u64,
    /// Of red, green, blue.
    pub mean: [f32; 3],
    /// Of red, green, blue.
    pub std: [f32; 3],
    /// Clips.
    pub images: i32,
    /// Of one.
    pub frames: i32,
    /// Of a frame.
    pub pixels: i32,
    /// Padding.
    pub unused: i32,
}

/// Blocks.
pub fn grid(args: &Args) -> [u32; 3] {
    let pixels = args.images as usize * args.frames as usize * args.pixels as usize;
    [blocks(pixels, THREADS as usize), 1, 1]
}
