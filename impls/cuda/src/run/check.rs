//! Whether convolutions in bands give the right numbers on a device: asked of every GPU before an
//! engine uses them there, because their kernels depend on properties of Hopper that no other GPU
//! has (`bands.cuh`).

#![allow(unsafe_code, reason = "launches a kernel on memory that it allocated")]

use bytemuck::Zeroable;
use half::{bf16, f16};
use spec::{EngineError, Precision};

use crate::device::{Device, Launch, Memory, failed};
use crate::kernels::args::Epilogue;
use crate::kernels::bands::{Division, Place, Product, Source};
use crate::kernels::tile::BandSupport;
use crate::kernels::windows::{Shape, Window};
use crate::kernels::{hopper_conv, is_half};

/// A convolution of two images: two chunks of channels, of which the second is not whole, and two
/// tiles of outputs.
const IMAGES: usize = 2;
const SIZE: (usize, usize) = (13, 11);
const CHANNELS: usize = 72;
const OUTPUTS: usize = 72;

/// Multiples of 1/8 in [-1, 1], which every format holds. Sums of their products are exact in
/// float32, in whatever order they are added.
fn value(at: usize) -> f64 {
    let mixed = (at as u32 + 1).wrapping_mul(0x9e37_79b9);
    f64::from((mixed >> 16) % 17) / 8.0 - 1.0
}

fn round(precision: Precision, value: f64) -> u16 {
    match precision {
        Precision::Bf16 => bf16::from_f64(value).to_bits(),
        _ => f16::from_f64(value).to_bits(),
    }
}

/// The weight of an output for a pixel of the window and a channel.
fn weight(output: usize, pixel: usize, channel: usize) -> f64 {
    value(1_000_003 * output + 131 * pixel + channel)
}

/// The right results [images, height, width, outputs], rounded once.
fn wanted(precision: Precision, window: usize) -> Vec<u16> {
    let (height, width) = SIZE;
    let pixel = |at: usize, output: usize| {
        let (image, y, x) = (at / (height * width), at / width % height, at % width);
        let mut sum = 0.0;
        for offset in 0..window * window {
            // With the border of zeros, which is `window / 2` wide.
            let border = window / 2;
            let (row, column) = (y + offset / window, x + offset % window);
            if row < border || column < border || row >= height + border || column >= width + border
            {
                continue;
            }
            let from = ((image * height + row - border) * width + column - border) * CHANNELS;
            sum += (0..CHANNELS).map(|c| value(from + c) * weight(output, offset, c)).sum::<f64>();
        }
        round(precision, sum)
    };
    let pixels = IMAGES * height * width;
    (0..pixels)
        .flat_map(|at| (0..OUTPUTS).map(move |o| (at, o)))
        .map(|(at, o)| pixel(at, o))
        .collect()
}

fn upload(
    device: &mut dyn Device,
    values: impl Iterator<Item = u16>,
) -> Result<Memory, EngineError> {
    let values: Vec<u16> = values.collect();
    let memory = device.alloc(values.len() * size_of::<u16>())?;
    // SAFETY: `memory` was allocated with the length of `values`.
    unsafe { device.write(memory.address, bytemuck::cast_slice(&values))? };
    Ok(memory)
}

/// Runs a small convolution with a window of this side in bands and compares its results with the
/// right ones, bit by bit. Fails if the device does not end it; on a GPU nothing else runs after that
/// in this process.
pub fn bands_are_right(
    device: &mut dyn Device,
    precision: Precision,
    window: usize,
) -> Result<bool, EngineError> {
    let shape = Shape { channels: CHANNELS, kernel: window, stride: 1 };
    let division = Product::new(IMAGES, SIZE, OUTPUTS, &[shape])
        .division(device.machine())
        .ok_or_else(|| failed("internal error: a small convolution does not fit into bands"))?;
    let pixels = IMAGES * SIZE.0 * SIZE.1;
    let x = upload(device, (0..pixels * CHANNELS).map(|at| round(precision, value(at))))?;
    let rows = (0..OUTPUTS).flat_map(|o| {
        let exists = |c| c < CHANNELS;
        let positions = shape.windows().flat_map(Window::positions);
        positions.map(move |(pixel, c)| if exists(c) { weight(o, pixel, c) } else { 0.0 })
    });
    let weights = upload(device, rows.map(|v| round(precision, v)))?;
    let out = upload(device, std::iter::repeat_n(0xffff, pixels * OUTPUTS))?;
    launch(device, (precision, shape), &division, [&x, &weights, &out])?;
    let mut got = vec![0u16; pixels * OUTPUTS];
    // SAFETY: `out` was allocated with the length of `got`.
    unsafe { device.read(out.address, bytemuck::cast_slice_mut(&mut got))? };
    Ok(got == wanted(precision, window))
}

/// What of the bands that a device supports is right there: all, 1x1 convolutions, or nothing. Fails as
/// [`bands_are_right`] does.
pub fn right_bands(
    device: &mut dyn Device,
    precision: Precision,
) -> Result<BandSupport, EngineError> {
    let mut support = device.machine().bands;
    for (kind, window, rest) in
        [(BandSupport::Shifted, 3, BandSupport::Flat), (BandSupport::Flat, 1, BandSupport::Off)]
    {
        if is_half(precision) && support >= kind && !bands_are_right(device, precision, window)? {
            support = rest;
        }
    }
    Ok(support)
}

fn launch(
    device: &mut dyn Device,
    (precision, shape): (Precision, Shape),
    division: &Division,
    [x, weights, out]: [&Memory; 3],
) -> Result<(), EngineError> {
    let (pixels, weights) = (x.address, weights.address);
    let mut sources = [Source::zeroed(); hopper_conv::MAX_SOURCES];
    let place = Place { pixels, weights, outputs: OUTPUTS, shape, gate: (0, 0) };
    sources[0] = division.sources(device, place)?[0];
    let epilogue = Epilogue {
        channels: OUTPUTS as i32,
        pitch: OUTPUTS as i32,
        image_pixels: (SIZE.0 * SIZE.1) as i32,
        ..Epilogue::zeroed()
    };
    let args = hopper_conv::Args {
        sources,
        out: device.tensor_map(&division.tensor(out.address, OUTPUTS, true))?,
        bands: division.bands,
        source_count: 1,
        epilogue,
        ..hopper_conv::Args::zeroed()
    };
    let kernel = device.kernel(&hopper_conv::variant(precision, division.tile))?;
    let args = bytemuck::bytes_of(&args).to_vec();
    // One block works through all tiles.
    // SAFETY: the maps in `args` are those of `x`, `weights` and `out`, which have the shapes that
    // `Args` documents and outlive the read that follows.
    unsafe { device.launch(&Launch { kernel, grid: [1, 1, 1], args }) }
}
