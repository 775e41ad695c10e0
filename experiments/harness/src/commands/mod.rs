//! One file per command, and what several of them share.

pub mod diff;
pub mod dump;
pub mod info;
pub mod report;
pub mod selftest;
pub mod weights;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use reports::Record;
use spec::Model;
use spec::weights::{Source, Weights};

use crate::cli::{ModelArgs, OutputArgs};

/// The description and the weights of a model. Weights without a classifier make a backbone, whose
/// output is the pooled features.
fn model_and_weights(args: &ModelArgs, source: &Source) -> Result<(Model, Weights)> {
    let config = args.config()?;
    let model = Model::new(config.clone())?;
    let weights = Weights::load(source, model.parameters())?;
    if weights.has_head() {
        return Ok((model, weights));
    }
    eprintln!("{source}: a backbone without a classifier; its features are compared, not logits");
    Ok((Model::backbone(config)?, weights))
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
    let parquet = html.is_none().then(|| folder.join("layers.parquet"));
    reports::write_record(record, &json)?;
    reports::write_report(record, &html_path, parquet.as_deref())?;
    eprintln!("record {}\nreport {}", json.display(), html_path.display());
    Ok(())
}

/// Prints results; a closed pipe (`harness info | head`) is no failure.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
