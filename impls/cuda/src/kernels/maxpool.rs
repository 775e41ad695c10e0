//! Max-pool 3x3 of stride 2 over max(x, 0) (`maxpool.cu`).

use bytemuck::{Pod, Zeroable};
use spec::Precision;

use super::args::Epilogue;
use super::{THREADS, blocks, vector};

/// As `MaxPoolArgs`.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// Stored [images, height, width, pitch].
    pub x: u64,
    /// Clips.
    pub images: i32,
    /// Of the input.
    pub height: i32,
    /// Of the input.
    pub width: i32,
    /// Of the result.
    pub out_height: i32,
    /// Of the result.
    pub out_width: i32,
    /// Padding.
    pub unused: i32,
    /// What becomes of the maxima; its pitch is the input's, too.
    pub epilogue: Epilogue,
}

/// Blocks.
pub fn grid(args: &Args, precision: Precision) -> [u32; 3] {
    let pixels = args.images as usize * args.out_height as usize * args.out_width as usize;
    [blocks(pixels * (args.epilogue.pitch as usize / vector(precision)), THREADS as usize), 1, 1]
}
