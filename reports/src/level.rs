//! How far a budget ratio is from the bound, in a few steps that a colour can carry.

use crate::format::short;

/// One step of the scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// There is no ratio.
    Unknown,
    /// At most a quarter of the bound: as exact as the yardstick itself, at the usual bound of 4.
    Calm,
    /// At most half of the bound.
    Fair,
    /// At most the bound.
    Near,
    /// Beyond the bound.
    Over,
    /// More than ten times the bound, infinite or NaN.
    Far,
}

/// The steps with a ratio: each reaches to its factor times the bound.
const STEPS: [(Level, f64); 4] =
    [(Level::Calm, 0.25), (Level::Fair, 0.5), (Level::Near, 1.0), (Level::Over, 10.0)];

impl Level {
    /// Every step, in the order of a legend.
    pub const ALL: [Level; 6] =
        [Level::Calm, Level::Fair, Level::Near, Level::Over, Level::Far, Level::Unknown];

    /// The step of a ratio. Comparisons are written so that NaN falls through to the worst.
    pub fn of(ratio: Option<f64>, bound: f64) -> Level {
        let Some(ratio) = ratio else { return Level::Unknown };
        let step = STEPS.iter().find(|(_, factor)| ratio <= factor * bound);
        step.map_or(Level::Far, |(level, _)| *level)
    }

    /// The name of its style sheet class.
    pub fn class(self) -> &'static str {
        match self {
            Level::Unknown => "none",
            Level::Calm => "calm",
            Level::Fair => "fair",
            Level::Near => "near",
            Level::Over => "over",
            Level::Far => "far",
        }
    }

    /// The step in words, for the legend.
    pub fn label(self, bound: f64) -> String {
        let reach = |level| {
            let step = STEPS.iter().find(|(step, _)| *step == level);
            short(step.map_or(f64::NAN, |(_, factor)| factor * bound))
        };
        match self {
            Level::Unknown => "not compared".to_owned(),
            Level::Far => format!("> {}, or NaN", reach(Level::Over)),
            Level::Over => format!("> {} (bound)", reach(Level::Near)),
            level => format!("≤ {}", reach(level)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_the_worst_and_none_is_unknown() {
        let cases = [
            (None, Level::Unknown),
            (Some(0.0), Level::Calm),
            (Some(1.0), Level::Calm),
            (Some(1.5), Level::Fair),
            (Some(4.0), Level::Near),
            (Some(4.000_001), Level::Over),
            (Some(41.0), Level::Far),
            (Some(f64::INFINITY), Level::Far),
            (Some(f64::NAN), Level::Far),
        ];
        for (ratio, level) in cases {
            assert_eq!(Level::of(ratio, 4.0), level, "{ratio:?}");
        }
    }

    #[test]
    fn a_bound_of_nan_lets_nothing_pass() {
        assert_eq!(Level::of(Some(0.0), f64::NAN), Level::Far);
    }

    #[test]
    fn labels_name_the_bound() {
        let labels: Vec<String> = Level::ALL.iter().map(|level| level.label(4.0)).collect();
        let expected =
            ["≤ 1.00", "≤ 2.00", "≤ 4.00", "> 4.00 (bound)", "> 40.0, or NaN", "not compared"];
        assert_eq!(labels, expected);
    }
}
