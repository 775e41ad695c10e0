//! `harness diff`: compares a candidate with a reference, layer by layer, and writes a report.
//!
//! Reading order: `loaded` (model, weights and both sides), `findings` (verdict and culprit), `edge` (the
//! second, small comparison), `remarks` (what a reader must know to interpret the verdict).

use anyhow::{Result, bail};
use record::{Record, Stage, Verdict};

use super::args::DiffArgs;
use super::plan::{Plan, named};
use super::table::table;
use super::{edge, findings, viewers};
use crate::flags::Participant;
use crate::machine::Started;
use crate::outcome::Outcome;
use crate::publish;
use crate::{input, preprocessing, progress};
use compare::{Comparison, Side};

/// Compares, prints the table, and writes the record and the report.
pub fn run(args: &DiffArgs) -> Result<Outcome> {
    let started = Started::now();
    viewers::check(args)?;
    let plan = Plan::new(args)?;
    let (mut comparison, sides) = plan.comparison()?;
    let bar = progress::bar("comparing", comparison.steps());
    let measured = comparison.measure(&|| bar.inc(1))?;
    bar.finish_and_clear();
    let input = comparison.model.input;
    let compared = |at: usize| at != input.0 && measured.layers[at].inherited.is_some();
    if !(0..measured.layers.len()).any(compared) {
        bail!(
            "nothing was compared: none of the arrays and layers is the output of a module on both \
             sides; check the names in the dump, and --layer"
        );
    }
    let steps = steps(&plan, &comparison)?;
    let run = started.finish(&comparison.model.config, sides);
    let mut diff = findings::findings(&plan, &mut comparison, &measured, steps, run)?;
    edge::add(&plan, &mut diff)?;
    if plan.candidate == plan.reference && plan.candidate.dump().is_none() {
        let name = named(&plan.candidate);
        eprintln!(
            "note: {name} is compared with itself, so a mistake that it makes cannot be detected"
        );
    }
    viewers::write(args, &plan, &diff)?;
    let (text, verdict) = (table(&diff), diff.verdict);
    let record = Record::Diff(Box::new(diff));
    publish::publish(&record, &started.folder("diff"), &args.out)?;
    publish::print(&text);
    Ok(Outcome::of(verdict == Verdict::Pass))
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
    match views {
        Some(views) => preprocessing::compare(path, &views),
        None => {
            let shown = path.display();
            eprintln!(
                "{shown}: the dump holds the steps before the network; --input VIDEO compares them"
            );
            Ok(vec![])
        }
    }
}
