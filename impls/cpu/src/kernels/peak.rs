//! What the processor can do at best: the multiply-adds of the GEMM's inner loop, without memory.

use crate::element::Element;
use crate::simd::Simd;

/// Chains of multiply-adds that run side by side: more than the latency times the throughput of any
/// processor needs.
const CHAINS: usize = 12;

/// Runs so many rounds and returns a number that depends on all of them. A round is
/// `CHAINS * LANES * GROUP` multiply-adds: see [`work`].
///
/// # Safety
/// The contract of [`Simd`].
#[inline(always)]
pub unsafe fn run<S: Simd, E: Element>(rounds: usize) -> f32 {
    let (some, tiny) = ([E::from_f32(0.5); 32], [E::from_f32(1e-3); 32]);
    // SAFETY: the caller's; 32 elements are a vector of weights in every instruction set.
    unsafe {
        let mut sums = [S::splat(0.0); CHAINS];
        let (a, b) = (E::splat::<S>(some.as_ptr()), E::weights::<S>(tiny.as_ptr()));
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = E::multiply::<S>(*sum, a, b);
            }
        }
        let total = sums.into_iter().fold(S::splat(0.0), |total, sum| S::add(total, sum));
        let mut lanes = [0.0; 16];
        S::store(lanes.as_mut_ptr(), total);
        lanes.iter().sum()
    }
}

/// Multiply-adds of a round.
pub const fn work(lanes: usize, group: usize) -> usize {
    CHAINS * lanes * group
}
