//! Makes models and loads their weights.

use anyhow::Result;
use checkpoint::{Source, Weights};
use spec::{Config, Model, ParamSpec, Selection};

use crate::flags::ModelArgs;

/// Makes the model and loads its weights. If these have no classifier, the model is a backbone, whose
/// output is the pooled features.
pub fn load_model(args: &ModelArgs, source: &Source) -> Result<(Model, Weights)> {
    let config = args.config()?;
    let model = Model::new(config.clone())?;
    let weights = load_weights(source, model.parameters())?;
    if weights.has_head() {
        return Ok((model, weights));
    }
    eprintln!("{source}: a backbone without a classifier, whose output is features, not logits");
    Ok((Model::backbone(config)?, weights))
}

/// Loads weights; a note goes to stderr if the file holds other sets of weights, too.
pub fn load_weights(source: &Source, specs: &[ParamSpec]) -> Result<Weights> {
    let weights = Weights::load(source, specs)?;
    if let Some(note) = weights.provenance().note() {
        eprintln!("{source}: {note}");
    }
    Ok(weights)
}

/// The built-in model for `mini`; `experiments/mini/README.md` says how it was trained.
pub const MINI_MODEL: &[u8] = include_bytes!("../../mini/model.safetensors");

/// The configuration of the built-in model for `mini`.
pub fn mini_config() -> Config {
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

/// The modules that the names, prefixes or aliases select; all modules if there are no names.
pub fn selection(model: &Model, names: &[String]) -> Result<Selection> {
    match names {
        [] => Ok(Selection::all(model.modules())),
        names => Ok(Selection::by_names(model.modules(), names.iter().map(String::as_str))?),
    }
}
