//! The result of an ablation in words.

use crate::page::study::{list, percent};
use crate::stats::{paired_interval, paired_t};
use record::{AblateRecord, Ablation, Variant};

/// What a setting takes away, in words.
const PARTS: [(&str, &str); 3] =
    [("tfc=off", "TFC"), ("ioi=off", "IOI"), ("pos_embed=off", "the positional embedding")];

/// A variant as the beginning of a sentence: `Without IOI`, `With pos_embed=flax`.
pub(super) fn variant(name: &str) -> String {
    let part =
        |set: &str| PARTS.iter().find(|(setting, _)| *setting == set).map(|(_, words)| *words);
    let parts: Option<Vec<String>> =
        name.split(',').map(|set| part(set.trim()).map(str::to_owned)).collect();
    match parts {
        Some(parts) => format!("Without {}", list(&parts)),
        None => format!("With {name}"),
    }
}

/// The change of accuracy of a variant in points, with its 95 % interval: over the seeds if there are
/// several trainings, otherwise over the videos.
pub(super) fn change(ablate: &AblateRecord, variant: &Variant) -> (f64, Option<(f64, f64)>) {
    let base = ablate.variants.first();
    let change = 100.0 * (variant.mean - base.map_or(f64::NAN, |base| base.mean));
    let interval = match ablate.question {
        Ablation::Retrained => {
            paired_t(&differences(ablate, variant), 0.05).map(|test| test.interval)
        }
        Ablation::KnockOut => variant.paired.as_ref().map(|paired| {
            let (low, high) = paired_interval(paired.lost, paired.won, answers(variant));
            (100.0 * low, 100.0 * high)
        }),
    };
    (change, interval)
}

/// The number of answers of a variant: its videos, once for each training.
pub(super) fn answers(variant: &Variant) -> f64 {
    variant.accuracy.iter().map(|rate| rate.of as f64).sum()
}

/// The difference in points to the unchanged network trained with the same seed, for each seed.
pub(super) fn differences(ablate: &AblateRecord, variant: &Variant) -> Vec<f64> {
    let Some(base) = ablate.variants.first() else { return vec![] };
    let pairs = variant.accuracy.iter().zip(&base.accuracy);
    pairs.map(|(own, unchanged)| 100.0 * (own.share() - unchanged.share())).collect()
}

/// `3.3 points fewer (-8.7 to 2.1)`: the interval is that of the change.
pub(super) fn points(change: f64, interval: Option<(f64, f64)>) -> String {
    let ends = interval.map_or(String::new(), |(low, high)| {
        format!(" (95 % interval of the change {} to {})", signed(low), signed(high))
    });
    let words = match change {
        c if c.is_nan() => return "no comparison".to_owned(),
        c if c.abs() < 0.05 => "the same accuracy".to_owned(),
        c if c < 0.0 => format!("{:.1} points fewer", -c),
        c => format!("{c:.1} points more"),
    };
    format!("{words}{ends}")
}

/// A number with its sign, for changes.
pub(super) fn signed(value: f64) -> String {
    match format!("{value:.1}") {
        zero if zero == "-0.0" || zero == "0.0" => "0.0".to_owned(),
        text if value > 0.0 => format!("+{text}"),
        text => text.replace('-', "−"),
    }
}

/// The variant with the largest change; `None` without variants.
fn largest(ablate: &AblateRecord) -> Option<&Variant> {
    let changed = ablate.variants.iter().skip(1).filter(|v| !change(ablate, v).0.is_nan());
    changed.max_by(|a, b| change(ablate, a).0.abs().total_cmp(&change(ablate, b).0.abs()))
}

/// The headline: what the most important part is worth.
pub(super) fn word(ablate: &AblateRecord) -> String {
    let Some(most) = largest(ablate) else {
        return format!("Nothing to compare on {}", ablate.dataset);
    };
    let (change, interval) = change(ablate, most);
    let how = match ablate.question {
        Ablation::KnockOut => " when it is switched off in the trained network",
        Ablation::Retrained => " after retraining",
    };
    let how = if variant(&most.name).starts_with("Without") { how } else { "" };
    format!("{}: {}{how}", variant(&most.name), points(change, interval))
}

/// The sentence below: the unchanged network and the other variants.
pub(super) fn sentence(ablate: &AblateRecord) -> String {
    let base = ablate.variants.first().map_or(f64::NAN, |variant| variant.mean);
    let most = largest(ablate).map(|variant| variant.name.clone());
    let others: Vec<String> = ablate
        .variants
        .iter()
        .skip(1)
        .filter(|v| Some(&v.name) != most.as_ref())
        .map(|v| format!("{} {}", v.name, signed(change(ablate, v).0)))
        .collect();
    let others = match others.is_empty() {
        true => String::new(),
        false => format!("; the other changes in points: {}", list(&others)),
    };
    format!(
        "Unchanged, the network has an accuracy of {} on {} videos of {}{others}{}",
        percent(base),
        ablate.videos,
        ablate.dataset,
        doubt(ablate)
    )
}

/// What the interval of the largest change leaves open.
fn doubt(ablate: &AblateRecord) -> &'static str {
    let interval = largest(ablate).and_then(|variant| change(ablate, variant).1);
    let open = interval.is_none_or(|(low, high)| low <= 0.0 && high >= 0.0);
    match (open, ablate.question) {
        (false, Ablation::KnockOut) => {
            ". This is about the one trained network, not about other trainings"
        }
        (false, Ablation::Retrained) => "",
        (true, Ablation::KnockOut) => ". Even the largest change may be chance",
        (true, Ablation::Retrained) => {
            ". The interval is over the trainings and includes no change: that these networks differ is \
             tested below, that other trainings would is not shown"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_and_changes_read_as_words() {
        assert_eq!(variant("ioi=off"), "Without IOI");
        assert_eq!(variant("tfc=off,ioi=off"), "Without TFC and IOI");
        assert_eq!(variant("pos_embed=flax"), "With pos_embed=flax");
        assert_eq!(points(-3.33, None), "3.3 points fewer");
        assert_eq!(points(0.01, None), "the same accuracy");
        assert_eq!(
            (signed(-0.01), signed(2.0), signed(-2.0)),
            ("0.0".into(), "+2.0".into(), "−2.0".into())
        );
    }
}
