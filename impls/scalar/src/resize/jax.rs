//! JAX's image resizing, and the way the Flax port of SqueezeTime uses it.
//!
//! Source: the documentation of `jax.image.resize` and `jax.image.scale_and_translate`
//! (jax 0.4.28). Both build a matrix [in, out] of weights for each axis from a sampling kernel and
//! contract the image with it.

use super::{ResizeError, Size, check};
use crate::real::Real;

/// `jax.image.resize(x, shape, "bilinear", antialias=False)`, jax 0.4.28: pixels are areas and the
/// outer edges of both images coincide, as in [`super::half_pixel`]. Weights of the triangle kernel
/// that fall outside the image are dropped and the others are normalised. Without anti-aliasing a
/// smaller output is sampled, not averaged. An axis that keeps its length is not resampled.
///
/// Takes a plane [h, w] and returns [out_h, out_w]. Panics if a side is 0 or if the number of values
/// is not h * w.
pub fn jax_image_resize<T: Real>(plane: &[T], from: Size, to: Size) -> Vec<T> {
    check(plane, from, to);
    let axis = |inputs: usize, outputs: usize| {
        let inverse = T::from_index(inputs) / T::from_index(outputs);
        // XLA fuses this product and sum, which changes the result in float32.
        let place = |centre: T| centre.mul_add(inverse, T::ZERO - T::HALF);
        (inputs != outputs).then(|| Weights::new(inputs, outputs, place))
    };
    contract(plane, from, axis(from.0, to.0), axis(from.1, to.1))
}

/// The Flax port's emulation of align_corners (h-terao/squeeze-time-linen, inferred from its
/// outputs): `jax.image.scale_and_translate` with scale = (out - 1) / (in - 1) and translation =
/// (1 - scale) / 2, which makes the centres of the corner pixels coincide.
///
/// Size 1 is special. An output of length 1 has scale 0, so that every sample lies at infinity minus
/// infinity and **all values become 0**, where PyTorch takes the first pixel. An input of length 1
/// divides by zero and raises. Equal sizes are not resized at all. All of this was observed in its
/// outputs, except for one case that follows from the formula: it also raises if an axis of length 1
/// keeps its length and only the other axis changes.
///
/// Takes a plane [h, w] and returns [out_h, out_w]. Panics if a side is 0 or if the number of values
/// is not h * w.
pub fn flax_emulation<T: Real>(plane: &[T], from: Size, to: Size) -> Result<Vec<T>, ResizeError> {
    check(plane, from, to);
    if from == to {
        return Ok(plane.to_vec());
    }
    if from.0 == 1 || from.1 == 1 {
        return Err(ResizeError { from, to });
    }
    let axis = |inputs: usize, outputs: usize| {
        let scale = T::from_index(outputs - 1) / T::from_index(inputs - 1);
        let (inverse, translation) = (T::ONE / scale, (T::ONE - scale) * T::HALF);
        // At scale 0 this is infinity - infinity, a NaN, and every comparison with it is false.
        let place = |centre: T| centre * inverse - translation * inverse - T::HALF;
        Some(Weights::new(inputs, outputs, place))
    };
    Ok(contract(plane, from, axis(from.0, to.0), axis(from.1, to.1)))
}

/// JAX treats a sum of weights up to this value as 0: 1000 times the epsilon of float32, in either
/// precision.
const NO_WEIGHT: f64 = 1000.0 * f32::EPSILON as f64;

/// The weight of each input in each output along one axis.
struct Weights<T> {
    outputs: usize,
    /// Weights `[out, in]`, row-major.
    values: Vec<T>,
}

impl<T: Real> Weights<T> {
    /// Evaluates the triangle kernel around the coordinate of each output among the inputs, which
    /// `place` computes from the centre o + 0.5 of the output.
    fn new(inputs: usize, outputs: usize, place: impl Fn(T) -> T) -> Self {
        let place = |o| place(T::from_index(o) + T::HALF);
        let values = (0..outputs).flat_map(|o| weights_at(place(o), inputs)).collect();
        Weights { outputs, values }
    }

    /// The weights `[in]` of one output.
    fn row(&self, output: usize) -> &[T] {
        let inputs = self.values.len() / self.outputs;
        &self.values[output * inputs..][..inputs]
    }
}

/// The normalised weights `[in]` of an output that lies at `place`.
fn weights_at<T: Real>(place: T, inputs: usize) -> Vec<T> {
    let outer_edge = T::from_index(inputs) - T::HALF;
    let inside = place >= T::ZERO - T::HALF && place <= outer_edge;
    let triangle = |i: usize| {
        let height = T::ONE - (place - T::from_index(i)).abs();
        if height > T::ZERO { height } else { T::ZERO }
    };
    let weights: Vec<T> = (0..inputs).map(triangle).collect();
    let total = weights.iter().fold(T::ZERO, |sum, &w| sum + w);
    if !inside || total.to_f64() <= NO_WEIGHT {
        return vec![T::ZERO; inputs];
    }
    weights.into_iter().map(|w| w / total).collect()
}

/// Contracts each axis that has weights, first along the rows and then along the columns.
fn contract<T: Real>(
    plane: &[T],
    from: Size,
    rows: Option<Weights<T>>,
    columns: Option<Weights<T>>,
) -> Vec<T> {
    let (wide, width) = match columns {
        Some(columns) => (along_rows(plane, from.1, &columns), columns.outputs),
        None => (plane.to_vec(), from.1),
    };
    match rows {
        Some(rows) => along_columns(&wide, width, &rows),
        None => wide,
    }
}

fn along_rows<T: Real>(plane: &[T], width: usize, weights: &Weights<T>) -> Vec<T> {
    let one = |row: &[T], o| dot(row.iter().copied(), weights.row(o));
    plane.chunks(width).flat_map(|row| (0..weights.outputs).map(move |o| one(row, o))).collect()
}

fn along_columns<T: Real>(plane: &[T], width: usize, weights: &Weights<T>) -> Vec<T> {
    let column = |x: usize| plane.iter().skip(x).step_by(width).copied();
    (0..weights.outputs)
        .flat_map(|o| (0..width).map(move |x| (o, x)))
        .map(|(o, x)| dot(column(x), weights.row(o)))
        .collect()
}

fn dot<T: Real>(values: impl Iterator<Item = T>, weights: &[T]) -> T {
    values.zip(weights).fold(T::ZERO, |sum, (v, &w)| sum + v * w)
}
