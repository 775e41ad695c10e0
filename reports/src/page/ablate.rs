//! The page of an ablation.

use super::study::{Section, View, class, percent, with_interval};
use super::{Headline, Page, provenance};
use crate::chart::{Chart, Look, Point, Series};
use crate::error::Result;
use crate::format::{metric, short};
use crate::table::{Column, column};
use record::{AblateRecord, Ablation, Rate, Variant, Verdict};

impl Page for AblateRecord {
    fn render(&self) -> Result<String> {
        super::fill("study.html", &view(self)?)
    }

    fn headline(&self) -> Headline {
        let sentence = format!("{} variants on {}", self.variants.len(), self.dataset);
        Headline::new(Verdict::Pass, "ablation", sentence)
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

/// Builds the view.
fn view(ablate: &AblateRecord) -> Result<View> {
    let (title, lead) = match ablate.question {
        Ablation::KnockOut => (
            "Parts removed from the trained network",
            "Knock-out: the weights stay as they were trained, and the part is switched off. It shows how \
             much this network relies on the part, not what a network without the part could learn.",
        ),
        Ablation::Retrained => (
            "Trained without the part",
            "Retrained: each variant was trained from scratch, with several seeds. It shows how much the \
             part contributes. The interval is Student's t over the seeds.",
        ),
    };
    let variants = &ablate.variants;
    let mut sections = vec![Section::new(title, lead).chart(&bars(variants))?.table(
        &[
            "Variant",
            "Accuracy",
            "95 % interval",
            "Networks",
            "p (McNemar)",
            "Lost",
            "Won",
            "Drift",
            "MACs",
            "Time per clip",
        ],
        variants.iter().map(row).collect(),
    )];
    if variants.iter().any(|variant| variant.checked.is_some()) {
        let rows =
            variants.iter().map(|v| vec![v.name.clone(), v.checked.clone().unwrap_or_default()]);
        sections.push(
            Section::new(
                "Agreement of the engines",
                "Each variant was compared with the other engine, \
                          layer by layer, by the rule of harness diff.",
            )
            .table(&["Variant", "Outcome"], rows.collect()),
        );
    }
    sections.extend(flips(ablate));
    if ablate.question == Ablation::Retrained {
        let rows = variants.iter().map(|v| {
            let each: Vec<String> = v.accuracy.iter().map(with_interval).collect();
            vec![v.name.clone(), each.join(", ")]
        });
        sections.push(
            Section::new("Each trained network", "")
                .table(&["Variant", "Accuracy by seed"], rows.collect()),
        );
    }
    let base = variants.first().map_or(f64::NAN, |variant| variant.mean);
    Ok(View {
        title: format!("ablation on {}", ablate.dataset),
        kind: "ablate",
        verdict: "pass",
        mark: "✓",
        word: format!("{} variants of the network", variants.len()),
        sentence: format!(
            "Unchanged, the network has an accuracy of {} on {} videos of {}",
            percent(base),
            ablate.videos,
            ablate.dataset
        ),
        warnings: vec![],
        sections,
        provenance: provenance::of(&ablate.run),
    })
}

/// The row of a variant in the first table.
fn row(variant: &Variant) -> Vec<String> {
    let paired = variant.paired.as_ref();
    let of = |read: &dyn Fn(&record::Paired) -> String| paired.map_or("–".to_owned(), read);
    let interval = match variant.interval[..] {
        [low, high] if variant.accuracy.len() != 1 || low > 0.0 => {
            format!("{:.1} to {:.1}", 100.0 * low.max(0.0), 100.0 * high.min(1.0))
        }
        _ => "–".to_owned(),
    };
    vec![
        variant.name.clone(),
        percent(variant.mean),
        interval,
        variant.accuracy.len().to_string(),
        of(&|p| if p.p < 1e-4 { "< 0.0001".to_owned() } else { format!("{:.4}", p.p) }),
        of(&|p| p.lost.to_string()),
        of(&|p| p.won.to_string()),
        of(&|p| short(p.drift)),
        metric(variant.macs),
        format!("{:.2} ms", 1e3 * variant.seconds_per_view),
    ]
}

/// Accuracy of each variant with its interval.
fn bars(variants: &[Variant]) -> Chart {
    let point = |(at, variant): (usize, &Variant)| Point {
        x: at as f64,
        y: 100.0 * variant.mean,
        interval: match variant.interval[..] {
            [low, high] => Some((100.0 * low.max(0.0), 100.0 * high.min(1.0))),
            _ => None,
        },
        name: String::new(),
    };
    Chart {
        name: "ablation",
        description: "Accuracy of each variant with its 95 % interval".to_owned(),
        x_label: String::new(),
        y_label: "accuracy in %".to_owned(),
        series: vec![Series {
            name: "accuracy".to_owned(),
            look: Look::Bars,
            points: variants.iter().enumerate().map(point).collect(),
        }],
        names: variants.iter().map(|variant| variant.name.clone()).collect(),
        ..Chart::default()
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
        flips.map_or(String::new(), |(lost, won)| format!("−{lost} +{won}"))
    };
    let rows = (0..classes)
        .map(|label| {
            let mut row = vec![class(&ablate.classes, label)];
            row.extend(variants.iter().map(|variant| cell(variant, label)));
            row
        })
        .collect();
    let lead = "Videos that only the unchanged network classifies correctly (−), and only the variant (+).";
    Some(Section::new("Changed answers by class", lead).table(&head, rows))
}
