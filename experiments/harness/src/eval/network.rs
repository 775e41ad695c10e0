//! The network that is evaluated on a data set.

use anyhow::{Result, bail};
use checkpoint::{Source, Weights};
use spec::{Config, Model};
use video::dataset::{Dataset, Mode};

use crate::models;

/// The default configuration of the network for a data set.
pub fn config_of(dataset: Dataset, mode: Mode) -> Config {
    if dataset == Dataset::Mini {
        return models::mini_config();
    }
    let side = dataset.protocol(mode).crop;
    Config { classes: dataset.classes(), size: (side, side), ..Config::default() }
}

/// Makes the model and loads its weights; without a `source`, `mini` has the built-in model.
pub fn model_and_weights(
    dataset: Dataset,
    config: &Config,
    source: Option<&Source>,
) -> Result<(Model, Weights)> {
    let model = Model::new(config.clone())?;
    let weights = match source {
        Some(source) => Weights::load(source, model.parameters())?,
        None if dataset == Dataset::Mini => {
            Weights::from_bytes(models::MINI_MODEL, "the built-in model", None, model.parameters())?
        }
        None => bail!(
            "{dataset}: give the trained weights with --weights FILE (or formula:0 to try the command)"
        ),
    };
    if !weights.has_head() {
        bail!(
            "the weights have no classifier (fc), which an evaluation needs; give others with --weights"
        );
    }
    Ok((model, weights))
}

/// The source of the weights, as the record names it.
pub fn weights_in_words(source: Option<&Source>) -> String {
    source.map_or_else(|| "the built-in model".to_owned(), Source::to_string)
}
