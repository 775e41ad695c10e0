//! The two limits of the roofline model, measured on this machine: the rate of multiply-adds
//! without memory accesses, and the memory bandwidth without multiply-adds. And the time in which a
//! value gets from one core to another.

#![allow(unsafe_code, reason = "calls a kernel")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use spec::Precision;

use crate::element::Bf16;
use crate::isa::{DetectedIsa, HasKernels, Isa};
use crate::pool::Pool;

/// Bytes that the bandwidth measurement reads: far more than any cache holds.
const BYTES: usize = 256 << 20;

/// Minimum duration of one measurement of multiply-adds.
const LONG_ENOUGH: Duration = Duration::from_millis(100);

/// Number of times that a value goes there and back in a measurement of [`handover`].
const EXCHANGES: usize = 20;

/// The longest measurement of [`handover`], for machines whose cores do something else.
const PATIENCE: Duration = Duration::from_millis(20);

/// The time in seconds in which a thread sees what another one wrote, the best of several measurements. Cores with a
/// common cache need some tens of nanoseconds, others several times as long; a virtual machine may be moved from the one
/// kind to the other while it runs. None if there is only one core.
pub fn handover() -> Option<f64> {
    const ROUNDS: usize = 100;
    const QUIT: usize = usize::MAX;
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return None;
    }
    // Odd numbers are questions, and the next even number is the answer.
    let value = AtomicUsize::new(0);
    let seen = |wanted: usize| {
        for turn in 1_usize.. {
            let now = value.load(Ordering::Acquire);
            if now == wanted || now == QUIT {
                return now == wanted;
            }
            // Both threads may have to share a core on which they would wait for each other.
            if turn.is_multiple_of(4096) {
                std::thread::yield_now()
            } else {
                std::hint::spin_loop()
            }
        }
        false
    };
    let answer = || {
        for question in (1..).step_by(2) {
            if !seen(question) {
                return;
            }
            value.store(question + 1, Ordering::Release);
        }
    };
    let ask = |question: usize| {
        value.store(question, Ordering::Release);
        seen(question + 1)
    };
    std::thread::scope(|scope| {
        std::thread::Builder::new().spawn_scoped(scope, answer).ok()?;
        let (begin, mut best) = (Instant::now(), f64::INFINITY);
        for round in 0..ROUNDS {
            let start = Instant::now();
            for at in 0..EXCHANGES {
                ask(2 * (round * EXCHANGES + at) + 1);
            }
            best = best.min(start.elapsed().as_secs_f64() / (2 * EXCHANGES) as f64);
            if begin.elapsed() > PATIENCE {
                break;
            }
        }
        value.store(QUIT, Ordering::Release);
        Some(best)
    })
}

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

/// `count` vectors of `length` numbers that were written. Memory that was only asked for as zeros is one
/// page of zeros behind all addresses, which stays in the cache.
fn written_memory(count: usize, length: usize) -> Vec<Vec<u64>> {
    vec![vec![1; length]; count]
}

/// Memory bandwidth in bytes per second that `threads` threads reach by reading, the best of three
/// measurements.
pub fn bandwidth(threads: usize) -> f64 {
    let mut pool = Pool::new(threads);
    let share = BYTES / 8 / pool.threads();
    let parts = written_memory(pool.threads(), share);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_that_is_read_is_not_the_page_of_zeros() {
        let parts = written_memory(2, 3);
        assert_eq!((parts.len(), parts[0].len()), (2, 3));
        assert!(parts.iter().flatten().all(|value| *value != 0));
    }

    #[test]
    fn a_value_gets_to_another_core_even_if_all_cores_are_busy() {
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let start = Instant::now();
            let found = handover();
            let elapsed = start.elapsed();
            done.store(true, Ordering::Relaxed);
            assert!(found.is_none_or(|seconds| seconds > 1e-9 && seconds < 1.0), "{found:?}");
            assert!(elapsed < Duration::from_secs(20), "{elapsed:?}");
        });
    }
}
