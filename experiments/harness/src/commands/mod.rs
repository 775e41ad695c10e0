//! One file per command, and what several of them share.

pub mod ablate;
pub mod bench;
pub mod diff;
pub mod dump;
pub mod eval;
pub mod export;
#[cfg(feature = "cuda")]
pub mod gpu_check;
pub mod info;
pub mod mutations;
pub mod null;
pub mod report;
pub mod selftest;
#[cfg(feature = "libtorch")]
pub mod train;
pub mod weights;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use reports::Record;
use spec::weights::{ParamSpec, Source, Weights};
use spec::{Config, Model};

use crate::cli::{ModelArgs, OutputArgs};

/// The description and the weights of a model. Weights without a classifier make a backbone, whose
/// output is the pooled features.
pub fn model_and_weights(args: &ModelArgs, source: &Source) -> Result<(Model, Weights)> {
    let config = args.config()?;
    let model = Model::new(config.clone())?;
    let weights = load(source, model.parameters())?;
    if weights.has_head() {
        return Ok((model, weights));
    }
    eprintln!("{source}: a backbone without a classifier; its features are compared, not logits");
    Ok((Model::backbone(config)?, weights))
}

/// Weights, and a word on stderr where the file holds others beside them.
fn load(source: &Source, specs: &[ParamSpec]) -> Result<Weights> {
    let weights = Weights::load(source, specs)?;
    if let Some(note) = weights.provenance().note() {
        eprintln!("{source}: {note}");
    }
    Ok(weights)
}

/// What `harness train mini` has made of it: see `experiments/mini/README.md`.
pub const MINI_MODEL: &[u8] = include_bytes!("../../../mini/model.safetensors");

/// The small network for `mini`.
fn mini_config() -> Config {
    Config {
        depth: 10,
        width: 0.25,
        frames: 16,
        size: (64, 64),
        classes: video::mini::CLASSES.len(),
        pos_dim: [16, 8, 4, 2],
        ..Config::default()
    }
}

/// Writes record, table and report, to the places asked for or else into the run's folder, and says
/// where on stderr.
fn publish(record: &Record, folder: &Path, out: &OutputArgs) -> Result<()> {
    let (json, html) = (out.json.as_deref(), out.html.as_deref());
    if json.is_none() || html.is_none() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{}: cannot be made", folder.display()))?;
    }
    let json = json.map_or(folder.join("record.json"), Path::to_owned);
    let html_path = html.map_or(folder.join("report.html"), Path::to_owned);
    let parquet = html.is_none().then(|| folder.join(table_name(record)));
    reports::write_record(record, &json)?;
    reports::write_report(record, &html_path, parquet.as_deref())?;
    eprintln!("record {}\nreport {}", json.display(), html_path.display());
    Ok(())
}

/// Name of a record's table as Parquet.
fn table_name(record: &Record) -> &'static str {
    match record {
        Record::Diff(_) => "layers.parquet",
        Record::Selftest(_) => "faults.parquet",
        Record::Eval(_) => "videos.parquet",
        Record::Train(_) => "epochs.parquet",
        Record::Ablate(_) => "variants.parquet",
        Record::Bench(_) => "times.parquet",
        Record::Gpu(_) => "steps.parquet",
        Record::Null(_) => "ratios.parquet",
    }
}

/// Prints results; a closed pipe (`harness info | head`) is no failure.
pub fn print_line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// As [`print_line`], for results.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
