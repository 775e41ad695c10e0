//! How large an error a right implementation may have: the derivations behind the budget.
//!
//! Of the bound of 4, a factor of 2 is meant for what two orders or algorithms of a sum differ by, and
//! a factor of 2 for the scatter of both errors. Where what is derived here is more than that, the
//! budget grows by the rest. Four things make the errors of two right implementations differ:
//!
//! 1. **The order of a sum.** A sum of K terms that is rounded after each gives n = sqrt(K) / 4
//!    roundings ([`summing`]).
//! 2. **The algorithm.** Winograd's transforms amplify rounding errors, by a factor that depends on
//!    their points alone ([`super::winograd`]); where sums are short, nothing else hides that. Every
//!    convolution that a runtime may compute so is granted it, whatever the candidate is.
//! 3. **The largest of many errors.** Of M independent normal errors the largest has an expected
//!    size of at most sqrt(2 ln 2M) standard deviations ([`extreme`]).
//! 4. **Few values.** Both the candidate's error and the yardstick's are draws. Where few values
//!    carry them, their ratio is spread like the root of an F distribution ([`scatter`]).

use spec::{Model, Precision};

use super::winograd::{self, Amplification};

/// Roundings that are granted to a module, in units of eps relative to its output.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Granted {
    /// To plain sums, of which the yardstick's are some.
    pub direct: f64,
    /// To the worst algorithm that is allowed, as root mean square.
    pub l2: f64,
    /// To the same where its errors are largest.
    pub largest: f64,
    /// Whether there are sums, whose errors are spread like normal ones; a single rounding is at most
    /// half an eps.
    pub sums: bool,
}

impl Granted {
    /// Independent errors add in quadrature.
    pub fn hypot(self, other: Granted) -> Granted {
        Granted {
            direct: self.direct.hypot(other.direct),
            l2: self.l2.hypot(other.l2),
            largest: self.largest.hypot(other.largest),
            sums: self.sums || other.sums,
        }
    }

    /// At least one rounding.
    fn least(self) -> Granted {
        let (direct, l2, largest) = (self.direct.max(1.0), self.l2.max(1.0), self.largest.max(1.0));
        Granted { direct, l2, largest, sums: self.sums }
    }
}

fn half(precision: Precision) -> bool {
    matches!(precision, Precision::Bf16 | Precision::Tf32 | Precision::F16)
}

/// Roundings of a sum of `reduction` terms, n before eps in the budget of a layer that sums so.
///
/// Rounding s_1, s_2, …, s_K of a sequential sum independently (a random walk, Higham and Mary
/// 2019) gives a standard error of sqrt(K / 6) u for terms of random sign and of sqrt(K) / 3 u for
/// terms of one sign, relative to the result; u = eps / 2. sqrt(K) / 4 eps covers both. Engines of
/// fewer bits sum in float32, so that only the rounding of the output, or in TF32 of the factors, is
/// left. A layer that only rounds its output is granted one eps ([`Granted::least`]).
fn summing(reduction: usize, precision: Precision) -> f64 {
    match reduction {
        _ if half(precision) => 0.0,
        0 | 1 => 0.0,
        terms => (terms as f64).sqrt() / 4.0,
    }
}

/// Rounding errors of a number are at most half an eps and are taken to be equally likely below:
/// a variance of eps^2 / 12 relative to a power of 2.
const ROUNDING: f64 = 1.0 / 12.0;
/// The same relative to numbers whose logarithms are equally likely (Hamming 1970): the mean of 1 / m^2
/// over m from 1 to 2 is 3 / (8 ln 2).
const TYPICAL: f64 = ROUNDING * 3.0 / (8.0 * std::f64::consts::LN_2);
/// The part of the bound that is meant for different orders and algorithms.
const ORDERS: f64 = 2.0;

/// What every module is granted. Fed the reference's input, a module answers for its own sums. Where
/// the network runs through, the errors of all modules up to it have come together: independent, they
/// add in quadrature, each with what its sums and the rounding of its output give.
pub fn roundings(model: &Model, precision: Precision, own: bool) -> Vec<Granted> {
    let mut each: Vec<Granted> = model
        .modules()
        .iter()
        .map(|module| {
            let n = summing(module.reduction, precision);
            Granted { direct: n, l2: n, largest: n, sums: n > 0.0 }
        })
        .collect();
    for conv in model.convs() {
        let Some(tiled) = conv.tiled() else { continue };
        let values = model.module(conv.id).shape.iter().product::<usize>() as f64;
        let granted = &mut each[conv.id.0];
        for points in winograd::POINTS {
            let algorithm = winograd::amplification(points, tiled.taps);
            let s = plane_error(tiled.channels, precision, &algorithm);
            // The worst output of a tile is one among many: there are fewer of them.
            let fewer = extreme(values / algorithm.outputs) / extreme(values);
            granted.l2 = granted.l2.max(s * algorithm.l2);
            granted.largest = granted.largest.max(s * algorithm.l2.max(algorithm.largest * fewer));
        }
    }
    if own {
        return each.into_iter().map(Granted::least).collect();
    }
    let output = ROUNDING.sqrt();
    let output = Granted { direct: output, l2: output, largest: output, sums: true };
    let together = each.into_iter().scan(Granted::default(), |sum, granted| {
        *sum = sum.hypot(granted).hypot(output);
        Some(*sum)
    });
    together.map(Granted::least).collect()
}

/// The relative error of a plane, in eps: of a sum over the channels (terms of random sign, whose partial
/// sums have half the mean square of the result), and of the transforms, each of whose roundings counts
/// for one of the result; the bound has room for half of it. In a half format the planes of kernel and
/// map are rounded once each, with any mantissa. The direct convolution rounds no map at all, and sums
/// are in float32, whatever their order: none of the bound is meant for it.
fn plane_error(channels: usize, precision: Precision, algorithm: &Amplification) -> f64 {
    if half(precision) {
        return (2.0 * ROUNDING).sqrt();
    }
    ((channels as f64 / 2.0 + algorithm.transforms) * TYPICAL).sqrt() / ORDERS
}

/// The expected size of the largest of `values` independent normal errors, in standard deviations, is
/// at most this (the union bound over their moment generating function).
pub fn extreme(values: f64) -> f64 {
    (2.0 * (2.0 * values.max(1.0)).ln()).sqrt()
}

/// The quantile of the normal distribution that 1 in 100,000 exceeds. An accident with few values
/// needs a module whose sums cancel, too, or else the floor of n eps catches it.
const RARE: f64 = 4.265;
/// Values below which the ratio of two errors has no variance to speak of.
const FEWEST: f64 = 4.0;

/// By how much the ratio of two errors that `values` values carry may exceed 2 by chance:
/// 1 where there are many.
///
/// Two sums of squares of v normal values each have a ratio that follows the F distribution with
/// (v, v) degrees of freedom. Its quantile, by Fisher's approximation for its logarithm (Abramowitz
/// and Stegun 26.5.22 and 26.6.16), is exp(2 w), w = z sqrt(h + l) / h, h = v - 1, l = (z^2 - 3) / 6.
/// Where the root of the quantile is beyond the factor of 2 that the bound keeps for scatter, the
/// budget grows by the rest.
pub fn scatter(values: f64) -> f64 {
    let h = values.max(FEWEST) - 1.0;
    let l = (RARE * RARE - 3.0) / 6.0;
    ((RARE * (h + l).sqrt() / h).exp() / 2.0).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spec::Config;
    use spec::weights::formula;

    fn model() -> Model {
        Model::new(Config { depth: 18, width: 0.25, size: (57, 65), ..Config::default() }).unwrap()
    }

    #[test]
    fn a_3x3_convolution_is_granted_winograd_and_a_7x7_one_is_not() {
        let model = model();
        let granted = roundings(&model, Precision::F32, true);
        let at = |name: &str| granted[model.find(name).unwrap().id.0];
        let wide = at("layer1.0.conv1.spatial_conv.glo_conv.0");
        // 16 channels: sqrt(144) / 4 one after the other.
        assert_eq!(wide.direct, 3.0);
        assert!(wide.largest > wide.direct && wide.largest < 2.0 * wide.direct, "{wide:?}");
        // Where sums are long, the transforms are lost in them.
        let long = at("layer4.0.conv2.spatial_conv.short_conv");
        assert_eq!((long.l2, long.largest), (long.direct, long.direct));
        let seven = at("layer1.0.conv1.spatial_conv.glo_conv.3");
        assert_eq!((seven.l2, seven.largest), (seven.direct, seven.direct));
        let relu = at("layer1.0.conv1.spatial_conv.glo_conv.2");
        assert_eq!(relu, Granted { direct: 1.0, l2: 1.0, largest: 1.0, sums: false });
    }

    #[test]
    fn where_the_network_runs_through_it_only_grows() {
        for precision in [Precision::F32, Precision::Bf16, Precision::F64] {
            let through = roundings(&model(), precision, false);
            assert!(through.windows(2).all(|w| w[0].l2 <= w[1].l2 && w[0].largest <= w[1].largest));
            assert!(through.iter().all(|g| g.direct <= g.l2 && g.l2 <= g.largest));
        }
    }

    #[test]
    fn extremes_of_normal_values_are_below_the_bound_and_near_it() {
        for (count, near) in [(1, 0.5), (10, 0.6), (1000, 0.8)] {
            let trials = 300;
            let mut sum = 0.0;
            for trial in 0..trials {
                let u = formula::uniform(&format!("extreme {trial}"), 12 * count, 0);
                let normal = |c: &[f32]| c.iter().map(|&x| f64::from(x)).sum::<f64>() - 6.0;
                sum += u.chunks(12).map(normal).fold(0.0, |a: f64, b| a.max(b.abs()));
            }
            let (mean, bound) = (sum / f64::from(trials), extreme(count as f64));
            assert!(mean <= bound && mean > near * bound, "{count}: {mean} {bound}");
        }
    }

    #[test]
    fn scatter_is_that_of_an_f_distribution() {
        // Roots of the quantiles of F(v, v) that 1 in 100,000 exceeds, by numerical integration.
        for (values, root) in [(5.0, 13.98), (7.0, 7.766), (16.0, 3.284), (32.0, 2.218)] {
            assert!((scatter(values) * 2.0 / root - 1.0).abs() < 0.1, "{values}");
        }
        assert_eq!(scatter(100.0), 1.0);
        assert_eq!(scatter(0.0), scatter(4.0));
        assert!(scatter(4.0) < 20.0, "even one value is not free to be anything");
    }
}
