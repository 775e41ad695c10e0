//! The ways in which ports resize the positional embedding, as one matrix of weights for each axis.

use super::map::Map;

/// A kind of bilinear resize.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// The centres of the corner pixels coincide, as in the paper's code.
    AlignCorners,
    /// The outer edges coincide, and each output interpolates between two inputs.
    HalfPixel,
    /// The outer edges coincide, and each pixel of a smaller output averages several inputs. This is
    /// the default of `jax.image.resize`.
    Antialias,
    /// The Flax port's emulation of align_corners. Its result is zero if the map is one pixel high or
    /// wide.
    Flax,
}

/// Resizes every plane of a map to the height and width `to`.
pub fn resize(map: &Map, to: (usize, usize), method: Resize) -> Map {
    let [n, c, h, w] = map.shape;
    if (h, w) == to {
        return map.clone();
    }
    let (rows, columns) = (axis(h, to.0, method), axis(w, to.1, method));
    let mut data = Vec::with_capacity(n * c * to.0 * to.1);
    for plane in map.data.chunks((h * w).max(1)) {
        let wide: Vec<Vec<f64>> = plane.chunks(w.max(1)).map(|row| apply(&columns, row)).collect();
        for weights in &rows {
            for x in 0..to.1 {
                data.push(weights.iter().zip(&wide).map(|(f, row)| f * row[x]).sum());
            }
        }
    }
    Map { shape: [n, c, to.0, to.1], data }
}

fn apply(weights: &[Vec<f64>], row: &[f64]) -> Vec<f64> {
    weights.iter().map(|weights| weights.iter().zip(row).map(|(f, x)| f * x).sum()).collect()
}

/// For each output along an axis, the weights of all inputs: [to][from].
fn axis(from: usize, to: usize, method: Resize) -> Vec<Vec<f64>> {
    let corner = |i: usize| match to {
        1 => 0.0,
        _ => (i * (from - 1)) as f64 / (to - 1) as f64,
    };
    let edge = |i: usize| (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
    (0..to)
        .map(|i| match method {
            Resize::Flax if to == 1 => vec![0.0; from],
            Resize::AlignCorners | Resize::Flax => two_neighbours(from, corner(i)),
            Resize::HalfPixel => two_neighbours(from, edge(i).max(0.0)),
            Resize::Antialias => triangle(from, edge(i), (from as f64 / to as f64).max(1.0)),
        })
        .collect()
}

/// The weights of linear interpolation at the position `at` between the pixels of an axis.
fn two_neighbours(from: usize, at: f64) -> Vec<f64> {
    let low = (at.floor() as usize).min(from - 1);
    let high = (low + 1).min(from - 1);
    let part = at - low as f64;
    let mut weights = vec![0.0; from];
    weights[low] += 1.0 - part;
    weights[high] += part;
    weights
}

/// The weights of the triangle kernel of `jax.image`, stretched over the inputs that become one output.
/// The part of the kernel outside the image is left out, and the weights are scaled to the sum 1.
fn triangle(from: usize, at: f64, stretch: f64) -> Vec<f64> {
    let reach = |input: usize| (1.0 - (at - input as f64).abs() / stretch).max(0.0);
    let weights: Vec<f64> = (0..from).map(reach).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f64], to: usize, method: Resize) -> Vec<f64> {
        let map = Map { shape: [1, 1, 1, values.len()], data: values.to_vec() };
        resize(&map, (1, to), method).data
    }

    #[test]
    fn corners_or_edges_coincide() {
        let ramp = [0.0, 1.0, 2.0, 3.0];
        assert_eq!(row(&ramp, 2, Resize::AlignCorners), [0.0, 3.0]);
        assert_eq!(row(&ramp, 2, Resize::HalfPixel), [0.5, 2.5]);
        assert_eq!(row(&ramp, 7, Resize::AlignCorners), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]);
        assert_eq!(row(&[0.0, 4.0], 4, Resize::HalfPixel), [0.0, 1.0, 3.0, 4.0]);
    }

    /// `jax.image.resize(jnp.arange(4.0), (2,), 'bilinear')` gives 0.7142857 and 2.2857144: each
    /// output is an average of 3 to 4 inputs.
    #[test]
    fn antialiasing_averages_where_the_output_is_smaller() {
        let out = row(&[0.0, 1.0, 2.0, 3.0], 2, Resize::Antialias);
        assert!((out[0] - 5.0 / 7.0).abs() < 1e-12, "{out:?}");
        assert!((out[1] - 16.0 / 7.0).abs() < 1e-12, "{out:?}");
        let larger = row(&[0.0, 4.0], 4, Resize::Antialias);
        assert_eq!(larger, row(&[0.0, 4.0], 4, Resize::HalfPixel));
    }

    #[test]
    fn one_pixel_keeps_the_first_or_nothing() {
        let map = Map { shape: [1, 1, 2, 2], data: vec![1.0, 2.0, 3.0, 4.0] };
        assert_eq!(resize(&map, (1, 2), Resize::AlignCorners).data, [1.0, 2.0]);
        assert_eq!(resize(&map, (1, 2), Resize::Flax).data, [0.0, 0.0]);
        assert_eq!(resize(&map, (3, 2), Resize::Flax).data, [1.0, 2.0, 2.0, 3.0, 3.0, 4.0]);
    }
}
