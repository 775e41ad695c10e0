//! ReLU and 3x3 max-pool with stride 2 (`maxpool.cu`).

use bytemuck::{Pod, Zeroable};
use spec::Precision;

use super::args::Epilogue;
use super::fields::fields;
use super::{THREADS, blocks, vector};

/// `MaxPoolArgs` of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// Stored [images, height, width, pitch].
    pub x: u64,
    /// Number of images.
    pub images: i32,
    /// Height of the input.
    pub height: i32,
    /// Width of the input.
    pub width: i32,
    /// Height of the result.
    pub out_height: i32,
    /// Width of the result.
    pub out_width: i32,
    /// Alignment.
    pub unused: i32,
    /// What happens to the maxima; the input has the same pitch.
    pub epilogue: Epilogue,
}

fields!(Args { x, images, height, width, out_height, out_width, unused, epilogue });

/// The grid: one thread for each vector of the result.
pub fn grid(args: &Args, precision: Precision) -> [u32; 3] {
    let pixels = args.images as usize * args.out_height as usize * args.out_width as usize;
    [blocks(pixels * (args.epilogue.pitch as usize / vector(precision)), THREADS as usize), 1, 1]
}
