//! Products with vector instructions. A tile is up to [`Simd::ROWS`] pixels ([`Simd::PAIR_ROWS`] if a
//! pair of bfloat16 takes two registers) times two vectors of outputs.
//!
//! Each step of the inner loop loads two vectors of weights, broadcasts one group of channels
//! (GROUP) of each pixel and executes 2 * ROWS multiply-adds. The register block is as high as the
//! registers allow: 2 * ROWS accumulators, two vectors of weights and one broadcast input. On
//! AVX-512 and NEON, with 32 registers, it is 14 x 2; on AVX2, with 16 registers, 6 x 2. A step of
//! 14 x 2 has 16 loads for 28 multiply-adds, so that the FMA units are the bottleneck and not the
//! load ports. Intel processors before Ice Lake decode four instructions in a cycle, so that a step may
//! have few others: rows are addressed without additions (`TileRows`), and the loop is unrolled. If a
//! pair of bfloat16 takes two registers, that many rows do not fit: the compiler would keep sums on the
//! stack, and most of the time would go there.
//!
//! If the weights fit the L2 cache, the inner loop goes over the panels, so that the input of a tile
//! is read once and its output is written at once. Otherwise the inner loop goes over the rows, so
//! that each panel is read from memory once. What comes next is prefetched: rows or a panel (`Ahead`).
//!
//! Every output is one chain of multiply-adds over the channels in order, whatever the tile. So the
//! results depend neither on the number of threads nor on the split into tiles.

use super::gemm::{Gemm, Operand, PANEL, ProductKernel, Rows};
use super::peak;
use crate::element::Element;
use crate::simd::{Simd, opaque, opaque_pointer};

/// The vector unit of the instruction set, for both formats.
pub struct VectorUnit;

/// Bytes of weights that stay in the L2 cache while the rows are computed.
const RESIDENT: usize = 256 * 1024;

/// Number of f32 in the largest tile over all instruction sets: LANES * ROWS * PANEL.
const SPILL: usize = 16 * 14 * PANEL;

/// Rows of the largest tile.
const fn rows<S: Simd, E: Element>() -> usize {
    if E::GROUP == 1 || S::DOT { S::ROWS } else { S::PAIR_ROWS }
}

impl<S: Simd, E: Element> ProductKernel<S, E> for VectorUnit {
    const ROWS: usize = rows::<S, E>();
    const K_PER_INSTRUCTION: usize = if S::DOT { E::GROUP } else { 1 };
    /// At a time, a kernel reads one cache line of each row; all rows would otherwise lie in one or
    /// two sets.
    const PADDING: [usize; 2] = [2048, 64];
    const PEAK_MACS: usize = peak::work(S::LANES, E::GROUP);

    /// Each line is a product of its own: a tile that went on across a gap would compute rows in
    /// vain.
    #[inline(always)]
    unsafe fn run<O: Element>(g: &Gemm<E, O>) {
        for line in 0..g.rows.lines {
            let (row, pixel) = (line * (g.rows.width + g.rows.gap), line * g.rows.width);
            // SAFETY: the caller guarantees the rows and pixels of every line.
            unsafe {
                let skip = |o: Operand<E>| Operand { a: o.a.add(row * o.pitch), ..o };
                run_line::<S, E, O>(&Gemm {
                    first: skip(g.first),
                    second: g.second.map(skip),
                    rows: Rows::dense(g.rows.width),
                    pixel: g.pixel + pixel,
                    image_pixel: g.image_pixel + pixel,
                    ..*g
                });
            }
        }
    }

    #[inline(always)]
    unsafe fn peak(rounds: usize) -> f32 {
        // SAFETY: the caller has the instruction set; no caller's memory is used.
        unsafe { peak::run::<S, E>(rounds) }
    }
}

/// Computes the rows of one line.
#[inline(always)]
unsafe fn run_line<S: Simd, E: Element, O: Element>(g: &Gemm<E, O>) {
    let k = g.first.channels() + g.second.map_or(0, |second| second.channels());
    let weights = k * (g.vectors.1 - g.vectors.0) * S::LANES * size_of::<E>();
    let rows = g.rows.width;
    let (tiles, panels) =
        (rows.div_ceil(self::rows::<S, E>()), (g.vectors.1 - g.vectors.0).div_ceil(PANEL));
    let stream = g.stream || weights > RESIDENT;
    let (outer, inner) = if stream { (panels, tiles) } else { (tiles, panels) };
    let heights = (rows / tiles.max(1), rows % tiles.max(1));
    for i in 0..outer {
        for j in 0..inner {
            let (index, panel) = if stream { (j, i) } else { (i, j) };
            let (row, height) = rows_of(heights, index);
            let vector = g.vectors.0 + panel * PANEL;
            let width = PANEL.min(g.vectors.1 - vector);
            let turn = (j, inner);
            let tile = OutputTile { row, height, vector, width, stream, turn };
            // SAFETY: the caller's contract; `row + height <= rows` by `rows_of`, and
            // `vector + width` is at most the end of `vectors`.
            unsafe { run_tile::<S, E, O>(g, &tile) };
        }
    }
}

/// First row and height of a tile, from the least height and the number of tiles that are a row higher.
/// Heights are as equal as possible: two tiles of 8 rows are faster than 14 and 2.
#[inline(always)]
fn rows_of((height, taller): (usize, usize), index: usize) -> (usize, usize) {
    (index * height + index.min(taller), height + usize::from(index < taller))
}

/// One tile of the output.
struct OutputTile {
    /// First row of the tile.
    row: usize,
    /// Number of rows, up to those of [`ProductKernel::ROWS`].
    height: usize,
    /// First vector of outputs of the tile.
    vector: usize,
    /// Number of vectors of outputs, up to [`PANEL`].
    width: usize,
    /// Whether the weights are read panel by panel, and do not stay in the cache.
    stream: bool,
    /// Index of the tile in the inner loop, and the number of tiles there.
    turn: (usize, usize),
}

/// Computes one tile and applies the epilogue.
#[inline(always)]
unsafe fn run_tile<S: Simd, E: Element, O: Element>(g: &Gemm<E, O>, tile: &OutputTile) {
    let pixel = g.pixel + tile.row;
    let mut spill = std::mem::MaybeUninit::<[f32; SPILL]>::uninit();
    let spill = spill.as_mut_ptr().cast::<f32>();
    let second = g.second.as_ref();
    // SAFETY: the tile lies within the rows and outputs for which the caller guarantees all
    // pointers, and `spill` has SPILL elements, which covers the largest tile.
    unsafe {
        if g.epilogue.is_plain() && O::IS_F32 {
            let at = pixel * g.epilogue.pitch + tile.vector * S::LANES;
            let out = g.epilogue.out.add(at).cast::<f32>();
            return compute::<S, E>(&g.first, second, tile, out, g.epilogue.pitch);
        }
        // For bfloat16, whose maps are half as large, prefetching was measured to cost more than it
        // gains.
        if O::IS_F32 {
            let at = pixel * g.epilogue.pitch + tile.vector * S::LANES;
            g.epilogue.prefetch::<S>(at, tile.height, tile.width);
        }
        compute::<S, E>(&g.first, second, tile, spill, PANEL * S::LANES);
        let first = [pixel, g.image_pixel + tile.row];
        for j in 0..tile.width {
            let (sums, channel) = (spill.add(j * S::LANES), (tile.vector + j) * S::LANES);
            g.epilogue.apply_pixels::<S>(sums, PANEL * S::LANES, tile.height, first, channel);
        }
    }
}

/// Computes the sums of a tile over both operands and stores them at `out` as f32 [height, pitch],
/// with `width` vectors in each row.
#[inline(always)]
unsafe fn compute<S: Simd, E: Element>(
    first: &Operand<E>,
    second: Option<&Operand<E>>,
    tile: &OutputTile,
    out: *mut f32,
    pitch: usize,
) {
    // For heights above `rows` the guard is a constant false, so they generate no code.
    macro_rules! tiles {
        ($width:literal: $($height:literal)*) => {
            match tile.height {
                // SAFETY: the caller guarantees the rows `row..row + height` of A, the panel and
                // the output.
                $($height if rows::<S, E>() >= $height => unsafe {
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

/// Steps of the inner loop that are written out one after the other in the tiles of most rows, so that
/// they share the loop's own instructions. A processor that decodes four instructions in a cycle has none
/// to spare.
const UNROLL: usize = 4;

/// Steps in a round of the inner loop of a tile of M rows and N vectors. Unrolled loops take long to
/// compile, and nearly all tiles of large products have the greatest height or one row less.
const fn unrolled<S: Simd, E: Element>(m: usize, n: usize) -> usize {
    if n == PANEL && m + 1 >= rows::<S, E>() { UNROLL } else { 1 }
}

#[inline(always)]
unsafe fn accumulate<S: Simd, E: Element, const M: usize, const N: usize>(
    acc: &mut [[S::V; N]; M],
    operand: &Operand<E>,
    tile: &OutputTile,
) {
    let steps = unrolled::<S, E>(M, N);
    // SAFETY: the caller guarantees M rows of A from `tile.row` on; a panel holds the weights of
    // all channels for N * LANES outputs, and `b` advances by exactly that.
    unsafe {
        let first = operand.a.add(tile.row * operand.pitch);
        let mut b = operand.b.add(tile.vector * S::LANES * operand.channels());
        let step_size = N * S::LANES * E::GROUP;
        let panel = N * S::LANES * operand.channels();
        let (next, elements) = match tile.stream {
            true => (b.wrapping_add(panel), panel),
            // A band has just been written, and in a loop that is not unrolled a prefetch for each step
            // costs more than it gains.
            false if operand.parts > 1 || steps == 1 => (b, 0),
            false => (first.wrapping_add(M * operand.pitch), M * operand.pitch),
        };
        let rounds = operand.channels() / (E::GROUP * steps);
        let mut ahead = Ahead::new(next, elements, rounds, tile.turn);
        for part in 0..operand.parts {
            let mut rows = TileRows::new(first.add(part * operand.part_pitch), operand.pitch);
            let mut left = operand.k / E::GROUP;
            while left >= steps {
                step::<S, E, M, N>(acc, &rows, b, 0);
                if steps == UNROLL {
                    step::<S, E, M, N>(acc, &rows, b, 1);
                    step::<S, E, M, N>(acc, &rows, b, 2);
                    step::<S, E, M, N>(acc, &rows, b, 3);
                }
                ahead.prefetch::<S>();
                rows.advance::<M>(steps * E::GROUP);
                b = b.add(steps * step_size);
                left -= steps;
            }
            while left > 0 {
                step::<S, E, M, N>(acc, &rows, b, 0);
                rows.advance::<M>(E::GROUP);
                b = b.add(step_size);
                left -= 1;
            }
        }
    }
}

/// Multiplies group `at` of channels, counted from where `rows` and `b` stand.
#[inline(always)]
unsafe fn step<S: Simd, E: Element, const M: usize, const N: usize>(
    acc: &mut [[S::V; N]; M],
    rows: &TileRows<E>,
    b: *const E,
    at: usize,
) {
    // SAFETY: the caller guarantees this group of channels in M rows and in N vectors of weights.
    unsafe {
        let b = b.add(at * N * S::LANES * E::GROUP);
        let mut weights = [E::load_weights::<S>(b); N];
        for j in 1..N {
            weights[j] = E::load_weights::<S>(b.add(j * S::LANES * E::GROUP));
        }
        for i in 0..M {
            let x = E::splat::<S>(rows.at(i).add(at * E::GROUP));
            for j in 0..N {
                acc[i][j] = E::multiply_add::<S>(acc[i][j], x, weights[j]);
            }
        }
    }
}

/// Where the rows of a tile are read next.
///
/// An address of x86 is a register plus another one times 1, 2, 4 or 8, so that two pointers, and the
/// pitch times 1, 3 and 5, reach all rows without an instruction. Left to itself, the compiler adds the
/// pitch once for each row and step, which takes more time on an Intel processor than the loads.
struct TileRows<E> {
    /// Rows 0 and [`REACH`].
    rows: [*const E; 2],
    /// Elements in 1, 3 and 5 rows.
    pitches: [usize; 3],
}

/// Rows that are reached from one pointer.
const REACH: usize = 7;

impl<E> TileRows<E> {
    #[inline(always)]
    fn new(first: *const E, pitch: usize) -> Self {
        // The second pointer is not used by a tile that has no such row.
        let rows = [first, first.wrapping_add(REACH * pitch)];
        TileRows { rows: rows.map(opaque_pointer), pitches: [1, 3, 5].map(|n| opaque(n * pitch)) }
    }

    #[inline(always)]
    fn at(&self, row: usize) -> *const E {
        let [one, three, five] = self.pitches;
        let offset = [0, one, 2 * one, three, 4 * one, five, 2 * three][row % REACH];
        self.rows[row / REACH].wrapping_add(offset)
    }

    /// Moves the pointers forward by `channels` channels, in a tile of M rows.
    #[inline(always)]
    fn advance<const M: usize>(&mut self, channels: usize) {
        for rows in self.rows.iter_mut().take(M.div_ceil(REACH)) {
            *rows = opaque_pointer(rows.wrapping_add(channels));
        }
    }
}

/// While the tiles of the inner loop are computed, what the next turn of the outer loop reads is prefetched:
/// the next panel of weights, or the rows of the next tiles. Each tile requests its share.
struct Ahead {
    /// What is prefetched next. It may lie beyond the weights or the map.
    next: *const u8,
    /// Bytes for each round of the inner loop of a tile.
    share: usize,
    /// The same in cache lines.
    lines: usize,
}

impl Ahead {
    /// For `elements` elements at `next`, and a tile of `rounds` rounds whose turn is `turn.0` of `turn.1`.
    #[inline(always)]
    fn new<E>(next: *const E, elements: usize, rounds: usize, turn: (usize, usize)) -> Self {
        let rounds_of_all = (rounds * turn.1).max(1);
        // A division of 32 bits is faster. Should it ever overflow, something else is prefetched.
        let share = ((elements * size_of::<E>()) as u32 / rounds_of_all as u32) as usize;
        let next = next.cast::<u8>().wrapping_add(share * rounds * turn.0);
        // A small bound that the compiler knows: with any number of lines, it keeps sums on the stack.
        Ahead { next, share, lines: share.div_ceil(64).min(UNROLL) }
    }

    /// Requests the share of one round.
    ///
    /// # Safety
    /// The contract of [`Simd`].
    #[inline(always)]
    unsafe fn prefetch<S: Simd>(&mut self) {
        for line in 0..self.lines {
            // SAFETY: the caller has the instruction set, and a prefetch of any address is harmless.
            unsafe { S::prefetch(self.next.wrapping_add(line * 64)) };
        }
        self.next = self.next.wrapping_add(self.share);
    }
}
