//! PyTorch's `interpolate(mode="bilinear")` on the CPU.
//!
//! Source: `aten/src/ATen/native/UpSample.h` (`area_pixel_compute_scale`,
//! `area_pixel_compute_source_index`, `guard_index_and_lambda`) as documented for
//! `torch.nn.functional.interpolate`.

use super::{Size, check};
use crate::real::Real;

/// `F.interpolate(x, size, mode="bilinear", align_corners=True)`, PyTorch 2.11: the centres of the
/// corner pixels of both images coincide. Along each axis, output o lies at the coordinate
/// o * (in - 1) / (out - 1), or at 0 if out is 1, and blends the two inputs next to it.
///
/// Takes a plane [h, w] and returns [out_h, out_w]. Panics if a side is 0 or if the number of values
/// is not h * w.
pub fn align_corners<T: Real>(plane: &[T], from: Size, to: Size) -> Vec<T> {
    check(plane, from, to);
    let axis = |inputs: usize, outputs: usize| -> Vec<Between<T>> {
        let scale = match outputs {
            1 => T::ZERO,
            _ => T::from_index(inputs - 1) / T::from_index(outputs - 1),
        };
        Between::axis(inputs, outputs, |o| scale * T::from_index(o))
    };
    interpolate(plane, from.1, &axis(from.0, to.0), &axis(from.1, to.1))
}

/// `F.interpolate(x, size, mode="bilinear", align_corners=False)`, PyTorch 2.11: pixels are areas,
/// and the outer edges of both images coincide. Along each axis, output o lies at the coordinate
/// (o + 0.5) * in / out - 0.5, or at 0 if that is negative, and blends the two inputs next to it.
///
/// Takes a plane [h, w] and returns [out_h, out_w]. Panics if a side is 0 or if the number of values
/// is not h * w.
pub fn half_pixel<T: Real>(plane: &[T], from: Size, to: Size) -> Vec<T> {
    check(plane, from, to);
    let axis = |inputs: usize, outputs: usize| -> Vec<Between<T>> {
        let scale = T::from_index(inputs) / T::from_index(outputs);
        Between::axis(inputs, outputs, |o| {
            // PyTorch is compiled so that this product and sum are fused, which changes the result
            // in float32.
            let at = (T::from_index(o) + T::HALF).mul_add(scale, T::ZERO - T::HALF);
            if at < T::ZERO { T::ZERO } else { at }
        })
    };
    interpolate(plane, from.1, &axis(from.0, to.0), &axis(from.1, to.1))
}

/// A coordinate between two neighbouring inputs, which blends them with the weights 1 - part and
/// part.
struct Between<T> {
    first: usize,
    second: usize,
    part: T,
}

impl<T: Real> Between<T> {
    /// The inputs of each output along an axis, from its coordinate. An axis that keeps its length
    /// is copied, so that rounding of the coordinates has no effect.
    fn axis(inputs: usize, outputs: usize, coordinate: impl Fn(usize) -> T) -> Vec<Self> {
        (0..outputs)
            .map(|o| match inputs == outputs {
                true => Between { first: o, second: o, part: T::ZERO },
                false => Between::at(coordinate(o), inputs),
            })
            .collect()
    }

    fn at(coordinate: T, inputs: usize) -> Self {
        // Converting the whole part through f64 is exact, because f64 holds every value of `T`.
        let first = (coordinate.floor().to_f64() as usize).min(inputs - 1);
        let second = (first + 1).min(inputs - 1);
        // Rounding may put the last coordinate past the last pixel.
        let part = coordinate - T::from_index(first);
        let part = if part > T::ONE { T::ONE } else { part };
        Between { first, second, part }
    }

    fn blend(&self, first: T, second: T) -> T {
        (T::ONE - self.part) * first + self.part * second
    }
}

fn interpolate<T: Real>(
    plane: &[T],
    width: usize,
    rows: &[Between<T>],
    columns: &[Between<T>],
) -> Vec<T> {
    let along = |y: usize, x: &Between<T>| {
        let row = &plane[y * width..][..width];
        x.blend(row[x.first], row[x.second])
    };
    rows.iter()
        .flat_map(|y| columns.iter().map(|x| y.blend(along(y.first, x), along(y.second, x))))
        .collect()
}
