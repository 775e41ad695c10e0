//! Bands of error ratios: how near a ratio is to the bound, coarse enough to be shown as a colour.

use crate::format::short;

/// The band that an error ratio falls into. Each band has a class in the style sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RatioBand {
    /// No ratio was measured.
    Unknown,
    /// At most a quarter of the bound. At the usual bound of 4 the candidate is as exact as the
    /// comparison run.
    Calm,
    /// At most half the bound.
    Fair,
    /// At most the bound.
    Near,
    /// Above the bound, and at most ten times the bound.
    Over,
    /// More than ten times the bound, infinite or NaN.
    Far,
}

/// The upper limit of each band as a factor on the bound; `Far` has no upper limit.
const LIMITS: [(RatioBand, f64); 4] = [
    (RatioBand::Calm, 0.25),
    (RatioBand::Fair, 0.5),
    (RatioBand::Near, 1.0),
    (RatioBand::Over, 10.0),
];

/// The larger of two ratios or errors, where NaN counts as larger than any number.
pub(crate) fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

impl RatioBand {
    /// Every band, in the order of the legend.
    pub const ALL: [RatioBand; 6] = [
        RatioBand::Calm,
        RatioBand::Fair,
        RatioBand::Near,
        RatioBand::Over,
        RatioBand::Far,
        RatioBand::Unknown,
    ];

    /// The band of a ratio. No comparison holds for NaN, so that NaN ends in the worst band.
    pub fn of(ratio: Option<f64>, bound: f64) -> RatioBand {
        let Some(ratio) = ratio else { return RatioBand::Unknown };
        let band = LIMITS.iter().find(|(_, factor)| ratio <= factor * bound);
        band.map_or(RatioBand::Far, |(band, _)| *band)
    }

    /// The suffix of the band's classes in the style sheet: `calm` in `is-calm`.
    pub fn class(self) -> &'static str {
        match self {
            RatioBand::Unknown => "none",
            RatioBand::Calm => "calm",
            RatioBand::Fair => "fair",
            RatioBand::Near => "near",
            RatioBand::Over => "over",
            RatioBand::Far => "far",
        }
    }

    /// The text of the band in the legend, such as `≤ 2.00`.
    pub fn label(self, bound: f64) -> String {
        let limit = |wanted| {
            let band = LIMITS.iter().find(|(band, _)| *band == wanted);
            short(band.map_or(f64::NAN, |(_, factor)| factor * bound))
        };
        match self {
            RatioBand::Unknown => "not compared".to_owned(),
            RatioBand::Far => format!("> {}, or NaN", limit(RatioBand::Over)),
            RatioBand::Over => format!("> {} (bound)", limit(RatioBand::Near)),
            band => format!("≤ {}", limit(band)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_the_worst_and_none_is_unknown() {
        let cases = [
            (None, RatioBand::Unknown),
            (Some(0.0), RatioBand::Calm),
            (Some(1.0), RatioBand::Calm),
            (Some(1.5), RatioBand::Fair),
            (Some(4.0), RatioBand::Near),
            (Some(4.000_001), RatioBand::Over),
            (Some(41.0), RatioBand::Far),
            (Some(f64::INFINITY), RatioBand::Far),
            (Some(f64::NAN), RatioBand::Far),
        ];
        for (ratio, band) in cases {
            assert_eq!(RatioBand::of(ratio, 4.0), band, "{ratio:?}");
        }
    }

    #[test]
    fn a_bound_of_nan_lets_nothing_pass() {
        assert_eq!(RatioBand::of(Some(0.0), f64::NAN), RatioBand::Far);
    }

    #[test]
    fn labels_name_the_bound() {
        let labels: Vec<String> = RatioBand::ALL.iter().map(|band| band.label(4.0)).collect();
        let expected =
            ["≤ 1.00", "≤ 2.00", "≤ 4.00", "> 4.00 (bound)", "> 40.0, or NaN", "not compared"];
        assert_eq!(labels, expected);
    }
}
