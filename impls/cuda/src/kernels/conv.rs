//! Convolutions as implicit GEMM (`conv.cu`, `mainloop.cuh`, `loader.cuh`).

use bytemuck::{Pod, Zeroable};
use spec::Precision;

use super::args::{Epilogue, Extent, Source};
use super::fields::fields;
use super::tile::Tiling;
use super::tile_sums::TileSums;
use super::{File, Variant, blocks};

/// `ConvArgs` of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// The inputs, whose convolutions are added.
    pub sources: [Source; 2],
    /// Shape of the result.
    pub extent: Extent,
    /// f32 [pixels, pitch]: initial values of the sums.
    pub init: u64,
    /// f32 [splits, pixels, pitch]: the partial sums where K is split; 0 where the blocks of a tile are a cluster.
    pub partial: u64,
    /// How many of `sources` are used, 1 or 2.
    pub source_count: i32,
    /// Blocks that share each sum. With `partial`, the epilogue is left to `split_k_reduce.cu`.
    pub splits: i32,
    /// For the average pool over the result, in tiles of [`Tiling::tile`], or in a cluster of the share of a block;
    /// not used with `partial`.
    pub tile_sums: TileSums,
    /// What happens to the sums.
    pub epilogue: Epilogue,
}

fields!(Args { sources, extent, init, partial, source_count, splits, tile_sums, epilogue });

/// The kernel for a tiling; `gated` if any source has a gate.
pub fn variant(precision: Precision, tiling: Tiling, gated: bool) -> Variant {
    Variant::tiled(File::Conv, precision, tiling.tile, gated)
}

/// The grid: tiles of pixels, tiles of outputs, splits of K.
pub fn grid(args: &Args, tiling: Tiling) -> [u32; 3] {
    let (pixels, pitch) = (args.extent.pixels as usize, args.epilogue.pitch as usize);
    let Tiling { tile, splits } = tiling;
    [blocks(pixels, tile.pixels), blocks(pitch, tile.outputs), splits as u32]
}
