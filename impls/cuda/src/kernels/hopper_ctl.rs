//! The end of a channel-time learning block in one kernel on sm_90a (`hopper_ctl.cu`).

use bytemuck::{Pod, Zeroable};
use spec::Precision;

use super::args::Epilogue;
use super::bands::{BandTile, Bands, Source, TensorMap};
use super::fields::fields;
use super::{File, Variant};

/// `HopperCtlArgs` of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// The last 3x3 convolution of the global branch, the short 3x3 convolution, and the temporal
    /// 1x1 convolution of the gated input.
    pub sources: [Source; 3],
    /// Stored [pixels, pitch], in boxes of a warpgroup's part of a tile.
    pub out: TensorMap,
    /// The same for the residual; zeros where there is none.
    pub residual: TensorMap,
    /// The tiles.
    pub bands: Bands,
    /// Whether there is a residual.
    pub has_residual: i32,
    /// Alignment.
    pub unused_int: i32,
    /// f32 `[pitch]`.
    pub short_bias: u64,
    /// f32 `[pitch]`.
    pub glo_out_bias: u64,
    /// What happens to the sums: scale, bias, activation.
    pub epilogue: Epilogue,
    /// Alignment.
    pub unused: [u64; 3],
}

fields!(Args {
    sources,
    out,
    residual,
    bands,
    has_residual,
    unused_int,
    short_bias,
    glo_out_bias,
    epilogue,
    unused
});

/// The kernel for a tile.
pub fn variant(precision: Precision, tile: BandTile) -> Variant {
    Variant::in_bands(File::HopperCtl, precision, tile)
}
