//! Whether two 1x1 convolutions in one kernel (`hopper_pair.cu`) give the right numbers on a device: asked of every GPU
//! that runs in bands, before an engine uses that kernel there.

#![allow(unsafe_code, reason = "launches a kernel on memory that it allocated")]

use bytemuck::Zeroable;
use half::{bf16, f16};
use lower::Activation;
use spec::{EngineError, Precision};

use super::check::{round, upload, value, weight};
use crate::device::{Device, Launch, Memory};
use crate::kernels::args::Epilogue;
use crate::kernels::hopper_pair::{self, Division, Pair};
use crate::kernels::is_half;
use crate::kernels::tile::BandSupport;
use crate::kernels::tile_sums::TileSums;

/// Two convolutions whose results are known. The sums are exact in float32, in whatever order they are added.
struct Trial {
    inputs: &'static [usize],
    residual: bool,
    wide: usize,
    outputs: usize,
}

/// Several tiles, of which the last is not whole.
const PIXELS: usize = 300;

/// With two inputs and weights that stay in shared memory; with a residual, weights that are loaded for each tile, and
/// two groups of outputs.
const TRIALS: [Trial; 2] = [
    Trial { inputs: &[40, 24], residual: false, wide: 136, outputs: 56 },
    Trial { inputs: &[72], residual: true, wide: 264, outputs: 72 },
];

/// A channel of an input, by the number of the input; and of the residual, which comes after them.
fn input(number: usize, pixel: usize, channel: usize) -> f64 {
    value(70_001 * number + 521 * pixel + channel)
}

/// A weight of the first convolution, by the number of the input. Small, so that few bits are lost in between.
fn first_weight(number: usize, output: usize, channel: usize) -> f64 {
    weight(output, number, channel) / 8.0
}

fn widen(precision: Precision, bits: u16) -> f64 {
    match precision {
        Precision::Bf16 => bf16::from_bits(bits).to_f64(),
        _ => f16::from_bits(bits).to_f64(),
    }
}

impl Trial {
    /// The right results of both convolutions, each rounded once.
    fn wanted(&self, precision: Precision) -> [Vec<u16>; 2] {
        let wide = |pixel: usize, o: usize| {
            let of_input = |(number, channels): (usize, &usize)| -> f64 {
                (0..*channels).map(|c| input(number, pixel, c) * first_weight(number, o, c)).sum()
            };
            let sum: f64 = self.inputs.iter().enumerate().map(of_input).sum();
            let residual = if self.residual { input(2, pixel, o) } else { 0.0 };
            round(precision, (sum + residual).max(0.0))
        };
        let first: Vec<u16> =
            (0..PIXELS * self.wide).map(|at| wide(at / self.wide, at % self.wide)).collect();
        let out = |at: usize| {
            let row = &first[at / self.outputs * self.wide..][..self.wide];
            let each = row.iter().enumerate();
            let o = at % self.outputs;
            let sum: f64 = each.map(|(c, bits)| widen(precision, *bits) * weight(o, 9, c)).sum();
            round(precision, sum.max(0.0))
        };
        let second = (0..PIXELS * self.outputs).map(out).collect();
        [first, second]
    }

    /// Uploads a map of an input or the residual.
    fn upload(
        &self,
        device: &mut dyn Device,
        precision: Precision,
        number: usize,
        channels: usize,
    ) -> Result<Memory, EngineError> {
        let values = (0..PIXELS * channels).map(|at| input(number, at / channels, at % channels));
        upload(device, values.map(|v| round(precision, v)))
    }

    fn weights(
        &self,
        device: &mut dyn Device,
        precision: Precision,
        (outputs, channels): (usize, usize),
        weight: impl Fn(usize, usize) -> f64,
    ) -> Result<Memory, EngineError> {
        // Rows of K are whole steps.
        let row = channels.next_multiple_of(16);
        let value = |at: usize| {
            let (o, c) = (at / row, at % row);
            if c < channels { weight(o, c) } else { 0.0 }
        };
        let memory = upload(device, (0..outputs * row).map(|at| round(precision, value(at))))?;
        device.freeze(&memory)?;
        Ok(memory)
    }

    /// Runs one block, which works through all tiles, and compares both results, bit by bit.
    fn is_right(&self, device: &mut dyn Device, precision: Precision) -> Result<bool, EngineError> {
        let Trial { inputs, residual, wide, outputs } = *self;
        let pair = Pair { pixels: PIXELS, inputs, residual, wide, outputs };
        let division = Division::new(pair).expect("a small pair of convolutions fits");
        let (mut owned, mut places) = (vec![], vec![]);
        for (number, channels) in inputs.iter().enumerate() {
            let pixels = self.upload(device, precision, number, *channels)?;
            let of_input = |o, c| first_weight(number, o, c);
            let weights = self.weights(device, precision, (wide, *channels), of_input)?;
            places.push(hopper_pair::place(pixels.address, *channels, weights.address, wide));
            owned.extend([pixels, weights]);
        }
        let added = self.upload(device, precision, 2, wide)?;
        let weights = self.weights(device, precision, (outputs, wide), |o, c| weight(o, 9, c))?;
        let mut empty =
            |channels| upload(device, std::iter::repeat_n(0xffffu16, PIXELS * channels));
        let results = [empty(wide)?, empty(outputs)?];
        let end = |out: &Memory, channels: usize, residual: u64| Epilogue {
            out: out.address,
            residual,
            channels: channels as i32,
            pitch: channels as i32,
            image_pixels: PIXELS as i32,
            activation: Activation::Relu as i32,
            ..Epilogue::zeroed()
        };
        let first = end(&results[0], wide, if residual { added.address } else { 0 });
        let ends = [first, end(&results[1], outputs, 0)];
        let second = hopper_pair::place(results[0].address, wide, weights.address, outputs);
        let args = division.args(device, (&places, second), ends, TileSums::zeroed())?;
        let kernel = device.kernel(&division.variant(precision))?;
        let args = bytemuck::bytes_of(&args).to_vec();
        // SAFETY: every map in `args` was allocated above with the shape that `Args` documents, and outlives the reads
        // below.
        unsafe { device.launch(&Launch { kernel, grid: [1, 1, 1], cluster: 1, args })? };
        for (result, want) in results.iter().zip(self.wanted(precision)) {
            let mut got = vec![0u16; want.len()];
            // SAFETY: `result` was allocated with the length of `got`.
            unsafe { device.read(result.address, bytemuck::cast_slice_mut(&mut got))? };
            if got != want {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether a device that runs in bands gives the right results. Fails if it does not end the kernel.
pub fn pairs_are_right(device: &mut dyn Device, precision: Precision) -> Result<bool, EngineError> {
    if !is_half(precision) || device.machine().bands == BandSupport::Off {
        return Ok(true);
    }
    for trial in TRIALS {
        if !trial.is_right(device, precision)? {
            return Ok(false);
        }
    }
    Ok(true)
}
