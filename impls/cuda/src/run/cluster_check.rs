//! Whether a sum that the blocks of a cluster share is right on a device: asked of every GPU that has
//! clusters, because some can run fewer blocks together than others.

#![allow(unsafe_code, reason = "launches a kernel on memory that it allocated")]

use bytemuck::Zeroable;
use spec::{EngineError, Precision};

use super::check::{round, upload, value, weight};
use crate::device::{Device, Launch, Memory};
use crate::kernels::args::{Epilogue, Extent, Source};
use crate::kernels::tile::{CLUSTERS, TILES, Tiling};
use crate::kernels::{conv, is_half};

/// Shape of a 1x1 convolution: two tiles, of which one is not whole, and a step of K or two for each block.
const PIXELS: usize = 40;
const CHANNELS: usize = 512;
const OUTPUTS: usize = 16;

/// Runs a small convolution with each size of clusters and compares its results with the right ones, bit by
/// bit. A launch that the device refuses is a wrong result.
pub fn clusters_are_right(
    device: &mut dyn Device,
    precision: Precision,
) -> Result<bool, EngineError> {
    let stored = |v: f64| match is_half(precision) {
        true => round(precision, v).to_le_bytes().to_vec(),
        false => (v as f32).to_le_bytes().to_vec(),
    };
    let x = upload(device, (0..PIXELS * CHANNELS).flat_map(|at| stored(value(at))))?;
    let rows = (0..OUTPUTS).flat_map(|o| (0..CHANNELS).map(move |c| weight(o, 0, c)));
    let weights = upload(device, rows.flat_map(stored))?;
    for splits in CLUSTERS {
        let out = upload(device, std::iter::repeat_n(f32::NAN, PIXELS * OUTPUTS))?;
        let launch = launch(device, precision, splits, [&x, &weights, &out])?;
        // SAFETY: the arguments name `x`, `weights` and `out`, which have the shapes that `conv::Args` documents and
        // outlive the read below. No stage is observed and no partial sum stored.
        let ran = unsafe { device.launch(&launch) };
        let mut got = vec![0f32; PIXELS * OUTPUTS];
        // SAFETY: `out` was allocated with the length of `got`.
        let read = unsafe { device.read(out.address, bytemuck::cast_slice_mut(&mut got)) };
        if ran.and(read).is_err() || got != wanted() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The right results [pixels, outputs]: sums of multiples of 1/64 that float32 holds.
fn wanted() -> Vec<f32> {
    let sum = |pixel: usize, output: usize| -> f64 {
        (0..CHANNELS).map(|c| value(pixel * CHANNELS + c) * weight(output, 0, c)).sum()
    };
    (0..PIXELS * OUTPUTS).map(|at| sum(at / OUTPUTS, at % OUTPUTS) as f32).collect()
}

fn launch(
    device: &mut dyn Device,
    precision: Precision,
    splits: usize,
    [x, weights, out]: [&Memory; 3],
) -> Result<Launch, EngineError> {
    let tile = TILES.into_iter().min_by_key(|tile| tile.pixels * tile.outputs);
    let tiling = Tiling { tile: tile.expect("there are tiles"), splits };
    let (pixels, channels, outputs) = (PIXELS as i32, CHANNELS as i32, OUTPUTS as i32);
    let source = Source {
        x: x.address,
        weights: weights.address,
        height: 1,
        width: pixels,
        pitch: channels,
        kernel: 1,
        stride: 1,
        k: channels,
        ..Source::zeroed()
    };
    let epilogue = Epilogue {
        out: out.address,
        channels: outputs,
        pitch: outputs,
        image_pixels: pixels,
        wide: 1,
        ..Epilogue::zeroed()
    };
    let args = conv::Args {
        sources: [source; 2],
        extent: Extent { pixels, height: 1, width: pixels, outputs },
        source_count: 1,
        splits: splits as i32,
        epilogue,
        ..conv::Args::zeroed()
    };
    let kernel = device.kernel(&conv::variant(precision, tiling, false))?;
    let (grid, cluster) = (conv::grid(&args, tiling), splits as u32);
    Ok(Launch { kernel, grid, cluster, args: bytemuck::bytes_of(&args).to_vec() })
}
