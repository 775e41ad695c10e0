//! Parts of arguments, as `epilogue.cuh` and `mainloop.cuh` declare them. Addresses are of the device; 0
//! leaves a part out.

use bytemuck::{Pod, Zeroable};

/// Stages of an epilogue that a value has passed.
pub mod stage {
    /// None.
    pub const START: usize = 0;
    /// The sum is complete.
    pub const SUM: usize = 1;
    /// Scaled, and bias and residual were added.
    pub const LINEAR: usize = 2;
    /// The activation was applied.
    pub const ACTIVATION: usize = 3;
    /// Multiplied by `factor`.
    pub const PRODUCT: usize = 4;
    /// `post` was added.
    pub const END: usize = 5;
}

/// The function after scale and bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// None.
    Identity = 0,
    /// max(x, 0); NaN stays.
    Relu = 1,
    /// 1 / (1 + exp(-x)).
    Sigmoid = 2,
}

/// out = activation(sum * scale + bias + residual) * factor + post.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Epilogue {
    /// f32 [pitch]; with it a bias.
    pub scale: u64,
    /// f32 [pitch].
    pub bias: u64,
    /// Stored [pixels, pitch].
    pub residual: u64,
    /// f32 [pixels, pitch].
    pub factor: u64,
    /// f32 [pixels of an image, pitch].
    pub post: u64,
    /// [pixels, pitch], stored or, where `wide`, f32.
    pub out: u64,
    /// f32 [pixels, pitch]: the value after each stage from SUM on.
    pub see: [u64; stage::END],
    /// Channels that count; the others become zeros.
    pub channels: i32,
    /// Channels with padding, a multiple of [`super::vector`].
    pub pitch: i32,
    /// Pixels of an image.
    pub image: i32,
    /// An [`Activation`].
    pub activation: i32,
    /// The stage that the value has passed already.
    pub from: i32,
    /// Whether `out` is f32.
    pub wide: i32,
}

/// One input of a convolution.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Source {
    /// Stored [images, height, width, pitch]; padded channels are finite.
    pub x: u64,
    /// Stored [outputs, kernel, kernel, pitch], zeros in padded channels.
    pub weights: u64,
    /// f32 [images, pitch], finite in padded channels.
    pub gate: u64,
    /// Of the map.
    pub height: i32,
    /// Of the map.
    pub width: i32,
    /// Channels with padding.
    pub pitch: i32,
    /// Side.
    pub kernel: i32,
    /// In both directions.
    pub stride: i32,
    /// On every side.
    pub padding: i32,
    /// kernel * kernel * pitch.
    pub depth: i32,
    /// Padding.
    pub unused: i32,
}

/// What a convolution computes.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Extent {
    /// Of all images.
    pub pixels: i32,
    /// Of one.
    pub height: i32,
    /// Of one.
    pub width: i32,
    /// Rows of the weights.
    pub outputs: i32,
}
