//! Memory and values for a kernel, and what is expected of them.

use bytemuck::Pod;
use cuda::device::{Device, Gpu, Host, Launch, Memory, Schedule};
use cuda::kernels::args::Epilogue;
use cuda::kernels::{Variant, is_half, vector};
use half::{bf16, f16};
use spec::{EngineError, Precision};

pub const PRECISIONS: [Precision; 4] =
    [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16];

/// What the kernels run on: the emulation, or the GPU whose number `HARNESS_TEST_GPU` holds.
pub enum Lab {
    Host(Host),
    Gpu(Box<Gpu>),
}

impl Lab {
    /// None, and a word about it, where there cannot be one.
    pub fn open() -> Option<Lab> {
        match std::env::var("HARNESS_TEST_GPU") {
            Ok(number) => {
                let number = number.parse().expect("HARNESS_TEST_GPU is a number");
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

    /// Orders the threads that are emulated; a GPU orders its own.
    pub fn order(&mut self, schedule: Schedule) {
        if let Lab::Host(host) = self {
            host.schedule = schedule;
        }
    }

    /// Reads of ldmatrix that met in a bank of shared memory, where they can be counted.
    pub fn conflicts(&self) -> u64 {
        if let Lab::Host(host) = self { host.conflicts } else { 0 }
    }
}

/// An emulated GPU; None, and a word about it, where there cannot be one.
pub fn emulated() -> Option<Host> {
    Host::new(4).inspect_err(|error| skip::skip!(Gxx, "{error}")).ok()
}

/// Values that are no round numbers, of both signs, from a seed.
pub fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// A value as it is stored, which is rounded to float32 first.
pub fn stored(precision: Precision, value: f64) -> f64 {
    let value = value as f32;
    match precision {
        Precision::Bf16 => bf16::from_f32(value).to_f64(),
        Precision::F16 => f16::from_f32(value).to_f64(),
        _ => f64::from(value),
    }
}

/// A stored value as a factor of a product on a tensor core.
pub fn factor(precision: Precision, value: f64) -> f64 {
    match precision {
        Precision::Tf32 if value.is_finite() => {
            let bits = (value as f32).to_bits().wrapping_add(0x1000) & !0x1fff;
            f64::from(f32::from_bits(bits))
        }
        _ => stored(precision, value),
    }
}

/// What a result may be off: `terms` float32 roundings of sums of this size, and its own storage.
pub fn allowed(precision: Precision, terms: usize, size: f64, want: f64) -> f64 {
    let sums = (terms + 8) as f64 * f64::from(f32::EPSILON) * size;
    sums + precision.epsilon() * (want.abs() + sums)
}

/// Channels with padding.
pub fn pitch(precision: Precision, channels: usize) -> usize {
    channels.next_multiple_of(vector(precision))
}

/// Puts rows of `channels` values at a distance of `pitch`, zeros between.
pub fn spread(values: &[f64], channels: usize, pitch: usize) -> Vec<f64> {
    let row =
        |row: &[f64]| row.iter().copied().chain(vec![0.0; pitch - channels]).collect::<Vec<_>>();
    values.chunks(channels).flat_map(row).collect()
}

/// Memory with float32 values.
pub fn wide(device: &mut dyn Device, values: &[f64]) -> Memory {
    let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    bytes(device, bytemuck::cast_slice(&values))
}

/// Memory with values in the format of a precision.
pub fn narrow(device: &mut dyn Device, precision: Precision, values: &[f64]) -> Memory {
    let encode = |v: &f64| match precision {
        Precision::Bf16 => bf16::from_f64(*v).to_bits(),
        _ => f16::from_f64(*v).to_bits(),
    };
    match is_half(precision) {
        true => {
            bytes(device, bytemuck::cast_slice(&values.iter().map(encode).collect::<Vec<u16>>()))
        }
        false => wide(device, values),
    }
}

fn bytes(device: &mut dyn Device, bytes: &[u8]) -> Memory {
    let memory = device.alloc(bytes.len()).unwrap();
    // SAFETY: it was made for them.
    unsafe { device.write(memory.address, bytes).unwrap() };
    memory
}

/// Room for so many values in the format of a precision, poisoned.
pub fn room(device: &mut dyn Device, precision: Precision, count: usize) -> Memory {
    let memory = device.alloc(count * if is_half(precision) { 2 } else { 4 }).unwrap();
    // SAFETY: it was just made.
    unsafe { device.fill(memory.address, memory.bytes, 0xff).unwrap() };
    memory
}

/// Values in the format of a precision.
pub fn values(device: &mut dyn Device, precision: Precision, memory: &Memory) -> Vec<f64> {
    if !is_half(precision) {
        return wide_values(device, memory);
    }
    let mut bits = vec![0u16; memory.bytes / 2];
    // SAFETY: it holds so many.
    unsafe { device.read(memory.address, bytemuck::cast_slice_mut(&mut bits)).unwrap() };
    let decode = |bits: u16| match precision {
        Precision::Bf16 => bf16::from_bits(bits).to_f64(),
        _ => f16::from_bits(bits).to_f64(),
    };
    bits.into_iter().map(decode).collect()
}

/// Float32 values.
pub fn wide_values(device: &mut dyn Device, memory: &Memory) -> Vec<f64> {
    let mut values = vec![0f32; memory.bytes / 4];
    // SAFETY: it holds so many.
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
    let kernel = device.kernel(variant)?;
    let launch = Launch { kernel, grid, args: bytemuck::bytes_of(args).to_vec() };
    // SAFETY: every test gives the kernel what its `.rs` file asks for; what it leaves is noticed.
    unsafe { device.launch(&launch) }
}

/// An epilogue that stores [pixels, pitch], of which so many channels count.
pub fn store(out: &Memory, channels: usize, pitch: usize, image: usize) -> Epilogue {
    let mut epilogue: Epilogue = bytemuck::Zeroable::zeroed();
    (epilogue.out, epilogue.image) = (out.address, image as i32);
    (epilogue.channels, epilogue.pitch) = (channels as i32, pitch as i32);
    epilogue
}

/// Asserts that results are what is expected: within what is allowed, NaN and infinities alike, zeros
/// in padded channels.
pub fn compare(what: &str, got: &[f64], want: &[(f64, f64)], channels: usize, pitch: usize) {
    assert_eq!(got.len() / pitch * channels, want.len(), "{what}");
    for (pixel, (row, wanted)) in got.chunks(pitch).zip(want.chunks(channels)).enumerate() {
        for (channel, (&got, &(want, allowed))) in row.iter().zip(wanted).enumerate() {
            let same = match want.is_finite() {
                true => (got - want).abs() <= allowed,
                false => got == want || got.is_nan() && want.is_nan(),
            };
            assert!(
                same,
                "{what}, pixel {pixel}, channel {channel}: {got}, not {want} ± {allowed}"
            );
        }
        let padding = &row[channels..];
        assert!(padding.iter().all(|v| *v == 0.0), "{what}, pixel {pixel}: padding {padding:?}");
    }
}
