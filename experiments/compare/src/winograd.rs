//! How much larger the rounding errors of a Winograd convolution are than those of a plain sum.
//!
//! Winograd's F(m x m, 3 x 3) computes a tile of m x m outputs as A^T [(G g G^T) . (B^T d B)] A, with
//! one product for each pair of channels in each of (m + 2)^2 planes (Lavin and Gray, arXiv 1509.09308).
//! The planes are larger than the outputs and cancel, so that errors grow by a factor that depends on
//! the points that A, B and G are made from (Vincent, Stephano, Frumkin, Ginsburg and Demouth 2017,
//! "On improving the numerical stability of Winograd convolutions"; Barabasz, Anderson, Soodhalter and
//! Gregg, arXiv 1803.10986).
//!
//! This file computes the factor statistically. Let the values of the kernel and of the map be
//! independent with variance 1. Plane (p, q) then has the variance |G_p|^2 |G_q|^2 in the transformed
//! kernel and |B_p|^2 |B_q|^2 in the transformed map. Let each plane have an independent error of
//! relative size s. Output (i, j) then has an error whose variance is s^2 times the sum over p and q of
//! (A_ip A_jq)^2 |G_p|^2 |G_q|^2 |B_p|^2 |B_q|^2. This sum is 3^2 a_i a_j with 3 a_i = sum over p of
//! A_ip^2 |G_p|^2 |B_p|^2, and the variance of the output itself is 3^2. So the relative error is
//! s sqrt(a_i a_j): s mean(a) as root mean square over the tile, and s max(a) at its worst output.

use std::collections::BTreeSet;

use spec::{Model, ModuleId};

use crate::Measured;
use crate::measure::BOUND;

/// The largest tile whose error 3x3 convolutions are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tiles {
    /// F(4x4): any candidate may use it.
    #[default]
    Four,
    /// F(6x6), which runtimes for phones choose (ncnn, MNN, NNPACK): a candidate whose errors show that it does. Its
    /// error is 4 to 9 times that of a plain sum, and would hide mistakes that others cannot make unnoticed.
    Six,
}

impl Tiles {
    /// The points of the algorithms.
    ///
    /// For F(4x4) these are close to the best known ones: Barabasz et al. (table 2) use 1/2 and 3/2, oneDNN
    /// 5/8 and 3/2, the engine `cpu` 3/4 and 3/2. Lavin and Gray's points 1 and 2 have 2.1 times the error
    /// of ours, and 3.6 times at the worst output, so that a runtime that uses them comes close to the
    /// bound where sums are short. F(6x6) has its usual points.
    pub fn points(self) -> &'static [&'static [f64]] {
        match self {
            Tiles::Four => &POINTS[..2],
            Tiles::Six => &POINTS,
        }
    }
}

/// The points of F(2x2), F(4x4) and F(6x6).
const POINTS: [&[f64]; 3] =
    [&[0.0, 1.0, -1.0], &[0.0, 0.75, -0.75, 1.5, -1.5], &[0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5]];

/// The share of the 3x3 convolutions whose errors must be larger than expected for [`Tiles::Six`]. Runtimes use it only
/// where maps and channels are large enough.
const SHARE: f64 = 0.25;

/// Whether the own errors of a candidate show that it uses F(6x6): some 3x3 convolutions fail by their largest error,
/// which is where the algorithm is worst, but not by their relative L2 error, and many others have large errors, too.
/// A mistake in one place, or one that changes whole maps, does not look like this.
pub fn shows_six(model: &Model, layers: &[Measured]) -> bool {
    let tiled = model.convs().filter(|conv| conv.tiled().is_some()).map(|conv| conv.id);
    let shown: BTreeSet<ModuleId> = tiled.map(|id| layers[id.0].shown_at.unwrap_or(id)).collect();
    let ratios: Vec<[f64; 2]> = shown.iter().filter_map(|id| layers[id.0].ratios[0]).collect();
    let fail = ratios.iter().any(|[l2, largest]| *l2 <= BOUND && *largest > BOUND);
    let raised = ratios.iter().filter(|[l2, largest]| l2.max(*largest) > 1.0).count();
    fail && raised as f64 >= SHARE * ratios.len() as f64
}

/// By how much an algorithm amplifies the relative error of its planes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Amplification {
    /// The factor as root mean square over the outputs of a tile.
    pub l2: f64,
    /// The factor at the worst output of a tile.
    pub largest: f64,
    /// Number of outputs of a tile, m * m.
    pub outputs: f64,
    /// Number of roundings in the three transforms: of a kernel, of a map and of a tile of outputs.
    pub transforms: f64,
}

/// The rows of A^T, G and B^T for some finite points and the point at infinity.
struct Matrices {
    a: Vec<Vec<f64>>,
    g: Vec<Vec<f64>>,
    b: Vec<Vec<f64>>,
}

/// The coefficients of the product of (x - q) over all roots q, the constant term first.
fn polynomial(roots: impl Iterator<Item = f64>) -> Vec<f64> {
    roots.fold(vec![1.0], |product, q| {
        let mut next = vec![0.0; product.len() + 1];
        for (power, c) in product.iter().enumerate() {
            next[power] -= q * c;
            next[power + 1] += c;
        }
        next
    })
}

impl Matrices {
    /// The construction of Toom and Cook. For each point p, a row of B^T holds the coefficients of the
    /// product of (x - q) over the other points q, a row of G the powers of p divided by the product of
    /// (p - q), and a column of A^T the powers of p. The last row or column is for infinity.
    fn new(points: &[f64]) -> Self {
        let (n, m) = (points.len() + 1, points.len() - 1);
        let others = |p: f64| points.iter().copied().filter(move |&q| q != p);
        let mut b: Vec<Vec<f64>> = points.iter().map(|&p| polynomial(others(p))).collect();
        b.push(polynomial(points.iter().copied()));
        b.iter_mut().for_each(|row| row.resize(n, 0.0));
        let mut g: Vec<Vec<f64>> = points
            .iter()
            .map(|&p| {
                let norm: f64 = others(p).map(|q| p - q).product();
                (0..3).map(|power| p.powi(power) / norm).collect()
            })
            .collect();
        g.push(vec![0.0, 0.0, 1.0]);
        let row = |power: usize| {
            let last = if power + 1 == m { 1.0 } else { 0.0 };
            points.iter().map(|p| p.powi(power as i32)).chain([last]).collect()
        };
        Matrices { a: (0..m).map(row).collect(), g, b }
    }
}

/// The amplification of the algorithm with these points. `taps` holds the number of taps in one
/// direction that are not zero, for each kind of input channel: [3], or [3, 2] for a 5x5 kernel of
/// stride 2 that is computed as a 3x3 kernel on cells of 2x2 pixels.
pub fn amplification(points: &[f64], taps: &[usize]) -> Amplification {
    let Matrices { a, g, b } = Matrices::new(points);
    let square = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>();
    let plane: Vec<f64> = g
        .iter()
        .zip(&b)
        .map(|(g, b)| taps.iter().map(|&taps| square(&g[..taps])).sum::<f64>() * square(b))
        .collect();
    let all = taps.iter().sum::<usize>() as f64;
    let each: Vec<f64> = a
        .iter()
        .map(|row| row.iter().zip(&plane).map(|(a, plane)| a * a * plane).sum::<f64>() / all)
        .collect();
    // A transform of a tile is two products with the matrix. Each sum in them rounds once less often
    // than it has terms.
    let terms = |rows: &[Vec<f64>]| {
        rows.iter().map(|row| row.iter().filter(|x| **x != 0.0).count()).max().unwrap_or(0)
    };
    Amplification {
        l2: each.iter().sum::<f64>() / each.len() as f64,
        largest: each.iter().copied().fold(0.0, f64::max),
        outputs: (a.len() * a.len()) as f64,
        transforms: 2.0 * (terms(&a) + terms(&g) + terms(&b) - 3) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use checkpoint::formula;

    /// The points of Lavin and Gray, for F(2x2) and F(4x4).
    const USUAL: [&[f64]; 2] = [&[0.0, 1.0, -1.0], &[0.0, 1.0, -1.0, 2.0, -2.0]];

    /// Approximately standard normal numbers: each is the sum of twelve uniform ones, minus 6.
    fn normal(name: &str, n: usize) -> Vec<f64> {
        let u = formula::uniform(name, 12 * n, 0);
        u.chunks(12).map(|c| c.iter().map(|&x| f64::from(x)).sum::<f64>() - 6.0).collect()
    }

    /// The matrix product rows * X * rows^T for a square X.
    fn both(rows: &[Vec<f64>], x: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let times = |x: &[Vec<f64>]| -> Vec<Vec<f64>> {
            let column = |j: usize| x.iter().map(move |row| row[j]);
            let cell = |row: &Vec<f64>, j| row.iter().zip(column(j)).map(|(a, b)| a * b).sum();
            rows.iter().map(|row| (0..x[0].len()).map(|j| cell(row, j)).collect()).collect()
        };
        let turned = |x: Vec<Vec<f64>>| -> Vec<Vec<f64>> {
            (0..x[0].len()).map(|j| x.iter().map(|row| row[j]).collect()).collect()
        };
        turned(times(&turned(times(x))))
    }

    fn square(values: &[f64]) -> Vec<Vec<f64>> {
        let side = values.len().isqrt();
        values.chunks(side).map(<[f64]>::to_vec).collect()
    }

    /// The rms error relative to the rms of the outputs, over the tile and at its worst output, when
    /// every plane is disturbed by a relative error of 1.
    fn measured(points: &[f64]) -> (f64, f64) {
        let Matrices { a, g, b } = Matrices::new(points);
        let (n, m) = (points.len() + 1, points.len() - 1);
        let (trials, channels) = (400, 8);
        let (mut errors, mut outputs) = (vec![0.0; m * m], 0.0);
        for trial in 0..trials {
            let mut planes = vec![vec![0.0; n]; n];
            let mut direct = vec![0.0; m * m];
            for channel in 0..channels {
                let kernel = square(&normal(&format!("k{trial} {channel}"), 9));
                let map = square(&normal(&format!("m{trial} {channel}"), n * n));
                let (u, v) = (both(&g, &kernel), both(&b, &map));
                for (p, row) in planes.iter_mut().enumerate() {
                    for (q, plane) in row.iter_mut().enumerate() {
                        *plane += u[p][q] * v[p][q];
                    }
                }
                for (at, sum) in direct.iter_mut().enumerate() {
                    for (y, row) in kernel.iter().enumerate() {
                        for (x, weight) in row.iter().enumerate() {
                            *sum += weight * map[at / m + y][at % m + x];
                        }
                    }
                }
            }
            let right = both(&a, &planes);
            let noise = normal(&format!("noise {trial}"), n * n);
            for (at, plane) in planes.iter_mut().flatten().enumerate() {
                *plane *= 1.0 + noise[at];
            }
            let disturbed = both(&a, &planes);
            for (at, sum) in direct.iter().enumerate() {
                let output = right[at / m][at % m];
                assert!(
                    (output - sum).abs() < 1e-9 * (1.0 + sum.abs()),
                    "Winograd and the direct sum differ"
                );
                errors[at] += (disturbed[at / m][at % m] - output).powi(2);
                outputs += output * output;
            }
        }
        let mean = outputs / (m * m) as f64;
        let rms = (errors.iter().sum::<f64>() / outputs).sqrt();
        (rms, errors.iter().copied().fold(0.0, |a: f64, b| a.max((b / mean).sqrt())))
    }

    #[test]
    fn amplification_agrees_with_a_monte_carlo_estimate() {
        for points in USUAL.into_iter().chain(POINTS) {
            let derived = amplification(points, &[3]);
            let (l2, largest) = measured(points);
            assert!((l2 / derived.l2 - 1.0).abs() < 0.1, "{points:?}: {l2}, {derived:?}");
            let off = largest / derived.largest - 1.0;
            assert!(off.abs() < 0.2, "{points:?}: {largest}, {derived:?}");
        }
    }

    /// A has rows of three terms, G of three and B of two; each of two products rounds once less often.
    #[test]
    fn the_transforms_round_once_less_often_than_they_have_terms() {
        assert_eq!(amplification(USUAL[0], &[3]).transforms, 2.0 * f64::from(3 + 3 + 2 - 3));
    }

    #[test]
    fn the_points_are_those_of_the_engine_cpu_and_the_bound_has_room_for_the_usual_ones() {
        let (p, q) = (f64::from(cpu::kernels::winograd::P), f64::from(cpu::kernels::winograd::Q));
        assert_eq!(POINTS[1], [0.0, p, -p, q, -q]);
        let [usual, ours] = [USUAL[1], POINTS[1]].map(|points| amplification(points, &[3]));
        assert!(usual.l2 > 2.0 * ours.l2 && usual.l2 < BOUND * ours.l2);
        assert!(usual.largest > 3.0 * ours.largest && usual.largest < BOUND * ours.largest);
    }

    #[test]
    fn the_construction_gives_the_matrices_of_lavin_and_gray() {
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        let f4 = Matrices::new(USUAL[1]);
        assert!(close(&f4.b[0], &[4.0, 0.0, -5.0, 0.0, 1.0, 0.0]));
        assert!(close(&f4.g[3], &[1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0]));
        assert!(close(&f4.a[3], &[0.0, 1.0, -1.0, 8.0, -8.0, 1.0]));
        assert!((amplification(USUAL[0], &[3]).l2 - 5.0 / 3.0).abs() < 1e-12);
    }
}
