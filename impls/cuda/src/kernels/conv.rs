//! Convolutions: implicit GEMM (`conv.cu`, `mainloop.cuh`).

use bytemuck::{Pod, Zeroable};
use spec::Precision;

use super::args::{Epilogue, Extent, Source};
use super::pool::Pool;
use super::tile::Cut;
use super::{File, Variant, blocks};

/// As `ConvArgs`.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// Inputs; their products are added.
    pub sources: [Source; 2],
    /// The result.
    pub extent: Extent,
    /// f32 [pixels, pitch]: sums to begin with.
    pub init: u64,
    /// f32 [splits, pixels, pitch], where the depth is split.
    pub partial: u64,
    /// Inputs that count.
    pub count: i32,
    /// Blocks that share each sum; the epilogue is then left to `finish.cu`.
    pub splits: i32,
    /// For the mean over the result, in tiles of the cut; not where the depth is split.
    pub pool: Pool,
    /// What becomes of the sums.
    pub epilogue: Epilogue,
}

/// The kernel for a cut.
pub fn variant(precision: Precision, cut: Cut, gated: bool) -> Variant {
    Variant::tiled(File::Conv, precision, cut.tile, gated)
}

/// Blocks.
pub fn grid(args: &Args, cut: Cut) -> [u32; 3] {
    let (pixels, pitch) = (args.extent.pixels as usize, args.epilogue.pitch as usize);
    [blocks(pixels, cut.tile.pixels), blocks(pitch, cut.tile.outputs), cut.splits as u32]
}
