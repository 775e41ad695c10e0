//! Peak rate of multiply-adds: those of the inner loop of the GEMM, without memory accesses. This
//! is the compute limit of the roofline model ([`crate::roofline`]).

use crate::element::Element;
use crate::simd::Simd;

/// Independent chains of multiply-adds, which hide the latency. An x86-64 processor with a latency
/// of 5 cycles and two multiply-adds per cycle needs 10.
const CHAINS: usize = 12;

/// Executes `rounds` rounds and returns a number that depends on all of them. Each round has
/// [`work`] multiply-adds.
///
/// # Safety
/// The contract of [`Simd`].
#[inline(always)]
pub unsafe fn run<S: Simd, E: Element>(rounds: usize) -> f32 {
    let (half, tiny) = ([E::from_f32(0.5); 32], [E::from_f32(1e-3); 32]);
    // SAFETY: the caller has the instruction set; 32 elements are at least LANES * GROUP, and 16
    // lanes at least LANES.
    unsafe {
        let mut sums = [S::splat(0.0); CHAINS];
        let (a, b) = (E::splat::<S>(half.as_ptr()), E::load_weights::<S>(tiny.as_ptr()));
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = E::multiply_add::<S>(*sum, a, b);
            }
        }
        let total = sums.into_iter().fold(S::splat(0.0), |total, sum| S::add(total, sum));
        let mut lanes = [0.0; 16];
        S::store(lanes.as_mut_ptr(), total);
        lanes.iter().sum()
    }
}

/// Number of multiply-adds in a round.
pub const fn work(lanes: usize, group: usize) -> usize {
    CHAINS * lanes * group
}
