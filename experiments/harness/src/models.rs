//! Makes models and loads their weights.

use anyhow::Result;
use checkpoint::{Inferred, Source, Weights};
use spec::{Config, Model, ParamSpec, Selection};

use crate::flags::ModelArgs;

/// Makes the model and loads its weights. If these have no classifier, the model is a backbone, whose
/// output is the pooled features.
pub fn load_model(args: &ModelArgs, source: &Source) -> Result<(Model, Weights)> {
    let config = completed(args, source, &Config::default()).config()?;
    let model = Model::new(config.clone())?;
    let weights = load_weights(source, model.parameters())?;
    if weights.has_head() {
        return Ok((model, weights));
    }
    announce!("{source}: a backbone without a classifier, whose output is features, not logits");
    Ok((Model::backbone(config)?, weights))
}

/// The flags completed by what the shapes of the checkpoint say, with a note on what was taken from it.
pub fn completed(args: &ModelArgs, source: &Source, base: &Config) -> ModelArgs {
    complete(args, source, base, |found| found)
}

/// As [`completed`], for a data set, which has its own classes and number of frames.
pub fn completed_for_data(args: &ModelArgs, source: Option<&Source>, base: &Config) -> ModelArgs {
    let part = |found| Inferred { classes: None, frames: None, ..found };
    source.map_or_else(|| args.clone(), |source| complete(args, source, base, part))
}

fn complete(
    args: &ModelArgs,
    source: &Source,
    base: &Config,
    part: impl Fn(Inferred) -> Inferred,
) -> ModelArgs {
    if args.are_complete() {
        return args.clone();
    }
    // A file that cannot be read is refused when it is loaded.
    let Ok(found) = checkpoint::infer(source) else { return args.clone() };
    let (full, taken) = args.completed(&part(found), base);
    if !taken.is_empty() {
        announce!("inferred from the checkpoint: {}", taken.join(", "));
    }
    full
}

/// Loads weights; a note goes to stderr if the file holds other sets of weights, too.
pub fn load_weights(source: &Source, specs: &[ParamSpec]) -> Result<Weights> {
    let weights = Weights::load(source, specs)?;
    if let Some(note) = weights.provenance().note() {
        announce!("{source}: {note}");
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
