//! The matrix unit AMX: eight tile registers of up to 16 rows of 64 bytes, and one instruction that
//! multiplies two of them. [`Hardware`] is the unit itself. [`Software`] implements each
//! instruction in plain Rust as Intel's manual specifies it, so that kernels can be tested on any
//! machine.

use super::{bf16_value, traffic};

/// Number of tile registers.
pub const TILES: usize = 8;
/// Maximum number of rows of a tile, and of f32 in a row.
pub const SIDE: usize = 16;
/// Maximum number of bytes in a row of a tile.
pub const ROW: usize = 64;

/// For each tile, its rows and the bytes in a row; (0, 0) for an unused tile.
pub type Shapes = [(u8, u16); TILES];

/// The operations of the unit that the kernels use. The number of a tile is a const parameter
/// because it is part of the instruction.
///
/// # Safety
/// For [`Hardware`], [`available`] has returned true. Every tile that is used was given a shape by
/// [`TileUnit::configure`]. Pointers are valid for the rows of the tile, which are `pitch` bytes
/// apart. The shapes of a product match: A has as many rows as C, B has as many columns as C, and B
/// has as many rows as A has pairs in a row.
#[allow(clippy::missing_safety_doc, reason = "said once, above")]
pub trait TileUnit {
    /// The unit before it is configured: no tile has a shape.
    fn new() -> Self;
    /// Gives every tile a shape and fills it with zeros.
    unsafe fn configure(&mut self, shapes: &Shapes);
    /// Fills a tile with zeros.
    unsafe fn zero<const T: usize>(&mut self);
    /// Loads a tile from rows that are `pitch` bytes apart.
    unsafe fn load<const T: usize>(&mut self, from: *const u8, pitch: usize);
    /// Stores a tile to rows that are `pitch` bytes apart.
    unsafe fn store<const T: usize>(&mut self, to: *mut u8, pitch: usize);
    /// C += A * B with f32 sums in C. A is [rows, pairs, 2] in bfloat16 and B is [pairs, columns,
    /// 2]: a row of B holds one pair of the reduction dimension for every column.
    unsafe fn dot<const C: usize, const A: usize, const B: usize>(&mut self);
}

/// Whether this process may use the unit: the processor has it and the system permits it.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub fn available() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    const OSXSAVE: u32 = 1 << 27;
    /// The bits of XCR0 for the tile configuration and the tile data.
    const TILE_STATE: u32 = 0b11 << 17;
    /// Linux enables the tile data for a process only on request; threads inherit the permission.
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;

    let has = __cpuid(0).eax >= 7
        && __cpuid_count(7, 0).edx & (AMX_BF16 | AMX_TILE) == AMX_BF16 | AMX_TILE
        && __cpuid(1).ecx & OSXSAVE != 0;
    if !has {
        return false;
    }
    let enabled: u32;
    // SAFETY: OSXSAVE was checked above, so XGETBV exists; it only reads a register.
    unsafe {
        std::arch::asm!("xgetbv", in("ecx") 0, out("eax") enabled, out("edx") _,
            options(nomem, nostack, preserves_flags));
    }
    // SAFETY: this request passes two integers; it accesses no memory of this process.
    let permitted =
        || unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) };
    enabled & TILE_STATE == TILE_STATE && permitted() == 0
}

/// Always false: the unit is only supported on x86-64 Linux.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub fn available() -> bool {
    false
}

/// The unit itself. Its state belongs to the current thread; dropping this value releases it.
#[cfg(target_arch = "x86_64")]
pub struct Hardware(());

/// The 64-byte operand of LDTILECFG.
#[cfg(target_arch = "x86_64")]
#[repr(C, align(64))]
struct Palette {
    number: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

#[cfg(target_arch = "x86_64")]
impl TileUnit for Hardware {
    fn new() -> Self {
        Hardware(())
    }

    #[inline(always)]
    unsafe fn configure(&mut self, shapes: &Shapes) {
        let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
        for (at, &(height, bytes)) in shapes.iter().enumerate() {
            (rows[at], row_bytes[at]) = (height, bytes);
        }
        let palette = Palette { number: 1, start_row: 0, reserved: [0; 14], row_bytes, rows };
        // SAFETY: the machine has the unit (trait contract), and `Palette` has the 64 bytes that
        // are read.
        unsafe {
            std::arch::asm!("ldtilecfg [{}]", in(reg) &raw const palette,
                options(nostack, readonly, preserves_flags));
        }
    }

    #[inline(always)]
    unsafe fn zero<const T: usize>(&mut self) {
        // SAFETY: the machine has the unit and tile T has a shape (trait contract).
        unsafe {
            std::arch::asm!("tilezero tmm{t}", t = const T,
                options(nomem, nostack, preserves_flags));
        }
    }

    #[inline(always)]
    unsafe fn load<const T: usize>(&mut self, from: *const u8, pitch: usize) {
        // SAFETY: the machine has the unit, tile T has a shape and its rows are valid memory (trait
        // contract).
        unsafe {
            std::arch::asm!("tileloadd tmm{t}, [{from} + {pitch}*1]", t = const T,
                from = in(reg) from, pitch = in(reg) pitch,
                options(nostack, readonly, preserves_flags));
        }
    }

    #[inline(always)]
    unsafe fn store<const T: usize>(&mut self, to: *mut u8, pitch: usize) {
        // SAFETY: the machine has the unit, tile T has a shape and its rows are valid memory (trait
        // contract).
        unsafe {
            std::arch::asm!("tilestored [{to} + {pitch}*1], tmm{t}", t = const T,
                to = in(reg) to, pitch = in(reg) pitch, options(nostack, preserves_flags));
        }
    }

    #[inline(always)]
    unsafe fn dot<const C: usize, const A: usize, const B: usize>(&mut self) {
        // SAFETY: the machine has the unit and the shapes of the tiles match (trait contract).
        unsafe {
            std::arch::asm!("tdpbf16ps tmm{c}, tmm{a}, tmm{b}",
                c = const C, a = const A, b = const B, options(nomem, nostack, preserves_flags));
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Drop for Hardware {
    fn drop(&mut self) {
        // SAFETY: `Hardware` is only used in kernels for `Isa::Amx`, so the machine has the unit.
        unsafe { std::arch::asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}

/// The unit emulated in plain Rust. It panics where the unit would raise a fault: for a tile
/// without a shape, and for factors whose shapes do not match.
pub struct Software {
    shapes: Shapes,
    tiles: [[[u8; ROW]; SIDE]; TILES],
}

/// Replaces a subnormal by a zero of its sign: the unit treats subnormal factors and sums as zero.
fn flush(x: f32) -> f32 {
    if x.is_subnormal() { 0.0_f32.copysign(x) } else { x }
}

impl Software {
    fn shape(&self, tile: usize) -> (usize, usize) {
        let (rows, bytes) = self.shapes[tile];
        assert!(rows > 0 && bytes > 0, "tile {tile} has no shape");
        (usize::from(rows), usize::from(bytes))
    }

    fn word<const N: usize>(&self, tile: usize, row: usize, at: usize) -> [u8; N] {
        std::array::from_fn(|byte| self.tiles[tile][row][at * N + byte])
    }

    fn sum(&self, tile: usize, row: usize, column: usize) -> f32 {
        f32::from_le_bytes(self.word(tile, row, column))
    }

    fn bf16(&self, tile: usize, row: usize, at: usize) -> f32 {
        flush(bf16_value(u16::from_le_bytes(self.word(tile, row, at))))
    }
}

impl TileUnit for Software {
    fn new() -> Self {
        Software { shapes: [(0, 0); TILES], tiles: [[[0; ROW]; SIDE]; TILES] }
    }

    unsafe fn configure(&mut self, shapes: &Shapes) {
        for (rows, bytes) in shapes {
            assert!(
                (*rows == 0) == (*bytes == 0),
                "invalid tile shape: {rows} rows of {bytes} bytes"
            );
            assert!(usize::from(*rows) <= SIDE && usize::from(*bytes) <= ROW && bytes % 4 == 0);
        }
        *self = Software { shapes: *shapes, ..Software::new() };
    }

    unsafe fn zero<const T: usize>(&mut self) {
        self.shape(T);
        self.tiles[T] = [[0; ROW]; SIDE];
    }

    unsafe fn load<const T: usize>(&mut self, from: *const u8, pitch: usize) {
        let (rows, bytes) = self.shape(T);
        self.tiles[T] = [[0; ROW]; SIDE];
        for (row, to) in self.tiles[T][..rows].iter_mut().enumerate() {
            traffic::tile_row(from.wrapping_add(row * pitch), bytes);
            // SAFETY: the caller guarantees that each row is valid for `bytes` (trait contract).
            unsafe { from.add(row * pitch).copy_to_nonoverlapping(to.as_mut_ptr(), bytes) };
        }
    }

    unsafe fn store<const T: usize>(&mut self, to: *mut u8, pitch: usize) {
        let (rows, bytes) = self.shape(T);
        for (row, from) in self.tiles[T][..rows].iter().enumerate() {
            traffic::tile_row(to.wrapping_add(row * pitch), bytes);
            // SAFETY: the caller guarantees that each row is valid for `bytes` (trait contract).
            unsafe { to.add(row * pitch).copy_from_nonoverlapping(from.as_ptr(), bytes) };
        }
    }

    /// TDPBF16PS as Intel's Software Developer's Manual specifies it: the first and the second
    /// values of the pairs are summed separately, and the two sums are added to each other and then
    /// to C. A product of bfloat16 is exact in f32, so a product and an addition have the result of
    /// a fused multiply-add.
    unsafe fn dot<const C: usize, const A: usize, const B: usize>(&mut self) {
        const { assert!(C != A && C != B && A != B, "the unit refuses a tile that is used twice") };
        let [(rows, bytes), (a_rows, a_bytes), (b_rows, b_bytes)] =
            [C, A, B].map(|t| self.shape(t));
        assert!(
            a_rows == rows && b_bytes == bytes && b_rows * 4 == a_bytes,
            "the shapes of the factors do not match"
        );
        traffic::product(rows);
        let columns = bytes / 4;
        for row in 0..rows {
            let mut sums = [[0.0_f32; SIDE]; 2];
            for pair in 0..b_rows {
                for (which, sums) in sums.iter_mut().enumerate() {
                    let a = self.bf16(A, row, 2 * pair + which);
                    for (column, sum) in sums[..columns].iter_mut().enumerate() {
                        *sum = flush(*sum + a * self.bf16(B, pair, 2 * column + which));
                    }
                }
            }
            for column in 0..columns {
                let both = flush(sums[0][column] + sums[1][column]);
                let total = flush(flush(self.sum(C, row, column)) + both);
                self.tiles[C][row][4 * column..][..4].copy_from_slice(&total.to_le_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::bf16_bits;

    /// C [3, 5] += A [3, 10] * B [10, 5], where the reduction dimension is 5 pairs.
    const SHAPES: Shapes = [(3, 20), (3, 20), (5, 20), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0)];

    fn stored(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|&v| bf16_bits(v).to_le_bytes()).collect()
    }

    /// The result of C += A * B, where every element of C is 1 before.
    fn product(a: impl Fn(usize, usize) -> f32, b: impl Fn(usize, usize) -> f32) -> Vec<f32> {
        let a: Vec<f32> = (0..30).map(|at| a(at / 10, at % 10)).collect();
        // B is [pairs, columns, 2].
        let b: Vec<f32> = (0..50).map(|at| b(at / 10 * 2 + at % 2, at % 10 / 2)).collect();
        let (a, b, mut c) = (stored(&a), stored(&b), [1.0_f32; 15]);
        let mut unit = Software::new();
        // SAFETY: `Software` needs no hardware; the arrays have 3, 3 and 5 rows of 20 bytes, as
        // `SHAPES` says.
        unsafe {
            unit.configure(&SHAPES);
            unit.load::<0>(c.as_ptr().cast(), 20);
            unit.load::<1>(a.as_ptr(), 20);
            unit.load::<2>(b.as_ptr(), 20);
            unit.dot::<0, 1, 2>();
            unit.store::<0>(c.as_mut_ptr().cast(), 20);
        }
        c.to_vec()
    }

    #[test]
    fn a_product_of_small_integers_is_exact() {
        let a = |row: usize, k: usize| (row * 7 + k * 3) as f32 - 12.0;
        let b = |k: usize, column: usize| (k * 5 % 7) as f32 - column as f32;
        let want: Vec<f32> = (0..15)
            .map(|at| 1.0 + (0..10).map(|k| a(at / 5, k) * b(k, at % 5)).sum::<f32>())
            .collect();
        assert_eq!(product(a, b), want);
    }

    #[test]
    fn subnormals_count_as_zero_and_nan_stays_in_its_row() {
        let tiny = f32::from_bits(1 << 16);
        assert_eq!(product(|_, _| tiny, |_, _| 1e30), [1.0; 15]);
        // 2^-63 * 2^-70 is subnormal, and so is the sum of five such products.
        assert_eq!(product(|_, _| 2.0_f32.powi(-63), |_, _| 2.0_f32.powi(-70)), [1.0; 15]);
        let got = product(|row, _| if row == 1 { f32::NAN } else { 1.0 }, |_, _| 1.0);
        assert!(got[5..10].iter().all(|x| x.is_nan()));
        assert!(got[..5].iter().chain(&got[10..]).all(|&x| x == 11.0));
    }

    #[test]
    #[should_panic(expected = "factors do not match")]
    fn factors_whose_shapes_do_not_match_panic() {
        let mut unit = Software::new();
        // SAFETY: `Software` needs no hardware, and no pointer is used.
        unsafe {
            unit.configure(&SHAPES);
            unit.dot::<0, 2, 1>();
        }
    }

    #[test]
    #[should_panic(expected = "no shape")]
    fn a_tile_without_a_shape_panics() {
        let mut unit = Software::new();
        // SAFETY: `Software` needs no hardware, and no pointer is used.
        unsafe {
            unit.configure(&SHAPES);
            unit.zero::<3>();
        }
    }
}
