//! How far two tensors are apart, and how far they may be.
//!
//! The rule (see the README, "When two layers agree"): with e = error against the float64 truth,
//! a layer passes when e(candidate) / max(a * e(libtorch in the candidate's precision), n * eps) is at
//! most [`BOUND`], both as relative L2 and as the largest error over the truth's rms. n and a are
//! derived in [`super::allowed`]; `harness selftest --null` counts how often a right engine fails.

use half::{bf16, f16};
use reports::record::Errors;
use spec::{Kind, Precision, Tensor};

pub use super::allowed::roundings;
use super::allowed::{self, Granted};

/// A layer passes at a budget ratio of at most this.
pub const BOUND: f64 = 4.0;

/// Whether a ratio is within the bound. Written so that NaN fails.
pub fn passes(ratio: f64) -> bool {
    // `ratio <= BOUND` is false for NaN.
    ratio <= BOUND
}

/// Whether a layer's error is within the bound, and free of NaN.
pub fn within(errors: &Errors) -> bool {
    passes(errors.ratio) && errors.nan == 0
}

/// The raw distances between a candidate and the truth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// |c - t| / |t| over all values; infinite where the truth is all zero and the candidate not.
    pub rel_l2: f64,
    /// max |c - t|.
    pub max_abs: f64,
    /// max |c - t| / rms(t).
    pub max_rel: f64,
    /// max |t| / rms(t): how far the largest value stands out, which scales its own rounding.
    pub peak: f64,
    /// rms(t).
    pub rms: f64,
    /// Values.
    pub count: f64,
    /// Root mean square of c - t.
    pub rms_error: f64,
    /// Cosine of the angle between both.
    pub cosine: f64,
    /// Largest distance in units of the last place, at the candidate's precision.
    pub ulp: u64,
    /// NaN among the candidate's values.
    pub nan: u64,
    /// Infinities among the candidate's values.
    pub inf: u64,
}

/// Like `f64::max`, but a NaN on either side stays.
fn max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// a / b for errors: nothing over nothing is no error.
fn over(error: f64, scale: f64) -> f64 {
    if error == 0.0 { 0.0 } else { error / scale }
}

/// Measures a candidate against the truth; both must hold equally many values.
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

/// How many values carry an error: all of them where they are normal with one variance, few where few
/// are much larger than the rest. For normal errors (sum e^2)^2 / sum e^4 is a third of their number
/// (Satterthwaite's degrees of freedom), (sum e^4)^2 / sum e^8 is 3^2 / 105 of it; the second
/// gives the weight to the largest.
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

/// Distance in representable numbers of the precision between the truth, rounded to it, and the
/// candidate. NaN is as far away as can be.
fn ulps(truth: f64, candidate: f64, precision: Precision) -> u64 {
    if truth.is_nan() || candidate.is_nan() {
        return u64::MAX;
    }
    // Sign-magnitude bits become numbers in the order of the values, zero in the middle.
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

/// The smallest normal number of a precision.
fn smallest_normal(precision: Precision) -> f64 {
    match precision {
        Precision::F64 => f64::MIN_POSITIVE,
        Precision::F32 | Precision::Tf32 => f64::from(f32::MIN_POSITIVE),
        Precision::Bf16 => bf16::MIN_POSITIVE.to_f64(),
        Precision::F16 => f16::MIN_POSITIVE.to_f64(),
    }
}

/// What a layer's error is held against.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// The yardstick's own error: libtorch in the candidate's precision.
    pub yardstick: Distance,
    /// Rounding errors of the yardstick are scaled by this: 1, or eps(f64) / eps(f32) where the
    /// candidate computes in float64 and the yardstick cannot be more exact than the truth.
    pub scale: f64,
    /// n, and how much more than plain sums the allowed algorithms are granted.
    pub roundings: Granted,
    /// The candidate's precision.
    pub precision: Precision,
    /// How many values carry the yardstick's relative L2, and how many its largest error.
    pub carriers: [f64; 2],
    /// Granted in any case, absolutely: to the root mean square and to the largest error.
    pub carried: [f64; 2],
}

impl Budget {
    /// The budget of a layer from the yardstick's own error there.
    pub fn new(precision: Precision, roundings: Granted, truth: &Tensor, own: &Tensor) -> Self {
        // A float64 candidate is held against a float64 truth, whose own error cannot be seen;
        // rounding errors scale with eps, so the float32 yardstick tells how large it is.
        let scale = match precision {
            Precision::F64 => Precision::F64.epsilon() / Precision::F32.epsilon(),
            _ => 1.0,
        };
        let yardstick = distance(truth, own, precision);
        let carriers = carriers(truth, own, yardstick.max_abs);
        Budget { yardstick, scale, roundings, precision, carriers, carried: [0.0; 2] }
    }

    /// The larger of both budget ratios: of the relative L2 and of the largest error.
    pub fn ratio(&self, candidate: &Distance) -> f64 {
        let [l2, largest] = self.ratios(candidate);
        max(l2, largest)
    }

    /// Both budget ratios: of the relative L2, and of the largest error.
    pub fn ratios(&self, candidate: &Distance) -> [f64; 2] {
        let [l2, largest] = self.granted();
        [over(candidate.rms_error, l2), over(candidate.max_abs, largest)]
    }

    /// What is granted to the root mean square and to the largest error, absolutely: where the truth is
    /// zero everywhere, nothing is relative to it.
    fn granted(&self) -> [f64; 2] {
        let (own, n, eps) = (&self.yardstick, &self.roundings, self.precision.epsilon());
        // A yardstick that broke down (NaN, infinite) grants nothing beyond the floor.
        let granted = |error: f64, algorithm: f64, carriers: f64, floor: f64| {
            let error = error * self.scale * (algorithm / n.direct) * allowed::scatter(carriers);
            if error.is_finite() { error.max(floor) } else { floor }
        };
        // The largest value is rounded by half an eps of itself, not of the rms; where the values are
        // alike, errors of sums still are spread like normal ones.
        let peak = if own.peak.is_finite() { own.peak.max(1.0) } else { 1.0 };
        let spread = if n.sums { peak.max(allowed::extreme(own.count)) } else { peak };
        let [for_l2, for_largest] = self.carriers;
        let l2 = granted(own.rms_error, n.l2, for_l2, n.l2 * eps * own.rms);
        let floor = n.largest * eps * spread * own.rms;
        let largest = granted(own.max_abs, n.largest, for_largest, floor);
        // Below the smallest normal number errors are absolute (Higham 2002, section 2.8), and an
        // engine may flush to zero.
        let underflow = smallest_normal(self.precision);
        [l2.max(self.carried[0]) + underflow, largest.max(self.carried[1]) + underflow]
    }

    /// The record of a layer's error.
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

/// What a module can only pass on, where the network runs through.
///
/// max(x, 0) and a mean make values small, but not the error that came with them: |max(a, 0) -
/// max(b, 0)| <= |a - b|. In a map where a ReLU leaves next to nothing the relative error has no
/// bound, and where it leaves nothing there is none. So a ReLU, a block (which ends in one), a pooled map
/// and a convolution of them (which, with weights that keep the variance, keeps the error's, too) are
/// granted at least the absolute error that is granted to the normalisation before them.
#[derive(Debug, Default)]
pub struct Carried([f64; 2]);

impl Carried {
    /// Takes note of the budget of the next module, and adds to it what it is granted so.
    pub fn carry(&mut self, kind: Kind, budget: &mut Budget) {
        match kind {
            Kind::BatchNorm => self.0 = budget.granted(),
            Kind::Relu | Kind::Block | Kind::Pool | Kind::Conv => budget.carried = self.0,
            _ => {}
        }
    }
}

/// Error of [N, C, H, W] over space: rms over batch and channels, relative to the truth's rms.
/// None where the tensor has no map.
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

    /// A budget whose yardstick is so far from the truth, relative to it.
    fn budget(truth: &[f64], yardstick: f64) -> Budget {
        let exact = at(truth, truth);
        let error = yardstick * exact.rms;
        let yardstick = Distance { rms_error: error, max_abs: error, ..exact };
        let roundings = Granted { direct: 1.0, l2: 1.0, largest: 1.0, sums: false };
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
        // Everything is within an infinite or NaN budget: it must not count.
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
            let roundings = Granted { direct: 1.0, l2: 1.0, largest: 1.0, sums: false };
            Budget::new(Precision::Bf16, roundings, &tensor(truth), &tensor(own))
        };
        let mut carried = Carried::default();
        let mut before = new(&[-1e-3, -1.0], &[-2e-3, -1.0]);
        carried.carry(Kind::BatchNorm, &mut before);
        // The truth is -0.001, the candidate 0.001: zero and 0.001 after the ReLU.
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
        let roundings = Granted { direct: 1.0, l2: 1.0, largest: 1.0, sums: false };
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
        assert!((ratio(1) / ratio(4) - 1.0).abs() < 1e-6, "one value is granted what four are");
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
