//! Memory that ends where it ends, values, and what is expected of them.

use cpu::Isa;
use cpu::element::{Bf16, Element};
use cpu::isa::{Kernels, Tabled};
use cpu::kernels::epilogue::Epilogue;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

/// Which end of a buffer lies against a page that cannot be touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    Begin,
    End,
}

pub const EDGES: [Edge; 2] = [Edge::Begin, Edge::End];

/// A buffer between two pages that cannot be touched.
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
        // SAFETY: new memory at no fixed place, of which the inner pages are opened.
        let base = unsafe {
            let base =
                mmap_anonymous(std::ptr::null_mut(), whole, ProtFlags::empty(), flags).unwrap();
            let open = MprotectFlags::READ | MprotectFlags::WRITE;
            mprotect(base.cast::<u8>().add(page).cast(), inner, open).unwrap();
            base.cast::<u8>()
        };
        let offset = if edge == Edge::End { inner - bytes } else { 0 };
        // SAFETY: the values fit between the guards.
        let start = unsafe { base.add(page + offset) }.cast::<E>();
        // SAFETY: as above.
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
        // SAFETY: it holds so many, and no kernel runs.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl<E> Drop for Guarded<E> {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`.
        let _ = unsafe { munmap(self.base.cast(), self.whole) };
    }
}

/// Calls a check with the kernels of every instruction set; one that is not there is said aloud.
pub fn each_level<E: Tabled>(check: impl Fn(&str, &Kernels<E>)) {
    for isa in Isa::ALL {
        match isa.detect() {
            Some(level) => {
                let format = if E::IS_F32 { "f32" } else { "bf16" };
                check(&format!("{isa} {format}"), &E::kernels(level));
            }
            None => skip::skip!(Isa, "this processor has no {isa}"),
        }
    }
}

/// Spacing of the stored format above 1.
pub fn epsilon<E: Element>() -> f64 {
    if E::IS_F32 { f64::from(f32::EPSILON) } else { 2.0f64.powi(-7) }
}

/// Values of both signs that are no round numbers, from a seed, as they are stored.
pub fn numbers<E: Element>(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0
    };
    (0..count).map(|_| f64::from(E::from_f32(next() as f32).to_f32())).collect()
}

/// A buffer with stored values.
pub fn stored<E: Element>(edge: Edge, values: &[f64]) -> Guarded<E> {
    Guarded::new(edge, &values.iter().map(|&v| E::from_f32(v as f32)).collect::<Vec<E>>())
}

/// A buffer with f32 values.
pub fn wide(edge: Edge, values: &[f64]) -> Guarded<f32> {
    Guarded::new(edge, &values.iter().map(|&v| v as f32).collect::<Vec<f32>>())
}

/// A poisoned buffer.
pub fn room<E: Element>(edge: Edge, count: usize) -> Guarded<E> {
    Guarded::new(edge, &vec![E::from_f32(f32::NAN); count])
}

/// Rows of `count` values at a distance of `stride`, zeros between.
pub fn spread(values: &[f64], count: usize, stride: usize) -> Vec<f64> {
    let row =
        |row: &[f64]| row.iter().copied().chain(vec![0.0; stride - count]).collect::<Vec<_>>();
    values.chunks(count.max(1)).flat_map(row).collect()
}

/// What a result may be off: roundings of `terms` sums of this size, and its own storage.
pub fn allowed<E: Element>(terms: usize, size: f64, want: f64) -> f64 {
    let sums = (terms + 8) as f64 * f64::from(f32::EPSILON) * size;
    sums + epsilon::<E>() * (want.abs() + sums)
}

/// An epilogue that only stores.
pub fn store<E: Element>(out: &Guarded<E>, stride: usize) -> Epilogue<E> {
    let mut epilogue = Epilogue::store(out.mut_ptr(), stride);
    epilogue.to = cpu::kernels::epilogue::stage::END;
    epilogue
}

/// Asserts that [pixels, stride] are as expected in the first `channels`, NaN and infinities alike; what
/// pads must have been written: finite, unless the row holds something that is not.
pub fn compare<E: Element>(
    what: &str,
    got: &Guarded<E>,
    want: &[(f64, f64)],
    channels: usize,
    stride: usize,
) {
    assert_eq!(got.values().len() / stride.max(1) * channels, want.len(), "{what}");
    let rows = got.values().chunks(stride).zip(want.chunks(channels.max(1)));
    for (pixel, (row, wanted)) in rows.enumerate() {
        for (channel, (got, &(want, allowed))) in row.iter().zip(wanted).enumerate() {
            let got = f64::from(got.to_f32());
            let same = match want.is_finite() {
                true => (got - want).abs() <= allowed,
                false => got == want || got.is_nan() && want.is_nan(),
            };
            assert!(
                same,
                "{what}, pixel {pixel}, channel {channel}: {got}, not {want} ± {allowed}"
            );
        }
        if wanted.iter().all(|(want, _)| want.is_finite()) {
            let padding = row[channels..].iter().map(|v| v.to_f32());
            assert!(padding.into_iter().all(f32::is_finite), "{what}, pixel {pixel}: padding");
        }
    }
}

/// The other format, for signatures.
pub type Half = Bf16;
