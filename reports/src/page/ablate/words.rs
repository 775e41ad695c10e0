//! The result of an ablation in words.

use super::significance::{corrected, p_value};
use crate::format::count;
use crate::page::study::{list, percent};
use crate::stats::{LEVEL, paired_interval, paired_t};
use record::{AblateRecord, Ablation, Variant};

/// What a setting takes away: its name in a sentence, and what it is.
const PARTS: [(&str, &str, &str); 3] = [
    (
        "tfc=off",
        "TFC",
        "TFC (temporal focus convolution) is the gate that weighs the channels of a block by what the clip shows.",
    ),
    (
        "ioi=off",
        "IOI",
        "IOI (inter-temporal object interaction) is the branch of a block that sees where things are; the positional \
         embedding is inside it and goes with it.",
    ),
    (
        "pos_embed=off",
        "the positional embedding",
        "The positional embedding is learnt numbers, one for each pixel and channel, which are added inside IOI.",
    ),
];

/// A variant as the beginning of a sentence: `Without IOI`, `With pos_embed=flax`.
pub(super) fn variant(name: &str) -> String {
    let part = |set: &str| PARTS.iter().find(|(setting, ..)| *setting == set);
    let parts: Option<Vec<String>> =
        name.split('+').map(|set| part(set).map(|(_, words, _)| (*words).to_owned())).collect();
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

/// `accuracy 3.3 points lower (-8.7 to 2.1)`: the interval is that of the change.
pub(super) fn points(change: f64, interval: Option<(f64, f64)>) -> String {
    let ends = interval.map_or(String::new(), |(low, high)| {
        format!(" (95 % interval of the change {} to {})", signed(low), signed(high))
    });
    let words = match change {
        c if c.is_nan() => return "no comparison".to_owned(),
        c if c.abs() < 0.05 => "the same accuracy".to_owned(),
        c if c < 0.0 => format!("accuracy {:.1} points lower", -c),
        c => format!("accuracy {c:.1} points higher"),
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
        Ablation::KnockOut => " when it is switched off in the trained network".to_owned(),
        Ablation::Retrained => format!(" in {}", trainings(most)),
    };
    let how = if variant(&most.name).starts_with("Without") { how } else { String::new() };
    format!("{}, {}{how}", variant(&most.name), points(change, interval))
}

/// The trainings of a variant: `3 trainings`.
pub(super) fn trainings(variant: &Variant) -> String {
    count(variant.accuracy.len(), "training")
}

/// Whether the largest change may be none at all: its interval contains zero, or, for one trained network, the
/// exact test calls it chance. With few videos these differ, since the interval is approximate.
pub(super) fn is_open(ablate: &AblateRecord) -> bool {
    let most = largest(ablate);
    let interval = most.and_then(|variant| change(ablate, variant).1);
    let by_chance = ablate.question == Ablation::KnockOut
        && most.and_then(|variant| corrected(ablate, variant)).is_some_and(|p| p >= LEVEL);
    by_chance || interval.is_none_or(|(low, high)| low <= 0.0 && high >= 0.0)
}

/// The sentences below: the unchanged network, what is left open, and the other variants.
pub(super) fn sentence(ablate: &AblateRecord) -> String {
    let Some(base) = ablate.variants.first() else { return String::new() };
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
        false => format!(" The other changes in points: {}.", list(&others)),
    };
    let mean = match ablate.question {
        Ablation::Retrained => format!(", the mean of {}", trainings(base)),
        Ablation::KnockOut => String::new(),
    };
    format!(
        "Unchanged, the network has an accuracy of {} on {} videos of {}{mean}.{}{others}",
        percent(base.mean),
        ablate.videos,
        ablate.dataset,
        doubt(ablate)
    )
}

/// What the largest change leaves open.
fn doubt(ablate: &AblateRecord) -> String {
    let Some(most) = largest(ablate) else { return String::new() };
    match (is_open(ablate), ablate.question) {
        (false, Ablation::KnockOut) => {
            " This is about the one trained network, not about other trainings.".to_owned()
        }
        (false, Ablation::Retrained) => String::new(),
        (true, Ablation::KnockOut) => " Even the largest change may be chance.".to_owned(),
        (true, Ablation::Retrained) => {
            let without = lower(&variant(&most.name));
            let how = if change(ablate, most).0 < 0.0 { "worse" } else { "better" };
            let these = match corrected(ablate, most) {
                Some(p) if p < LEVEL => format!(
                    " The trained networks {without} would probably be {how} than the unchanged ones on other videos, \
                     too ({}, which overstates the evidence, because each video counts once for each training).",
                    p_is(p)
                ),
                Some(p) => {
                    format!(
                        " On these videos, the difference of those {without} may be chance ({}).",
                        p_is(p)
                    )
                }
                None => String::new(),
            };
            format!(
                "{these} For trainings in general a difference is not shown: the interval over trainings contains \
                 zero."
            )
        }
    }
}

/// A text with its first letter in lower case.
fn lower(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// A p value in a sentence, which no line break divides.
fn p_is(p: f64) -> String {
    format!("p {}", p_value(p)).replace(' ', "\u{a0}")
}

/// Whether a variant of the ablation has this setting.
fn has(ablate: &AblateRecord, setting: &str) -> bool {
    ablate.variants.iter().any(|variant| variant.name.split('+').any(|set| set == setting))
}

/// What the parts are that were taken out, one sentence each.
pub(super) fn parts(ablate: &AblateRecord) -> Vec<String> {
    let tested = PARTS.iter().filter(|(setting, ..)| has(ablate, setting));
    tested.map(|(_, _, what)| (*what).to_owned()).collect()
}

/// What the run does not tell.
pub(super) fn not_tested(ablate: &AblateRecord) -> Vec<String> {
    let model = &ablate.run.model;
    let videos = match ablate.dataset.as_str() {
        "mini" => {
            "real video (mini is drawn by a program, and only motion tells its classes: on Kinetics, other parts may \
             matter)"
                .to_owned()
        }
        other => format!("other videos than those of {other}"),
    };
    let network = format!(
        "another network than this one (depth {}, width {}, {} frames of {} × {})",
        model.depth, model.width, model.frames, model.size[0], model.size[1]
    );
    let training = match ablate.question {
        Ablation::KnockOut => "networks trained without the part, which may learn to do without it",
        Ablation::Retrained => {
            "other ways to train (each variant had the recipe of the unchanged network)"
        }
    };
    let together = ablate.variants.iter().all(|variant| !variant.name.contains('+'));
    let together = together.then(|| match has(ablate, "ioi=off") {
        true => "several parts at once (but the positional embedding goes with IOI)".to_owned(),
        false => "several parts at once".to_owned(),
    });
    let base = ablate.variants.first().map_or(0, |base| base.macs);
    let cheaper: Vec<&Variant> =
        ablate.variants.iter().filter(|v| 10 * v.macs < 9 * base).collect();
    let cost = cheaper.first().map(|v| {
        let [from, to] = [base, v.macs].map(|macs| macs as f64 / 1e6);
        let without = lower(&variant(&v.name));
        format!("another use of the multiply-adds that are gone {without} ({from:.1} to {to:.1} million)")
    });
    let left: Vec<String> = PARTS
        .iter()
        .filter(|(setting, ..)| !has(ablate, setting))
        .map(|(_, words, _)| (*words).to_owned())
        .collect();
    let left = (!left.is_empty()).then(|| format!("the network without {}", list(&left)));
    let always = [videos, network, training.to_owned()];
    always.into_iter().chain(together).chain(left).chain(cost).collect()
}

/// The result in words: the headline, what it leaves open, and what was not tested.
pub(super) fn in_words(ablate: &AblateRecord) -> [String; 3] {
    let not_tested = format!("Not tested: {}.", not_tested(ablate).join("; "));
    [format!("{}.", word(ablate)), sentence(ablate), not_tested]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_and_changes_read_as_words() {
        assert_eq!(variant("ioi=off"), "Without IOI");
        assert_eq!(variant("tfc=off+ioi=off"), "Without TFC and IOI");
        assert_eq!(variant("pos_embed=flax"), "With pos_embed=flax");
        assert_eq!(points(-3.33, None), "accuracy 3.3 points lower");
        assert_eq!(points(0.01, None), "the same accuracy");
        assert_eq!(
            (signed(-0.01), signed(2.0), signed(-2.0)),
            ("0.0".into(), "+2.0".into(), "−2.0".into())
        );
    }
}
