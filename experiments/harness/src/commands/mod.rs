//! The commands, one file for each, and the functions that several of them share.

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
use checkpoint::{Source, Weights};
use record::Record;
use spec::{Config, Model, ParamSpec};

use crate::cli::{ModelArgs, OutputArgs};

/// Makes the model and loads its weights. If these have no classifier, the model is a backbone, whose
/// output is the pooled features.
pub fn model_and_weights(args: &ModelArgs, source: &Source) -> Result<(Model, Weights)> {
    let config = args.config()?;
    let model = Model::new(config.clone())?;
    let weights = load(source, model.parameters())?;
    if weights.has_head() {
        return Ok((model, weights));
    }
    eprintln!("{source}: a backbone without a classifier, whose output is features, not logits");
    Ok((Model::backbone(config)?, weights))
}

/// Loads weights; a note goes to stderr if the file holds other sets of weights, too.
fn load(source: &Source, specs: &[ParamSpec]) -> Result<Weights> {
    let weights = Weights::load(source, specs)?;
    if let Some(note) = weights.provenance().note() {
        eprintln!("{source}: {note}");
    }
    Ok(weights)
}

/// The built-in model for `mini`; `experiments/mini/README.md` says how it was trained.
pub const MINI_MODEL: &[u8] = include_bytes!("../../../mini/model.safetensors");

/// The configuration of the built-in model for `mini`.
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

/// Writes the record, the report and its table as Parquet, to the paths of `out` or else into the run's
/// folder, and prints the paths on stderr.
fn publish(record: &Record, folder: &Path, out: &OutputArgs) -> Result<()> {
    let (json, html) = (out.json.as_deref(), out.html.as_deref());
    if json.is_none() || html.is_none() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{}: cannot be created", folder.display()))?;
    }
    let json = json.map_or(folder.join("record.json"), Path::to_owned);
    let html_path = html.map_or(folder.join("report.html"), Path::to_owned);
    let parquet = html.is_none().then(|| folder.join(table_name(record)));
    record::write_record(record, &json)?;
    reports::write_report(record, &html_path, parquet.as_deref())?;
    eprintln!("record {}\nreport {}", json.display(), html_path.display());
    Ok(())
}

/// The name of the Parquet file with a record's table.
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

/// Prints a line and flushes stdout; a closed pipe (`harness info | head`) is not a failure.
pub fn print_line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints results without flushing; a closed pipe is not a failure.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
