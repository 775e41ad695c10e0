//! The positional embedding, resized to the size of the map once at load, in f64.
//!
//! This code is independent of `impls/scalar/src/resize`, so that the comparison of the engines
//! checks both. The documentation there gives the source of each semantics.

use spec::PosEmbed;

/// Resizes one plane [from, from] to [to.0, to.1], row-major. None where the Flax port itself
/// divides by zero, that is for a plane of one row and column.
pub fn resize(
    plane: &[f32],
    from: usize,
    to: (usize, usize),
    semantics: PosEmbed,
) -> Option<Vec<f64>> {
    let value = |y: usize, x: usize| f64::from(plane[y * from + x]);
    if semantics == PosEmbed::Off {
        return Some(vec![0.0; to.0 * to.1]);
    }
    if to == (from, from) {
        return Some(plane.iter().map(|&v| f64::from(v)).collect());
    }
    let (rows, columns) = (taps(from, to.0, semantics)?, taps(from, to.1, semantics)?);
    let mut out = Vec::with_capacity(to.0 * to.1);
    for row in &rows {
        for column in &columns {
            let terms = row
                .iter()
                .flat_map(|&(y, wy)| column.iter().map(move |&(x, wx)| value(y, x) * wy * wx));
            out.push(terms.sum());
        }
    }
    Some(out)
}

/// For each output coordinate along one axis: the input coordinates that it is interpolated from,
/// and their weights.
fn taps(from: usize, to: usize, semantics: PosEmbed) -> Option<Vec<Vec<(usize, f64)>>> {
    let last = (from - 1) as f64;
    match semantics {
        PosEmbed::AlignCorners => {
            let step = if to > 1 { last / (to - 1) as f64 } else { 0.0 };
            Some((0..to).map(|at| between(at as f64 * step, from)).collect())
        }
        PosEmbed::HalfPixel => {
            let step = from as f64 / to as f64;
            let source = |at: usize| ((at as f64 + 0.5) * step - 0.5).max(0.0);
            Some((0..to).map(|at| between(source(at), from)).collect())
        }
        PosEmbed::Flax => flax(from, to),
        PosEmbed::Off => Some(vec![vec![]; to]),
    }
}

/// Linear interpolation at coordinate `at`: the two neighbours and their weights.
fn between(at: f64, from: usize) -> Vec<(usize, f64)> {
    let low = (at as usize).min(from - 1);
    let high = (low + 1).min(from - 1);
    let share = at - low as f64;
    vec![(low, 1.0 - share), (high, share)]
}

/// The weights of `jax.image.scale_and_translate` without antialiasing, for the scale (to - 1) /
/// (from - 1) and the translation 1/2 - scale / 2 that the Flax port passes: those of a triangle
/// filter around the sample, normalised. There are none if the sample lies outside of the plane or
/// the scale is 0.
fn flax(from: usize, to: usize) -> Option<Vec<Vec<(usize, f64)>>> {
    if from == 1 {
        return None;
    }
    let scale = (to - 1) as f64 / (from - 1) as f64;
    if scale == 0.0 {
        return Some(vec![vec![]; to]);
    }
    Some((0..to).map(|at| between((at as f64 / scale).min((from - 1) as f64), from)).collect())
}
