//! The end of a channel-time learning block in one kernel whose tiles are shared by the blocks of a cluster
//! (`ctl_cluster.cu`).

use bytemuck::{Pod, Zeroable};
use spec::Precision;

use super::args::{Epilogue, Extent, Source};
use super::fields::fields;
use super::tile::{CLUSTERS, CTL_TILES, Machine, Product, TILES, Tile, Tiling};
use super::{File, Variant, blocks};

/// `CtlClusterArgs` of the kernel.
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
    /// Blocks of a cluster, one of [`CLUSTERS`].
    pub splits: i32,
    /// Alignment.
    pub unused: i32,
    /// What happens to the sums.
    pub epilogue: Epilogue,
}

fields!(Args {
    short_conv,
    glo_out,
    temporal,
    extent,
    short_bias,
    glo_out_bias,
    splits,
    unused,
    epilogue
});

/// Tiles of the kernel.
const SHAPES: [Tile; 2] = [TILES[2], TILES[4]];

/// Bytes of shared memory of a block.
pub fn shared_bytes(tile: Tile) -> u32 {
    tile.slot_bytes() + 3 * tile.staged_bytes() + tile.place_bytes()
}

/// The tiles, with as many slots as fit into the shared memory of a block.
pub fn tiles(bytes: usize) -> impl Iterator<Item = Tile> {
    let fits = move |tile: &Tile| shared_bytes(*tile) as usize <= bytes;
    SHAPES.into_iter().filter_map(move |tile| tile.with_fewer_slots().find(fits))
}

/// The kernel for a tile; `gated` if the temporal convolution has a gate.
pub fn variant(precision: Precision, tile: Tile, gated: bool) -> Variant {
    Variant::tiled(File::CtlCluster, precision, tile, gated)
}

/// The tiling with the least estimated time for a result of so many pixels and outputs, the K of whose three
/// convolutions have so many steps; with one split for `ctl.cu`. None without clusters.
pub fn tiling(
    (pixels, outputs): (usize, usize),
    steps: [usize; 3],
    machine: Machine,
) -> Option<Tiling> {
    let bytes = machine.shared_bytes;
    let whole = CTL_TILES.into_iter().filter_map(|tile| tile.within(bytes));
    let whole = whole.map(|tile| Tiling { tile, splits: 1 });
    let shared = CLUSTERS
        .into_iter()
        .flat_map(|splits| tiles(bytes).map(move |tile| Tiling { tile, splits }));
    let all = whole.chain(shared).filter(|_| machine.clusters);
    all.min_by_key(|tiling| {
        // Each block has its part of each convolution.
        let of_block: usize = steps.iter().map(|steps| steps.div_ceil(tiling.splits)).sum();
        Product { pixels, outputs, steps: of_block * tiling.splits }.cost(*tiling, machine)
    })
}

/// The grid: tiles of pixels, tiles of outputs, splits of K.
pub fn grid(args: &Args, tile: Tile) -> [u32; 3] {
    let (pixels, pitch) = (args.extent.pixels as usize, args.epilogue.pitch as usize);
    [blocks(pixels, tile.pixels), blocks(pitch, tile.outputs), args.splits as u32]
}
