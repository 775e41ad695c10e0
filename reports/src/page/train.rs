//! The page of a training.

use super::study::{Section, View, percent, with_interval};
use super::{Headline, Measure, Page, provenance};
use crate::chart::{Axis, Chart, Look, Point, Series};
use crate::error::Result;
use crate::format::{count, short};
use crate::table::{Column, column};
use record::{Epoch, TrainRecord, Verdict};

impl Page for TrainRecord {
    fn render(&self) -> Result<String> {
        super::fill("study.html", &view(self))
    }

    fn headline(&self) -> Headline {
        let verdict = if self.finished { Verdict::Pass } else { Verdict::Incomplete };
        Headline::new(verdict, "trained", format!("{}: {}", self.dataset, word(self)))
    }

    fn measures(&self) -> Vec<Measure> {
        let measure = |epoch: &Epoch| Measure {
            name: format!("validation accuracy in % after training on {}", self.dataset),
            value: 100.0 * epoch.val.share(),
            interval: Some((100.0 * epoch.val.low, 100.0 * epoch.val.high)),
            by_ratio: false,
        };
        self.epochs.last().map(measure).into_iter().collect()
    }

    fn table_name(&self) -> &'static str {
        "epochs.parquet"
    }

    fn table(&self) -> Vec<Column> {
        let epochs = &self.epochs;
        vec![
            column("epoch", epochs, |e| e.epoch),
            column("rate", epochs, |e| e.rate),
            column("loss", epochs, |e| e.loss),
            column("train", epochs, |e| e.train),
            column("val", epochs, |e| e.val.share()),
        ]
    }
}

/// Builds the view.
fn view(train: &TrainRecord) -> View {
    let sections = vec![accuracy(train), loss(train), settings(train)];
    View {
        title: format!("training on {} · {}", train.dataset, word(train)),
        kind: "train",
        verdict: if train.finished { "pass" } else { "incomplete" },
        mark: if train.finished { "✓" } else { "?" },
        word: word(train),
        sentence: sentence(train),
        warnings: match train.finished {
            true => vec![],
            false => vec!["The training was stopped before its end.".to_owned()],
        },
        sections,
        provenance: provenance::of(&train.run),
    }
}

/// The result: `99.5 % (97.2 to 99.9) on the validation part after 60 epochs`.
fn word(train: &TrainRecord) -> String {
    match train.epochs.last() {
        Some(last) => format!(
            "{} on the validation part after {}",
            with_interval(&last.val),
            count(train.epochs.len(), "epoch")
        ),
        None => "No epoch was finished".to_owned(),
    }
}

/// What was trained, the best epoch, and what the result does not say.
fn sentence(train: &TrainRecord) -> String {
    let seconds: f64 = train.epochs.iter().map(|epoch| epoch.seconds).sum();
    let better = |a: &&Epoch, b: &&Epoch| a.val.hits.cmp(&b.val.hits).then(b.epoch.cmp(&a.epoch));
    let best = train.epochs.iter().max_by(better);
    let best = best.map_or(String::new(), |best| {
        format!("; the best epoch was {} with {}", best.epoch, percent(best.val.share()))
    });
    format!(
        "Trained on {} in {:.0} s{best}. One seed only: another one gives another network, and the test part \
         was not used",
        train.dataset, seconds
    )
}

fn curve(train: &TrainRecord, name: &str, look: Look, read: fn(&Epoch) -> f64) -> Series {
    let points = train.epochs.iter().map(|e| Point::at(e.epoch as f64, read(e))).collect();
    Series { name: name.to_owned(), look, points }
}

fn accuracy(train: &TrainRecord) -> Section {
    let mut validation = curve(train, "validation", Look::Joined, |e| 100.0 * e.val.share());
    if let (Some(point), Some(last)) = (validation.points.last_mut(), train.epochs.last()) {
        point.interval = Some((100.0 * last.val.low, 100.0 * last.val.high));
    }
    let chart = Chart {
        name: "training-accuracy",
        description: "accuracy by epoch".to_owned(),
        x: Axis::whole("epoch"),
        y: Axis::percent("accuracy in %"),
        series: vec![
            validation,
            curve(train, "training, augmented", Look::Line, |e| 100.0 * e.train),
        ],
    };
    let row = |e: &Epoch| {
        vec![
            e.epoch.to_string(),
            short(e.loss),
            percent(e.train),
            with_interval(&e.val),
            short(e.rate),
            format!("{:.1}\u{a0}s", e.seconds),
        ]
    };
    let head = ["Epoch", "Loss", "Training", "Validation (95 % interval)", "Learning rate", "Time"];
    let rows = train.epochs.iter().map(row).collect();
    let lead = "On the validation part, and on the augmented training batches. The last epoch has its 95 % \
                interval.";
    Section::new("Accuracy", lead).figure(chart.draw()).fold("All epochs", &head, rows)
}

fn loss(train: &TrainRecord) -> Section {
    let losses = train.epochs.iter().map(|epoch| epoch.loss);
    let chart = Chart {
        name: "training-loss",
        description: "loss by epoch".to_owned(),
        x: Axis::whole("epoch"),
        y: Axis::positive("loss", losses),
        series: vec![curve(train, "loss", Look::Joined, |e| e.loss)],
    };
    Section::new("Loss", "Cross-entropy with smoothed labels, whose minimum is above 0.")
        .figure(chart.draw())
}

/// The settings in words. The network, a JSON text in the record, is shown with how to reproduce the run.
fn settings(train: &TrainRecord) -> Section {
    // Old records say "training videos 0" for all videos.
    let shown = |name: &str, value: &str| {
        !value.trim_start().starts_with('{') && (name, value) != ("training videos", "0")
    };
    let facts = train.settings.iter().filter(|(name, value)| shown(name, value));
    let facts = facts.map(|(name, value)| (name.clone(), value.clone())).collect();
    Section { facts, ..Section::new("Settings", "") }
}
