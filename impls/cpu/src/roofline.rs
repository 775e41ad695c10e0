//! The two limits of the roofline model, measured on this machine: the rate of multiply-adds
//! without memory accesses, and the memory bandwidth without multiply-adds.

#![allow(unsafe_code, reason = "calls a kernel")]

use std::sync::Mutex;
use std::time::{Duration, Instant};

use spec::Precision;

use crate::element::Bf16;
use crate::isa::{DetectedIsa, HasKernels, Isa};
use crate::pool::Pool;

/// Bytes that the bandwidth measurement reads: far more than any cache holds.
const BYTES: usize = 256 << 20;

/// Minimum duration of one measurement of multiply-adds.
const LONG_ENOUGH: Duration = Duration::from_millis(100);

/// Peak floating-point operations per second with `threads` threads, the best of three
/// measurements; a multiply-add counts as two operations. Without `isa`, the best instruction set
/// is measured. None if the engine does not support the precision, or the machine lacks the
/// instruction set.
pub fn flops(precision: Precision, isa: Option<Isa>, threads: usize) -> Option<f64> {
    let detected = isa.map_or(Some(DetectedIsa::best()), Isa::detect)?;
    match precision {
        Precision::F32 => Some(flops_of::<f32>(detected, threads)),
        Precision::Bf16 => Some(flops_of::<Bf16>(detected, threads)),
        _ => None,
    }
}

fn flops_of<E: HasKernels>(detected: DetectedIsa, threads: usize) -> f64 {
    let kernels = E::kernels(detected);
    let mut pool = Pool::new(threads);
    let threads = pool.threads();
    let mut run = |rounds: usize| {
        let start = Instant::now();
        pool.run(&|_| {
            // SAFETY: `detected` proves that the machine has the instruction set.
            std::hint::black_box(unsafe { (kernels.peak)(rounds) });
        });
        start.elapsed()
    };
    // The work of a round differs by a factor of thousands between instruction sets.
    let mut rounds = 1;
    while run(rounds) < LONG_ENOUGH {
        rounds *= 2;
    }
    let work = 2.0 * (threads * rounds * kernels.peak_macs) as f64;
    let mut best = 0.0_f64;
    for _ in 0..3 {
        best = best.max(work / run(rounds).as_secs_f64());
    }
    best
}

/// Memory bandwidth in bytes per second that `threads` threads reach by reading, the best of three
/// measurements.
pub fn bandwidth(threads: usize) -> f64 {
    let mut pool = Pool::new(threads);
    let share = BYTES / 8 / pool.threads();
    let parts: Vec<Vec<u64>> = (0..pool.threads()).map(|at| vec![at as u64; share]).collect();
    let sums = Mutex::new(0u64);
    let mut best = 0.0_f64;
    for _ in 0..3 {
        let start = Instant::now();
        pool.run(&|thread| {
            let mut lanes = [0u64; 32];
            for chunk in parts[thread].chunks_exact(32) {
                for (lane, value) in lanes.iter_mut().zip(chunk) {
                    *lane = lane.wrapping_add(*value);
                }
            }
            if let Ok(mut sums) = sums.lock() {
                *sums = lanes.iter().fold(*sums, |sum, lane| sum.wrapping_add(*lane));
            }
        });
        best = best.max((parts.len() * share * 8) as f64 / start.elapsed().as_secs_f64());
    }
    std::hint::black_box(sums);
    best
}
