//! From the planes of the network's input to channels-last pixels (`import.cu`).

use bytemuck::{Pod, Zeroable};

use super::fields::fields;
use super::{THREADS, blocks};

/// `ImportArgs` of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// f32 [images, planes, pixels].
    pub clip: u64,
    /// Stored [images, height / group, width / group, group, group, pitch].
    pub out: u64,
    /// Number of images; a clip of frames counts as one.
    pub images: i32,
    /// Pixels of one image.
    pub pixels: i32,
    /// Planes of one image: 3 colours times the number of frames.
    pub planes: i32,
    /// Channels with padding.
    pub pitch: i32,
    /// Pixels in a row.
    pub width: i32,
    /// Side of the groups of pixels that lie together, 1 or 2; it divides height and width.
    pub group: i32,
}

fields!(Args { clip, out, images, pixels, planes, pitch, width, group });

/// The grid: pixels.
pub fn grid(args: &Args) -> [u32; 3] {
    [blocks(args.images as usize * args.pixels as usize, THREADS as usize), 1, 1]
}
