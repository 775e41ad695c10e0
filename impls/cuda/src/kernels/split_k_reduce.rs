//! Adds the partial sums of a split-K convolution and applies the epilogue (`split_k_reduce.cu`).

use bytemuck::{Pod, Zeroable};
use spec::Precision;

use super::args::Epilogue;
use super::fields::fields;
use super::tile_sums::TileSums;
use super::{THREADS, blocks, vector};

/// Bytes of shared memory for each thread: a vector of f32 values, 8 at most.
pub const SHARED_PER_THREAD: u32 = 32;

/// `SplitKReduceArgs` of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// f32 [splits, pixels, pitch].
    pub partial: u64,
    /// Partial sums of each output; 1 where an epilogue only continues.
    pub splits: i32,
    /// Pixels of all images.
    pub pixels: i32,
    /// For the average pool over the result, in tiles of [`tile_pixels`].
    pub tile_sums: TileSums,
    /// What happens to the sums.
    pub epilogue: Epilogue,
}

fields!(Args { partial, splits, pixels, tile_sums, epilogue });

/// The pixels whose sum a block can make; None where a block is not a number of whole pixels.
pub fn tile_pixels(pitch: usize, precision: Precision) -> Option<usize> {
    let (threads, vectors) = (THREADS as usize, pitch / vector(precision));
    threads.is_multiple_of(vectors).then_some(threads / vectors)
}

/// The grid: one thread for each vector of the result.
pub fn grid(args: &Args, precision: Precision) -> [u32; 3] {
    let vectors = args.epilogue.pitch as usize / vector(precision);
    [blocks(args.pixels as usize * vectors, THREADS as usize), 1, 1]
}
