//! `harness diff`: compares a candidate with a reference, layer by layer, and writes a report.
//!
//! Reading order: `loaded` (model, weights and both sides), `findings` (verdict and culprit), `edge` (the
//! second, small comparison), `remarks` (what a reader must know to interpret the verdict).

mod edge;
mod findings;
mod loaded;
mod remarks;

use anyhow::{Result, bail};
use record::{Record, Stage, Verdict};
use spec::Model;

use crate::Outcome;
use crate::cli::{DiffArgs, Participant};
use crate::machine::Started;
use crate::{engines, input, preprocessing, progress, table};
use compare::{Comparison, Side};
use loaded::{Loaded, named};

/// Compares both sides, prints the table, and writes the record and the report.
pub fn run(args: &DiffArgs) -> Result<Outcome> {
    let started = Started::now();
    let device = engines::open_device(&args.data.on)?;
    let loaded = Loaded::new(args, device)?;
    let (mut comparison, sides) = loaded.comparison(args)?;
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
    let steps = steps(args, &loaded.model, &comparison)?;
    let run = started.finish(&comparison.model.config, sides);
    let mut diff = findings::findings(args, &mut comparison, &loaded, &measured, steps, run)?;
    edge::add(args, &loaded, &mut diff)?;
    let candidate = args.candidate();
    if candidate == args.reference && !matches!(candidate, Participant::Npz(_)) {
        let name = named(&candidate);
        eprintln!(
            "note: {name} is compared with itself, so a mistake that it makes cannot be detected"
        );
    }
    let (text, verdict) = (table::diff(&diff), diff.verdict);
    let record = Record::Diff(Box::new(diff));
    super::publish(&record, &started.folder("diff"), &args.out)?;
    super::print(&text);
    Ok(if verdict == Verdict::Pass { Outcome::Passed } else { Outcome::Failed })
}

/// The steps before the network, if the candidate's dump holds them and the input is a video.
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
                "{shown}: the dump holds the steps before the network; --input VIDEO compares them"
            );
            Ok(vec![])
        }
    }
}
