//! The end of a channel-time learning block in one kernel whose tiles are shared by the blocks of a cluster
//! (`ctl_cluster.cu`).

use bytemuck::{Pod, Zeroable};
use spec::Precision;

use super::fields::fields;
use super::tile::{CLUSTERS, CTL_TILES, Machine, Product, TILES, Tile, Tiling};
use super::{File, Variant, ctl};

/// `CtlClusterArgs` of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// The convolutions, and what happens to their sums.
    pub block: ctl::Args,
    /// Blocks of a cluster, one of [`CLUSTERS`].
    pub splits: i32,
    /// Alignment.
    pub unused: i32,
}

fields!(Args { block, splits, unused });

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

/// The tiling with the least estimated time, given the pixels and outputs of the result and the steps of K in each of
/// the three convolutions. With one split it is a tiling of `ctl.cu`. None if the GPU has no clusters.
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
    let [pixels, outputs, _] = ctl::grid(&args.block, tile);
    [pixels, outputs, args.splits as u32]
}
