//! Dense layers of the gate and the classifier, and the second pass of the average pool before them
//! (`dense.cu`).

use bytemuck::{Pod, Zeroable};
use spec::Precision;

use super::fields::fields;
use super::tile_sums::TileSums;
use super::{THREADS, blocks, vector};

/// Bytes of dynamic shared memory: 1024 inputs of 8 images at a time, or 8192 of one.
pub const SHARED_BYTES: u32 = 32 << 10;

/// The weights are padded to a multiple of this many outputs.
pub const OUTPUTS: usize = 32;

/// Images of a block and outputs of a block, the most first. The result has the same bits with both.
pub const BLOCKS: [(usize, usize); 2] = [(8, OUTPUTS), (1, 8)];

/// `DenseArgs` of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// f32 [images, in_pitch], zeros in padded channels; 0 for the means of the map whose tiles
    /// have the sums `tile_sums`.
    pub x: u64,
    /// Sums of tiles of `tile_pixels` pixels, where `x` is 0.
    pub tile_sums: TileSums,
    /// f32 [images, in_pitch]: where the means are stored; 0 for nowhere.
    pub means: u64,
    /// f32 [outputs rounded up to [`OUTPUTS`], in_pitch], zeros in padded channels and outputs.
    pub weights: u64,
    /// f32 `[outputs]`, or 0.
    pub scale: u64,
    /// f32 `[outputs]`, or 0.
    pub bias: u64,
    /// f32 [images, out_pitch]; 0 for nowhere.
    pub out: u64,
    /// f32 [images, out_pitch] each: where the values after LINEAR and after ACTIVATION are copied
    /// for an observer.
    pub observed: [u64; 2],
    /// Stored [images, map_pixels, out_pitch]: a map that is multiplied by the result; 0 for none.
    pub map: u64,
    /// The product, stored like the map.
    pub product: u64,
    /// Number of images.
    pub images: i32,
    /// Input channels with padding, a multiple of 4.
    pub in_pitch: i32,
    /// Output channels without padding; 0 where only the means are wanted.
    pub outputs: i32,
    /// Output channels with padding.
    pub out_pitch: i32,
    /// A [`lower::Activation`].
    pub activation: i32,
    /// Images of a block, from [`block_images`].
    pub block_images: i32,
    /// Pixels of a tile.
    pub tile_pixels: i32,
    /// Pixels of an image of `map`.
    pub map_pixels: i32,
    /// Blocks that share the pixels of `map`, from [`parts`].
    pub parts: i32,
    /// Alignment.
    pub unused: i32,
}

fields!(Args {
    x,
    tile_sums,
    means,
    weights,
    scale,
    bias,
    out,
    observed,
    map,
    product,
    images,
    in_pitch,
    outputs,
    out_pitch,
    activation,
    block_images,
    tile_pixels,
    map_pixels,
    parts,
    unused
});

/// Groups of outputs and of images.
fn groups((images, outputs): (usize, usize), args: &Args) -> [u32; 2] {
    [blocks(args.out_pitch.max(1) as usize, outputs), blocks(args.images as usize, images)]
}

/// The most images of a block with which a quarter of the multiprocessors still get a block: a block
/// of many images reads the weights less often.
pub fn block_images(args: &Args, multiprocessors: usize) -> i32 {
    let enough = |size: &(usize, usize)| {
        let [outputs, images] = groups(*size, args);
        4 * outputs as usize * images as usize >= multiprocessors
    };
    BLOCKS.iter().find(|size| enough(size)).map_or(1, |(images, _)| *images as i32)
}

/// Images and outputs of a block.
fn size(args: &Args) -> (usize, usize) {
    let size = BLOCKS.iter().find(|(images, _)| *images == args.block_images as usize);
    *size.expect("`block_images` is one of BLOCKS")
}

/// Among how many blocks the pixels of `map` are divided, so that a thread multiplies two vectors, unless there
/// are then more than four blocks for each multiprocessor.
pub fn parts(args: &Args, precision: Precision, multiprocessors: usize) -> i32 {
    let (images, outputs) = size(args);
    let vectors = images * args.map_pixels as usize * outputs / vector(precision);
    let groups: usize = groups((images, outputs), args).iter().map(|&n| n as usize).product();
    let most = (4 * multiprocessors).div_ceil(groups.max(1));
    vectors.div_ceil(2 * THREADS as usize).clamp(1, most) as i32
}

/// The grid: groups of outputs, groups of images, parts of the map.
pub fn grid(args: &Args) -> [u32; 3] {
    let [outputs, images] = groups(size(args), args);
    [outputs, images, args.parts.max(1) as u32]
}
