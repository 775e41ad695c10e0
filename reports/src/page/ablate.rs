//! The page of an ablation.

mod significance;
mod words;

use super::study::{Section, View, class, percent, with_interval};
use super::{Headline, Measure, Page, provenance};
use crate::chart::{Axis, Dot, Row, Rows};
use crate::error::Result;
use crate::format::{capitalized, count, metric, short};
use crate::table::{Column, column};
use record::{AblateRecord, Ablation, Rate, Variant, Verdict};

impl Page for AblateRecord {
    fn render(&self) -> Result<String> {
        super::fill("study.html", &view(self))
    }

    fn headline(&self) -> Headline {
        Headline::new(Verdict::Pass, "ablation", words::word(self))
    }

    fn measures(&self) -> Vec<Measure> {
        let measure = |v: &Variant| Measure {
            name: format!("accuracy in % on {}, {}, {}", self.dataset, how(self), v.name),
            value: 100.0 * v.mean,
            interval: interval(v),
            by_ratio: false,
        };
        self.variants.iter().map(measure).collect()
    }

    fn table_name(&self) -> &'static str {
        "variants.parquet"
    }

    fn table(&self) -> Vec<Column> {
        let variants = self.variants.iter();
        let rows: Vec<(&Variant, &Rate)> = variants
            .flat_map(|variant| variant.accuracy.iter().map(move |rate| (variant, rate)))
            .collect();
        vec![
            column("variant", &rows, |(variant, _)| variant.name.as_str()),
            column("hits", &rows, |(_, rate)| rate.hits),
            column("videos", &rows, |(_, rate)| rate.of),
            column("p", &rows, |(variant, _)| variant.paired.as_ref().map(|paired| paired.p)),
            column("macs", &rows, |(variant, _)| variant.macs),
        ]
    }
}

/// The result in words, for a terminal: the headline, what it leaves open, and what was not tested.
pub fn in_words(ablate: &AblateRecord) -> [String; 3] {
    words::in_words(ablate)
}

/// Builds the view.
fn view(ablate: &AblateRecord) -> View {
    let mut sections = vec![accuracies(ablate), not_tested(ablate)];
    sections.extend(significance::videos(ablate));
    sections.push(significance::seeds(ablate));
    sections.extend(flips(ablate));
    sections.extend(agreement(&ablate.variants));
    let open = words::is_open(ablate);
    View {
        title: words::word(ablate),
        kind: "ablate",
        verdict: if open { "incomplete" } else { "pass" },
        mark: if open { "?" } else { "✓" },
        word: words::word(ablate),
        // The template ends it.
        sentence: words::sentence(ablate).trim_end_matches('.').to_owned(),
        warnings: warnings(ablate),
        sections,
        provenance: provenance::of(&ablate.run),
    }
}

/// What the run does not tell.
fn not_tested(ablate: &AblateRecord) -> Section {
    let items = words::not_tested(ablate).join("; ");
    Section::new("What was not tested", &format!("{}.", capitalized(&items)))
}

/// The question of the ablation in a word.
fn how(ablate: &AblateRecord) -> &'static str {
    match ablate.question {
        Ablation::KnockOut => "knock-out",
        Ablation::Retrained => "retrained",
    }
}

fn warnings(ablate: &AblateRecord) -> Vec<String> {
    let seeds = ablate.variants.iter().map(|variant| variant.accuracy.len()).min().unwrap_or(0);
    match ablate.question {
        Ablation::Retrained if (1..5).contains(&seeds) => vec![format!(
            "Only {}: the interval over trainings is wide, whatever the number of videos.",
            count(seeds, "training").replace("trainings", "trainings of each variant")
        )],
        _ => vec![],
    }
}

/// Accuracy of each variant, with the single trainings.
fn accuracies(ablate: &AblateRecord) -> Section {
    let lead = match ablate.question {
        Ablation::KnockOut => {
            "Knock-out: the weights stay as they were trained, and the part is switched off. It shows how \
             much this network relies on the part, not what a network without the part could learn. Lines \
             are Wilson's 95 % intervals over the videos."
        }
        Ablation::Retrained => {
            "Retrained: each variant was trained from scratch, once for each seed. This estimates the effect \
             of leaving the part out, with the computation that goes with it. Filled marks are means, rings the \
             single trainings (equal ones overlap), and lines Student's 95 % interval over trainings, cut at 100 %."
        }
    };
    let variants = &ablate.variants;
    let base = variants.first();
    let row = |variant: &Variant| {
        let interval = interval(variant);
        let ends =
            interval.map_or(String::new(), |(low, high)| format!(" ({low:.1} to {high:.1})"));
        let singles = match variant.accuracy.len() {
            0 | 1 => vec![],
            _ => variant.accuracy.iter().map(|rate| 100.0 * rate.share()).collect(),
        };
        Row {
            name: variant.name.clone(),
            series: usize::from(variant.paired.is_some()),
            dot: Some(Dot {
                value: 100.0 * variant.mean,
                interval,
                range: None,
                label: format!("{}{ends}", percent(variant.mean)),
            }),
            singles,
        }
    };
    let figure = Rows {
        name: "ablation",
        description: "accuracy of each variant with its 95 % interval".to_owned(),
        axis: Axis::percent("accuracy in %"),
        reference: base.map(|variant| (100.0 * variant.mean, "unchanged network".to_owned())),
        single: "seed",
        rows: variants.iter().map(row).collect(),
    };
    let cells = |variant: &Variant| {
        let each: Vec<String> = variant.accuracy.iter().map(with_interval).collect();
        let drift = variant.paired.as_ref().map_or("–".to_owned(), |paired| short(paired.drift));
        vec![
            variant.name.clone(),
            percent(variant.mean),
            each.join("; "),
            drift,
            metric(variant.macs),
        ]
    };
    let head = [
        "Variant",
        "Mean accuracy",
        "Each network (95 % interval over videos)",
        "Logit change",
        "MACs",
    ];
    Section::new("Accuracy with and without each part", lead)
        .figure(figure.draw())
        .table(&head, variants.iter().map(cells).collect())
        .notes(words::parts(ablate))
        .notes([
            "Logit change: relative L2 distance from the logits of the unchanged network, averaged over \
             videos; two trainings of the same network differ, too. At 0 the change does nothing. MACs: \
             multiply-adds for a clip."
                .to_owned(),
        ])
}

/// The interval of a variant in percent; `None` if the record holds none.
fn interval(variant: &Variant) -> Option<(f64, f64)> {
    match variant.interval[..] {
        [low, high] if low.is_finite() && high.is_finite() => {
            Some((100.0 * low.max(0.0), 100.0 * high.min(1.0)))
        }
        _ => None,
    }
}

/// How many videos of each class are right with only one of the two networks.
fn flips(ablate: &AblateRecord) -> Option<Section> {
    let variants: Vec<&Variant> = ablate.variants.iter().filter(|v| v.paired.is_some()).collect();
    let classes = variants.first()?.paired.as_ref()?.by_class.len();
    let mut head = vec!["Class"];
    head.extend(variants.iter().map(|variant| variant.name.as_str()));
    let cell = |variant: &&Variant, label: usize| {
        let flips = variant.paired.as_ref().and_then(|paired| paired.by_class.get(label));
        flips.map_or(String::new(), |flips| match flips {
            (0, 0) => "–".to_owned(),
            (lost, won) => format!("−{lost} +{won}"),
        })
    };
    let rows = (0..classes)
        .map(|label| {
            let mut row = vec![class(&ablate.classes, label)];
            row.extend(variants.iter().map(|variant| cell(variant, label)));
            row
        })
        .collect();
    let lead =
        "Answers that only the unchanged network gives correctly (−), and only the variant (+).";
    Some(Section::new("Changed answers by class", lead).table(&head, rows))
}

/// Whether two engines agree on each variant; `None` if that was not tested.
fn agreement(variants: &[Variant]) -> Option<Section> {
    let checked = |v: &Variant| Some(vec![v.name.clone(), v.checked.clone()?]);
    let rows: Vec<Vec<String>> = variants.iter().filter_map(checked).collect();
    let lead = "Each variant was compared with the other engine, layer by layer, by the rule of harness diff.";
    let section = Section::new("Agreement of the engines", lead);
    (!rows.is_empty()).then(|| section.table(&["Variant", "Outcome"], rows))
}
