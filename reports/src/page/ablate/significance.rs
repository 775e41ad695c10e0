//! The two tests of an ablation. They answer different questions and are kept apart: would these networks
//! differ on other videos, and would other trainings differ?

use super::words::{answers, change, differences, signed, variant};
use crate::page::study::Section;
use crate::stats::{
    LEVEL, POWER, TTest, holm, least_changed, least_paired, paired_interval, paired_t,
};
use record::{AblateRecord, Ablation, Paired, Variant};

/// The variants that were compared with the unchanged network.
fn compared(ablate: &AblateRecord) -> Vec<(&Variant, &Paired)> {
    ablate.variants.iter().filter_map(|v| Some((v, v.paired.as_ref()?))).collect()
}

/// The p value of McNemar's test for a variant, corrected for the number of comparisons.
pub(super) fn corrected(ablate: &AblateRecord, variant: &Variant) -> Option<f64> {
    let all = compared(ablate);
    let corrected = holm(&all.iter().map(|(_, paired)| paired.p).collect::<Vec<_>>());
    all.iter().position(|(v, _)| v.name == variant.name).map(|at| corrected[at])
}

/// McNemar's test: these networks, other videos. `None` without a comparison.
pub(super) fn videos(ablate: &AblateRecord) -> Option<Section> {
    let all = compared(ablate);
    let corrected = holm(&all.iter().map(|(_, paired)| paired.p).collect::<Vec<_>>());
    let (first, _) = all.first()?;
    let level = LEVEL / all.len() as f64;
    let smallest = |v: &Variant, paired: &Paired| {
        let changed = (paired.lost + paired.won) as f64;
        least_paired(changed, answers(v), level).map(|share| 100.0 * share)
    };
    let pooled = first.accuracy.len() > 1;
    let row = |((v, paired), corrected): (&(&Variant, &Paired), &f64)| {
        let (low, high) = paired_interval(paired.lost, paired.won, answers(v));
        vec![
            v.name.clone(),
            signed(100.0 * (paired.won as f64 - paired.lost as f64) / answers(v)),
            format!("{} to {}", signed(100.0 * low), signed(100.0 * high)),
            paired.lost.to_string(),
            paired.won.to_string(),
            p_value(paired.p),
            p_value(*corrected),
            smallest(v, paired).map_or("–".to_owned(), |points| format!("{points:.1}")),
        ]
    };
    let sentence = |((v, paired), corrected): (&(&Variant, &Paired), &f64)| {
        let seen = match smallest(v, paired) {
            Some(points) => format!(
                " In {:.0} % of samples of as many videos, this test would find a true difference of {points:.1} points.",
                100.0 * POWER
            ),
            None => " There are too few videos to see any difference.".to_owned(),
        };
        if paired.lost + paired.won == 0 {
            return format!("{}, no answer changed.{seen}", variant(&v.name));
        }
        let outcome = match *corrected {
            p if p < LEVEL => "more than chance explains",
            p if p.is_nan() => "the record holds no p value",
            _ => "so small a difference may be chance",
        };
        format!(
            "{}, {} of {} answers became wrong and {} right: {outcome} (p {} after correction).{seen}",
            variant(&v.name),
            paired.lost,
            answers(v),
            paired.won,
            p_value(*corrected)
        )
    };
    let rows = all.iter().zip(&corrected).map(row).collect();
    let least = least_changed(level);
    let mut notes: Vec<String> = all.iter().zip(&corrected).map(sentence).collect();
    notes.push(format!(
        "The smallest difference that this test could have called significant is {least} of {} answers, {:.1} \
         points, if all change in one direction. No difference inside an interval is excluded.",
        answers(first),
        100.0 * least as f64 / answers(first)
    ));
    if pooled {
        notes.push(
            "The answers of all trainings are pooled, and the same videos appear once for each: the answers \
             are not independent, so that p is too small, and the intervals are too narrow. The next test does not \
             have this fault."
                .to_owned(),
        );
    }
    let lead = "McNemar's exact test on pairs of answers to the same video. Its question: would the same \
                networks differ from the unchanged ones on other videos? It says nothing about other trainings.";
    let head = [
        "Variant",
        "Change, points",
        "95 % interval, other videos",
        "Now wrong",
        "Now right",
        "p",
        "p, corrected",
        "Found in 80 % of such runs, points",
    ];
    Some(Section::new("These networks, other videos", lead).table(&head, rows).notes(notes))
}

/// The paired t test over seeds: other trainings.
pub(super) fn seeds(ablate: &AblateRecord) -> Section {
    const TITLE: &str = "Other trainings";
    let all = compared(ablate);
    if ablate.question == Ablation::KnockOut {
        let lead = "Not tested: one trained network was changed. Whether other trainings rely on the part as \
                    much is answered by harness ablate with --retrain.";
        return Section::new(TITLE, lead);
    }
    let level = LEVEL / all.len().max(1) as f64;
    let tests: Vec<Option<TTest>> =
        all.iter().map(|(v, _)| paired_t(&differences(ablate, v), level)).collect();
    let p: Vec<f64> = tests.iter().map(|test| test.map_or(f64::NAN, |test| test.p)).collect();
    let corrected = holm(&p);
    let rows = all.iter().zip(&tests).zip(&corrected).map(|(((v, _), test), corrected)| {
        let each: Vec<String> = differences(ablate, v).into_iter().map(signed).collect();
        let of = |read: &dyn Fn(&TTest) -> String| test.as_ref().map_or("–".to_owned(), read);
        vec![
            v.name.clone(),
            signed(change(ablate, v).0),
            of(&|t| format!("{} to {}", signed(t.interval.0), signed(t.interval.1))),
            each.join(", "),
            of(&|t| p_value(t.p)),
            p_value(*corrected),
            of(&|t| format!("{:.1}", t.least)),
        ]
    });
    let sentence = |(((v, _), test), corrected): (((&Variant, &Paired), &Option<TTest>), &f64)| {
        let name = variant(&v.name);
        let Some(test) = test else {
            return format!("{name}: not tested, since it needs two trainings that differ.");
        };
        let outcome = match *corrected < LEVEL {
            true => "trainings without it are different",
            false => "this number of trainings cannot tell it from chance",
        };
        format!(
            "{name}, {} points (95 % interval {} to {}), p {} after correction: {outcome}. It would have \
             detected a true difference of {:.1} points in {:.0} % of such studies.",
            signed(test.mean),
            signed(test.interval.0),
            signed(test.interval.1),
            p_value(*corrected),
            test.least,
            100.0 * POWER
        )
    };
    let notes: Vec<String> =
        all.iter().copied().zip(&tests).zip(&corrected).map(sentence).collect();
    let lead = "Paired t test over seeds: each training is compared with that of the unchanged network with \
                the same seed. Its question: would other trainings with and without the part differ? Changes are \
                computed before rounding.";
    let head = [
        "Variant",
        "Change, points",
        "95 % interval, other trainings",
        "Each seed",
        "p",
        "p, corrected",
        "Found in 80 % of such runs, points",
    ];
    Section::new(TITLE, lead)
        .table(&head, rows.collect())
        .notes(notes)
        .notes([
            "p is corrected for the number of comparisons by Holm's method, in both tests. The last column is the \
             true difference that a test calls significant in 80 % of studies of this size, at the level 0.05 \
             divided by the number of comparisons: by Connor's formula (1987) for McNemar's test, and (t(1 − level/2) + t(0.8)) · s/√n for the t test, where s is the observed \
             scatter of the differences."
                .to_owned(),
        ])
}

/// A p value with two digits.
pub(super) fn p_value(p: f64) -> String {
    match p {
        p if p.is_nan() => "–".to_owned(),
        p if p < 1e-4 => "<\u{a0}0.0001".to_owned(),
        p if p < 0.01 => format!("{p:.4}"),
        p => format!("{p:.2}"),
    }
}
