//! The sums of a tile by vectors of multiply-adds.
//!
//! A tile is `ROWS` pixels times two vectors of output channels. Each step of the inner loop loads
//! two vectors of weights, splats one channel of each pixel and makes 2 * ROWS multiply-adds: 14 x 2
//! on AVX-512 needs 28 accumulators, 2 weights and a splat of 32 registers, and 16 loads for 28
//! FMAs, so that the FMA units and not the load ports are the bound. Every output is one chain of
//! FMAs over the channels in order, whatever the tile: results depend neither on threads nor on the
//! split into tiles.

use super::gemm::{Operand, Place, Sums};
use super::peak;
use crate::element::Element;
use crate::simd::Simd;

/// Vectors of the instruction set, in either format.
pub struct Vectors;

impl<S: Simd, E: Element> Sums<S, E> for Vectors {
    const ROWS: usize = S::ROWS;
    const DEPTH: usize = if S::DOT { E::GROUP } else { 1 };
    const PEAK_WORK: usize = peak::work(S::LANES, E::GROUP);

    #[inline(always)]
    fn ready() -> Self {
        Vectors
    }

    #[inline(always)]
    unsafe fn sums(
        &mut self,
        first: &Operand<E>,
        second: Option<&Operand<E>>,
        place: &Place,
        out: *mut f32,
        stride: usize,
    ) {
        // Heights that an instruction set has no registers for are compiled to nothing.
        macro_rules! tiles {
            ($width:literal: $($height:literal)*) => {
                match place.height {
                    // SAFETY: the caller's; rows row..row + height are there.
                    $($height if S::ROWS >= $height => unsafe {
                        tile::<S, E, $height, $width>(first, second, place, out, stride)
                    },)*
                    _ => {}
                }
            };
        }
        match place.width {
            1 => tiles!(1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            _ => tiles!(2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        }
    }

    #[inline(always)]
    unsafe fn peak(rounds: usize) -> f32 {
        // SAFETY: the caller's.
        unsafe { peak::run::<S, E>(rounds) }
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, E: Element, const M: usize, const N: usize>(
    first: &Operand<E>,
    second: Option<&Operand<E>>,
    place: &Place,
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut acc = [[S::splat(0.0); N]; M];
        accumulate::<S, E, M, N>(&mut acc, first, place);
        if let Some(second) = second {
            accumulate::<S, E, M, N>(&mut acc, second, place);
        }
        for i in 0..M {
            for j in 0..N {
                S::store(out.add(i * stride + j * S::LANES), acc[i][j]);
            }
        }
    }
}

#[inline(always)]
unsafe fn accumulate<S: Simd, E: Element, const M: usize, const N: usize>(
    acc: &mut [[S::V; N]; M],
    operand: &Operand<E>,
    place: &Place,
) {
    // SAFETY: the caller's; a panel holds the weights of all channels for N * LANES outputs.
    unsafe {
        let rows = operand.a.add(place.row * operand.stride);
        let mut b = operand.b.add(place.vector * S::LANES * operand.channels());
        // While the tiles of a panel are computed, the next panel comes in: each tile asks for its
        // share. The addresses may lie beyond the weights, so they are made without `add`'s rules.
        let step = N * S::LANES * E::GROUP * size_of::<E>();
        let other = if place.tiles == 1 && N > 1 { 64 } else { 0 };
        let (mut next, share) = match place.stream {
            true => {
                let panel = step * (operand.channels() / E::GROUP);
                let share = step / place.tiles;
                (b.cast::<u8>().wrapping_add(panel + panel / place.tiles * place.tile), share)
            }
            // What is in the first level already: asking for it costs nothing.
            false => (b.cast::<u8>(), step),
        };
        for part in 0..operand.parts {
            let a = rows.add(part * operand.part);
            let mut k = 0;
            while k < operand.k {
                let mut weights = [E::weights::<S>(b); N];
                for j in 1..N {
                    weights[j] = E::weights::<S>(b.add(j * S::LANES * E::GROUP));
                }
                for i in 0..M {
                    let x = E::splat::<S>(a.add(i * operand.stride + k));
                    for j in 0..N {
                        acc[i][j] = E::multiply::<S>(acc[i][j], x, weights[j]);
                    }
                }
                S::prefetch(next);
                S::prefetch(next.wrapping_add(other));
                next = next.wrapping_add(share);
                b = b.add(N * S::LANES * E::GROUP);
                k += E::GROUP;
            }
        }
    }
}
