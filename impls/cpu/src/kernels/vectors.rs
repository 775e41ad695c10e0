//! The micro-kernel for vector instructions: the sums of a tile of up to [`Simd::ROWS`] pixels
//! times two vectors of outputs.
//!
//! Each step of the inner loop loads two vectors of weights, broadcasts one group of channels
//! (GROUP) of each pixel and executes 2 * ROWS multiply-adds. The register block is as high as the
//! registers allow: 2 * ROWS accumulators, two vectors of weights and one broadcast input. On
//! AVX-512 and NEON, with 32 registers, it is 14 x 2; on AVX2, with 16 registers, 6 x 2. A step of
//! 14 x 2 has 16 loads for 28 multiply-adds, so that the FMA units are the bottleneck and not the
//! load ports.
//!
//! Every output is one chain of multiply-adds over the channels in order, whatever the tile. So the
//! results depend neither on the number of threads nor on the split into tiles.

use super::gemm::{MicroKernel, Operand, OutputTile};
use super::peak;
use crate::element::Element;
use crate::simd::Simd;

/// The vector unit of the instruction set, for both formats.
pub struct VectorUnit;

impl<S: Simd, E: Element> MicroKernel<S, E> for VectorUnit {
    const ROWS: usize = S::ROWS;
    const K_PER_INSTRUCTION: usize = if S::DOT { E::GROUP } else { 1 };
    const PEAK_MACS: usize = peak::work(S::LANES, E::GROUP);

    #[inline(always)]
    fn prepare() -> Self {
        VectorUnit
    }

    #[inline(always)]
    unsafe fn compute(
        &mut self,
        first: &Operand<E>,
        second: Option<&Operand<E>>,
        tile: &OutputTile,
        out: *mut f32,
        pitch: usize,
    ) {
        // For heights above `S::ROWS` the guard is a constant false, so they generate no code.
        macro_rules! tiles {
            ($width:literal: $($height:literal)*) => {
                match tile.height {
                    // SAFETY: the caller guarantees the rows `row..row + height` of A, the panel
                    // and the output.
                    $($height if S::ROWS >= $height => unsafe {
                        compute_tile::<S, E, $height, $width>(first, second, tile, out, pitch)
                    },)*
                    _ => {}
                }
            };
        }
        match tile.width {
            1 => tiles!(1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            _ => tiles!(2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        }
    }

    #[inline(always)]
    unsafe fn peak(rounds: usize) -> f32 {
        // SAFETY: the caller has the instruction set; no caller's memory is used.
        unsafe { peak::run::<S, E>(rounds) }
    }
}

#[inline(always)]
unsafe fn compute_tile<S: Simd, E: Element, const M: usize, const N: usize>(
    first: &Operand<E>,
    second: Option<&Operand<E>>,
    tile: &OutputTile,
    out: *mut f32,
    pitch: usize,
) {
    // SAFETY: the caller guarantees M rows of both operands, N vectors of their weights, and M rows
    // of N vectors at `out`.
    unsafe {
        let mut acc = [[S::splat(0.0); N]; M];
        accumulate::<S, E, M, N>(&mut acc, first, tile);
        if let Some(second) = second {
            accumulate::<S, E, M, N>(&mut acc, second, tile);
        }
        for i in 0..M {
            for j in 0..N {
                S::store(out.add(i * pitch + j * S::LANES), acc[i][j]);
            }
        }
    }
}

#[inline(always)]
unsafe fn accumulate<S: Simd, E: Element, const M: usize, const N: usize>(
    acc: &mut [[S::V; N]; M],
    operand: &Operand<E>,
    tile: &OutputTile,
) {
    // SAFETY: the caller guarantees M rows of A from `tile.row` on; a panel holds the weights of
    // all channels for N * LANES outputs, and `b` advances by exactly that. Prefetches may be out
    // of bounds.
    unsafe {
        let rows = operand.a.add(tile.row * operand.pitch);
        let mut b = operand.b.add(tile.vector * S::LANES * operand.channels());
        // While the tiles of a panel are computed, the next panel is prefetched: each tile requests
        // its share. The addresses may lie beyond the weights, so they are made with
        // `wrapping_add`.
        let step = N * S::LANES * E::GROUP * size_of::<E>();
        let other = if tile.tiles == 1 && N > 1 { 64 } else { 0 };
        let (mut next, share) = match tile.stream {
            true => {
                let panel = step * (operand.channels() / E::GROUP);
                let share = step / tile.tiles;
                (b.cast::<u8>().wrapping_add(panel + panel / tile.tiles * tile.index), share)
            }
            // These weights are in the L1 cache already; prefetching them again costs nothing.
            false => (b.cast::<u8>(), step),
        };
        for part in 0..operand.parts {
            let a = rows.add(part * operand.part_pitch);
            let mut k = 0;
            while k < operand.k {
                let mut weights = [E::load_weights::<S>(b); N];
                for j in 1..N {
                    weights[j] = E::load_weights::<S>(b.add(j * S::LANES * E::GROUP));
                }
                for i in 0..M {
                    let x = E::splat::<S>(a.add(i * operand.pitch + k));
                    for j in 0..N {
                        acc[i][j] = E::multiply_add::<S>(acc[i][j], x, weights[j]);
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
