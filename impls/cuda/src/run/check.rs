//! Whether convolutions in bands give the right numbers on a device: asked of every GPU before an
//! engine uses them there, because their kernels depend on properties of Hopper that no other GPU
//! has (`bands.cuh`).

#![allow(unsafe_code, reason = "launches a kernel on memory that it allocated")]

use bytemuck::Zeroable;
use half::{bf16, f16};
use spec::{EngineError, Precision};

use crate::device::{Device, Launch, Memory, failed};
use crate::kernels::args::Epilogue;
use crate::kernels::bands::{BandTile, Division, Place, Product, Source};
use crate::kernels::tile::BandSupport;
use crate::kernels::windows::Shape;
use crate::kernels::{Variant, hopper_conv, hopper_stem, is_half};

/// A small convolution of two images whose results are known.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// Channels of the map. With two chunks, or three bands of planes, of which the last is not whole.
    pub channels: usize,
    /// Side of the window.
    pub kernel: usize,
    /// Stride; the map is as many times larger than the result.
    pub stride: usize,
    /// Whether the map is multiplied by a gate in its bands.
    pub gated: bool,
    /// Channels of the result.
    pub outputs: usize,
}

const IMAGES: usize = 2;
const SIZE: (usize, usize) = (13, 11);

/// Multiples of 1/8 in [-1, 1], which every format holds. Sums of their products are exact in
/// float32, in whatever order they are added, also after a gate.
pub(super) fn value(at: usize) -> f64 {
    let mixed = (at as u32 + 1).wrapping_mul(0x9e37_79b9);
    f64::from((mixed >> 16) % 17) / 8.0 - 1.0
}

pub(super) fn round(precision: Precision, value: f64) -> u16 {
    match precision {
        Precision::Bf16 => bf16::from_f64(value).to_bits(),
        _ => f16::from_f64(value).to_bits(),
    }
}

/// The weight of an output for a pixel of the window and a channel.
pub(super) fn weight(output: usize, pixel: usize, channel: usize) -> f64 {
    value(1_000_003 * output + 131 * pixel + channel)
}

impl Trial {
    fn shape(self) -> Shape {
        Shape { channels: self.channels, kernel: self.kernel, stride: self.stride }
    }

    /// Height and width of the map.
    fn size(self) -> (usize, usize) {
        (SIZE.0 * self.stride, SIZE.1 * self.stride)
    }

    /// A power of two for each image and channel.
    fn gate(self, image: usize, channel: usize) -> f64 {
        if self.gated { [0.5, 1.0, 2.0][(5 * image + channel) % 3] } else { 1.0 }
    }

    /// The place of a pixel of the map in its usual order, from its place among groups of pixels.
    fn pixel(self, at: usize) -> usize {
        let (_, width) = self.size();
        let (group, within) = (at / (self.stride * self.stride), at % (self.stride * self.stride));
        let (line, column) = (group / SIZE.1, group % SIZE.1);
        let (y, x) = (within / self.stride, within % self.stride);
        (line * self.stride + y) * width + column * self.stride + x
    }

    /// The values of the map as it is stored.
    fn map(self) -> impl Iterator<Item = f64> {
        let (size, channels) = (self.size(), self.shape().channels);
        (0..IMAGES * size.0 * size.1)
            .flat_map(move |at| (0..channels).map(move |c| value(self.pixel(at) * channels + c)))
    }

    /// The values of the map as planes [images, channels, height, width].
    fn planes(self) -> impl Iterator<Item = f64> {
        let (pixels, channels) = (self.size().0 * self.size().1, self.channels);
        (0..IMAGES * channels).flat_map(move |plane| {
            let (image, c) = (plane / channels, plane % channels);
            (0..pixels).map(move |at| value((image * pixels + at) * channels + c))
        })
    }

    /// The right results [images, height, width, outputs], rounded once.
    fn wanted(self, precision: Precision) -> Vec<u16> {
        let ((height, width), (rows, columns)) = (SIZE, self.size());
        let (channels, border) = (self.shape().channels, self.kernel / 2);
        let pixel = |at: usize, output: usize| {
            let (image, y, x) = (at / (height * width), at / width % height, at % width);
            let mut sum = 0.0;
            for offset in 0..self.kernel * self.kernel {
                // With the border of zeros.
                let row = y * self.stride + offset / self.kernel;
                let column = x * self.stride + offset % self.kernel;
                let outside = |at: usize, size: usize| at < border || at >= size + border;
                if outside(row, rows) || outside(column, columns) {
                    continue;
                }
                let from = (image * rows + row - border) * columns + column - border;
                let term = |c: usize| {
                    value(from * channels + c) * self.gate(image, c) * weight(output, offset, c)
                };
                sum += (0..channels).map(term).sum::<f64>();
            }
            round(precision, sum)
        };
        (0..IMAGES * height * width)
            .flat_map(|at| (0..self.outputs).map(move |o| (at, o)))
            .map(|(at, o)| pixel(at, o))
            .collect()
    }
}

/// Allocates memory that holds values.
pub(super) fn upload<T: bytemuck::NoUninit>(
    device: &mut dyn Device,
    values: impl Iterator<Item = T>,
) -> Result<Memory, EngineError> {
    let values: Vec<T> = values.collect();
    let memory = device.alloc(size_of_val(&values[..]))?;
    // SAFETY: `memory` was allocated with the length of `values`.
    unsafe { device.write(memory.address, bytemuck::cast_slice(&values))? };
    Ok(memory)
}

/// Runs a small convolution in bands and compares its results with the right ones, bit by bit. Fails
/// if the device does not end it; on a GPU nothing else runs after that in this process.
pub fn bands_are_right(
    device: &mut dyn Device,
    precision: Precision,
    trial: Trial,
) -> Result<bool, EngineError> {
    let (shape, outputs) = (trial.shape(), trial.outputs);
    let division = Product::new(IMAGES, SIZE, outputs, &[shape])
        .division(device.machine())
        .ok_or_else(|| failed("internal error: a small convolution does not fit into bands"))?;
    let x = upload(device, trial.map().map(|v| round(precision, v)))?;
    let rows = shape.windows().flat_map(|window| {
        let exists = |c| c < shape.channels;
        (0..outputs).flat_map(move |o| {
            let value = move |(pixel, c)| if exists(c) { weight(o, pixel, c) } else { 0.0 };
            window.positions().map(value)
        })
    });
    let weights = upload(device, rows.map(|v| round(precision, v)))?;
    let gates = (0..IMAGES * shape.channels)
        .map(|at| trial.gate(at / shape.channels, at % shape.channels) as f32);
    let gate = upload(device, gates)?;
    let out = upload(device, std::iter::repeat_n(0xffffu16, IMAGES * SIZE.0 * SIZE.1 * outputs))?;
    launch(device, (precision, trial), &division, [&x, &weights, &gate, &out])?;
    is_right(device, precision, trial, &out)
}

/// The same for the stem that reads planes.
pub fn planes_are_right(
    device: &mut dyn Device,
    precision: Precision,
) -> Result<bool, EngineError> {
    let (trial, pixels) = (PLANES, IMAGES * SIZE.0 * SIZE.1);
    let clip = upload(device, trial.planes().map(|v| v as f32))?;
    let exists = |c: usize| c < trial.channels;
    let rows = (0..trial.outputs).flat_map(|o| {
        let value = move |(c, pixel)| if exists(c) { weight(o, pixel, c) } else { 0.0 };
        hopper_stem::positions(trial.channels).map(value)
    });
    let weights = upload(device, rows.map(|v| round(precision, v)))?;
    device.freeze(&weights)?;
    let out = upload(device, std::iter::repeat_n(0xffffu16, pixels * trial.outputs))?;
    let division = hopper_stem::Division::new(IMAGES, SIZE, trial.channels);
    let map = device.tensor_map(&division.weights(weights.address, trial.outputs))?;
    let args = division.args(map, clip.address, 0, epilogue(&out, trial.outputs));
    run(device, &hopper_stem::variant(precision, false), &args)?;
    is_right(device, precision, trial, &out)
}

/// An epilogue that only stores.
fn epilogue(out: &Memory, outputs: usize) -> Epilogue {
    Epilogue {
        out: out.address,
        channels: outputs as i32,
        pitch: outputs as i32,
        image_pixels: (SIZE.0 * SIZE.1) as i32,
        ..Epilogue::zeroed()
    }
}

/// Runs one block, which works through all tiles.
fn run<A: bytemuck::Pod>(
    device: &mut dyn Device,
    variant: &Variant,
    args: &A,
) -> Result<(), EngineError> {
    let kernel = device.kernel(variant)?;
    let args = bytemuck::bytes_of(args).to_vec();
    // SAFETY: the callers allocated every map in `args` with the shape that `Args` documents; they outlive the read
    // in `is_right`.
    unsafe { device.launch(&Launch { kernel, grid: [1, 1, 1], cluster: 1, args }) }
}

/// Whether the results at `out` are those of a trial.
fn is_right(
    device: &mut dyn Device,
    precision: Precision,
    trial: Trial,
    out: &Memory,
) -> Result<bool, EngineError> {
    let mut got = vec![0u16; out.bytes / 2];
    // SAFETY: `out` was allocated with the length of `got`.
    unsafe { device.read(out.address, bytemuck::cast_slice_mut(&mut got))? };
    Ok(got == trial.wanted(precision))
}

/// Windows that read shifted bands: one with a gate, the stem's, and one with few outputs, whose products read the
/// shifted bands as their other operand.
const SHIFTED: &[Trial] = &[
    Trial { channels: 72, kernel: 3, stride: 1, gated: true, outputs: 72 },
    Trial { channels: 80, kernel: 5, stride: 2, gated: false, outputs: 72 },
    Trial { channels: 72, kernel: 3, stride: 1, gated: true, outputs: 16 },
];
/// Two tiles of outputs.
const FLAT: &[Trial] = &[Trial { channels: 72, kernel: 1, stride: 1, gated: false, outputs: 72 }];

/// The stem that reads planes.
const PLANES: Trial = Trial { channels: 40, kernel: 5, stride: 2, gated: false, outputs: 56 };

/// What of the bands that a device supports is right there: all, all but those from planes, 1x1 convolutions, or
/// nothing. Fails as
/// [`bands_are_right`] does.
pub fn right_bands(
    device: &mut dyn Device,
    precision: Precision,
) -> Result<BandSupport, EngineError> {
    let mut support = device.machine().bands;
    if is_half(precision) && support == BandSupport::Planes && !planes_are_right(device, precision)?
    {
        support = BandSupport::Shifted;
    }
    let kinds = [
        (BandSupport::Shifted, SHIFTED, BandSupport::Flat),
        (BandSupport::Flat, FLAT, BandSupport::Off),
    ];
    for (kind, trials, rest) in kinds {
        for trial in trials {
            if is_half(precision) && support >= kind && !bands_are_right(device, precision, *trial)?
            {
                support = rest;
            }
        }
    }
    Ok(support)
}

fn launch(
    device: &mut dyn Device,
    (precision, trial): (Precision, Trial),
    division: &Division,
    [x, weights, gate, out]: [&Memory; 4],
) -> Result<(), EngineError> {
    let (pixels, weights, shape) = (x.address, weights.address, trial.shape());
    let outputs = trial.outputs;
    let gate = if trial.gated { (gate.address, shape.channels) } else { (0, 0) };
    let place = Place { pixels, weights, outputs, shape, gate };
    let used = division.sources(device, place)?;
    let mut sources = [Source::zeroed(); hopper_conv::MAX_SOURCES];
    sources[..used.len()].copy_from_slice(&used);
    let args = hopper_conv::Args {
        sources,
        out: device.tensor_map(&division.tensor(out.address, outputs, true))?,
        bands: division.bands,
        source_count: used.len() as i32,
        epilogue: epilogue(out, outputs),
        ..hopper_conv::Args::zeroed()
    };
    let tile = BandTile { gated: trial.gated, ..division.tile };
    run(device, &hopper_conv::variant(precision, tile), &args)
}
