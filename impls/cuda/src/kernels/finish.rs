//! Sums in memory through an epilogue (`finish.cu`).

use bytemuck::{Pod, Zeroable};
use spec::Precision;

use super::args::Epilogue;
use super::{THREADS, blocks, vector};

/// As `FinishArgs`.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// f32 [splits, pixels, pitch].
    pub partial: u64,
    /// Summands.
    pub splits: i32,
    /// Of all images.
    pub pixels: i32,
    /// What becomes of the sums.
    pub epilogue: Epilogue,
}

/// Blocks.
pub fn grid(args: &Args, precision: Precision) -> [u32; 3] {
    let vectors = args.epilogue.pitch as usize / vector(precision);
    [blocks(args.pixels as usize * vectors, THREADS as usize), 1, 1]
}
