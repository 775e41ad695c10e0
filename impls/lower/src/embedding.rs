//! Resizes the positional embedding to the size of its map, once at load, in float64.
//!
//! It shares no code with the engines `scalar` and `torch`, so that a comparison checks both;
//! `impls/scalar/src/resize` says where each semantics comes from.

use spec::model::PosEmbedding;
use spec::{EngineError, PosEmbed};

use crate::fold::Params;

/// An embedding at the size of its map, [height * width, pitch] with zeros in the padding. Fails
/// where the Flax port divides by zero.
pub fn resized(
    engine: &'static str,
    params: &Params,
    at: &PosEmbedding,
    semantics: PosEmbed,
    pitch: usize,
) -> Result<Vec<f32>, EngineError> {
    let mut out = vec![0.0; at.size.0 * at.size.1 * pitch];
    for (channel, plane) in params.get(&at.name)?.chunks(at.dim * at.dim).enumerate() {
        let resized = resize(plane, at.dim, at.size, semantics);
        let resized = resized.ok_or_else(|| EngineError::Backend {
            engine,
            message: format!(
                "{}: pos_embed=flax cannot resize an embedding of {}x{}, because the Flax port \
                 divides by zero there; use another pos_embed",
                at.name, at.dim, at.dim
            ),
        })?;
        for (value, slot) in resized.into_iter().zip(out[channel..].iter_mut().step_by(pitch)) {
            *slot = value as f32;
        }
    }
    Ok(out)
}

/// Resizes one plane [from, from] to the height and width `to`. None where the Flax port divides by
/// zero, which it does for `from` = 1.
fn resize(plane: &[f32], from: usize, to: (usize, usize), semantics: PosEmbed) -> Option<Vec<f64>> {
    let value = |y: usize, x: usize| f64::from(plane[y * from + x]);
    if semantics == PosEmbed::Off {
        return Some(vec![0.0; to.0 * to.1]);
    }
    if to == (from, from) {
        return Some(plane.iter().map(|&v| f64::from(v)).collect());
    }
    let (rows, columns) = (weights(from, to.0, semantics)?, weights(from, to.1, semantics)?);
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

/// For each position along one side of the result, the positions of the plane that it is
/// interpolated from, with their weights. None as in [`resize`].
fn weights(from: usize, to: usize, semantics: PosEmbed) -> Option<Vec<Vec<(usize, f64)>>> {
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

/// The two positions around a coordinate, with the weights of linear interpolation.
fn between(at: f64, from: usize) -> Vec<(usize, f64)> {
    let low = (at as usize).min(from - 1);
    let high = (low + 1).min(from - 1);
    let share = at - low as f64;
    vec![(low, 1.0 - share), (high, share)]
}

/// The weights of `jax.image.scale_and_translate` with the port's scale (to - 1) / (from - 1) and
/// translation 1/2 - scale / 2, without antialiasing: a normalised triangle around the sample.
/// There are no weights, and the result is 0, where the sample lies outside the plane or the scale
/// is 0.
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
