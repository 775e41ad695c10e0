//! The end of a channel-time learning block in one kernel (`ctl.cu`).

use bytemuck::{Pod, Zeroable};
use spec::Precision;

use super::args::{Epilogue, Extent, Source};
use super::tile::{CTL_TILES, Machine, Tile};
use super::{File, Variant, blocks};

/// As `CtlArgs`.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// 3x3 of the block's input.
    pub short: Source,
    /// 3x3 of the global branch.
    pub glo_out: Source,
    /// 1x1 of the gated input.
    pub temporal: Source,
    /// The result.
    pub extent: Extent,
    /// f32 [pitch].
    pub short_bias: u64,
    /// f32 [pitch].
    pub glo_out_bias: u64,
    /// What becomes of the sums.
    pub epilogue: Epilogue,
}

/// The kernel of a tile.
pub fn variant(precision: Precision, tile: Tile, gated: bool) -> Variant {
    Variant::tiled(File::Ctl, precision, tile, gated)
}

/// The tile with which the block is worth one kernel: there are blocks enough for every
/// multiprocessor. None where the depth had better be split.
pub fn tile(pixels: usize, outputs: usize, machine: Machine) -> Option<Tile> {
    CTL_TILES.into_iter().find(|tile| tile.blocks(pixels, outputs) >= machine.processors)
}

/// Blocks.
pub fn grid(args: &Args, tile: Tile) -> [u32; 3] {
    let (pixels, pitch) = (args.extent.pixels as usize, args.epilogue.pitch as usize);
    [blocks(pixels, tile.pixels), blocks(pitch, tile.outputs), 1]
}
