//! From two tensors to an error ratio: how far they are apart, divided by how far they may be.
//!
//! The rule (see the README, "When two layers agree"), where e is the distance from the truth:
//!
//! ```text
//! error ratio = e(candidate) / max(a * e(comparison run), n * eps)
//! ```
//!
//! A layer passes if this ratio is at most [`BOUND`] both for the relative L2 error and for the largest
//! error divided by the rms of the truth. [`distance`] measures e, the module `allowed` derives n and a,
//! [`Budget`] computes the denominator. `harness selftest --null` counts how often a correct engine
//! fails.
//!
//! ```
//! use compare::measure::{distance, passes};
//! use spec::{Precision, Tensor};
//!
//! let truth = Tensor::f32(vec![3], vec![1.0, 2.0, 2.0]);
//! let candidate = Tensor::f32(vec![3], vec![1.0, 2.0, 2.3]);
//! let found = distance(&truth, &candidate, Precision::F32);
//! assert!((found.rel_l2 - 0.1).abs() < 1e-7);
//! assert!(passes(4.0) && !passes(4.1) && !passes(f64::NAN));
//! ```

use half::{bf16, f16};
use record::Errors;
use spec::{Kind, Precision, Tensor};

pub use super::allowed::roundings;
use super::allowed::{self, Allowance};

/// The largest error ratio that passes.
pub const BOUND: f64 = 4.0;

/// Where a larger relative L2 error than this would pass after many modules, it proves nothing that a candidate
/// passes. Most single layers allow a tenth in bfloat16; a whole network allows half of the value and more.
pub const TELLING: f64 = 0.25;

/// Whether an error ratio passes. NaN does not.
pub fn passes(ratio: f64) -> bool {
    // `ratio <= BOUND` is false for NaN.
    ratio <= BOUND
}

/// Whether a layer passes: its error ratio is within the bound and no value is NaN.
pub fn within(errors: &Errors) -> bool {
    passes(errors.ratio) && errors.nan == 0
}

/// The distance of a candidate c from the truth t, before any budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// Relative L2 error: ‖c - t‖ / ‖t‖. Infinite if t is zero everywhere and c is not.
    pub rel_l2: f64,
    /// Largest absolute error: max |c - t|.
    pub max_abs: f64,
    /// Largest error relative to the rms of the truth: max |c - t| / rms(t).
    pub max_rel: f64,
    /// How far the largest value stands out, which scales its own rounding error: max |t| / rms(t).
    pub peak: f64,
    /// Root mean square of t.
    pub rms: f64,
    /// Number of values.
    pub count: f64,
    /// Root mean square of c - t.
    pub rms_error: f64,
    /// Cosine of the angle between c and t.
    pub cosine: f64,
    /// Largest distance in units in the last place of the candidate's precision.
    pub ulp: u64,
    /// How many of the candidate's values are NaN.
    pub nan: u64,
    /// How many of the candidate's values are infinite.
    pub inf: u64,
}

/// Like `f64::max`, but NaN if either argument is NaN.
fn max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// An error divided by a scale, where 0 / 0 is 0: two tensors of zeros agree.
fn over(error: f64, scale: f64) -> f64 {
    if error == 0.0 { 0.0 } else { error / scale }
}

/// Measures how far a candidate is from the truth.
///
/// # Panics
///
/// If the tensors do not hold the same number of values.
pub fn distance(truth: &Tensor, candidate: &Tensor, precision: Precision) -> Distance {
    assert_eq!(truth.len(), candidate.len(), "the caller has checked the shapes");
    let (mut error2, mut truth2, mut candidate2, mut dot) = (0.0, 0.0, 0.0, 0.0);
    let (mut max_abs, mut peak, mut ulp, mut nan, mut inf) = (0.0, 0.0, 0, 0, 0);
    for (t, c) in truth.iter().zip(candidate.iter()) {
        let error = c - t;
        error2 += error * error;
        truth2 += t * t;
        candidate2 += c * c;
        dot += t * c;
        max_abs = max(max_abs, error.abs());
        peak = max(peak, t.abs());
        if t != c {
            ulp = ulp.max(ulps(t, c, precision));
        }
        nan += u64::from(c.is_nan());
        inf += u64::from(c.is_infinite());
    }
    let count = truth.len().max(1) as f64;
    let rms = (truth2 / count).sqrt();
    let same_direction = error2 == 0.0;
    Distance {
        rel_l2: over(error2.sqrt(), truth2.sqrt()),
        max_abs,
        max_rel: over(max_abs, rms),
        peak: over(peak, rms),
        rms,
        count,
        rms_error: (error2 / count).sqrt(),
        cosine: if same_direction { 1.0 } else { dot / (truth2 * candidate2).sqrt() },
        ulp,
        nan,
        inf,
    }
}

/// How many values carry an error: `[of the relative L2, of the largest error]`.
///
/// All of them do if the errors are normal with one variance, and only a few if a few errors are much
/// larger than the rest. For N normal errors (sum e^2)^2 / sum e^4 is N / 3 (Satterthwaite's degrees of
/// freedom) and (sum e^4)^2 / sum e^8 is N * 3^2 / 105. The second gives more weight to the largest.
fn carriers(truth: &Tensor, candidate: &Tensor, max_abs: f64) -> [f64; 2] {
    if !(max_abs > 0.0 && max_abs.is_finite()) {
        return [truth.len() as f64; 2];
    }
    let (mut second, mut fourth, mut eighth) = (0.0, 0.0, 0.0);
    for (t, c) in truth.iter().zip(candidate.iter()) {
        let square = ((c - t) / max_abs).powi(2);
        second += square;
        fourth += square * square;
        eighth += square.powi(4);
    }
    let most = truth.len() as f64;
    [3.0 * second * second / fourth, 105.0 / 9.0 * fourth * fourth / eighth].map(|n| n.min(most))
}

/// How many representable numbers of the precision lie between the truth, rounded to it, and the
/// candidate. `u64::MAX` if either is NaN.
fn ulps(truth: f64, candidate: f64, precision: Precision) -> u64 {
    if truth.is_nan() || candidate.is_nan() {
        return u64::MAX;
    }
    // Maps sign-magnitude bits to integers in the order of the values, with zero in the middle.
    let ordered = |bits: u64, sign: u64| {
        let magnitude = bits & (sign - 1);
        if bits & sign != 0 { (1 << 63) - magnitude } else { (1 << 63) + magnitude }
    };
    let place = |x: f64| match precision {
        Precision::F64 => ordered(x.to_bits(), 1 << 63),
        Precision::F32 | Precision::Tf32 => ordered(u64::from((x as f32).to_bits()), 1 << 31),
        Precision::F16 => ordered(u64::from(f16::from_f64(x).to_bits()), 1 << 15),
        Precision::Bf16 => ordered(u64::from(bf16::from_f64(x).to_bits()), 1 << 15),
    };
    place(truth).abs_diff(place(candidate))
}

/// The smallest positive normal number of a precision.
fn smallest_normal(precision: Precision) -> f64 {
    match precision {
        Precision::F64 => f64::MIN_POSITIVE,
        Precision::F32 | Precision::Tf32 => f64::from(f32::MIN_POSITIVE),
        Precision::Bf16 => bf16::MIN_POSITIVE.to_f64(),
        Precision::F16 => f16::MIN_POSITIVE.to_f64(),
    }
}

/// The error that rounding explains at one layer: the denominator of the error ratio.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// The distance of the comparison run from the truth.
    pub yardstick: Distance,
    /// Factor on the comparison run's error: 1, or eps(f64) / eps(f32) if the candidate computes in
    /// float64, for which a float32 comparison run is used.
    pub scale: f64,
    /// n, the roundings in units of eps that the layer is allowed.
    pub roundings: Allowance,
    /// The candidate's precision, which sets eps.
    pub precision: Precision,
    /// How many values carry the comparison run's error: `[of the relative L2, of the largest error]`.
    pub carriers: [f64; 2],
    /// The absolute errors that earlier modules pass on, `[root mean square, largest]`. At least these
    /// are granted; see [`CarriedError`].
    pub carried: [f64; 2],
}

impl Budget {
    /// The allowed error of a layer, from the truth and the comparison run's value there. Both tensors must hold
    /// the same number of values.
    pub fn new(
        precision: Precision,
        roundings: Allowance,
        truth: &Tensor,
        yardstick: &Tensor,
    ) -> Self {
        // A float64 candidate is compared with a float64 truth, whose own error cannot be observed.
        // Rounding errors scale with eps, so the float32 comparison run tells how large it is.
        let scale = match precision {
            Precision::F64 => Precision::F64.epsilon() / Precision::F32.epsilon(),
            _ => 1.0,
        };
        let own = distance(truth, yardstick, precision);
        let carriers = carriers(truth, yardstick, own.max_abs);
        Budget { yardstick: own, scale, roundings, precision, carriers, carried: [0.0; 2] }
    }

    /// The error ratio of a candidate: the larger one of [`Budget::ratios`], NaN if either is NaN.
    pub fn ratio(&self, candidate: &Distance) -> f64 {
        let [l2, largest] = self.ratios(candidate);
        max(l2, largest)
    }

    /// The error ratios of the relative L2 error and of the largest error.
    pub fn ratios(&self, candidate: &Distance) -> [f64; 2] {
        let [l2, largest] = self.granted();
        [over(candidate.rms_error, l2), over(candidate.max_abs, largest)]
    }

    /// The error that is granted, as `[root mean square, largest]`. These are absolute errors, because
    /// nothing can be relative to a truth that is zero everywhere.
    pub fn granted(&self) -> [f64; 2] {
        let (own, n, eps) = (&self.yardstick, &self.roundings, self.precision.epsilon());
        // A comparison run whose error is NaN or infinite grants nothing beyond the floor of n * eps.
        let granted = |error: f64, algorithm: f64, carriers: f64, floor: f64| {
            let error = error * self.scale * (algorithm / n.direct) * allowed::scatter(carriers);
            if error.is_finite() { error.max(floor) } else { floor }
        };
        // The largest value is rounded by half an eps of itself, not of the rms. Even where all values
        // are of similar size, the errors of sums are spread like normal ones.
        let peak = if own.peak.is_finite() { own.peak.max(1.0) } else { 1.0 };
        let spread = if n.sums { peak.max(allowed::expected_largest(own.count)) } else { peak };
        let [for_l2, for_largest] = self.carriers;
        let l2 = granted(own.rms_error, n.l2, for_l2, n.l2 * eps * own.rms);
        let floor = n.largest * eps * spread * own.rms;
        let largest = granted(own.max_abs, n.largest, for_largest, floor);
        // Below the smallest normal number errors are absolute (Higham 2002, section 2.8), and an
        // engine may flush such numbers to zero.
        let underflow = smallest_normal(self.precision);
        [l2.max(self.carried[0]) + underflow, largest.max(self.carried[1]) + underflow]
    }

    /// The relative L2 error up to which a candidate passes; 0 where the truth is zero everywhere, and any error is
    /// infinite.
    pub fn passes_up_to(&self) -> f64 {
        let rms = self.yardstick.rms;
        if rms == 0.0 { 0.0 } else { BOUND * self.granted()[0] / rms }
    }

    /// Whether what passes is close to the truth.
    pub fn is_telling(&self) -> bool {
        self.passes_up_to() <= TELLING
    }

    /// The error of a candidate as it stands in the record.
    pub fn errors(&self, candidate: &Distance) -> Errors {
        Errors {
            rel_l2: candidate.rel_l2,
            max_abs: candidate.max_abs,
            max_rel: candidate.max_rel,
            ulp: candidate.ulp,
            cosine: candidate.cosine,
            ratio: self.ratio(candidate),
            e_ref: self.yardstick.rel_l2 * self.scale,
            nan: candidate.nan,
            inf: candidate.inf,
        }
    }
}

/// The absolute error that modules pass on in the free pass, as `[root mean square, largest]`.
///
/// max(x, 0) and a mean make values smaller, but not the error that has accumulated, which is only
/// known not to grow: |max(a, 0) - max(b, 0)| <= |a - b|. Where a ReLU leaves almost nothing of a map,
/// the relative error is unbounded, and where it leaves nothing there is no relative error at all.
/// Therefore a ReLU, a block (which ends in a ReLU), a pooled map, and a convolution of these (whose
/// weights keep the variance of the values and so that of the errors) are granted at least the absolute
/// error that the last normalisation before them was granted.
#[derive(Debug, Default)]
pub struct CarriedError([f64; 2]);

impl CarriedError {
    /// Call this for each compared module, in order of execution: it remembers what a normalisation is
    /// granted and grants it to the modules after it.
    pub fn carry(&mut self, kind: Kind, budget: &mut Budget) {
        match kind {
            Kind::BatchNorm => self.0 = budget.granted(),
            Kind::Relu | Kind::Block | Kind::Pool | Kind::Conv => budget.carried = self.0,
            _ => {}
        }
    }
}

/// The error of a map [N, C, H, W] over space: height, width, and for each pixel the rms of the error
/// over batch and channels, relative to the rms of the truth. None if the tensor is not a map or has
/// only one pixel.
pub fn heatmap(truth: &Tensor, candidate: &Tensor) -> Option<(usize, usize, Vec<f64>)> {
    let &[.., height, width] = truth.shape.as_slice() else { return None };
    if truth.shape.len() < 4 || truth.is_empty() || height * width < 2 {
        return None;
    }
    let cells = height * width;
    let mut sums = vec![0.0; cells];
    let mut truth2 = 0.0;
    for (at, (t, c)) in truth.iter().zip(candidate.iter()).enumerate() {
        sums[at % cells] += (c - t) * (c - t);
        truth2 += t * t;
    }
    let planes = (truth.len() / cells) as f64;
    let rms = (truth2 / truth.len() as f64).sqrt();
    let values = sums.into_iter().map(|sum| over((sum / planes).sqrt(), rms)).collect();
    Some((height, width, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(truth: &[f64], candidate: &[f64]) -> Distance {
        let tensor = |v: &[f64]| Tensor::f64(vec![v.len()], v.to_vec());
        distance(&tensor(truth), &tensor(candidate), Precision::F32)
    }

    #[test]
    fn every_value_that_is_not_finite_is_counted() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        let found = at(&[1.0, 1.0, 1.0, 1.0, 1.0], &[nan, nan, inf, -inf, 1.0]);
        assert_eq!((found.nan, found.inf), (2, 2));
    }

    #[test]
    fn the_cosine_is_that_of_the_angle() {
        assert!((at(&[1.0, 0.0], &[1.0, 1.0]).cosine - 0.5f64.sqrt()).abs() < 1e-15);
        assert_eq!(at(&[1.0, 2.0], &[-1.0, -2.0]).cosine, -1.0);
    }

    #[test]
    fn a_float64_candidate_is_shown_the_yardsticks_error_in_its_own_precision() {
        let truth = Tensor::f64(vec![2], vec![1.0, 2.0]);
        let yardstick = Tensor::f64(vec![2], vec![1.0, 2.0 + 1e-7]);
        let roundings = Allowance { direct: 1.0, l2: 1.0, largest: 1.0, sums: false };
        let [wide, single] = [Precision::F64, Precision::F32].map(|precision| {
            let exact = distance(&truth, &truth, precision);
            Budget::new(precision, roundings, &truth, &yardstick).errors(&exact).e_ref
        });
        assert!(
            (wide / single - Precision::F64.epsilon() / Precision::F32.epsilon()).abs() < 1e-15
        );
    }

    /// A budget whose comparison run has this relative error.
    fn budget(truth: &[f64], yardstick: f64) -> Budget {
        let exact = at(truth, truth);
        let error = yardstick * exact.rms;
        let yardstick = Distance { rms_error: error, max_abs: error, ..exact };
        let roundings = Allowance { direct: 1.0, l2: 1.0, largest: 1.0, sums: false };
        let precision = Precision::F32;
        Budget {
            scale: 1.0,
            carriers: [1e6; 2],
            carried: [0.0; 2],
            yardstick,
            roundings,
            precision,
        }
    }

    #[test]
    fn nan_and_infinity_never_pass() {
        let cases: [(&[f64], &[f64]); 6] = [
            (&[1.0, 2.0], &[1.0, f64::NAN]),
            (&[1.0, f64::NAN], &[1.0, f64::NAN]),
            (&[1.0, f64::NAN], &[1.0, 2.0]),
            (&[1.0, 2.0], &[1.0, f64::INFINITY]),
            (&[1.0, f64::INFINITY], &[1.0, f64::INFINITY]),
            (&[0.0, 0.0], &[0.0, f64::NAN]),
        ];
        for (truth, candidate) in cases {
            for yardstick in [0.0, 1e-7, f64::NAN, f64::INFINITY] {
                let ratio = budget(truth, yardstick).ratio(&at(truth, candidate));
                assert!(!passes(ratio), "{truth:?} {candidate:?} gave {ratio}");
            }
        }
        assert!(!passes(f64::NAN));
    }

    #[test]
    fn a_yardstick_that_broke_down_grants_nothing() {
        // Every error would be within an infinite allowed error, so it must not count.
        let off = at(&[1.0, 2.0], &[1.0, 2.5]);
        assert!(!passes(budget(&[1.0, 2.0], f64::NAN).ratio(&off)));
        assert!(!passes(budget(&[1.0, 2.0], f64::INFINITY).ratio(&off)));
    }

    #[test]
    fn equal_is_zero_even_for_zeros_and_nothing() {
        for values in [&[1.5, -2.0][..], &[0.0, 0.0], &[]] {
            let same = at(values, values);
            assert_eq!((same.rel_l2, same.max_rel, same.ulp, same.cosine), (0.0, 0.0, 0, 1.0));
            assert!(passes(budget(values, 0.0).ratio(&same)));
        }
    }

    #[test]
    fn any_error_on_an_all_zero_truth_fails() {
        assert!(!passes(budget(&[0.0, 0.0], 1e-7).ratio(&at(&[0.0, 0.0], &[0.0, 1e-30]))));
    }

    #[test]
    fn a_relu_that_leaves_nothing_is_granted_the_error_of_its_input() {
        let tensor = |v: &[f64]| Tensor::f64(vec![v.len()], v.to_vec());
        let new = |truth: &[f64], own: &[f64]| {
            let roundings = Allowance { direct: 1.0, l2: 1.0, largest: 1.0, sums: false };
            Budget::new(Precision::Bf16, roundings, &tensor(truth), &tensor(own))
        };
        let mut carried = CarriedError::default();
        let mut before = new(&[-1e-3, -1.0], &[-2e-3, -1.0]);
        carried.carry(Kind::BatchNorm, &mut before);
        // The truth is -0.001 and the candidate 0.001. After the ReLU they are 0 and 0.001.
        let mut after = new(&[0.0, 0.0], &[0.0, 0.0]);
        assert!(!passes(after.ratio(&at(&[0.0, 0.0], &[1e-3, 0.0]))));
        carried.carry(Kind::Relu, &mut after);
        assert!(passes(after.ratio(&at(&[0.0, 0.0], &[1e-3, 0.0]))));
        assert!(!passes(after.ratio(&at(&[0.0, 0.0], &[2.0, 0.0]))));
        assert!(!passes(after.ratio(&at(&[0.0, 0.0], &[f64::NAN, 0.0]))));
    }

    #[test]
    fn few_values_are_granted_more_than_many() {
        let tensor = |v: &[f64]| Tensor::f64(vec![v.len()], v.to_vec());
        let roundings = Allowance { direct: 1.0, l2: 1.0, largest: 1.0, sums: false };
        let ratio = |count: usize| {
            let truth = vec![1.0; count];
            let off =
                |by: f64| (0..count).map(move |i| if i % 2 == 0 { 1.0 + by } else { 1.0 - by });
            let own: Vec<f64> = off(1e-5).collect();
            let candidate: Vec<f64> = off(1e-4).collect();
            let (truth, own) = (tensor(&truth), tensor(&own));
            let budget = Budget::new(Precision::F32, roundings, &truth, &own);
            budget.ratio(&distance(&truth, &tensor(&candidate), Precision::F32))
        };
        assert!((ratio(10_000) - 10.0).abs() < 1e-6);
        assert!(passes(ratio(4)) && !passes(ratio(40)));
        assert!(
            (ratio(1) / ratio(4) - 1.0).abs() < 1e-6,
            "one value is granted as much as four are"
        );
    }

    #[test]
    fn one_wrong_value_among_many_is_seen_by_the_largest_error() {
        let truth = vec![1.0; 1_000_000];
        let mut candidate = truth.clone();
        candidate[7] += 1e-5;
        let d = at(&truth, &candidate);
        assert!(d.rel_l2 < 2e-8, "L2 alone would pass: {}", d.rel_l2);
        assert!(!passes(budget(&truth, 1e-7).ratio(&d)));
    }

    #[test]
    fn ulps_count_across_zero() {
        let tiny = f64::from(f32::from_bits(1));
        assert_eq!(at(&[-tiny], &[tiny]).ulp, 2);
        assert_eq!(at(&[1.0], &[1.0 + f64::from(f32::EPSILON)]).ulp, 1);
        assert_eq!(at(&[0.0], &[-0.0]).ulp, 0);
    }

    #[test]
    fn heatmap_shows_where() {
        let truth = Tensor::f64(vec![1, 2, 1, 3], vec![1.0; 6]);
        let candidate = Tensor::f64(vec![1, 2, 1, 3], vec![1.0, 1.0, 2.0, 1.0, 1.0, 2.0]);
        assert_eq!(heatmap(&truth, &candidate), Some((1, 3, vec![0.0, 0.0, 1.0])));
        assert_eq!(heatmap(&Tensor::f64(vec![1, 2], vec![1.0; 2]), &candidate), None);
    }
}
