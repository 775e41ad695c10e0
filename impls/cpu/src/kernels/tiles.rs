//! The micro-kernel for a matrix unit ([`crate::simd::amx`]): the sums of a tile of up to 32 pixels
//! times two vectors of 16 outputs, in bfloat16 with f32 sums.
//!
//! The register block uses all eight tile registers: 2 x 2 accumulators (tmm0 to tmm3), two tiles
//! of pixels (tmm4 and tmm5) and two of weights (tmm6 and tmm7). So four loads serve four products,
//! which is the best ratio that eight registers allow. The weights are packed as for vectors
//! ([`crate::pack`]): a row of a weight tile holds one pair of channels for 16 outputs. If the
//! number of channels is not a multiple of 32, narrower tiles are used, so nothing beyond the
//! channels of a pixel is read.

use super::gemm::{MicroKernel, Operand, OutputTile};
use crate::element::Bf16;
use crate::simd::Simd;
use crate::simd::amx::{ROW, SIDE, Shapes, TILES, TileUnit};

/// Pairs of channels in a full tile.
const PAIRS: usize = ROW / 4;

/// The matrix unit and the shape that it is configured for.
pub struct MatrixUnit<T> {
    unit: T,
    shape: Option<Shape>,
}

/// The pixels in the upper and in the lower tiles, and the pairs of channels in one step.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    heights: [usize; 2],
    pairs: usize,
}

impl Shape {
    /// The shapes of the registers: 0 to 3 hold sums, 4 and 5 pixels, 6 and 7 weights.
    fn tiles(&self) -> Shapes {
        let mut shapes = [(0, 0); TILES];
        for (at, &height) in self.heights.iter().enumerate().filter(|(_, height)| **height > 0) {
            shapes[2 * at] = (height as u8, ROW as u16);
            shapes[2 * at + 1] = (height as u8, ROW as u16);
            shapes[4 + at] = (height as u8, 4 * self.pairs as u16);
        }
        shapes[6..].fill((self.pairs as u8, ROW as u16));
        shapes
    }
}

/// Splits the pairs of channels into steps of at most [`PAIRS`]: two ranges of (first pair, steps,
/// pairs in a step). If possible all steps have the same size and the second range is empty,
/// because another size requires that the unit is configured again.
fn split_pairs(pairs: usize) -> [(usize, usize, usize); 2] {
    let steps = pairs.div_ceil(PAIRS).max(1);
    match pairs.is_multiple_of(steps) {
        true => [(0, steps, pairs / steps), (0, 0, 0)],
        false => [(0, steps - 1, PAIRS), ((steps - 1) * PAIRS, 1, pairs - (steps - 1) * PAIRS)],
    }
}

/// The memory for the sums of a tile, f32 [height, pitch].
#[derive(Clone, Copy)]
struct SumBuffer {
    start: *mut f32,
    pitch: usize,
    wide: bool,
}

impl<S: Simd, T: TileUnit> MicroKernel<S, Bf16> for MatrixUnit<T> {
    const ROWS: usize = 2 * SIDE;
    /// A product of full tiles takes 16 cycles for 16 * 16 * 32 multiply-adds, that is 32 channels
    /// of 16 outputs in one cycle. Half of that is assumed, because the tiles must also be loaded.
    const K_PER_INSTRUCTION: usize = 16;
    const PEAK_MACS: usize = 4 * SIDE * SIDE * 2 * PAIRS;

    #[inline(always)]
    fn prepare() -> Self {
        const { assert!(S::LANES == SIDE, "a vector of outputs is a row of a tile") };
        MatrixUnit { unit: T::new(), shape: None }
    }

    #[inline(always)]
    unsafe fn compute(
        &mut self,
        first: &Operand<Bf16>,
        second: Option<&Operand<Bf16>>,
        tile: &OutputTile,
        out: *mut f32,
        pitch: usize,
    ) {
        let heights = match tile.height > SIDE {
            true => [tile.height.div_ceil(2), tile.height / 2],
            false => [tile.height, 0],
        };
        let out = SumBuffer { start: out, pitch, wide: tile.width == 2 };
        // SAFETY: the caller guarantees the rows of A, the panel and the output; `split_pairs`
        // covers each pair of a part exactly once.
        unsafe {
            self.begin(Shape { heights, pairs: split_pairs(first.k / 2)[0].2.max(1) });
            for operand in std::iter::once(first).chain(second) {
                for part in 0..operand.parts {
                    for (from, steps, pairs) in split_pairs(operand.k / 2) {
                        if steps * pairs > 0 {
                            self.reshape(Shape { heights, pairs }, &out);
                            self.multiply::<S>(operand, tile, part, (from, steps, pairs));
                        }
                    }
                }
            }
            self.store(&out);
        }
    }

    #[inline(always)]
    unsafe fn peak(rounds: usize) -> f32 {
        let mut matrix = <Self as MicroKernel<S, Bf16>>::prepare();
        let mut sums = [0.0_f32; SIDE * SIDE];
        // SAFETY: the caller has the unit; all tiles are full, so their shapes match, and `sums`
        // has the size of one.
        unsafe {
            matrix.begin(Shape { heights: [SIDE; 2], pairs: PAIRS });
            for _ in 0..rounds {
                matrix.unit.dot::<0, 4, 6>();
                matrix.unit.dot::<1, 4, 7>();
                matrix.unit.dot::<2, 5, 6>();
                matrix.unit.dot::<3, 5, 7>();
            }
            matrix.unit.store::<0>(sums.as_mut_ptr().cast(), ROW);
        }
        sums.iter().sum()
    }
}

/// Evaluates one call for each accumulator in use: `wide` tiles have two vectors of outputs, `tall`
/// ones more than 16 rows.
macro_rules! for_used_tiles {
    ($wide:expr, $tall:expr, $call:expr, $right:expr, $lower:expr, $corner:expr) => {
        $call;
        if $wide {
            $right;
        }
        if $tall {
            $lower;
        }
        if $wide && $tall {
            $corner;
        }
    };
}

impl<T: TileUnit> MatrixUnit<T> {
    fn tall(&self) -> bool {
        self.shape.is_some_and(|shape| shape.heights[1] > 0)
    }

    /// Sets all sums to zero, for tiles of this shape.
    #[inline(always)]
    unsafe fn begin(&mut self, shape: Shape) {
        // SAFETY: the caller has the unit; tiles 0 and 1 always have a shape, 2 and 3 when `tall`.
        unsafe {
            if self.shape != Some(shape) {
                self.unit.configure(&shape.tiles());
                self.shape = Some(shape);
                return;
            }
            let tall = self.tall();
            for_used_tiles!(
                true,
                tall,
                self.unit.zero::<0>(),
                self.unit.zero::<1>(),
                self.unit.zero::<2>(),
                self.unit.zero::<3>()
            );
        }
    }

    /// Changes the shape of the factors. As configuring clears all tiles, the sums are stored to
    /// `out` and loaded again.
    #[inline(always)]
    unsafe fn reshape(&mut self, shape: Shape, out: &SumBuffer) {
        if self.shape == Some(shape) {
            return;
        }
        let (pitch, tall) = (out.pitch * 4, shape.heights[1] > 0);
        // SAFETY: the caller guarantees that `out` holds the tile; only accumulators in use are
        // moved, and they have the same shape before and after.
        unsafe {
            self.store(out);
            self.unit.configure(&shape.tiles());
            self.shape = Some(shape);
            let at = |row, column| self.sum_address(out, row, column).cast_const();
            let [a, b, c, d] = [at(0, 0), at(0, 1), at(1, 0), at(1, 1)];
            for_used_tiles!(
                out.wide,
                tall,
                self.unit.load::<0>(a, pitch),
                self.unit.load::<1>(b, pitch),
                self.unit.load::<2>(c, pitch),
                self.unit.load::<3>(d, pitch)
            );
        }
    }

    /// The address of an accumulator in `out`; it may be out of bounds for one that is not in use.
    fn sum_address(&self, out: &SumBuffer, row: usize, column: usize) -> *mut u8 {
        let upper = self.shape.map_or(0, |shape| shape.heights[0]);
        out.start.wrapping_add(row * upper * out.pitch + column * SIDE).cast()
    }

    #[inline(always)]
    unsafe fn store(&mut self, out: &SumBuffer) {
        let (pitch, tall) = (out.pitch * 4, self.tall());
        let at = |row, column| self.sum_address(out, row, column);
        let [a, b, c, d] = [at(0, 0), at(0, 1), at(1, 0), at(1, 1)];
        // SAFETY: the caller guarantees that `out` holds the tile; only accumulators in use are
        // stored.
        unsafe {
            for_used_tiles!(
                out.wide,
                tall,
                self.unit.store::<0>(a, pitch),
                self.unit.store::<1>(b, pitch),
                self.unit.store::<2>(c, pitch),
                self.unit.store::<3>(d, pitch)
            );
        }
    }

    /// Accumulates `steps` steps of `pairs` pairs each, beginning at pair `from` of a part.
    #[inline(always)]
    unsafe fn multiply<S: Simd>(
        &mut self,
        operand: &Operand<Bf16>,
        tile: &OutputTile,
        part: usize,
        (from, steps, pairs): (usize, usize, usize),
    ) {
        let (wide, tall) = (tile.width == 2, self.tall());
        let upper = self.shape.map_or(0, |shape| shape.heights[0]);
        // All in bytes: a row of pixels, a row of weights, the weights of a step and of a panel.
        let row = operand.pitch * 2;
        let weights = tile.width * ROW;
        let (step, panel) = (pairs * weights, operand.channels() / 2 * weights);
        let before = (part * operand.k / 2 + from) * weights;
        // SAFETY: the caller guarantees the rows of A, the panel, and that the steps lie within
        // their channels. Prefetches may be out of bounds.
        unsafe {
            let first = tile.row * operand.pitch + part * operand.part_pitch + 2 * from;
            let mut a = operand.a.add(first).cast::<u8>();
            let lower = upper * row;
            let start = operand.b.add(tile.vector * SIDE * operand.channels()).cast::<u8>();
            let mut b = start.add(before);
            // While the tiles of a panel are computed, the next panel is prefetched.
            let share = if tile.stream { step / tile.tiles } else { 0 };
            let mut next = start.wrapping_add(panel + (panel * tile.index + before) / tile.tiles);
            for _ in 0..steps {
                self.unit.load::<4>(a, row);
                self.unit.load::<6>(b, weights);
                self.unit.dot::<0, 4, 6>();
                if wide {
                    self.unit.load::<7>(b.add(ROW), weights);
                    self.unit.dot::<1, 4, 7>();
                }
                if tall {
                    self.unit.load::<5>(a.add(lower), row);
                    self.unit.dot::<2, 5, 6>();
                }
                if wide && tall {
                    self.unit.dot::<3, 5, 7>();
                }
                for line in 0..share / ROW {
                    S::prefetch(next.wrapping_add(line * ROW));
                }
                next = next.wrapping_add(share);
                (a, b) = (a.wrapping_add(4 * pairs), b.wrapping_add(step));
            }
        }
    }
}
