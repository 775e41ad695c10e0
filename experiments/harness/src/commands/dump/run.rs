//! `harness dump`: writes the activations of an engine to an npz file.

use anyhow::Result;
use checkpoint::Weights;
use spec::{Engine, EngineError, Flow, Model, ModuleId, Selection, Tap, Tensor};

use super::args::DumpArgs;
use crate::flags::InputSource;
use crate::models;
use crate::outcome::Outcome;
use crate::{engines, input, progress};
use compare::dump::Writer;
use compare::faults::{self, Change, Edited};

/// Runs an engine and writes the output of each module.
pub fn run(args: &DumpArgs) -> Result<Outcome> {
    let device = engines::open_device(&args.data.on)?;
    let (model, weights) = models::load_model(&args.model, &args.data.weights)?;
    let selection = models::selection(&model, &args.layer)?;
    let source = args.data.input.clone().unwrap_or(InputSource::Formula(0));
    let views = input::views(&source, &model)?;
    let clip = match &views {
        Some(views) => input::of_views(views, &model),
        None => input::load(&source, &model, args.model.batch_size)?,
    };
    let mut engine = planted(args, &model, &weights, device)?;

    let bar = progress::bar("dumping", selection.len() as u64);
    let mut writer = Writer::create(&args.out, args.naming)?;
    if let Some(views) = &views {
        crate::preprocessing::write(views, &mut writer)?;
    }
    let mut tap = Recorder {
        model: &model,
        clip: args.precision.round(clip.clone()),
        last: selection.last(),
        selection: &selection,
        writer,
        failed: None,
        lacking: selection.len(),
        bar: &bar,
    };
    let outcome = engine.forward(&clip, &mut tap);
    bar.finish_and_clear();
    let Recorder { writer, failed, lacking, .. } = tap;
    failed.map_or(Ok(()), Err)?;
    match outcome {
        Ok(_) | Err(EngineError::Stopped) => writer.finish()?,
        Err(error) => return Err(error.into()),
    }
    announce!("{} was written by {}", args.out.display(), engine.describe());
    if lacking > 0 {
        announce!(
            "note: this engine has fused {lacking} modules into others, which the dump lacks, so that diff will call \
             it incomplete; --engine scalar or torch writes every module"
        );
    }
    Ok(Outcome::Passed)
}

/// The engine with the mistakes of `--inject` planted in it, one around the other.
fn planted(
    args: &DumpArgs,
    model: &Model,
    weights: &Weights,
    device: engines::Device,
) -> Result<Box<dyn Engine>> {
    let changes = args.inject.iter().map(|text| faults::parse(model, text));
    let changes: Vec<Change> = changes.collect::<Result<_>>()?;
    let (mut changed, mut weights) = (model.clone(), weights.clone());
    for change in &changes {
        change.apply(&mut changed, &mut weights);
        announce!("injected at {}: {}", model.module(change.site).name, change.what);
    }
    let mut engine = engines::load(args.engine, changed, &weights, args.precision, device)?;
    for change in changes {
        engine = Box::new(Edited { engine, change, weights: weights.clone() });
    }
    Ok(engine)
}

/// A tap that writes the output of every selected module as soon as it is computed.
struct Recorder<'a> {
    model: &'a Model,
    /// The clip that was given, which a planted mistake of preprocessing does not change.
    clip: Tensor,
    selection: &'a Selection,
    last: Option<ModuleId>,
    writer: Writer,
    failed: Option<anyhow::Error>,
    /// How many of the selected modules have not come.
    lacking: usize,
    bar: &'a indicatif::ProgressBar,
}

impl Tap for Recorder<'_> {
    fn wants(&self, id: ModuleId) -> bool {
        // Without the clip a dump cannot be compared.
        id == self.model.input || self.selection.contains(id)
    }

    fn observe(&mut self, id: ModuleId, value: Tensor) -> Flow {
        self.bar.inc(1);
        self.lacking -= usize::from(self.selection.contains(id));
        let value = if id == self.model.input { self.clip.clone() } else { value };
        if let Err(error) = self.writer.add(self.model, id, value) {
            self.failed = Some(error);
            return Flow::Stop;
        }
        if Some(id) == self.last { Flow::Stop } else { Flow::Continue }
    }
}
