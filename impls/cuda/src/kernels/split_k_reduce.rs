//! Adds the partial sums of a split-K convolution and applies the epilogue (`split_k_reduce.cu`).

use bytemuck::{Pod, Zeroable};
use spec::Precision;

use super::args::Epilogue;
use super::fields::fields;
use super::{THREADS, blocks, vector};

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
    /// What happens to the sums.
    pub epilogue: Epilogue,
}

fields!(Args { partial, splits, pixels, epilogue });

/// The grid: one thread for each vector of the result.
pub fn grid(args: &Args, precision: Precision) -> [u32; 3] {
    let vectors = args.epilogue.pitch as usize / vector(precision);
    [blocks(args.pixels as usize * vectors, THREADS as usize), 1, 1]
}
