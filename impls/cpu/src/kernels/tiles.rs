//! The sums of a tile by a matrix unit ([`crate::simd::amx`]).
//!
//! Up to 32 pixels times two vectors of 16 outputs: four tiles of sums, two of pixels and two of
//! weights, so that four loads serve four products. The weights lie as [`crate::pack`] lays them for
//! vectors: a row of a tile is a pair of channels of 16 outputs. Channels that do not fill tiles of 32
//! go in narrower ones: nothing beyond a pixel's channels is read.

use super::gemm::{Operand, Place, Sums};
use crate::element::Bf16;
use crate::simd::Simd;
use crate::simd::amx::{ROW, SIDE, Shapes, TILES, Tiles};

/// Pairs of channels in a whole tile.
const PAIRS: usize = ROW / 4;

/// The unit and the shapes that it was given.
pub struct Matrix<T> {
    unit: T,
    shape: Option<Shape>,
}

/// Pixels of the upper and lower tiles, and pairs of channels.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    heights: [usize; 2],
    pairs: usize,
}

impl Shape {
    /// Sums are tiles 0 to 3, pixels 4 and 5, weights 6 and 7.
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

/// Pairs of channels in steps that a tile holds: the first pair, steps and pairs of a step, of the
/// same size if that can be, for another size costs a new shape.
fn cut(pairs: usize) -> [(usize, usize, usize); 2] {
    let steps = pairs.div_ceil(PAIRS).max(1);
    match pairs.is_multiple_of(steps) {
        true => [(0, steps, pairs / steps), (0, 0, 0)],
        false => [(0, steps - 1, PAIRS), ((steps - 1) * PAIRS, 1, pairs - (steps - 1) * PAIRS)],
    }
}

/// Where the sums lie when they are not in tiles.
#[derive(Clone, Copy)]
struct Out {
    start: *mut f32,
    stride: usize,
    wide: bool,
}

impl<S: Simd, T: Tiles> Sums<S, Bf16> for Matrix<T> {
    const ROWS: usize = 2 * SIDE;
    /// A product of whole tiles takes 16 cycles, which is 32; half of that, for the tiles must come.
    const DEPTH: usize = 16;
    const PEAK_WORK: usize = 4 * SIDE * SIDE * 2 * PAIRS;

    #[inline(always)]
    fn ready() -> Self {
        const { assert!(S::LANES == SIDE, "a vector of outputs is a row of a tile") };
        Matrix { unit: T::new(), shape: None }
    }

    #[inline(always)]
    unsafe fn sums(
        &mut self,
        first: &Operand<Bf16>,
        second: Option<&Operand<Bf16>>,
        place: &Place,
        out: *mut f32,
        stride: usize,
    ) {
        let heights = match place.height > SIDE {
            true => [place.height.div_ceil(2), place.height / 2],
            false => [place.height, 0],
        };
        let out = Out { start: out, stride, wide: place.width == 2 };
        // SAFETY: the caller's; the parts below cover all channels.
        unsafe {
            self.begin(Shape { heights, pairs: cut(first.k / 2)[0].2.max(1) });
            for operand in std::iter::once(first).chain(second) {
                for part in 0..operand.parts {
                    for (from, steps, pairs) in cut(operand.k / 2) {
                        if steps * pairs > 0 {
                            self.reshape(Shape { heights, pairs }, &out);
                            self.multiply::<S>(operand, place, part, (from, steps, pairs));
                        }
                    }
                }
            }
            self.store(&out);
        }
    }

    #[inline(always)]
    unsafe fn peak(rounds: usize) -> f32 {
        let mut matrix = <Self as Sums<S, Bf16>>::ready();
        let mut sums = [0.0_f32; SIDE * SIDE];
        // SAFETY: the caller's; the tiles have shapes that fit, and the sums take a whole one.
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

/// Calls for the tiles that are there: the wide ones have two vectors, the tall ones more than 16 rows.
macro_rules! each {
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

impl<T: Tiles> Matrix<T> {
    fn tall(&self) -> bool {
        self.shape.is_some_and(|shape| shape.heights[1] > 0)
    }

    /// Sums of zero.
    #[inline(always)]
    unsafe fn begin(&mut self, shape: Shape) {
        // SAFETY: the caller's; the tiles that are zeroed have a shape.
        unsafe {
            if self.shape != Some(shape) {
                self.unit.configure(&shape.tiles());
                self.shape = Some(shape);
                return;
            }
            let tall = self.tall();
            each!(
                true,
                tall,
                self.unit.zero::<0>(),
                self.unit.zero::<1>(),
                self.unit.zero::<2>(),
                self.unit.zero::<3>()
            );
        }
    }

    /// Keeps the sums and changes the shape of what is multiplied: a new shape empties all tiles.
    #[inline(always)]
    unsafe fn reshape(&mut self, shape: Shape, out: &Out) {
        if self.shape == Some(shape) {
            return;
        }
        let (stride, tall) = (out.stride * 4, shape.heights[1] > 0);
        // SAFETY: the caller's.
        unsafe {
            self.store(out);
            self.unit.configure(&shape.tiles());
            self.shape = Some(shape);
            let at = |row, column| self.place(out, row, column).cast_const();
            let [a, b, c, d] = [at(0, 0), at(0, 1), at(1, 0), at(1, 1)];
            each!(
                out.wide,
                tall,
                self.unit.load::<0>(a, stride),
                self.unit.load::<1>(b, stride),
                self.unit.load::<2>(c, stride),
                self.unit.load::<3>(d, stride)
            );
        }
    }

    /// Where a tile of sums is stored; an address that may lie beyond what is used.
    fn place(&self, out: &Out, row: usize, column: usize) -> *mut u8 {
        let upper = self.shape.map_or(0, |shape| shape.heights[0]);
        out.start.wrapping_add(row * upper * out.stride + column * SIDE).cast()
    }

    #[inline(always)]
    unsafe fn store(&mut self, out: &Out) {
        let (stride, tall) = (out.stride * 4, self.tall());
        let at = |row, column| self.place(out, row, column);
        let [a, b, c, d] = [at(0, 0), at(0, 1), at(1, 0), at(1, 1)];
        // SAFETY: the caller's.
        unsafe {
            each!(
                out.wide,
                tall,
                self.unit.store::<0>(a, stride),
                self.unit.store::<1>(b, stride),
                self.unit.store::<2>(c, stride),
                self.unit.store::<3>(d, stride)
            );
        }
    }

    /// Some steps of so many pairs, from a pair of a part on.
    #[inline(always)]
    unsafe fn multiply<S: Simd>(
        &mut self,
        operand: &Operand<Bf16>,
        place: &Place,
        part: usize,
        (from, steps, pairs): (usize, usize, usize),
    ) {
        let (wide, tall) = (place.width == 2, self.tall());
        let upper = self.shape.map_or(0, |shape| shape.heights[0]);
        // Bytes: of a row of pixels, of a row of weights, of the weights of a step and of a panel.
        let row = operand.stride * 2;
        let weights = place.width * ROW;
        let (step, panel) = (pairs * weights, operand.channels() / 2 * weights);
        let before = (part * operand.k / 2 + from) * weights;
        // SAFETY: the caller's: rows and panel are there, and the steps lie in their channels. What is
        // asked for ahead may lie beyond the weights.
        unsafe {
            let first = place.row * operand.stride + part * operand.part + 2 * from;
            let mut a = operand.a.add(first).cast::<u8>();
            let lower = upper * row;
            let start = operand.b.add(place.vector * SIDE * operand.channels()).cast::<u8>();
            let mut b = start.add(before);
            // While the tiles of a panel are computed, the next panel comes in.
            let share = if place.stream { step / place.tiles } else { 0 };
            let mut next = start.wrapping_add(panel + (panel * place.tile + before) / place.tiles);
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
