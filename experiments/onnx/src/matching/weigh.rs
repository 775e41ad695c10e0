//! How much the weights of a node are like those of a module.

use spec::Precision;

use super::anchors::Numbers;
use super::reorder;

/// How the weights of a node relate to those of a module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Likeness {
    /// They are the same up to rounding.
    Same,
    /// They are the same up to a factor for each output channel: a batch normalisation is folded in.
    Scaled,
    /// They are the same numbers in another order, which the text names.
    Reordered(&'static str),
    /// Some of the vectors of a normalisation are the same.
    Partly,
    /// They are similar; the number is the relative L2 difference.
    Near(f64),
    /// They have the same shape, and the number is the relative L2 difference.
    Shape(f64),
}

/// The relative difference below which weights are called similar.
const NEAR: f64 = 0.1;

impl Likeness {
    /// How strong the evidence is that the node is the module: 3 if the weights prove it, 2 if they are the
    /// same numbers, 1 if they are similar, 0 if only the shape fits.
    pub fn strength(self) -> u32 {
        match self {
            Likeness::Same | Likeness::Scaled => 3,
            Likeness::Reordered(_) | Likeness::Partly => 2,
            Likeness::Near(_) => 1,
            Likeness::Shape(_) => 0,
        }
    }
}

/// The largest distance between a value and its rounding to a number format.
fn rounding(format: Precision, value: f64) -> f64 {
    format.epsilon() * value.abs() + smallest(format)
}

/// What a format may round to zero: float16 has no number between 0 and 6e-8.
pub fn smallest(format: Precision) -> f64 {
    if format == Precision::F16 { 6e-8 } else { 1e-38 }
}

/// Compares the weight [out, in, kh, kw] of a product with that of a module of the same shape.
pub fn products(shape: &[usize], file: &Numbers, ours: &[f64], format: Precision) -> Likeness {
    let close =
        |at: usize| (file[at] - ours[at]).abs() <= rounding(format, ours[at]) + file.half_step(at);
    if (0..ours.len()).all(close) {
        return Likeness::Same;
    }
    let row = shape[1..].iter().product::<usize>().max(1);
    if scaled(file, ours, row, format) {
        return Likeness::Scaled;
    }
    let difference = difference(file, ours, row);
    if difference < NEAR {
        return Likeness::Near(difference);
    }
    match reorder::found(shape, file, ours, format) {
        Some(order) => Likeness::Reordered(order),
        None => Likeness::Shape(difference),
    }
}

/// The factor that fits one row best.
pub fn factor(file: &[f64], ours: &[f64]) -> f64 {
    let (mut both, mut own) = (0.0, 0.0);
    for (a, b) in file.iter().zip(ours) {
        both += a * b;
        own += b * b;
    }
    if own == 0.0 { 0.0 } else { both / own }
}

/// Whether each row is a multiple of the module's row. A fold in the file's format rounds the factor, the
/// product, and for half formats the weight before it.
fn scaled(file: &Numbers, ours: &[f64], row: usize, format: Precision) -> bool {
    const ROUNDINGS: f64 = 8.0;
    // The factor is found from rounded values, so that it is not exact either.
    const HALF_STEPS: f64 = 1.5;
    if row < 2 {
        return false;
    }
    let mut nonzero = 0;
    for (r, (a, b)) in file.chunks(row).zip(ours.chunks(row)).enumerate() {
        let s = factor(a, b);
        let bound = ROUNDINGS * format.epsilon();
        let (mut error, mut norm, mut steps) = (0.0, 0.0, 0.0);
        for (at, (x, y)) in a.iter().zip(b).enumerate() {
            error += (x - s * y) * (x - s * y);
            norm += x * x;
            steps += (HALF_STEPS * file.half_step(r * row + at)).powi(2);
        }
        let within = error <= bound * bound * norm + steps + 1e-70;
        if !within {
            return false;
        }
        nonzero += usize::from(norm > 0.0);
    }
    2 * nonzero >= file.len() / row
}

/// The relative L2 difference after the best factor for each row.
fn difference(file: &[f64], ours: &[f64], row: usize) -> f64 {
    let (mut error, mut norm) = (0.0, 0.0);
    for (a, b) in file.chunks(row).zip(ours.chunks(row)) {
        let s = factor(a, b);
        let s = if s == 0.0 || !s.is_finite() { 1.0 } else { s };
        for (x, y) in a.iter().zip(b) {
            error += (x - s * y) * (x - s * y);
            norm += x * x;
        }
    }
    let relative = (error / norm).sqrt();
    if relative.is_nan() { f64::INFINITY } else { relative }
}

/// The batch normalisation of a checkpoint: weight, bias, mean and variance.
pub struct Norm {
    /// The four vectors.
    pub parts: [Vec<f64>; 4],
    /// What is added to the variance.
    pub eps: f64,
}

impl Norm {
    /// The factor of each channel.
    pub fn scale(&self) -> Vec<f64> {
        let [weight, _, _, variance] = &self.parts;
        weight.iter().zip(variance).map(|(w, v)| w / (v + self.eps).sqrt()).collect()
    }

    /// What is added to each channel.
    pub fn shift(&self) -> Vec<f64> {
        let [_, bias, mean, _] = &self.parts;
        let scale = self.scale();
        (0..bias.len()).map(|c| bias[c] - mean[c] * scale[c]).collect()
    }
}

/// Compares a normalisation with that of a module with as many channels.
pub fn norms(
    scale: &[f64],
    shift: &[f64],
    parts: &[Numbers],
    ours: &Norm,
    format: Precision,
) -> Likeness {
    let coarse = parts.iter().fold(0.0f64, |m, part| m.max(part.coarseness()));
    let slack = (16.0 * format.epsilon()).max(4.0 * coarse);
    let same = |a: &[f64], b: &[f64]| {
        let largest = b.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        a.len() == b.len()
            && a.iter().zip(b).all(|(x, y)| (x - y).abs() <= slack * largest + smallest(format))
    };
    // Vectors of one number, such as those of a fresh network, are no evidence.
    let tells = |v: &[f64]| v.iter().any(|x| *x != v[0]);
    let (own_scale, own_shift) = (ours.scale(), ours.shift());
    if same(scale, &own_scale) && same(shift, &own_shift) && (tells(scale) || tells(shift)) {
        return Likeness::Same;
    }
    let known = |part: &[f64]| tells(part) && ours.parts.iter().any(|own| same(part, own));
    let either =
        (tells(scale) && same(scale, &own_scale)) || (tells(shift) && same(shift, &own_shift));
    if either || parts.iter().any(|part| known(part)) {
        return Likeness::Partly;
    }
    let difference = difference(scale, &own_scale, scale.len());
    Likeness::Shape(if difference.is_finite() { difference } else { f64::INFINITY })
}
