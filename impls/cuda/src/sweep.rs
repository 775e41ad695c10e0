//! Measures how long tilings of a product take on a device, for `harness gpu-check --sweep`.
//!
//! The product is a 1x1 convolution in bf16 without anything around it. Its map and its weights may
//! stay in the cache from one run to the next, so the times of small products are those of a warm
//! cache.

#![allow(unsafe_code, reason = "launches kernels on memory that it allocated")]

use std::time::Instant;

use bytemuck::{Zeroable, bytes_of};
use checkpoint::formula;
use half::bf16;
use spec::{EngineError, Precision, relative_l2};

use crate::device::{Device, Launch, Memory};
use crate::kernels::args::{Epilogue, Extent, Source};
use crate::kernels::measured::Candidate;
use crate::kernels::tile::Product;
use crate::kernels::{File, Variant, conv, split_k_reduce, vector};
use crate::run::layout::values_per_step;

/// The precision of the products.
pub const PRECISION: Precision = Precision::Bf16;

/// Launches that are timed together, so that the wait for the device at the end counts little.
const TOGETHER: usize = 10;

/// How often they are timed; the median counts.
const RUNS: usize = 20;

/// After this many values they repeat. It is a prime number, so that no two rows are the same.
const PERIOD: usize = 1_000_003;

/// The largest relative error by which a tiling may differ from the first one of its product.
const ALLOWED: f64 = 0.01;

/// A candidate and its time.
#[derive(Debug, Clone, Copy)]
pub struct Timed {
    /// What was measured.
    pub candidate: Candidate,
    /// Median time of a launch in microseconds, with the reduction where K is split.
    pub microseconds: f64,
    /// Relative difference of its result from that of the product's first candidate.
    pub difference: f64,
}

impl Timed {
    /// Whether its result is that of the first candidate, apart from rounding.
    pub fn is_right(&self) -> bool {
        self.difference <= ALLOWED
    }
}

/// A product in the memory of a device.
struct Operands {
    product: Product,
    pitch: usize,
    x: Memory,
    weights: Memory,
    out: Memory,
}

/// Allocates memory with bf16 values between -1 and 1.
fn random(device: &mut dyn Device, count: usize, seed: u64) -> Result<Memory, EngineError> {
    let values = formula::uniform("sweep", count.min(PERIOD), seed).into_iter();
    let values: Vec<u16> = values.map(|v| bf16::from_f32(2.0 * v - 1.0).to_bits()).collect();
    let bits: Vec<u16> = values.into_iter().cycle().take(count).collect();
    let memory = device.alloc(bits.len() * 2)?;
    // SAFETY: the memory was allocated with the length of `bits`.
    unsafe { device.write(memory.address, bytemuck::cast_slice(&bits))? };
    Ok(memory)
}

impl Operands {
    fn new(device: &mut dyn Device, product: Product) -> Result<Self, EngineError> {
        let k = product.steps * values_per_step(PRECISION);
        let pitch = product.outputs.next_multiple_of(vector(PRECISION));
        let x = random(device, product.pixels * k, 1)?;
        let weights = random(device, product.outputs * k, 2)?;
        let out = device.alloc(product.pixels * pitch * 2)?;
        Ok(Operands { product, pitch, x, weights, out })
    }

    fn args(&self, candidate: &Candidate, partial: u64) -> conv::Args {
        let (pixels, outputs) = (self.product.pixels as i32, self.product.outputs as i32);
        let k = (self.product.steps * values_per_step(PRECISION)) as i32;
        let source = Source {
            x: self.x.address,
            weights: self.weights.address,
            height: 1,
            width: pixels,
            pitch: k,
            kernel: 1,
            stride: 1,
            k,
            ..Source::zeroed()
        };
        let epilogue = Epilogue {
            out: self.out.address,
            channels: outputs,
            pitch: self.pitch as i32,
            image_pixels: pixels,
            ..Epilogue::zeroed()
        };
        conv::Args {
            sources: [source; 2],
            extent: Extent { pixels, height: 1, width: pixels, outputs },
            partial,
            source_count: 1,
            splits: candidate.tiling.splits as i32,
            epilogue,
            ..conv::Args::zeroed()
        }
    }

    /// The launches of a candidate; the address is that of its partial sums.
    fn launches(
        &self,
        device: &mut dyn Device,
        candidate: &Candidate,
        partial: u64,
    ) -> Result<Vec<Launch>, EngineError> {
        let (tiling, clustered) =
            (candidate.tiling, device.machine().in_cluster(candidate.tiling.splits));
        let args = self.args(candidate, if clustered { 0 } else { partial });
        let kernel = device.kernel(&conv::variant(PRECISION, tiling, false))?;
        let grid = conv::grid(&args, tiling);
        let cluster = if clustered { tiling.splits as u32 } else { 1 };
        let mut launches = vec![Launch { kernel, grid, cluster, args: bytes_of(&args).to_vec() }];
        if tiling.splits > 1 && !clustered {
            let (splits, pixels, epilogue) = (args.splits, args.extent.pixels, args.epilogue);
            let args =
                split_k_reduce::Args { partial, splits, pixels, epilogue, ..Zeroable::zeroed() };
            let kernel = device.kernel(&Variant::new(File::SplitKReduce, PRECISION))?;
            let grid = split_k_reduce::grid(&args, PRECISION);
            launches.push(Launch { kernel, grid, cluster: 1, args: bytes_of(&args).to_vec() });
        }
        Ok(launches)
    }

    /// Runs a candidate, and returns its result and its time.
    fn run(
        &self,
        device: &mut dyn Device,
        candidate: &Candidate,
    ) -> Result<(Vec<f64>, f64), EngineError> {
        let sums = candidate.tiling.splits * self.product.pixels * self.pitch;
        let partial = device.alloc(sums * size_of::<f32>())?;
        let once = self.launches(device, candidate, partial.address)?;
        // SAFETY: `out` has this many bytes. The launches read `x`, `weights` and `partial` and write
        // `partial` and `out`, which have the sizes of the product and live until the end of the
        // function, as does the recording.
        let recording = unsafe {
            device.fill(self.out.address, self.out.bytes, 0xff)?;
            device.record(&vec![once; TOGETHER].concat())?
        };
        let mut times = vec![];
        // The first run, which is slower, does not count.
        for _ in 0..=RUNS {
            device.synchronize()?;
            let start = Instant::now();
            device.replay(&recording)?;
            device.synchronize()?;
            times.push(start.elapsed().as_secs_f64() * 1e6 / TOGETHER as f64);
        }
        let times = &mut times[1..];
        times.sort_by(f64::total_cmp);
        let mut bits = vec![0u16; self.out.bytes / 2];
        // SAFETY: `bits` has the length of `out`.
        unsafe { device.read(self.out.address, bytemuck::cast_slice_mut(&mut bits))? };
        let values = bits.into_iter().map(|bits| bf16::from_bits(bits).to_f64()).collect();
        Ok((values, times[RUNS / 2]))
    }
}

/// Times candidates until `go_on` returns false, and leaves out what does not fit into shared memory.
/// The candidates of one product must follow one another; they are timed all or not at all.
pub fn run(
    device: &mut dyn Device,
    candidates: &[Candidate],
    mut go_on: impl FnMut() -> bool,
) -> Result<Vec<Timed>, EngineError> {
    let most = device.machine().shared_bytes;
    let fits = |candidate: &Candidate| candidate.tiling.tile.shared_bytes() as usize <= most;
    let mut timed = vec![];
    for same in candidates.chunk_by(|a, b| a.product == b.product) {
        let operands = Operands::new(device, same[0].product)?;
        let mut first: Option<Vec<f64>> = None;
        let mut of_product = vec![];
        for candidate in same.iter().filter(|candidate| fits(candidate)) {
            if !go_on() {
                return Ok(timed);
            }
            let (got, microseconds) = operands.run(device, candidate)?;
            let difference = relative_l2(&got, first.get_or_insert_with(|| got.clone()));
            of_product.push(Timed { candidate: *candidate, microseconds, difference });
        }
        timed.extend(of_product);
    }
    Ok(timed)
}

/// The fastest candidate of each product, of those with the right result.
pub fn fastest(timed: &[Timed]) -> Vec<Timed> {
    let products = timed.chunk_by(|a, b| a.candidate.product == b.candidate.product);
    let best = |same: &[Timed]| {
        same.iter()
            .copied()
            .filter(Timed::is_right)
            .min_by(|a, b| a.microseconds.total_cmp(&b.microseconds))
    };
    products.filter_map(best).collect()
}
