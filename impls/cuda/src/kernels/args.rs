//! The argument structs that several kernels share, with the layout that `epilogue.cuh` and
//! `loader.cuh` declare.
//!
//! Pointers are device addresses; 0 leaves a part out. "f32" is always float32; "stored" is the
//! storage format of the precision.

use bytemuck::{Pod, Zeroable};
use lower::Stage;

use super::fields::fields;

/// The activation of the fused block in bands: a sigmoid that is rounded to half precision. The
/// others are those of [`lower::Activation`]; `epilogue.cuh` has the same numbers.
pub const SIGMOID_HALF: i32 = 3;

/// out = activation(sum * scale + bias + residual) * factor + addend.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Epilogue {
    /// f32 `[pitch]`; requires a bias.
    pub scale: u64,
    /// f32 `[pitch]`.
    pub bias: u64,
    /// Stored [pixels, pitch].
    pub residual: u64,
    /// f32 [pixels, pitch].
    pub factor: u64,
    /// f32 [image_pixels, pitch]: the positional embedding.
    pub addend: u64,
    /// [pixels, pitch], stored, or f32 where `wide`.
    pub out: u64,
    /// f32 [pixels, pitch]: where the value after each stage, from SUM on, is copied for an
    /// observer.
    pub observed: [u64; Stage::OBSERVABLE.len()],
    /// Channels without padding; the kernel sets the others to zero.
    pub channels: i32,
    /// Channels with padding, a multiple of [`super::vector`].
    pub pitch: i32,
    /// Pixels of one image.
    pub image_pixels: i32,
    /// A [`lower::Activation`] or [`SIGMOID_HALF`].
    pub activation: i32,
    /// The [`Stage`] that the incoming value has passed already; `epilogue.cuh` has the same numbers.
    pub from_stage: i32,
    /// 1 where `out` is f32 whatever the precision, otherwise 0.
    pub wide: i32,
}

fields!(Epilogue {
    scale,
    bias,
    residual,
    factor,
    addend,
    out,
    observed,
    channels,
    pitch,
    image_pixels,
    activation,
    from_stage,
    wide
});

/// One input of a convolution.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Source {
    /// Stored [images, height, width, pitch]; padded channels must be finite.
    pub x: u64,
    /// Stored [outputs, kernel, kernel, pitch]; padded channels must be zeros.
    pub weights: u64,
    /// f32 [images, pitch], multiplies `x`; padded channels must be finite.
    pub gate: u64,
    /// Height of the input map.
    pub height: i32,
    /// Width of the input map.
    pub width: i32,
    /// Channels with padding.
    pub pitch: i32,
    /// Side of the kernel, 12 at most.
    pub kernel: i32,
    /// Stride in both directions.
    pub stride: i32,
    /// Zeros around the map on every side.
    pub padding: i32,
    /// Length of the reduction: kernel * kernel * pitch.
    pub k: i32,
    /// Alignment.
    pub unused: i32,
}

fields!(Source { x, weights, gate, height, width, pitch, kernel, stride, padding, k, unused });

/// Shape of the result of a convolution.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Extent {
    /// Pixels of all images.
    pub pixels: i32,
    /// Height of one image.
    pub height: i32,
    /// Width of one image.
    pub width: i32,
    /// Rows of the weights, which are the channels without padding.
    pub outputs: i32,
}

fields!(Extent { pixels, height, width, outputs });
