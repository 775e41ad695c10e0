//! The two roofs of this machine, measured: multiply-adds without memory, and memory without
//! multiply-adds.

#![allow(unsafe_code, reason = "calls a kernel")]

use std::sync::Mutex;
use std::time::{Duration, Instant};

use spec::Precision;

use crate::element::Bf16;
use crate::isa::{Isa, Level, Tabled};
use crate::pool::Pool;

/// Bytes that are read: far more than any cache holds.
const BYTES: usize = 256 << 20;

/// How long a measurement of multiply-adds takes at least.
const LONG_ENOUGH: Duration = Duration::from_millis(100);

/// Multiply-adds count as two operations, per second, over so many threads; the best of three.
/// None for formats in which the engine does not compute, or without the instruction set.
pub fn flops(precision: Precision, isa: Option<Isa>, threads: usize) -> Option<f64> {
    let level = isa.map_or(Some(Level::best()), Isa::detect)?;
    match precision {
        Precision::F32 => Some(flops_of::<f32>(level, threads)),
        Precision::Bf16 => Some(flops_of::<Bf16>(level, threads)),
        _ => None,
    }
}

fn flops_of<E: Tabled>(level: Level, threads: usize) -> f64 {
    let kernels = E::kernels(level);
    let mut pool = Pool::new(threads);
    let threads = pool.threads();
    let mut run = |rounds: usize| {
        let start = Instant::now();
        pool.run(&|_| {
            // SAFETY: the level proves that the instruction set is there.
            std::hint::black_box(unsafe { (kernels.peak)(rounds) });
        });
        start.elapsed()
    };
    // A round is some thousand times as much work in one instruction set as in another.
    let mut rounds = 1;
    while run(rounds) < LONG_ENOUGH {
        rounds *= 2;
    }
    let work = 2.0 * (threads * rounds * kernels.peak_work) as f64;
    let mut best = 0.0_f64;
    for _ in 0..3 {
        best = best.max(work / run(rounds).as_secs_f64());
    }
    best
}

/// Bytes per second that so many threads read from memory; the best of three.
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
