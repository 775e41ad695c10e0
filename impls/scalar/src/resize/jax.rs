//! JAX's image resizing, and how the Flax port of SqueezeTime uses it.
//!
//! Source: the documentation of `jax.image.resize` and `jax.image.scale_and_translate`
//! (jax 0.4.28). Both make a matrix [in, out] of weights for each axis from a sampling kernel and
//! contract the image with it.

use super::{ResizeError, Size, check};
use crate::real::Real;

/// `jax.image.resize(x, shape, "bilinear", antialias=False)`, jax 0.4.28: pixels are areas and the
/// outer edges coincide, as in [`super::half_pixel`]; the weights of the triangle kernel that fall
/// outside the image are left out and the others normalised. Without anti-aliasing a smaller
/// output is sampled, not averaged. An axis that keeps its length is left alone.
///
/// Reads a plane [h, w] and returns [out_h, out_w]. Panics if a side is 0 or the values do not fit.
pub fn jax_image_resize<T: Real>(plane: &[T], from: Size, to: Size) -> Vec<T> {
    check(plane, from, to);
    let axis = |inputs: usize, outputs: usize| {
        let inverse = T::from_index(inputs) / T::from_index(outputs);
        // XLA fuses this product and sum, which shows in float32.
        let place = |centre: T| centre.mul_add(inverse, T::ZERO - T::HALF);
        (inputs != outputs).then(|| Weights::new(inputs, outputs, place))
    };
    contract(plane, from, axis(from.0, to.0), axis(from.1, to.1))
}

/// The Flax port's emulation of align_corners (h-terao/squeeze-time-linen, as its outputs show):
/// `jax.image.scale_and_translate` with scale = (out - 1) / (in - 1) and translation =
/// (1 - scale) / 2, which brings the centres of the corner pixels together.
///
/// What it does at size 1: an output of length 1 has scale 0, every sample lies at infinity minus
/// infinity, and **all values vanish**, where PyTorch takes the first pixel. An input of length 1
/// divides by zero and raises. Equal sizes are not resized at all. All of this was seen in its
/// outputs; that it raises also where the axis of length 1 keeps its length and only the other
/// changes follows from the formula.
///
/// Reads a plane [h, w] and returns [out_h, out_w]. Panics if a side is 0 or the values do not fit.
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
        // At scale 0 this is infinity - infinity, and no comparison with it holds.
        let place = |centre: T| centre * inverse - translation * inverse - T::HALF;
        Some(Weights::new(inputs, outputs, place))
    };
    Ok(contract(plane, from, axis(from.0, to.0), axis(from.1, to.1)))
}

/// Below this a sum of weights counts as none: 1000 times the spacing of float32 at 1, in either
/// precision.
const NO_WEIGHT: f64 = 1000.0 * f32::EPSILON as f64;

/// What each output takes from each input along one axis.
struct Weights<T> {
    outputs: usize,
    /// `[out, in]`.
    values: Vec<T>,
}

impl<T: Real> Weights<T> {
    /// The triangle kernel around each output's place among the inputs, a function of the centre
    /// o + 0.5 of the output.
    fn new(inputs: usize, outputs: usize, place: impl Fn(T) -> T) -> Self {
        let place = |o| place(T::from_index(o) + T::HALF);
        let values = (0..outputs).flat_map(|o| column(place(o), inputs)).collect();
        Weights { outputs, values }
    }

    fn row(&self, output: usize) -> &[T] {
        let inputs = self.values.len() / self.outputs;
        &self.values[output * inputs..][..inputs]
    }
}

fn column<T: Real>(place: T, inputs: usize) -> Vec<T> {
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

/// Contracts rows, then columns, with the weights of the axes that have some.
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
