//! Dense layers: the gate and the classifier (`dense.cu`).

use bytemuck::{Pod, Zeroable};

use super::blocks;

/// Outputs of a block: one for each warp.
const OUTPUTS: usize = 8;

/// Images that a warp takes at a time.
const IMAGES: usize = 4;

/// As `DenseArgs`.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// f32 [images, in_pitch].
    pub x: u64,
    /// f32 [outputs, inputs].
    pub weights: u64,
    /// f32 [outputs].
    pub scale: u64,
    /// f32 [outputs].
    pub bias: u64,
    /// f32 [images, out_pitch].
    pub out: u64,
    /// f32 [images, out_pitch]: the value after LINEAR and after ACTIVATION.
    pub see: [u64; 2],
    /// Clips.
    pub images: i32,
    /// Channels that count.
    pub inputs: i32,
    /// With padding.
    pub in_pitch: i32,
    /// Channels that count.
    pub outputs: i32,
    /// With padding.
    pub out_pitch: i32,
    /// An activation.
    pub activation: i32,
}

/// Blocks.
pub fn grid(args: &Args) -> [u32; 3] {
    [blocks(args.out_pitch as usize, OUTPUTS), blocks(args.images as usize, IMAGES), 1]
}
