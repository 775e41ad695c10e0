//! Convolutions on sm_90a (`hopper_conv.cu`, `bands.cuh`).

use bytemuck::{Pod, Zeroable};
use spec::Precision;

use super::args::Epilogue;
use super::bands::{BandTile, Bands, Source, TensorMap};
use super::fields::fields;
use super::tile_sums::TileSums;
use super::{File, Variant};

/// Inputs that the kernel can have: those of a stride of 2.
pub const MAX_SOURCES: usize = 4;

/// `HopperConvArgs` of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// The inputs, whose convolutions are added.
    pub sources: [Source; MAX_SOURCES],
    /// Stored [pixels, pitch], in boxes of a warpgroup's part of a tile.
    pub out: TensorMap,
    /// The same for the residual; zeros where there is none.
    pub residual: TensorMap,
    /// The tiles.
    pub bands: Bands,
    /// How many of `sources` are used.
    pub source_count: i32,
    /// Whether there is a residual.
    pub has_residual: i32,
    /// f32 [pixels, pitch]: initial values of the sums.
    pub init: u64,
    /// f32 [pixels, pitch]: the sums, where the epilogue is left to `split_k_reduce.cu`.
    pub sums: u64,
    /// For the average pool over the result, in tiles of [`super::bands::SUM_PIXELS`]; only for a
    /// map without a border.
    pub tile_sums: TileSums,
    /// What happens to the sums: scale, bias, residual, activation and addend are supported.
    pub epilogue: Epilogue,
    /// Alignment.
    pub unused: u64,
    /// Halves the result; zeros where the variant does not.
    pub halving: Halving,
}

/// A depthwise 2x2 convolution with stride 2 of a result that is not stored.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Halving {
    /// f32 [4, pitch], the kernel's pixels in row-major order.
    pub weights: u64,
    /// Width of the result before it is halved.
    pub width: i32,
    /// Alignment.
    pub unused: i32,
    /// What happens to the sums; with the same pitch as the result.
    pub epilogue: Epilogue,
}

fields!(Halving { weights, width, unused, epilogue });

fields!(Args {
    sources,
    out,
    residual,
    bands,
    source_count,
    has_residual,
    init,
    sums,
    tile_sums,
    epilogue,
    unused,
    halving
});

/// The kernel for a tile.
pub fn variant(precision: Precision, tile: BandTile) -> Variant {
    Variant::in_bands(File::HopperConv, precision, tile)
}
