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
    /// Whether the weights come from afar whatever their number: they are read once, and those of the
    /// next product lie behind them.
    pub stream: bool,
    /// First and last + 1 vector of outputs; both are multiples of [`PANEL`], or the last is the end.
    pub vectors: (usize, usize),
    /// What becomes of the sums.
    pub epilogue: Epilogue<O>,
}

/// Bytes of weights that stay in the second cache level while rows go by.
const RESIDENT: usize = 256 * 1024;

/// Computes all rows and vectors.
///
/// Few weights stay in the cache: then a tile of rows takes all panels, so that its input is read
/// once and its output written in one go. Otherwise a panel takes all rows.
///
/// # Safety
/// The contract of [`Simd`]; operands hold `rows` and `vectors` as said, the epilogue's pointers all
/// their pixels.
#[inline(always)]
pub unsafe fn run<S: Simd, E: Element, O: Element>(g: &Gemm<E, O>) {
    let k = g.first.k + g.second.map_or(0, |second| second.k);
    let weights = k * (g.vectors.1 - g.vectors.0) * S::LANES * size_of::<E>();
    let (tiles, panels) = (g.rows.div_ceil(S::ROWS), (g.vectors.1 - g.vectors.0).div_ceil(PANEL));
    let stream = g.stream || weights > RESIDENT;
    for at in 0..tiles * panels {
        let (tile, panel) = match stream {
            true => (at % tiles, at / tiles),
            false => (at / panels, at % panels),
        };
        let place = Place { tile, tiles, vector: g.vectors.0 + panel * PANEL, stream };
        // SAFETY: handed on from the caller; the tiles cover rows and vectors exactly.
        unsafe { tile_at::<S, E, O>(g, &place) };
    }
}

/// First row and height of a tile, as even as can be: two tiles of 8 are better than 14 and 2.
#[inline(always)]
fn rows_of(rows: usize, tiles: usize, tile: usize) -> (usize, usize) {
    let (low, more) = (rows / tiles, rows % tiles);
    (tile * low + tile.min(more), low + usize::from(tile < more))
}

/// A tile: the how manieth of how many along the rows, and its first vector of outputs.
struct Place {
    tile: usize,
    tiles: usize,
    vector: usize,
    /// Whether the next panel has to come from afar.
    stream: bool,
}

/// One tile with its epilogue.
#[inline(always)]
unsafe fn tile_at<S: Simd, E: Element, O: Element>(g: &Gemm<E, O>, place: &Place) {
    let (row, height) = rows_of(g.rows, place.tiles, place.tile);
    let vector = place.vector;
    let width = PANEL.min(g.vectors.1 - vector);
    let pixel = g.pixel + row;
    let mut spill = std::mem::MaybeUninit::<[f32; SPILL]>::uninit();
    let spill = spill.as_mut_ptr().cast::<f32>();
    // SAFETY: the caller's; SPILL covers the largest tile.
    unsafe {
        if g.epilogue.is_plain() && O::IS_F32 {
            let at = pixel * g.epilogue.stride + vector * S::LANES;
            let out = g.epilogue.out.add(at).cast::<f32>();
            return sums::<S, E, O>(g, place, (row, height), width, out, g.epilogue.stride);
        }
        // Maps of bfloat16 are half as large and come in time: measured, asking costs more there.
        for i in 0..if O::IS_F32 { height } else { 0 } {
            let at = (pixel + i) * g.epilogue.stride + vector * S::LANES;
            g.epilogue.prefetch::<S>(at, width);
        }
        sums::<S, E, O>(g, place, (row, height), width, spill, PANEL * S::LANES);
        for j in 0..width {
            let channel = (vector + j) * S::LANES;
            let affine = g.epilogue.affine::<S>(channel);
            for i in 0..height {
                let v = S::load(spill.add((i * PANEL + j) * S::LANES));
                let place = g.place + row + i;
                g.epilogue.finish_with::<S>(v, affine, pixel + i, place, channel);
            }
        }
    }
}

/// The sums of one tile, stored as f32 at `out` with `stride` from row to row.
#[inline(always)]
unsafe fn sums<S: Simd, E: Element, O: Element>(
    g: &Gemm<E, O>,
    place: &Place,
    (row, height): (usize, usize),
    width: usize,
    out: *mut f32,
    stride: usize,
) {
    // Heights that an instruction set has no registers for are compiled to nothing.
    macro_rules! tiles {
        ($width:literal: $($height:literal)*) => {
            match height {
                // SAFETY: the caller's; rows row..row + height are there.
                $($height if S::ROWS >= $height => unsafe {
                    tile::<S, E, O, $height, $width>(g, place, row, out, stride)
                },)*
                _ => {}
            }
        };
    }
    match width {
        1 => tiles!(1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        _ => tiles!(2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, E: Element, O: Element, const M: usize, const N: usize>(
    g: &Gemm<E, O>,
    place: &Place,
    row: usize,
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut acc = [[S::splat(0.0); N]; M];
        accumulate::<S, E, M, N>(&mut acc, &g.first, place, row);
        if let Some(second) = &g.second {
            accumulate::<S, E, M, N>(&mut acc, second, place, row);
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
    row: usize,
) {
    // SAFETY: the caller's; a panel holds k * N * LANES weights.
    unsafe {
        let a = operand.a.add(row * operand.stride);
        let mut b = operand.b.add(place.vector * S::LANES * operand.k);
        // While the tiles of a panel are computed, the next panel comes in: each tile asks for its
        // share. The addresses may lie beyond the weights, so they are made without `add`'s rules.
        let step = N * S::LANES * E::GROUP * size_of::<E>();
        let other = if place.tiles == 1 && N > 1 { 64 } else { 0 };
        let (mut next, share) = match place.stream {
            true => {
                let panel = step * (operand.k / E::GROUP);
                let share = step / place.tiles;
                (b.cast::<u8>().wrapping_add(panel + panel / place.tiles * place.tile), share)
            }
            // What is in the first level already: asking for it costs nothing.
            false => (b.cast::<u8>(), step),
        };
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
