//! From decoded frames to the network's input (`normalize.cu`).

use bytemuck::{Pod, Zeroable};

use super::fields::fields;
use super::{THREADS, blocks};

/// `NormalizeArgs` of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// Bytes [images, frames, pixels, 3].
    pub rgb: u64,
    /// f32 [images, 3, frames, pixels].
    pub clip: u64,
    /// Mean of red, green and blue, from 0 to 255.
    pub mean: [f32; 3],
    /// Standard deviation of red, green and blue, from 0 to 255.
    pub std: [f32; 3],
    /// Number of clips.
    pub images: i32,
    /// Frames of one clip.
    pub frames: i32,
    /// Pixels of one frame.
    pub pixels: i32,
    /// Alignment.
    pub unused: i32,
}

fields!(Args { rgb, clip, mean, std, images, frames, pixels, unused });

/// The grid: one thread for each pixel of each frame.
pub fn grid(args: &Args) -> [u32; 3] {
    let pixels = args.images as usize * args.frames as usize * args.pixels as usize;
    [blocks(pixels, THREADS as usize), 1, 1]
}
