//! What the tests of kernels share: a device, memory with values, and the comparison of results.

use bytemuck::Pod;
use cuda::device::{Device, Gpu, Host, Launch, Memory, Schedule};
use cuda::kernels::args::Epilogue;
use cuda::kernels::{Variant, is_half, vector};
use half::{bf16, f16};
use spec::{EngineError, Precision};

pub const PRECISIONS: [Precision; 4] =
    [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16];

/// The device of a test: an emulated GPU, or the GPU whose number `HARNESS_TEST_GPU` holds.
pub enum Lab {
    Host(Host),
    Gpu(Box<Gpu>),
}

impl Lab {
    /// Opens the device. If no GPU can be emulated, reports the skip and returns None.
    pub fn open() -> Option<Lab> {
        match std::env::var("HARNESS_TEST_GPU") {
            Ok(number) => {
                let number = number
                    .parse()
                    .expect("HARNESS_TEST_GPU must be the number of a GPU, such as 0");
                Some(Lab::Gpu(Box::new(Gpu::open(number).unwrap())))
            }
            Err(_) => emulated().map(Lab::Host),
        }
    }

    pub fn device(&mut self) -> &mut dyn Device {
        match self {
            Lab::Host(host) => host,
            Lab::Gpu(gpu) => gpu.as_mut(),
        }
    }

    /// Runs no clusters from now on.
    pub fn leave_clusters(&mut self) {
        match self {
            Lab::Host(host) => host.clusters = false,
            Lab::Gpu(gpu) => gpu.leave_clusters(),
        }
    }

    /// Sets the schedule of an emulated GPU. A real GPU has its own.
    pub fn set_schedule(&mut self, schedule: Schedule) {
        if let Lab::Host(host) = self {
            host.schedule = schedule;
        }
    }

    /// Bank conflicts of `ldmatrix` so far; 0 on a real GPU, where they are not counted.
    pub fn bank_conflicts(&self) -> u64 {
        if let Lab::Host(host) = self { host.conflicts } else { 0 }
    }
}

/// An emulated GPU with 4 multiprocessors. If none can be emulated, reports the skip and returns
/// None.
pub fn emulated() -> Option<Host> {
    Host::new(4).inspect_err(|error| skip::skip!(Gxx, "{error}")).ok()
}

/// Pseudo-random values in [-1, 1), multiples of 2^-23.
pub fn pseudo_random(count: usize, seed: u64) -> Vec<f64> {
    let uniform = checkpoint::formula::uniform("lab", count, seed);
    uniform.into_iter().map(|u| 2.0 * f64::from(u) - 1.0).collect()
}

/// A value as the kernels store it: rounded to float32, then to the storage format.
pub fn stored(precision: Precision, value: f64) -> f64 {
    let value = value as f32;
    match precision {
        Precision::Bf16 => bf16::from_f32(value).to_f64(),
        Precision::F16 => f16::from_f32(value).to_f64(),
        _ => f64::from(value),
    }
}

/// A value as the kernels multiply it: as stored, and in TF32 rounded to 10 fraction bits.
pub fn operand(precision: Precision, value: f64) -> f64 {
    match precision {
        Precision::Tf32 if value.is_finite() => {
            let bits = (value as f32).to_bits().wrapping_add(0x1000) & !0x1fff;
            f64::from(f32::from_bits(bits))
        }
        _ => stored(precision, value),
    }
}

/// The error that a result may have: `terms` float32 roundings of a sum whose terms have the total
/// size `size`, and the rounding of `want` to the storage format.
pub fn tolerance(precision: Precision, terms: usize, size: f64, want: f64) -> f64 {
    let sums = (terms + 8) as f64 * f64::from(f32::EPSILON) * size;
    sums + precision.epsilon() * (want.abs() + sums)
}

/// The number of channels with padding.
pub fn pitch(precision: Precision, channels: usize) -> usize {
    channels.next_multiple_of(vector(precision))
}

/// Pads rows of `channels` values with zeros to `pitch` values.
pub fn pad_channels(values: &[f64], channels: usize, pitch: usize) -> Vec<f64> {
    let row =
        |row: &[f64]| row.iter().copied().chain(vec![0.0; pitch - channels]).collect::<Vec<_>>();
    values.chunks(channels).flat_map(row).collect()
}

/// Allocates memory that holds values in float32.
pub fn upload_f32(device: &mut dyn Device, values: &[f64]) -> Memory {
    let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    bytes(device, bytemuck::cast_slice(&values))
}

/// Allocates memory that holds values in the storage format of a precision.
pub fn upload_stored(device: &mut dyn Device, precision: Precision, values: &[f64]) -> Memory {
    let encode = |v: &f64| match precision {
        Precision::Bf16 => bf16::from_f64(*v).to_bits(),
        _ => f16::from_f64(*v).to_bits(),
    };
    match is_half(precision) {
        true => {
            bytes(device, bytemuck::cast_slice(&values.iter().map(encode).collect::<Vec<u16>>()))
        }
        false => upload_f32(device, values),
    }
}

fn bytes(device: &mut dyn Device, bytes: &[u8]) -> Memory {
    let memory = device.alloc(bytes.len()).unwrap();
    // SAFETY: `memory` was allocated with the length of `bytes`.
    unsafe { device.write(memory.address, bytes).unwrap() };
    memory
}

/// Allocates memory for `count` values in the storage format of a precision, filled with NaN.
pub fn allocate(device: &mut dyn Device, precision: Precision, count: usize) -> Memory {
    let memory = device.alloc(count * if is_half(precision) { 2 } else { 4 }).unwrap();
    // SAFETY: `memory` has `memory.bytes` bytes.
    unsafe { device.fill(memory.address, memory.bytes, 0xff).unwrap() };
    memory
}

/// Reads all values of memory in the storage format of a precision.
pub fn download_stored(device: &mut dyn Device, precision: Precision, memory: &Memory) -> Vec<f64> {
    if !is_half(precision) {
        return download_f32(device, memory);
    }
    let mut bits = vec![0u16; memory.bytes / 2];
    // SAFETY: `bits` is at most as long as `memory`.
    unsafe { device.read(memory.address, bytemuck::cast_slice_mut(&mut bits)).unwrap() };
    let decode = |bits: u16| match precision {
        Precision::Bf16 => bf16::from_bits(bits).to_f64(),
        _ => f16::from_bits(bits).to_f64(),
    };
    bits.into_iter().map(decode).collect()
}

/// Reads all values of memory in float32.
pub fn download_f32(device: &mut dyn Device, memory: &Memory) -> Vec<f64> {
    let mut values = vec![0f32; memory.bytes / 4];
    // SAFETY: `values` is at most as long as `memory`.
    unsafe { device.read(memory.address, bytemuck::cast_slice_mut(&mut values)).unwrap() };
    values.into_iter().map(f64::from).collect()
}

/// Runs a kernel.
pub fn run<A: Pod>(
    device: &mut dyn Device,
    variant: &Variant,
    grid: [u32; 3],
    args: &A,
) -> Result<(), EngineError> {
    run_clusters(device, variant, (grid, 1), args)
}

/// Runs a kernel whose blocks form clusters.
pub fn run_clusters<A: Pod>(
    device: &mut dyn Device,
    variant: &Variant,
    (grid, cluster): ([u32; 3], u32),
    args: &A,
) -> Result<(), EngineError> {
    let kernel = device.kernel(variant)?;
    let launch = Launch { kernel, grid, cluster, args: bytemuck::bytes_of(args).to_vec() };
    // SAFETY: the tests allocate every buffer in `args` with the type and shape that `A` documents.
    // Planted faults run on an emulated GPU only, where an access outside a buffer ends the kernel.
    unsafe { device.launch(&launch) }
}

/// An epilogue that only stores [pixels, pitch], with zeros from channel `channels` on. `image` is
/// the number of pixels of one image.
pub fn epilogue_to(out: &Memory, channels: usize, pitch: usize, image: usize) -> Epilogue {
    let mut epilogue: Epilogue = bytemuck::Zeroable::zeroed();
    (epilogue.out, epilogue.image_pixels) = (out.address, image as i32);
    (epilogue.channels, epilogue.pitch) = (channels as i32, pitch as i32);
    epilogue
}

/// Asserts that results [pixels, pitch] agree with what is wanted, [pixels, channels] of a value
/// and its tolerance. NaN and infinities must be equal, and padded channels must be zeros.
pub fn compare(what: &str, got: &[f64], want: &[(f64, f64)], channels: usize, pitch: usize) {
    assert_eq!(got.len() / pitch * channels, want.len(), "{what}");
    for (pixel, (row, wanted)) in got.chunks(pitch).zip(want.chunks(channels)).enumerate() {
        for (channel, (&got, &(want, tolerance))) in row.iter().zip(wanted).enumerate() {
            let same = match want.is_finite() {
                true => (got - want).abs() <= tolerance,
                false => got == want || got.is_nan() && want.is_nan(),
            };
            assert!(
                same,
                "{what}, pixel {pixel}, channel {channel}: {got}, expected {want} ± {tolerance}"
            );
        }
        let padding = &row[channels..];
        assert!(
            padding.iter().all(|v| *v == 0.0),
            "{what}, pixel {pixel}: the padding must be zeros and is {padding:?}"
        );
    }
}
