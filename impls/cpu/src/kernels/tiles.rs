//! Products with a matrix unit ([`crate::simd::amx`]), in bfloat16 with f32 sums.
//!
//! The register block uses all eight tile registers: 2 x 2 accumulators (tmm0 to tmm3), two tiles
//! of pixels (tmm4 and tmm5) and two of weights (tmm6 and tmm7). So a step of 32 channels has four
//! loads for four products, which is the best ratio that eight registers allow. The four products
//! of full tiles take 64 cycles, in which the loads read 64 cache lines: more than the L2 cache
//! gives. So the loops are nested such that the weights come from the L1 cache:
//!
//! ```text
//! for each block of up to 4 tiles of 32 rows
//!     for each panel of 32 outputs
//!         for each stretch of up to DEPTH channels     its weights stay in the L1 cache
//!             for each tile of the block
//!                 sums += pixels * weights             the sums of the other tiles are in memory
//! ```
//!
//! Pixels are read from the L2 cache, two tiles for four products, and prefetched; so are the
//! weights of the next stretch. All tiles of a block have the same shape, so that the unit is
//! configured once: the last one begins early enough to end with the block, and the rows that it
//! shares with the tile before are computed twice. Rows in gaps ([`super::gemm::Rows`]) are
//! computed in vain, so that a tile goes on across the lines of a map.
//!
//! The weights are packed as for vectors ([`crate::pack`]): a row of a weight tile holds one pair of
//! channels for 16 outputs. If the number of channels is not a multiple of 32, narrower tiles are
//! used, so nothing beyond the channels of a pixel is read.
//!
//! `examples/traffic.rs` counts what a product reads from which cache.

use std::mem::MaybeUninit;

use super::gemm::{Gemm, Operand, PANEL, ProductKernel};
use crate::element::{Bf16, Element};
use crate::simd::Simd;
use crate::simd::amx::{ROW, SIDE, Shapes, TILES, TileUnit};

/// Rows of the largest tile: two tile registers.
const ROWS: usize = 2 * SIDE;
/// Tiles in a block of rows.
const BLOCK: usize = 4;
/// Elements in the sums of a tile, f32 [ROWS, PANEL * SIDE].
const SUMS: usize = ROWS * PANEL * SIDE;
/// Bytes from one row of the sums of a tile to the next.
const SUM_PITCH: usize = PANEL * ROW;
/// Largest number of channels whose weights are kept in the L1 cache for a block of rows.
const DEPTH: usize = 256;
/// How many steps ahead pixels are prefetched.
const AHEAD: usize = 2;
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
    let steps = pairs.div_ceil(PAIRS);
    match pairs.is_multiple_of(steps) {
        true => [(0, steps, pairs / steps), (0, 0, 0)],
        false => [(0, steps - 1, PAIRS), ((steps - 1) * PAIRS, 1, pairs - (steps - 1) * PAIRS)],
    }
}

/// A stretch of the channels of an operand: `steps` steps of `pairs` pairs each, from pair `from` of
/// a part on.
#[derive(Clone, Copy)]
struct Stretch {
    part: usize,
    from: usize,
    steps: usize,
    pairs: usize,
}

/// The stretches of an operand, in order. An operand without channels has one, without steps.
fn stretches<E>(operand: &Operand<E>) -> impl Iterator<Item = Stretch> {
    let ranges = match operand.k {
        0 => [(0, 0, 1), (0, 0, 0)],
        k => split_pairs(k / 2),
    };
    (0..operand.parts).flat_map(move |part| {
        let used = ranges.into_iter().filter(|(_, _, pairs)| *pairs > 0);
        used.flat_map(move |(from, steps, pairs)| {
            let count = (2 * steps * pairs).div_ceil(DEPTH).max(1);
            (0..count).map(move |at| {
                let first = steps * at / count;
                let steps = steps * (at + 1) / count - first;
                Stretch { part, from: from + first * pairs, steps, pairs }
            })
        })
    })
}

/// The sums of all tiles of a block. A row of a tile register is one cache line.
#[repr(align(64))]
#[allow(dead_code, reason = "written and read by the unit, through a pointer")]
struct BlockSums([f32; BLOCK * SUMS]);

/// One tile of the output: rows of A and vectors of outputs.
struct Tile {
    row: usize,
    height: usize,
    vector: usize,
    width: usize,
    /// Number of tiles that share a stretch of weights.
    sharing: usize,
}

impl<S: Simd, T: TileUnit> ProductKernel<S, Bf16> for MatrixUnit<T> {
    const ROWS: usize = ROWS;
    /// A product of full tiles takes 16 cycles for 16 * 16 * 32 multiply-adds, that is 32 channels
    /// of 16 outputs in one cycle, which the model takes for the time of one instruction.
    const K_PER_INSTRUCTION: usize = 2 * PAIRS;
    /// A stretch of `DEPTH` channels is 512 bytes of each row. With a multiple of 1024 bytes between
    /// rows, those of a tile would fill half of the sets. A band is not padded, so with 512 channels
    /// its weights do not stay in the L1 cache.
    const PADDING: [usize; 2] = [1024, 512];
    const PEAK_MACS: usize = 4 * SIDE * SIDE * 2 * PAIRS;

    #[inline(always)]
    unsafe fn run<O: Element>(g: &Gemm<Bf16, O>) {
        const { assert!(S::LANES == SIDE, "a vector of outputs is a row of a tile") };
        let mut matrix = MatrixUnit { unit: T::new(), shape: None };
        let rows = g.rows.total();
        let blocks = rows.div_ceil(BLOCK * ROWS);
        for block in 0..blocks {
            let (from, to) = (rows * block / blocks, rows * (block + 1) / blocks);
            for vector in (g.vectors.0..g.vectors.1).step_by(PANEL) {
                // SAFETY: the caller's contract; the rows are below `rows`, and the panel is one of
                // those of `vectors`.
                unsafe { matrix.panel::<S, O>(g, (from, to), vector) };
            }
        }
    }

    #[inline(always)]
    unsafe fn peak(rounds: usize) -> f32 {
        let mut matrix = MatrixUnit { unit: T::new(), shape: None };
        let mut sums = [0.0_f32; SIDE * SIDE];
        // SAFETY: the caller has the unit; all tiles are full, so their shapes match, and `sums`
        // has the size of one.
        unsafe {
            matrix.configure(Shape { heights: [SIDE; 2], pairs: PAIRS });
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

    /// Configures the unit, unless it has this shape already. It leaves the sums undefined.
    #[inline(always)]
    unsafe fn configure(&mut self, shape: Shape) {
        if self.shape != Some(shape) {
            // SAFETY: the caller has the unit.
            unsafe { self.unit.configure(&shape.tiles()) };
            self.shape = Some(shape);
        }
    }

    /// Computes the rows `from..to` for the panel that begins at `vector`.
    #[inline(always)]
    unsafe fn panel<S: Simd, O: Element>(
        &mut self,
        g: &Gemm<Bf16, O>,
        (from, to): (usize, usize),
        vector: usize,
    ) {
        let tiles = (to - from).div_ceil(ROWS);
        let height = (to - from).div_ceil(tiles);
        let heights = if height > SIDE { [height.div_ceil(2), height / 2] } else { [height, 0] };
        let width = PANEL.min(g.vectors.1 - vector);
        let mut sums = MaybeUninit::<BlockSums>::uninit();
        let sums = sums.as_mut_ptr().cast::<f32>();
        let all = || {
            let operands = std::iter::once(&g.first).chain(g.second.as_ref());
            operands.flat_map(|operand| stretches(operand).map(move |stretch| (operand, stretch)))
        };
        let last = all().count() - 1;
        for (at, (operand, stretch)) in all().enumerate() {
            for index in 0..=tiles {
                let tile = |index: usize| {
                    let row = (from + index * height).min(to - height);
                    Tile { row, height, vector, width, sharing: tiles }
                };
                // SAFETY: `sums` holds BLOCK tiles, of which there are at most that many. The rows
                // end at `to`, for which the caller guarantees A. From the second stretch on, the
                // sums were stored for the one before; a tile is finished after its last stretch.
                unsafe {
                    let sums_of = |index: usize| sums.add(index * SUMS);
                    if index < tiles {
                        self.configure(Shape { heights, pairs: stretch.pairs });
                        self.begin(sums_of(index), at > 0, width == 2);
                        self.multiply::<S>(operand, &tile(index), stretch, index);
                    }
                    // The unit computes this tile while vector instructions finish the one before.
                    if at == last && index > 0 {
                        let before = index - 1;
                        let first = from + before * height;
                        finish::<S, O>(g, &tile(before), first, sums_of(before));
                    }
                    if index < tiles {
                        self.store(sums_of(index), width == 2);
                    }
                }
            }
        }
    }

    /// The bytes of the sums at which the four accumulators lie.
    fn sum_offsets(&self) -> [usize; 4] {
        let lower = self.shape.map_or(0, |shape| shape.heights[0]) * SUM_PITCH;
        [0, ROW, lower, lower + ROW]
    }

    /// Sets the sums to zero, or loads those that were stored.
    #[inline(always)]
    unsafe fn begin(&mut self, sums: *const f32, stored: bool, wide: bool) {
        let (from, tall) = (sums.cast::<u8>(), self.tall());
        let offsets = self.sum_offsets();
        // SAFETY: the caller guarantees the sums of a tile; only accumulators with a shape are used,
        // whose rows lie within it.
        unsafe {
            if stored {
                for_used_tiles!(
                    wide,
                    tall,
                    self.unit.load::<0>(from.add(offsets[0]), SUM_PITCH),
                    self.unit.load::<1>(from.add(offsets[1]), SUM_PITCH),
                    self.unit.load::<2>(from.add(offsets[2]), SUM_PITCH),
                    self.unit.load::<3>(from.add(offsets[3]), SUM_PITCH)
                );
            } else {
                for_used_tiles!(
                    wide,
                    tall,
                    self.unit.zero::<0>(),
                    self.unit.zero::<1>(),
                    self.unit.zero::<2>(),
                    self.unit.zero::<3>()
                );
            }
        }
    }

    /// Stores the sums.
    #[inline(always)]
    unsafe fn store(&mut self, sums: *mut f32, wide: bool) {
        let (to, tall) = (sums.cast::<u8>(), self.tall());
        let offsets = self.sum_offsets();
        // SAFETY: the caller guarantees the sums of a tile; only accumulators with a shape are used,
        // whose rows lie within it.
        unsafe {
            for_used_tiles!(
                wide,
                tall,
                self.unit.store::<0>(to.add(offsets[0]), SUM_PITCH),
                self.unit.store::<1>(to.add(offsets[1]), SUM_PITCH),
                self.unit.store::<2>(to.add(offsets[2]), SUM_PITCH),
                self.unit.store::<3>(to.add(offsets[3]), SUM_PITCH)
            );
        }
    }

    /// Accumulates a stretch of channels for tile `index` of those that share its weights.
    #[inline(always)]
    unsafe fn multiply<S: Simd>(
        &mut self,
        operand: &Operand<Bf16>,
        tile: &Tile,
        stretch: Stretch,
        index: usize,
    ) {
        let (wide, tall) = (tile.width == 2, self.tall());
        let upper = self.shape.map_or(0, |shape| shape.heights[0]);
        // All in bytes: a row of pixels, a row of weights, the weights of a step.
        let row = operand.pitch * 2;
        let weights = tile.width * ROW;
        let step = stretch.pairs * weights;
        let before = (stretch.part * operand.k / 2 + stretch.from) * weights;
        // SAFETY: the caller guarantees the rows of A and the panel, within whose channels the
        // stretch lies. Prefetches may be out of bounds.
        unsafe {
            let part = stretch.part * operand.part_pitch + 2 * stretch.from;
            let mut a = operand.a.add(tile.row * operand.pitch + part).cast::<u8>();
            let lower = upper * row;
            let panel = operand.b.add(tile.vector * SIDE * operand.channels()).cast::<u8>();
            let mut b = panel.add(before);
            // The weights of the next stretch follow in memory; each tile prefetches its share.
            let share = step.div_ceil(tile.sharing);
            let mut next = b.wrapping_add(stretch.steps * (step + index * share));
            for _ in 0..stretch.steps {
                self.unit.load::<6>(b, weights);
                self.unit.load::<4>(a, row);
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
                for line in 0..share.div_ceil(ROW) {
                    S::prefetch_near(next.wrapping_add(line * ROW));
                }
                for pixel in 0..tile.height {
                    S::prefetch_near(a.wrapping_add(pixel * row + AHEAD * 4 * stretch.pairs));
                }
                next = next.wrapping_add(share);
                (a, b) = (a.wrapping_add(4 * stretch.pairs), b.wrapping_add(step));
            }
        }
    }
}

/// Applies the epilogue to the sums of a tile, from row `first` on, which is not before the tile.
#[inline(always)]
unsafe fn finish<S: Simd, O: Element>(
    g: &Gemm<Bf16, O>,
    tile: &Tile,
    first: usize,
    sums: *const f32,
) {
    for j in 0..tile.width {
        let channel = (tile.vector + j) * S::LANES;
        // SAFETY: the caller guarantees the epilogue's pointers for the pixels and outputs of the
        // tile; `row` is one of its rows, so that the sums are within the tile.
        unsafe {
            let affine = g.epilogue.affine::<S>(channel);
            for row in first..tile.row + tile.height {
                let Some(pixel) = g.rows.pixel(row) else { continue };
                let v = S::load(sums.add(((row - tile.row) * PANEL + j) * SIDE));
                let (pixel, in_image) = (g.pixel + pixel, g.image_pixel + pixel);
                g.epilogue.apply_with::<S>(v, affine, pixel, in_image, channel);
            }
        }
    }
}
