//! Dense layers of the gate and the classifier (`dense.cu`).

use bytemuck::{Pod, Zeroable};

use super::blocks;
use super::fields::fields;

/// Outputs of a block: one for each warp.
const OUTPUTS: usize = 8;

/// `IMAGES` of the kernel: images that a warp computes together.
const IMAGES: usize = 16;

/// `DenseArgs` of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// f32 [images, in_pitch].
    pub x: u64,
    /// f32 [outputs, inputs].
    pub weights: u64,
    /// f32 `[outputs]`, or 0.
    pub scale: u64,
    /// f32 `[outputs]`, or 0.
    pub bias: u64,
    /// f32 [images, out_pitch].
    pub out: u64,
    /// f32 [images, out_pitch] each: where the values after LINEAR and after ACTIVATION are copied
    /// for an observer.
    pub observed: [u64; 2],
    /// Number of images.
    pub images: i32,
    /// Input channels without padding.
    pub inputs: i32,
    /// Input channels with padding.
    pub in_pitch: i32,
    /// Output channels without padding.
    pub outputs: i32,
    /// Output channels with padding.
    pub out_pitch: i32,
    /// A [`lower::Activation`].
    pub activation: i32,
}

fields!(Args {
    x,
    weights,
    scale,
    bias,
    out,
    observed,
    images,
    inputs,
    in_pitch,
    outputs,
    out_pitch,
    activation
});

/// The grid: groups of outputs, groups of images.
pub fn grid(args: &Args) -> [u32; 3] {
    [blocks(args.out_pitch as usize, OUTPUTS), blocks(args.images as usize, IMAGES), 1]
}
