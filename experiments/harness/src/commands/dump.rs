//! `harness dump`: writes the activations of an engine to an npz file.

use anyhow::{Result, bail};
use spec::{EngineError, Flow, Model, ModuleId, Selection, Tap, Tensor};

use crate::Outcome;
use crate::cli::{DumpArgs, InputSource, Participant};
use crate::{engines, input, progress};
use compare::dump::{Naming, Writer};

/// Runs an engine and writes the output of each module.
pub fn run(args: &DumpArgs) -> Result<Outcome> {
    if let Participant::Npz(path) = &args.engine {
        bail!("--engine npz:{} is a dump already; name an engine, such as scalar", path.display());
    }
    let device = engines::open_device(&args.data.on)?;
    let (model, weights) = super::model_and_weights(&args.model, &args.data.weights)?;
    let selection = match args.layer.is_empty() {
        true => Selection::all(model.modules()),
        false => Selection::by_names(model.modules(), args.layer.iter().map(String::as_str))?,
    };
    let source = args.data.input.clone().unwrap_or(InputSource::Formula(0));
    let views = input::views(&source, &model)?;
    let clip = match &views {
        Some(views) => input::of_views(views, &model),
        None => input::load(&source, &model, args.model.batch_size)?,
    };
    let mut engine = engines::load(&args.engine, model.clone(), &weights, args.precision, device)?;
    let naming = if args.naming == "flax" { Naming::Flax } else { Naming::Torch };

    let bar = progress::bar("dumping", selection.len() as u64);
    let mut writer = Writer::create(&args.out, naming)?;
    if let Some(views) = &views {
        crate::preprocessing::write(views, &mut writer)?;
    }
    let mut tap = Recorder {
        model: &model,
        last: selection.last(),
        selection: &selection,
        writer,
        failed: None,
        bar: &bar,
    };
    let outcome = engine.forward(&clip, &mut tap);
    bar.finish_and_clear();
    let Recorder { writer, failed, .. } = tap;
    failed.map_or(Ok(()), Err)?;
    match outcome {
        Ok(_) | Err(EngineError::Stopped) => writer.finish()?,
        Err(error) => return Err(error.into()),
    }
    eprintln!("{} was written by {}", args.out.display(), engine.describe());
    Ok(Outcome::Passed)
}

/// A tap that writes the output of every selected module as soon as it is computed.
struct Recorder<'a> {
    model: &'a Model,
    selection: &'a Selection,
    last: Option<ModuleId>,
    writer: Writer,
    failed: Option<anyhow::Error>,
    bar: &'a indicatif::ProgressBar,
}

impl Tap for Recorder<'_> {
    fn wants(&self, id: ModuleId) -> bool {
        self.selection.contains(id)
    }

    fn observe(&mut self, id: ModuleId, value: Tensor) -> Flow {
        self.bar.inc(1);
        if let Err(error) = self.writer.add(self.model, id, value) {
            self.failed = Some(error);
            return Flow::Stop;
        }
        if Some(id) == self.last { Flow::Stop } else { Flow::Continue }
    }
}
