//! How large the error of a correct implementation may be: the derivations behind n and a of the
//! error ratio.
//!
//! Of the bound of 4, a factor of 2 is for the difference between two orders or algorithms of a sum,
//! and a factor of 2 for the scatter of both errors. Where the difference or the scatter that is
//! derived here is more than 2, the allowed error grows by the excess. The errors of two correct
//! implementations differ for five reasons:
//!
//! 1. **The order of a sum.** A sum of K terms that is rounded after each addition has an error of
//!    n = sqrt(K) / 4 roundings ([`sum_roundings`]).
//! 2. **The algorithm.** Winograd's transforms amplify rounding errors by a factor that depends only on
//!    their points ([`super::winograd`]). Where sums are long, the error of the sum hides this; where
//!    they are short, nothing does. Every convolution that a runtime may compute with Winograd's
//!    algorithm is granted the factor, whatever the candidate is.
//! 3. **The largest of many errors.** The largest of M independent normal errors has an expected size
//!    of at most sqrt(2 ln 2M) standard deviations ([`expected_largest`]).
//! 4. **Few values.** The errors of the candidate and of the comparison run are both random draws. Where few
//!    values carry them, their ratio is spread like the root of an F distribution ([`scatter`]).
//! 5. **Coordinates.** A resize computes where it reads, and programs write that formula in different ways
//!    ([`coordinate_roundings`]).

use spec::{Model, ModuleId, Precision};

use super::winograd::{self, Amplification, Tiles};

/// The rounding errors that a module is allowed, in units of eps relative to its output: the n of the
/// error ratio.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Allowance {
    /// For plain sums, which is how the comparison run computes.
    pub direct: f64,
    /// For the worst of the allowed algorithms, as root mean square over the outputs.
    pub l2: f64,
    /// For the worst of the allowed algorithms, at the outputs where its errors are largest.
    pub largest: f64,
    /// Whether the module adds terms up. The errors of sums are spread like normal errors; a single
    /// rounding is at most half an eps.
    pub sums: bool,
}

impl Allowance {
    /// The allowance for two independent errors, which add in quadrature.
    pub fn hypot(self, other: Allowance) -> Allowance {
        Allowance {
            direct: self.direct.hypot(other.direct),
            l2: self.l2.hypot(other.l2),
            largest: self.largest.hypot(other.largest),
            sums: self.sums || other.sums,
        }
    }

    /// The same, but at least one rounding.
    fn at_least_one(self) -> Allowance {
        let (direct, l2, largest) = (self.direct.max(1.0), self.l2.max(1.0), self.largest.max(1.0));
        Allowance { direct, l2, largest, sums: self.sums }
    }
}

/// Whether a format has fewer bits than float32; engines then add up in float32.
fn is_coarse(precision: Precision) -> bool {
    matches!(precision, Precision::Bf16 | Precision::Tf32 | Precision::F16)
}

/// The error of a sum of `reduction` terms, in units of eps.
///
/// If the partial sums s_1, s_2, …, s_K of a sequential sum are rounded independently (a random walk,
/// Higham and Mary 2019), the standard error relative to the result is sqrt(K / 6) u for terms of
/// random sign and sqrt(K) / 3 u for terms of one sign, with u = eps / 2. sqrt(K) / 4 eps covers both.
/// In formats with fewer bits than float32, engines add up in float32, so that only the rounding of the
/// output is left, or of the factors in TF32. A layer that only rounds its output is allowed one eps
/// ([`Allowance::at_least_one`]).
fn sum_roundings(reduction: usize, precision: Precision) -> f64 {
    match reduction {
        _ if is_coarse(precision) => 0.0,
        0 | 1 => 0.0,
        terms => (terms as f64).sqrt() / 4.0,
    }
}

/// Variance of one rounding error in eps^2, relative to a power of 2: the error is taken to be uniform
/// within half an eps on either side.
const ROUNDING: f64 = 1.0 / 12.0;
/// The same relative to a typical number, whose logarithm is uniform (Hamming 1970): the mean of
/// 1 / m^2 over such mantissas m from 1 to 2 is 3 / (8 ln 2).
const TYPICAL: f64 = ROUNDING * 3.0 / (8.0 * std::f64::consts::LN_2);
/// The factor of the bound that is meant for different orders and algorithms of a sum.
const ORDERS: f64 = 2.0;

/// Operations whose rounding changes a coordinate of a resize. `jax.image.scale_and_translate`, the longest
/// formula known, computes (i + 0.5) / scale - translation / scale - 0.5 with a rounded scale and translation.
const COORDINATE_OPERATIONS: f64 = 6.0;

/// The error of a bilinear resize from `side` x `side` values, in units of eps relative to its output.
///
/// Coordinates go up to `side` and are rounded to float32 after each operation, which gives each of them an error
/// of sqrt([`COORDINATE_OPERATIONS`] / 12) * side eps. The output changes by this times the difference of
/// neighbours, which is sqrt(2) times the rms for independent values, along either of two axes: a factor of 2
/// together. Engines of formats with fewer bits compute coordinates in float32.
fn coordinate_roundings(side: usize, precision: Precision) -> f64 {
    match is_coarse(precision) {
        true => 0.0,
        false => 2.0 * side as f64 * (COORDINATE_OPERATIONS * ROUNDING).sqrt(),
    }
}

/// The allowances of the resized embeddings, by module.
fn resizes(model: &Model, precision: Precision) -> Vec<(ModuleId, f64)> {
    let embeddings = model.ctls().map(|ctl| &ctl.spatial_conv.pos_embed);
    let resized = embeddings.filter(|embedding| (embedding.dim, embedding.dim) != embedding.size);
    resized.map(|e| (e.id, coordinate_roundings(e.dim, precision))).collect()
}

/// The allowance of every module of a model, in order of execution.
///
/// In the forced pass (`forced`) a module is responsible for its own sums only. In the free pass the
/// errors of all modules up to it have come together. They are independent and therefore add in
/// quadrature; each module contributes the error of its sums and the rounding of its output. `tiles` says
/// which of Winograd's algorithms are allowed.
pub fn roundings(
    model: &Model,
    precision: Precision,
    forced: bool,
    tiles: Tiles,
) -> Vec<Allowance> {
    let mut each: Vec<Allowance> = model
        .modules()
        .iter()
        .map(|module| {
            let n = sum_roundings(module.reduction, precision);
            Allowance { direct: n, l2: n, largest: n, sums: n > 0.0 }
        })
        .collect();
    for conv in model.convs() {
        let Some(tiled) = conv.tiled() else { continue };
        let values = model.module(conv.id).shape.iter().product::<usize>() as f64;
        let granted = &mut each[conv.id.0];
        for points in tiles.points() {
            let algorithm = winograd::amplification(points, tiled.taps);
            let s = plane_error(tiled.channels, precision, &algorithm);
            // Only one output of each tile is the worst one, and the largest of fewer errors is smaller.
            let fewer = expected_largest(values / algorithm.outputs) / expected_largest(values);
            granted.l2 = granted.l2.max(s * algorithm.l2);
            granted.largest = granted.largest.max(s * algorithm.l2.max(algorithm.largest * fewer));
        }
    }
    // What embeddings contribute to later modules is small, since maps are added to them.
    let resized = |mut granted: Vec<Allowance>| {
        for (id, n) in resizes(model, precision) {
            let coordinates = Allowance { direct: n, l2: n, largest: n, sums: true };
            granted[id.0] = granted[id.0].hypot(coordinates);
        }
        granted.into_iter().map(Allowance::at_least_one).collect()
    };
    if forced {
        return resized(each);
    }
    let output = ROUNDING.sqrt();
    let output = Allowance { direct: output, l2: output, largest: output, sums: true };
    let together = each.into_iter().scan(Allowance::default(), |sum, granted| {
        *sum = sum.hypot(granted).hypot(output);
        Some(*sum)
    });
    resized(together.collect())
}

/// The relative error of one of Winograd's planes, in eps.
///
/// It is the error of a sum over the channels, whose terms have random signs, so that the partial sums
/// have half the mean square of the result, and of the transforms, each rounding of which counts as one
/// rounding of the result. The bound already covers a factor of [`ORDERS`]. In a coarse format the
/// planes of kernel and map are rounded once each, with any mantissa. There nothing is covered by the
/// bound: the direct convolution does not round the map, and sums are in float32 in any order.
fn plane_error(channels: usize, precision: Precision, algorithm: &Amplification) -> f64 {
    if is_coarse(precision) {
        return (2.0 * ROUNDING).sqrt();
    }
    ((channels as f64 / 2.0 + algorithm.transforms) * TYPICAL).sqrt() / ORDERS
}

/// An upper bound on the expected size of the largest of `values` independent normal errors, in
/// standard deviations (the union bound over their moment generating function).
pub fn expected_largest(values: f64) -> f64 {
    (2.0 * (2.0 * values.max(1.0)).ln()).sqrt()
}

/// The quantile z of the normal distribution that 1 in 100,000 values exceeds. A false alarm is rarer
/// still: it also needs a module whose sums cancel, since otherwise the floor of n eps is larger.
const RARE: f64 = 4.265;
/// Fewer values than this are treated as this many: the F distribution of their ratio has no variance.
const FEWEST: f64 = 4.0;

/// The factor a: by how much the ratio of two errors, each carried by `values` values, may exceed 2 by
/// chance. It is 1 for many values.
///
/// The ratio of two sums of squares of v normal values each follows the F distribution with (v, v)
/// degrees of freedom. By Fisher's approximation for its logarithm (Abramowitz and Stegun 26.5.22 and
/// 26.6.16) its quantile is exp(2 w), with w = z sqrt(h + l) / h, h = v - 1 and l = (z^2 - 3) / 6.
/// Where the root of the quantile exceeds the factor of 2 that the bound keeps for scatter, the budget
/// grows by the excess.
pub fn scatter(values: f64) -> f64 {
    let h = values.max(FEWEST) - 1.0;
    let l = (RARE * RARE - 3.0) / 6.0;
    ((RARE * (h + l).sqrt() / h).exp() / 2.0).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Measured;
    use checkpoint::formula;
    use spec::Config;

    fn model() -> Model {
        Model::new(Config { depth: 18, width: 0.25, size: (57, 65), ..Config::default() }).unwrap()
    }

    #[test]
    fn a_3x3_convolution_is_granted_winograd_and_a_7x7_one_is_not() {
        let model = model();
        let granted = roundings(&model, Precision::F32, true, Tiles::Four);
        let at = |name: &str| granted[model.find(name).unwrap().id.0];
        let wide = at("layer1.0.conv1.spatial_conv.glo_conv.0");
        // 16 channels of 3x3 taps are 144 terms: sqrt(144) / 4.
        assert_eq!(wide.direct, 3.0);
        assert!(wide.largest > wide.direct && wide.largest < 2.0 * wide.direct, "{wide:?}");
        // The error of a long sum hides that of the transforms.
        let long = at("layer4.0.conv2.spatial_conv.short_conv");
        assert_eq!((long.l2, long.largest), (long.direct, long.direct));
        let seven = at("layer1.0.conv1.spatial_conv.glo_conv.3");
        assert_eq!((seven.l2, seven.largest), (seven.direct, seven.direct));
        let relu = at("layer1.0.conv1.spatial_conv.glo_conv.2");
        assert_eq!(relu, Allowance { direct: 1.0, l2: 1.0, largest: 1.0, sums: false });
    }

    #[test]
    fn six_is_only_shown_by_errors_that_are_raised_in_many_places_and_largest_in_single_values() {
        let model = model();
        let layers = |ratio: [f64; 2], places: usize| {
            let mut layers = vec![Measured::default(); model.modules().len()];
            let tiled = model.convs().filter(|conv| conv.tiled().is_some());
            for (at, conv) in tiled.enumerate() {
                layers[conv.id.0].ratios[0] = Some(if at < places { ratio } else { [0.5, 0.5] });
            }
            layers
        };
        let all = model.convs().filter(|conv| conv.tiled().is_some()).count();
        assert!(winograd::shows_six(&model, &layers([3.0, 9.0], all)));
        assert!(winograd::shows_six(&model, &layers([3.0, 9.0], all / 3)));
        assert!(!winograd::shows_six(&model, &layers([3.0, 9.0], 1)), "a mistake in one place");
        assert!(
            !winograd::shows_six(&model, &layers([9.0, 9.0], all)),
            "maps are wrong as a whole"
        );
        assert!(!winograd::shows_six(&model, &layers([2.0, 3.0], all)), "nothing fails");
        assert!(!winograd::shows_six(&model, &layers([f64::NAN, f64::NAN], all)));
        let granted = |tiles, precision| roundings(&model, precision, true, tiles);
        let place = model.find("layer1.0.conv1.spatial_conv.short_conv").unwrap().id.0;
        let (four, six) =
            (granted(Tiles::Four, Precision::F32), granted(Tiles::Six, Precision::F32));
        assert!(six[place].largest > 4.0 * four[place].largest);
    }

    /// The weights of the neighbours of output `i`, with coordinates in float32 as jax.image.scale_and_translate
    /// computes them, and in float64 as aligned corners define them: the index of the lower one, and its distance.
    fn coordinates(i: usize, from: usize, to: usize) -> [(usize, f64); 2] {
        let at = |x: f64| (x.floor().min(from as f64 - 1.0) as usize, x);
        let scale = (to - 1) as f32 / (from - 1) as f32;
        let (inverse, translation) = (1.0 / scale, (1.0 - scale) / 2.0);
        let x = (i as f32 + 0.5) * inverse - translation * inverse - 0.5;
        let exact = i as f64 * (from - 1) as f64 / (to - 1) as f64;
        [at(f64::from(x.max(0.0))), at(exact)]
    }

    #[test]
    fn rounded_coordinates_of_a_resize_are_within_its_allowance() {
        let mut largest = 0.0f64;
        for (from, to) in [(7, 3), (7, 4), (14, 5), (56, 57), (56, 13), (7, 57), (28, 36)] {
            let values = formula::uniform("resize", from * from, 0);
            let value =
                |y: usize, x: usize| f64::from(values[y.min(from - 1) * from + x.min(from - 1)]);
            let (mut error, mut truth) = (0.0, 0.0);
            for (i, j) in (0..to * to).map(|at| (at / to, at % to)) {
                let [rounded, exact] = [0, 1].map(|which| {
                    let ((y, v), (x, h)) =
                        (coordinates(i, from, to)[which], coordinates(j, from, to)[which]);
                    let (v, h) = (v - y as f64, h - x as f64);
                    let row = |y: usize| value(y, x) * (1.0 - h) + value(y, x + 1) * h;
                    row(y) * (1.0 - v) + row(y + 1) * v
                });
                error += (rounded - exact).powi(2);
                truth += exact.powi(2);
            }
            let found = (error / truth).sqrt() / f64::from(f32::EPSILON);
            let granted = coordinate_roundings(from, Precision::F32);
            assert!(found < 2.0 * granted, "{from} to {to}: {found} of {granted}");
            println!("{from} to {to}: {found} of {granted}");
            largest = largest.max(found / granted);
        }
        assert!(largest > 0.1, "the allowance is much larger than these errors: {largest}");
        assert_eq!(coordinate_roundings(7, Precision::Bf16), 0.0);
        let model = model();
        let n = |name: &str| {
            let id = model.find(&format!("{name}.spatial_conv.pos_embed")).unwrap().id.0;
            roundings(&model, Precision::F32, true, Tiles::Four)[id].direct
        };
        assert!((n("layer3.0.conv1") - coordinate_roundings(7, Precision::F32)).abs() < 1.0);
    }

    #[test]
    fn allowances_of_the_free_pass_only_grow() {
        for precision in [Precision::F32, Precision::Bf16, Precision::F64] {
            let mut through = roundings(&model(), precision, false, Tiles::Four);
            // An embedding is allowed more than what it passes on.
            for (id, _) in resizes(&model(), precision) {
                through[id.0] = through[id.0 - 1];
            }
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
            let (mean, bound) = (sum / f64::from(trials), expected_largest(count as f64));
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
        assert!(scatter(4.0) < 20.0, "even a single value has a bound");
    }
}
