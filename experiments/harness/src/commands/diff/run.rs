//! `harness diff`: compares a candidate with a reference, layer by layer, and writes a report.
//!
//! Reading order: `loaded` (model, weights and both sides), `findings` (verdict and culprit), `edge` (the
//! second, small comparison), `remarks` (what a reader must know to interpret the verdict).

use anyhow::{Result, bail};
use record::{Clips, DiffRecord, Record, Stage, Verdict};

use super::args::DiffArgs;
use super::plan::{Plan, named};
use super::table::table;
use super::{answers, clips, edge, findings, quantised, repro, sources, viewers};
use crate::flags::{InputSource, Participant};
use crate::machine::Started;
use crate::outcome::Outcome;
use crate::preprocessing::{self, Film};
use crate::publish;
use crate::{input, progress};
use compare::{Comparison, Measurements, Side};

/// Compares, prints the table, and writes the record and the report.
pub fn run(args: &DiffArgs) -> Result<Outcome> {
    let started = Started::now();
    viewers::check(args)?;
    args.answers.repro.iter().try_for_each(|folder| repro::check(folder))?;
    let folder = started.folder("diff");
    let plan = Plan::new(args)?.with_names(&args.names, &folder)?;
    let (mut comparison, mut sides) = plan.comparison()?;
    let files = sources::hashes(args)?;
    if let Some(source) = &args.clips.clips {
        sides.input = clips::in_words(&source.inputs("--clips")?);
    }
    let (measured, over_clips) = measure(args, &plan, &mut comparison)?;
    let input = comparison.model.input;
    let compared = |at: usize| at != input.0 && measured.layers[at].inherited.is_some();
    if !(0..measured.layers.len()).any(compared) {
        bail!(
            "nothing was compared: none of the arrays and layers is the output of a module on both \
             sides; check --layer and the names in the dump (--suggest-map matches its arrays by \
             their values)"
        );
    }
    let steps = steps(&plan, &comparison)?;
    let run = started.finish(&comparison.model.config, sides);
    let mut diff = findings::findings(&plan, &mut comparison, &measured, steps, run)?;
    diff.files = files;
    if let Some(found) = over_clips {
        diff.remarks.extend(clips::remarks(&found));
        diff.clips = Some(found);
    }
    let reproduced = match &args.answers.repro {
        Some(at) => repro::write(at, &plan, &mut comparison, &measured, &diff),
        None => Ok(()),
    };
    quantised::add(&plan, &comparison, args.clips.clips.as_ref(), &mut diff);
    edge::add(&plan, &mut diff)?;
    if plan.candidate == plan.reference && plan.candidate.dump().is_none() {
        let name = named(&plan.candidate);
        announce!(
            "note: {name} is compared with itself, so a mistake that it makes cannot be detected"
        );
    }
    answers::complete(&mut diff, &plan, args);
    let written = reproduced.and_then(|()| write(args, &plan, &diff));
    let (text, verdict) = (table(&diff), diff.verdict);
    publish::answer(&Record::Diff(Box::new(diff)), &text, &folder, &args.out)?;
    written?;
    Ok(Outcome::of(verdict == Verdict::Pass))
}

/// Writes the results in other forms.
fn write(args: &DiffArgs, plan: &Plan, diff: &DiffRecord) -> Result<()> {
    if let Some(path) = &args.answers.junit {
        reports::write_junit(diff, path)?;
        announce!("junit {}", path.display());
    }
    viewers::write(args, plan, diff)
}

/// Runs the comparison, with one input or with all those of `--clips`.
fn measure(
    args: &DiffArgs,
    plan: &Plan,
    comparison: &mut Comparison,
) -> Result<(Measurements, Option<Clips>)> {
    if let Some(source) = &args.clips.clips {
        let found = clips::measure(comparison, plan, &source.inputs("--clips")?)?;
        return Ok((found.worst, Some(found.clips)));
    }
    let bar = progress::bar("comparing", comparison.steps());
    let measured = comparison.measure(&|| bar.inc(1))?;
    bar.finish_and_clear();
    Ok((measured, None))
}

/// The steps before the network, if the candidate's dump holds them and the input is a video.
fn steps(plan: &Plan, comparison: &Comparison) -> Result<Vec<Stage>> {
    let (Participant::Npz(path), Side::Dump(dump)) = (&plan.candidate, &comparison.candidate)
    else {
        return Ok(vec![]);
    };
    if !dump.before_network {
        return Ok(vec![]);
    }
    let views = match &plan.input {
        Some(source) => input::views(source, &plan.model)?,
        None => None,
    };
    match (views, &plan.input) {
        (Some(views), Some(InputSource::File(video))) => {
            let film = Film { ffmpeg: &input::find_ffmpeg()?, path: video };
            preprocessing::compare(path, film, &views)
        }
        _ => {
            let shown = path.display();
            announce!(
                "{shown}: the dump holds the steps before the network; --input VIDEO compares them"
            );
            Ok(vec![])
        }
    }
}
