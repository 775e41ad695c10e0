//! `harness diff`: a candidate against a reference, layer by layer, into a report.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use reports::record::{Culprit, DiffRecord, Record, Stage, Verdict};
use spec::weights::Weights;
use spec::{Engine, Model, ModuleId, Precision, Selection, Tensor};

use crate::Outcome;
use crate::cli::{DiffArgs, InputSource, Participant};
use crate::compare::measure::{BOUND, passes};
use crate::compare::{Comparison, Measurements, Side, explain, judge, judge::culprit as in_words};
use crate::dump::Dump;
use crate::engines::{self, Device};
use crate::faults::{self, Edited};
use crate::machine::{Sides, Started};
use crate::{input, preprocessing, progress, table};

/// Compares, prints the table and writes record and report.
pub fn run(args: &DiffArgs) -> Result<Outcome> {
    let started = Started::now();
    let device = engines::open_device(&args.data.on)?;
    let loaded = Loaded::new(args, device)?;
    let (mut comparison, sides) = loaded.comparison(args)?;
    let bar = progress::bar("comparing", comparison.steps());
    let measured = comparison.measure(&|| bar.inc(1))?;
    bar.finish_and_clear();
    let steps = steps(args, &loaded.model, &comparison)?;
    let diff = findings(&mut comparison, &loaded, &measured, steps, &started, sides)?;
    let candidate = args.candidate();
    if candidate == args.reference && !matches!(candidate, Participant::Npz(_)) {
        let name = named(&candidate);
        eprintln!("note: {name} is held against itself; a mistake of its own cannot show");
    }
    let (text, verdict) = (table::diff(&diff), diff.verdict);
    let record = Record::Diff(Box::new(diff));
    super::publish(&record, &started.folder("diff"), &args.out)?;
    super::print(&text);
    Ok(if verdict == Verdict::Pass { Outcome::Passed } else { Outcome::Failed })
}

/// Model, weights and dumps, read before anything is run.
struct Loaded {
    model: Model,
    weights: Weights,
    precision: Precision,
    truth: Participant,
    device: Device,
}

impl Loaded {
    fn new(args: &DiffArgs, device: Device) -> Result<Self> {
        let (model, weights) = super::model_and_weights(&args.model, &args.data.weights)?;
        // A dump cannot be run: the truth then comes from libtorch, or from our own loops.
        let truth = match &args.reference {
            Participant::Npz(_) => {
                crate::cli::DEFAULT_REFERENCE.parse().map_err(anyhow::Error::msg)?
            }
            engine => engine.clone(),
        };
        let precision = args.precision.unwrap_or(Precision::F32);
        Ok(Loaded { model, weights, precision, truth, device })
    }

    fn comparison(&self, args: &DiffArgs) -> Result<(Comparison, Sides)> {
        let model = &self.model;
        let batch = args.model.batch_size;
        let selection = match args.layer.is_empty() {
            true => Selection::all(model.modules()),
            false => Selection::by_names(model.modules(), args.layer.iter().map(String::as_str))?,
        };
        let open = |participant: &Participant| match participant {
            Participant::Npz(path) => Dump::open(path, model, batch).map(Some),
            _ => Ok(None),
        };
        let (recorded, reference) = (open(&args.candidate())?, open(&args.reference)?);
        let dump = recorded.as_ref().or(reference.as_ref());
        let batch = dump.map_or(batch, |dump| dump.batch);
        let (clip, clip_from) = self.clip(args, dump, batch)?;
        let own = recorded.as_ref().map_or(self.precision, |dump| dump.precision);
        let precision = args.precision.unwrap_or(own);
        let clip = precision.round(clip);
        let candidate = match recorded {
            Some(dump) => self.recorded(args, dump)?,
            None => self.live(args, clip.clone(), precision)?,
        };
        let yardstick = if precision == Precision::F64 { Precision::F32 } else { precision };
        let truth = self.load(Precision::F64)?;
        let yardstick = self.load(yardstick)?;
        let sides = Sides {
            candidate: match &candidate {
                Side::Engine { engine, .. } => engine.describe(),
                Side::Dump(_) => named(&args.candidate()),
            },
            reference: match &reference {
                Some(_) => named(&args.reference),
                None => truth.describe(),
            },
            yardstick: yardstick.describe(),
            weights: args.data.weights.to_string(),
            input: clip_from,
            seeds: seeds(args),
            batch,
        };
        let (model, input) = (model.clone(), clip);
        let comparison = Comparison {
            model,
            candidate,
            reference,
            truth,
            yardstick,
            input,
            precision,
            selection,
        };
        Ok((comparison, sides))
    }

    fn load(&self, precision: Precision) -> Result<Box<dyn Engine>> {
        engines::load(&self.truth, self.model.clone(), &self.weights, precision, self.device)
    }

    /// The clip and where it comes from: what was asked for, or what the dump holds, or formula:0.
    fn clip(&self, args: &DiffArgs, dump: Option<&Dump>, batch: usize) -> Result<(Tensor, String)> {
        if let Some(source) = &args.data.input {
            let clip = input::load(source, &self.model, batch)?;
            if clip.shape[0] != batch && dump.is_some() {
                bail!(
                    "--input {source} holds {} clips, the dump {batch}; give the clip that the \
                     dump was made from",
                    clip.shape[0]
                );
            }
            return Ok((clip, source.to_string()));
        }
        match dump.and_then(|dump| dump.input(&self.model)) {
            Some(clip) => Ok((clip, "the array `input` of the dump".to_owned())),
            None => {
                let source = InputSource::Formula(0);
                Ok((input::load(&source, &self.model, batch)?, source.to_string()))
            }
        }
    }

    fn recorded(&self, args: &DiffArgs, dump: Dump) -> Result<Side> {
        if let Some(fault) = &args.inject {
            bail!("--inject {fault}: faults are made in an engine, and the candidate is a dump");
        }
        Ok(Side::Dump(dump))
    }

    fn live(&self, args: &DiffArgs, clip: Tensor, precision: Precision) -> Result<Side> {
        let (mut model, mut weights) = (self.model.clone(), self.weights.clone());
        let change = args.inject.as_ref().map(|text| faults::parse(&model, text)).transpose()?;
        if let Some(change) = &change {
            change.apply(&mut model, &mut weights);
            eprintln!("injected at {}: {}", model.module(change.site).name, change.what);
        }
        let engine = engines::load(&args.candidate(), model, &weights, precision, self.device)?;
        let engine: Box<dyn Engine> = match change {
            Some(change) => Box::new(Edited { engine, change }),
            None => engine,
        };
        Ok(Side::Engine { engine, input: clip })
    }
}

/// The steps before the network, where the candidate has left them and the input is a video.
fn steps(args: &DiffArgs, model: &Model, comparison: &Comparison) -> Result<Vec<Stage>> {
    let (Participant::Npz(path), Side::Dump(dump)) = (&args.candidate(), &comparison.candidate)
    else {
        return Ok(vec![]);
    };
    if !dump.before_network {
        return Ok(vec![]);
    }
    let views = match &args.data.input {
        Some(source) => input::views(source, model)?,
        None => None,
    };
    match views {
        Some(views) => preprocessing::compare(path, &views),
        None => {
            let shown = path.display();
            eprintln!(
                "{shown}: holds the steps from a video to the clip; --input VIDEO compares them"
            );
            Ok(vec![])
        }
    }
}

fn named(participant: &Participant) -> String {
    match participant {
        Participant::Npz(path) => format!("npz:{}", path.display()),
        Participant::Scalar => "scalar".to_owned(),
        Participant::Cpu => "cpu".to_owned(),
        Participant::Cuda => "cuda".to_owned(),
        Participant::Torch => "libtorch".to_owned(),
    }
}

fn seeds(args: &DiffArgs) -> BTreeMap<String, u64> {
    let mut seeds = BTreeMap::new();
    if let spec::weights::Source::Formula(seed) = args.data.weights {
        seeds.insert("weights".to_owned(), seed);
    }
    if let Some(InputSource::Formula(seed)) = args.data.input {
        seeds.insert("input".to_owned(), seed);
    }
    seeds
}

/// Judges what was measured and explains the first divergence.
fn findings(
    comparison: &mut Comparison,
    loaded: &Loaded,
    measured: &Measurements,
    steps: Vec<Stage>,
    started: &Started,
    sides: Sides,
) -> Result<DiffRecord> {
    let live = matches!(comparison.candidate, Side::Engine { .. });
    let batch = comparison.input.shape[0];
    let found = judge(&comparison.model, &comparison.selection, &measured.layers, batch, live);
    let culprit = match found.culprit {
        Some(id) => Some(culprit(comparison, loaded, measured, id)?),
        None => None,
    };
    let output = comparison.model.output();
    let unmatched = |dump: Option<&Dump>| dump.map(|d| d.unmatched.clone()).unwrap_or_default();
    let mut names = match &comparison.candidate {
        Side::Dump(dump) => unmatched(Some(dump)),
        Side::Engine { .. } => vec![],
    };
    names.extend(unmatched(comparison.reference.as_ref()));
    let before = preprocessing::culprit(&steps);
    let verdict = if before.is_some() { Verdict::Diverged } else { found.verdict };
    let culprit = before.or(culprit);
    Ok(DiffRecord {
        verdict,
        first_divergent: culprit.as_ref().map(|c| c.name.clone()),
        culprit,
        logits: measured.layers[output.0].inherited,
        bound: BOUND,
        layers: found.layers,
        unmatched: names,
        preprocessing: steps,
        heatmap: measured.heatmap.clone(),
        run: started.finish(&comparison.model.config, sides),
    })
}

/// The first divergence in words, with the mistake that explains it where one does.
fn culprit(
    comparison: &mut Comparison,
    loaded: &Loaded,
    measured: &Measurements,
    id: ModuleId,
) -> Result<Culprit> {
    let layer = &measured.layers[id.0];
    let introduced = layer.introduced.as_ref().is_none_or(|e| !passes(e.ratio) || e.nan > 0);
    let mut culprit = in_words(&comparison.model, id, introduced);
    let Some(budget) = layer.budget.filter(|_| introduced) else { return Ok(culprit) };
    let dump_has: Vec<bool> = match &comparison.candidate {
        Side::Dump(dump) => comparison.model.modules().iter().map(|m| dump.has(m.id)).collect(),
        Side::Engine { .. } => measured.layers.iter().map(|l| l.introduced.is_some()).collect(),
    };
    let load = |model, weights: Weights| {
        engines::load(&loaded.truth, model, &weights, Precision::F64, loaded.device)
    };
    let shown = |id: ModuleId| dump_has[id.0];
    let (hypotheses, site) = explain(comparison, &loaded.weights, id, &budget, &shown, &load)
        .context("while looking for an explanation")?;
    if let Some(site) = site {
        culprit = in_words(&comparison.model, site, true);
        let best = &hypotheses[0].what;
        culprit.explanation = Some(format!("The values fit this mistake: {best}."));
    }
    culprit.hypotheses = hypotheses;
    Ok(culprit)
}
