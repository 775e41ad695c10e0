//! The hot path: rows of pixels times packed weights.
//!
//! A tile is `ROWS` pixels times two vectors of output channels. Each step of the inner loop loads
//! two vectors of weights, splats one channel of each pixel and makes 2 * ROWS multiply-adds: 14 x 2
//! on AVX-512 needs 28 accumulators, 2 weights and a splat of 32 registers, and 16 loads for 28
//! FMAs, so that the FMA units and not the load ports are the bound. Every output is one chain of
//! FMAs over the channels in order, whatever the tile: results depend neither on threads nor on the
//! split into tiles.

use crate::element::Element;
use crate::kernels::epilogue::Epilogue;
use crate::simd::Simd;

/// Vectors of output channels in a panel of packed weights.
pub const PANEL: usize = 2;

/// Largest LANES * ROWS * PANEL over all instruction sets: f32 in a spilled tile.
const SPILL: usize = 16 * 14 * PANEL;

/// One product: pixels [rows, stride] times weights [channels, outputs]. Weights are packed in
/// panels of [`PANEL`] vectors of outputs (see [`crate::pack`]).
#[derive(Clone, Copy)]
pub struct Operand<E> {
    /// Row 0.
    pub a: *const E,
    /// Elements from one row to the next.
    pub stride: usize,
    /// Channels, a multiple of the element's group.
    pub k: usize,
    /// Packed weights from output 0 on.
    pub b: *const E,
}

/// out[row, vector] = epilogue(sum over both operands), for some rows and vectors of outputs.
#[derive(Clone, Copy)]
pub struct Gemm<E, O> {
    /// The product.
    pub first: Operand<E>,
    /// Another one into the same sums.
    pub second: Option<Operand<E>>,
    /// Rows of `a`, each an output pixel.
    pub rows: usize,
    /// The pixel of row 0, of all images.
    pub pixel: usize,
    /// The pixel of row 0 in its image; all rows belong to it where the epilogue has a `post`.
    pub place: usize,
    /// First and last + 1 vector of outputs; the first is a multiple of [`PANEL`].
    pub vectors: (usize, usize),
    /// What becomes of the sums.
    pub epilogue: Epilogue<O>,
}

/// Computes all rows and vectors.
///
/// # Safety
/// The contract of [`Simd`]; operands hold `rows` and `vectors` as said, the epilogue's pointers all
/// their pixels.
#[inline(always)]
pub unsafe fn run<S: Simd, E: Element, O: Element>(g: &Gemm<E, O>) {
    let mut vector = g.vectors.0;
    // SAFETY: handed on from the caller; the tiles cover rows and vectors exactly.
    unsafe {
        while vector + PANEL <= g.vectors.1 {
            panel::<S, E, O, PANEL>(g, vector);
            vector += PANEL;
        }
        if vector < g.vectors.1 {
            panel::<S, E, O, 1>(g, vector);
        }
    }
}

#[inline(always)]
unsafe fn panel<S: Simd, E: Element, O: Element, const N: usize>(g: &Gemm<E, O>, vector: usize) {
    let mut row = 0;
    // Heights that an instruction set has no registers for are compiled to nothing.
    macro_rules! tiles {
        ($($height:literal)*) => {$(
            while S::ROWS >= $height && g.rows - row >= $height {
                // SAFETY: the caller's; rows row..row + height are there.
                unsafe { tile::<S, E, O, $height, N>(g, row, vector) };
                row += $height;
            }
        )*};
    }
    tiles!(14 7 6 4 2 1);
}

#[inline(always)]
unsafe fn tile<S: Simd, E: Element, O: Element, const M: usize, const N: usize>(
    g: &Gemm<E, O>,
    row: usize,
    vector: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut acc = [[S::splat(0.0); N]; M];
        accumulate::<S, E, M, N>(&mut acc, &g.first, row, vector);
        if let Some(second) = &g.second {
            accumulate::<S, E, M, N>(&mut acc, second, row, vector);
        }
        finish::<S, E, O, M, N>(&acc, g, row, vector);
    }
}

#[inline(always)]
unsafe fn accumulate<S: Simd, E: Element, const M: usize, const N: usize>(
    acc: &mut [[S::V; N]; M],
    operand: &Operand<E>,
    row: usize,
    vector: usize,
) {
    // SAFETY: the caller's; a panel holds k * N * LANES weights.
    unsafe {
        let a = operand.a.add(row * operand.stride);
        let mut b = operand.b.add(vector * S::LANES * operand.k);
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
            b = b.add(N * S::LANES * E::GROUP);
            k += E::GROUP;
        }
    }
}

#[inline(always)]
unsafe fn finish<S: Simd, E: Element, O: Element, const M: usize, const N: usize>(
    acc: &[[S::V; N]; M],
    g: &Gemm<E, O>,
    row: usize,
    vector: usize,
) {
    // SAFETY: the caller's; SPILL covers the largest tile.
    unsafe {
        let pixel = g.pixel + row;
        if g.epilogue.is_plain() {
            let out = g.epilogue.out.add(pixel * g.epilogue.stride + vector * S::LANES);
            for i in 0..M {
                for j in 0..N {
                    O::store::<S>(out.add(i * g.epilogue.stride + j * S::LANES), acc[i][j]);
                }
            }
            return;
        }
        // Indexed by variables, so it must not be `acc` itself, which lives in registers.
        let mut spill = std::mem::MaybeUninit::<[f32; SPILL]>::uninit();
        let spill = spill.as_mut_ptr().cast::<f32>();
        for i in 0..M {
            for j in 0..N {
                S::store(spill.add((i * N + j) * S::LANES), acc[i][j]);
            }
        }
        for at in 0..M * N {
            let (i, j) = (at / N, at % N);
            let v = S::load(spill.add(at * S::LANES));
            let place = g.place + row + i;
            g.epilogue.finish::<S>(v, pixel + i, place, (vector + j) * S::LANES);
        }
    }
}
