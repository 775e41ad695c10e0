//! A map multiplied by its gate (`scale.cu`).

use bytemuck::{Pod, Zeroable};
use spec::Precision;

use super::fields::fields;
use super::{THREADS, blocks, vector};

/// `ScaleArgs` of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// Stored [images, pixels, pitch].
    pub x: u64,
    /// f32 [images, pitch].
    pub gate: u64,
    /// Stored [images, pixels, pitch].
    pub out: u64,
    /// Number of images.
    pub images: i32,
    /// Pixels of one image.
    pub image_pixels: i32,
    /// Channels with padding.
    pub pitch: i32,
    /// Alignment.
    pub unused: i32,
}

fields!(Args { x, gate, out, images, image_pixels, pitch, unused });

/// The grid: one thread for each vector of the map.
pub fn grid(args: &Args, precision: Precision) -> [u32; 3] {
    let vectors = args.pitch as usize / vector(precision);
    [blocks(args.images as usize * args.image_pixels as usize * vectors, THREADS as usize), 1, 1]
}
