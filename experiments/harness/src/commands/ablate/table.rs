//! The table that `ablate` prints, at most 100 columns wide.

use record::{AblateRecord, Ablation, Paired};

/// The width of a terminal that everything fits into, in columns.
const WIDTH: usize = 100;

/// The table of an ablation.
pub fn table(record: &AblateRecord) -> String {
    let what = match record.question {
        Ablation::KnockOut => "knock-out: parts taken out of trained weights",
        Ablation::Retrained => "retrained without the part",
    };
    let trainings = record.variants.iter().map(|v| v.accuracy.len()).max().unwrap_or(0);
    let (over, each) = match record.question {
        Ablation::KnockOut => ("95 %, videos", String::new()),
        Ablation::Retrained => ("95 %, trainings", format!(", {trainings} trainings each")),
    };
    let mut lines = vec![
        format!("{what}; {} videos of {}{each}", record.videos, record.dataset),
        format!("{:47} {:>15} {:>9} {:>7}", "", "only right with", "", "logit"),
        format!(
            "{:20} {:>9} {:>16} {:>7} {:>7} {:>9} {:>7} {:>8}",
            "variant", "accuracy", over, "full", "variant", "p, videos", "change", "MMACs"
        ),
    ];
    lines.extend(record.variants.iter().map(|variant| {
        let interval = match variant.interval[..] {
            [low, high] => format!("{:.1} to {:.1}", 100.0 * low, 100.0 * high),
            _ => String::new(),
        };
        let paired = variant.paired.as_ref();
        let of = |text: &dyn Fn(&Paired) -> String| paired.map_or("–".to_owned(), text);
        format!(
            "{:20} {:>7.1} % {interval:>16} {:>7} {:>7} {:>9} {:>7} {:>8.1}",
            console::truncate_str(&variant.name, 20, "…"),
            100.0 * variant.mean,
            of(&|p| p.lost.to_string()),
            of(&|p| p.won.to_string()),
            of(&|p| if p.p < 1e-4 { "< 0.0001".to_owned() } else { format!("{:.4}", p.p) }),
            of(&|p| if p.drift < 0.01 {
                format!("{:.0e}", p.drift)
            } else {
                format!("{:.2}", p.drift)
            }),
            variant.macs as f64 / 1e6
        )
    }));
    lines.extend(
        record
            .variants
            .iter()
            .filter_map(|variant| Some(format!("{}: {}", variant.name, variant.checked.as_ref()?))),
    );
    for sentence in reports::ablation_in_words(record) {
        let options = textwrap::Options::new(WIDTH).subsequent_indent("  ");
        let wrapped = textwrap::wrap(&sentence, options);
        lines.extend(wrapped.iter().map(|line| line.replace('\u{a0}', " ")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_shows_the_tables_of_the_published_runs() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let readme =
            std::fs::read_to_string(format!("{root}/experiments/video/README.md")).unwrap();
        for name in ["mini-retrained", "mini-knock-out"] {
            let folder = std::path::PathBuf::from(format!("{root}/reports/runs/{name}"));
            let Ok(record::Record::Ablate(record)) = record::read_record(&folder) else {
                panic!("{name} is not the record of an ablation");
            };
            let shown = table(&record);
            assert!(
                shown.lines().all(|line| console::measure_text_width(line) <= WIDTH),
                "{shown}"
            );
            assert!(readme.contains(&shown), "{name} prints:\n{shown}");
        }
    }
}
