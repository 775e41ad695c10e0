//! Guarded memory, pseudo-random values, error bounds and comparisons for the tests of kernels.

use cpu::Isa;
use cpu::element::Element;
use cpu::isa::{HasKernels, Kernels};
use cpu::kernels::epilogue::Epilogue;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

/// Which end of a buffer lies next to an inaccessible page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    Begin,
    End,
}

pub const EDGES: [Edge; 2] = [Edge::Begin, Edge::End];

/// A buffer between two inaccessible pages.
pub struct Guarded<E> {
    base: *mut u8,
    whole: usize,
    start: *mut E,
    len: usize,
}

impl<E: Copy> Guarded<E> {
    pub fn new(edge: Edge, values: &[E]) -> Self {
        let (page, bytes) = (rustix::param::page_size(), size_of_val(values));
        let inner = bytes.max(1).next_multiple_of(page);
        let whole = inner + 2 * page;
        let flags = MapFlags::PRIVATE;
        // SAFETY: a new mapping at an address that the system chooses; the pages that are made
        // accessible lie within it.
        let base = unsafe {
            let base =
                mmap_anonymous(std::ptr::null_mut(), whole, ProtFlags::empty(), flags).unwrap();
            let open = MprotectFlags::READ | MprotectFlags::WRITE;
            mprotect(base.cast::<u8>().add(page).cast(), inner, open).unwrap();
            base.cast::<u8>()
        };
        let offset = if edge == Edge::End { inner - bytes } else { 0 };
        // SAFETY: `offset + bytes <= inner`, so the values lie between the guard pages.
        let start = unsafe { base.add(page + offset) }.cast::<E>();
        // SAFETY: the inner pages hold `bytes` bytes from `start` on, and the mapping is new.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), start, values.len()) };
        Guarded { base, whole, start, len: values.len() }
    }

    pub fn ptr(&self) -> *const E {
        self.start
    }

    pub fn mut_ptr(&self) -> *mut E {
        self.start
    }

    pub fn values(&self) -> &[E] {
        // SAFETY: the buffer holds `len` elements, and no kernel runs while they are borrowed.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl<E> Drop for Guarded<E> {
    fn drop(&mut self) {
        // SAFETY: `new` made this mapping, and nothing borrows from it any more.
        let _ = unsafe { munmap(self.base.cast(), self.whole) };
    }
}

/// Calls a check with the kernels of every instruction set; those that the machine lacks are
/// reported as skipped. Each check has a thread of its own.
pub fn each_isa<E: HasKernels>(check: impl Fn(&str, &Kernels<E>) + Sync) {
    let check = &check;
    std::thread::scope(|scope| {
        for isa in Isa::ALL {
            let Some(detected) = isa.detect() else {
                skip::skip!(Isa, "this processor has no {isa}");
                continue;
            };
            let format = if E::IS_F32 { "f32" } else { "bf16" };
            scope.spawn(move || check(&format!("{isa} {format}"), &E::kernels(detected)));
        }
    });
}

/// The spacing of the format's values above 1.
pub fn epsilon<E: Element>() -> f64 {
    if E::IS_F32 { f64::from(f32::EPSILON) } else { 2.0f64.powi(-7) }
}

/// Pseudo-random values in [-1, 1) from a seed, rounded to the format.
pub fn numbers<E: Element>(count: usize, seed: u64) -> Vec<f64> {
    let uniform = checkpoint::formula::uniform("lab", count, seed);
    uniform.into_iter().map(|u| f64::from(E::from_f32(2.0 * u - 1.0).to_f32())).collect()
}

/// A guarded buffer of values in the format `E`.
pub fn stored<E: Element>(edge: Edge, values: &[f64]) -> Guarded<E> {
    Guarded::new(edge, &values.iter().map(|&v| E::from_f32(v as f32)).collect::<Vec<E>>())
}

/// A guarded buffer of f32 values.
pub fn wide(edge: Edge, values: &[f64]) -> Guarded<f32> {
    Guarded::new(edge, &values.iter().map(|&v| v as f32).collect::<Vec<f32>>())
}

/// A guarded buffer of `count` NaN.
pub fn poisoned<E: Element>(edge: Edge, count: usize) -> Guarded<E> {
    Guarded::new(edge, &vec![E::from_f32(f32::NAN); count])
}

/// Pads rows of `count` values with zeros to the length `pitch`.
pub fn spread(values: &[f64], count: usize, pitch: usize) -> Vec<f64> {
    let row = |row: &[f64]| row.iter().copied().chain(vec![0.0; pitch - count]).collect::<Vec<_>>();
    values.chunks(count.max(1)).flat_map(row).collect()
}

/// The error that rounding explains: of `terms` additions to sums of magnitude `size`, and of the
/// result when it is stored.
pub fn allowed<E: Element>(terms: usize, size: f64, want: f64) -> f64 {
    let sums = (terms + 8) as f64 * f64::from(f32::EPSILON) * size;
    sums + epsilon::<E>() * (want.abs() + sums)
}

/// An epilogue that only stores.
pub fn plain_epilogue<E: Element>(out: &Guarded<E>, pitch: usize) -> Epilogue<E> {
    let mut epilogue = Epilogue::store_only(out.mut_ptr(), pitch);
    epilogue.to = lower::Stage::End;
    epilogue
}

/// Asserts that the first `channels` of a map [pixels, pitch] are as expected, including NaN and
/// infinities. `want` holds each value with its allowed error. The padding must have been written:
/// it is finite, unless an expected value of the row is not.
pub fn compare<E: Element>(
    what: &str,
    got: &Guarded<E>,
    want: &[(f64, f64)],
    channels: usize,
    pitch: usize,
) {
    assert_eq!(got.values().len() / pitch.max(1) * channels, want.len(), "{what}");
    let rows = got.values().chunks(pitch).zip(want.chunks(channels.max(1)));
    for (pixel, (row, wanted)) in rows.enumerate() {
        for (channel, (got, &(want, allowed))) in row.iter().zip(wanted).enumerate() {
            let got = f64::from(got.to_f32());
            let same = match want.is_finite() {
                true => (got - want).abs() <= allowed,
                false => got == want || got.is_nan() && want.is_nan(),
            };
            assert!(
                same,
                "{what}, pixel {pixel}, channel {channel}: got {got}, expected {want} ± {allowed}"
            );
        }
        if wanted.iter().all(|(want, _)| want.is_finite()) {
            let padding = row[channels..].iter().map(|v| v.to_f32());
            assert!(
                padding.into_iter().all(f32::is_finite),
                "{what}, pixel {pixel}: the padding was not written"
            );
        }
    }
}
