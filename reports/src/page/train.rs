//! The page of a training.

use super::study::{Section, View, percent, with_interval};
use super::{Headline, Page, provenance};
use crate::chart::{Chart, Look, Point, Series};
use crate::error::Result;
use crate::format::short;
use crate::table::{Column, column};
use record::{Epoch, TrainRecord, Verdict};

impl Page for TrainRecord {
    fn render(&self) -> Result<String> {
        super::fill("study.html", &view(self)?)
    }

    fn headline(&self) -> Headline {
        let val = self.epochs.last().map_or(f64::NAN, |epoch| 100.0 * epoch.val.share());
        let sentence = format!("{}: {} % on the validation part", self.dataset, short(val));
        Headline::new(Verdict::Pass, "trained", sentence)
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
fn view(train: &TrainRecord) -> Result<View> {
    let last = train.epochs.last();
    let accuracy = last.map_or("nothing".to_owned(), |epoch| percent(epoch.val.share()));
    let settings = train.settings.iter().map(|(name, value)| vec![name.clone(), value.clone()]);
    let curve = |name: &str, read: fn(&Epoch) -> f64| Series {
        name: name.to_owned(),
        look: Look::Joined,
        points: train.epochs.iter().map(|e| Point::at(e.epoch as f64, read(e))).collect(),
    };
    let chart = |name, label: &str, series| Chart {
        name,
        description: format!("{label} by epoch"),
        x_label: "epoch".to_owned(),
        y_label: label.to_owned(),
        series,
        ..Chart::default()
    };
    let accuracies = vec![
        curve("validation", |e| 100.0 * e.val.share()),
        curve("training, augmented", |e| 100.0 * e.train),
    ];
    let row = |e: &Epoch| {
        vec![
            e.epoch.to_string(),
            short(e.loss),
            percent(e.train),
            with_interval(&e.val),
            short(e.rate),
            format!("{:.1} s", e.seconds),
        ]
    };
    let seconds: f64 = train.epochs.iter().map(|e| e.seconds).sum();
    let sections = vec![
        Section::new("Accuracy", "On the validation part, and on the augmented training batches.")
            .chart(&chart("accuracy", "accuracy in %", accuracies))?,
        Section::new("Loss", "Cross-entropy with smoothed labels, whose minimum is above 0.")
            .chart(&chart("loss", "loss", vec![curve("loss", |e| e.loss)]))?,
        Section::new("Epochs", "").table(
            &["Epoch", "Loss", "Training", "Validation (95 % interval)", "Rate", "Time"],
            train.epochs.iter().map(row).collect(),
        ),
        Section::new("Settings", "").table(&["Setting", "Value"], settings.collect()),
    ];
    Ok(View {
        title: format!("training on {} · {accuracy}", train.dataset),
        kind: "train",
        verdict: if train.finished { "pass" } else { "incomplete" },
        mark: if train.finished { "✓" } else { "?" },
        word: format!("{accuracy} on the validation part"),
        sentence: format!("{} epochs on {} in {:.0} s", train.epochs.len(), train.dataset, seconds),
        warnings: match train.finished {
            true => vec![],
            false => vec!["The training was stopped before its end.".to_owned()],
        },
        sections,
        provenance: provenance::of(&train.run),
    })
}
