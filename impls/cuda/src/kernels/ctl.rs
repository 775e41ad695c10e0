//! The end of a channel-time learning block in one kernel (`ctl.cu`).

use bytemuck::{Pod, Zeroable};
use spec::Precision;

use super::args::{Epilogue, Extent, Source};
use super::fields::fields;
use super::tile::{CTL_TILES, Machine, Tile};
use super::{File, Variant, blocks};

/// `CtlArgs` of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// The short 3x3 convolution, of the block's input.
    pub short_conv: Source,
    /// The last 3x3 convolution of the global branch.
    pub glo_out: Source,
    /// The temporal 1x1 convolution, of the gated input.
    pub temporal: Source,
    /// Shape of the result.
    pub extent: Extent,
    /// f32 `[pitch]`.
    pub short_bias: u64,
    /// f32 `[pitch]`.
    pub glo_out_bias: u64,
    /// What happens to the sums.
    pub epilogue: Epilogue,
}

fields!(Args { short_conv, glo_out, temporal, extent, short_bias, glo_out_bias, epilogue });

/// The kernel for a tile; `gated` if the temporal convolution has a gate.
pub fn variant(precision: Precision, tile: Tile, gated: bool) -> Variant {
    Variant::tiled(File::Ctl, precision, tile, gated)
}

/// The largest tile that gives every multiprocessor a block. None where there is none: three
/// separate convolutions, whose K can be split, are then expected to be faster.
pub fn tile(pixels: usize, outputs: usize, machine: Machine) -> Option<Tile> {
    let mut tiles = CTL_TILES.into_iter().filter_map(|tile| tile.within(machine.shared_bytes));
    tiles.find(|tile| tile.blocks(pixels, outputs) >= machine.multiprocessors)
}

/// The grid: tiles of pixels, tiles of outputs.
pub fn grid(args: &Args, tile: Tile) -> [u32; 3] {
    let (pixels, pitch) = (args.extent.pixels as usize, args.epilogue.pitch as usize);
    [blocks(pixels, tile.pixels), blocks(pitch, tile.outputs), 1]
}
