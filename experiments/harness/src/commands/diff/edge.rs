//! The second comparison. At the default size no embedding is resized and no map has one pixel, so that
//! some mistakes of ports would pass. Therefore the same weights are compared again on small frames of
//! odd size.

use std::time::Instant;

use anyhow::Result;
use record::{Cause, Culprit, DiffRecord, Edge, Verdict};
use spec::Precision;
use spec::config::FrameSize;

use super::findings::{culprit, not_exercised};
use super::plan::Plan;
use super::remarks::{second_dump, second_file};
use crate::flags::{InputSource, Participant};
use crate::input;

/// Adds the second comparison, if the first one left known mistakes unexercised. With a dump, which cannot
/// be run, it adds a remark with the command that makes a second dump.
pub(super) fn add(plan: &Plan, diff: &mut DiffRecord) -> Result<()> {
    let size = diff.not_exercised.iter().find_map(|mistake| mistake.try_size.clone());
    let Some(size) = size else { return Ok(()) };
    let sides = [&plan.candidate, &plan.reference];
    let other = sides.into_iter().find_map(|side| match side {
        Participant::Npz(_) => Some(second_dump(&size)),
        Participant::Onnx(_) => Some(second_file(&size)),
        Participant::Engine(_) | Participant::Python(_) => None,
    });
    if let Some(remark) = other {
        // What is wrong or lacking here comes before what another file would show.
        diff.remarks.extend((diff.verdict == Verdict::Pass).then_some(remark));
        return Ok(());
    }
    if !plan.edge {
        return Ok(());
    }
    let Ok(FrameSize(height, width)) = size.parse() else { return Ok(()) };
    let edge = match compare(&plan.at_size((height, width))?) {
        Ok(edge) => edge,
        // A port may take square frames only, say.
        Err(error) if matches!(plan.candidate, Participant::Python(_)) => {
            diff.remarks.push(format!(
                "the second comparison at {size} could not be run (--no-edge leaves it out): {error:#}"
            ));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    diff.verdict = worse(diff.verdict, edge.verdict);
    if diff.first_divergent.is_none() {
        diff.first_divergent.clone_from(&edge.first_divergent);
        diff.culprit = edge.culprit.clone().map(|culprit| only_there(&edge, culprit));
        diff.cause = edge.culprit.as_ref().map(|_| Cause::Port);
    }
    for mistake in &mut diff.not_exercised {
        let own = kind(&mistake.what);
        mistake.at_edge = edge.not_exercised.iter().all(|other| kind(&other.what) != own);
    }
    diff.edge = Some(edge);
    Ok(())
}

/// The mistake without the reason why it was not exercised, which may be another one at another size.
fn kind(what: &str) -> &str {
    what.split_once(" (").map_or(what, |(mistake, _)| mistake)
}

/// The culprit, with the sentence that the first comparison does not show it.
fn only_there(edge: &Edge, culprit: Culprit) -> Culprit {
    let [height, width] = edge.size;
    let clips = reports::count(edge.clips as usize, "clip");
    let more = culprit.explanation.map(|text| format!(" {text}")).unwrap_or_default();
    let explanation = Some(format!(
        "Only the second comparison, of {clips} of {height}x{width}, shows it.{more}"
    ));
    Culprit { explanation, ..culprit }
}

fn worse(a: Verdict, b: Verdict) -> Verdict {
    match (a, b) {
        (Verdict::Diverged, _) | (_, Verdict::Diverged) => Verdict::Diverged,
        (Verdict::Incomplete, _) | (_, Verdict::Incomplete) => Verdict::Incomplete,
        _ => Verdict::Pass,
    }
}

/// Compares two clips at the frame size of the plan, or one if the candidate cannot run two.
fn compare(plan: &Plan) -> Result<Edge> {
    compare_clips(plan, 2).or_else(|_| compare_clips(plan, 1))
}

fn compare_clips(plan: &Plan, clips: usize) -> Result<Edge> {
    let start = Instant::now();
    let source = match plan.input {
        Some(InputSource::Formula(seed)) => InputSource::Formula(seed),
        _ => InputSource::Formula(0),
    };
    let clip = input::load(&source, &plan.model, clips)?;
    let (candidate, precision) = plan.live(&clip, Precision::F32)?;
    let (clip, from) = (precision.round(clip), source.to_string());
    let (mut comparison, _) = plan.compare(candidate, None, (clip, from), precision)?;
    let measured = comparison.measure(&|| ())?;
    let found = comparison.judge(&measured);
    let culprit = match found.culprit {
        Some(id) => Some(culprit(&mut comparison, plan, &measured, id)?),
        None => None,
    };
    let ratios = measured.layers.iter().filter_map(|layer| Some(layer.introduced?.ratio));
    let (height, width) = plan.model.config.size;
    Ok(Edge {
        clips: clips as u64,
        size: [height as u64, width as u64],
        verdict: found.verdict,
        compared: measured.layers.iter().filter(|layer| layer.inherited.is_some()).count() as u64,
        worst: ratios.fold(0.0, |a: f64, b| if b.is_nan() { b } else { a.max(b) }),
        first_divergent: culprit.as_ref().map(|culprit| culprit.name.clone()),
        culprit,
        not_exercised: not_exercised(&comparison, plan, &measured),
        seconds: start.elapsed().as_secs_f64(),
    })
}
