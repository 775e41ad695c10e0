//! Finds out whether it is not the port that has to be mended at the first wrong layer, and says why.

use anyhow::Result;
use compare::faults::AFTER_RELU;
use compare::judge::culprit as in_words;
use compare::{Comparison, Measurements, Wrong};
use record::{Cause, Culprit, DiffRecord, Verdict};

use super::findings::culprit;
use super::plan::Plan;
use super::{causes, remarks};

/// How the text of a culprit begins that is one of the reference.
pub(super) const OF_REFERENCE: &str = "the reference";

/// Changes cause, culprit and remarks of a divergence that does not come from the port, or not from where it first shows.
///
/// # Errors
///
/// If the truth cannot be run.
pub(super) fn reconsider(
    plan: &Plan,
    comparison: &mut Comparison,
    measured: &Measurements,
    diff: &mut DiffRecord,
) -> Result<()> {
    if let Some(clip) = causes::another_clip_of_both(plan, comparison, measured) {
        let words = in_words(&comparison.model, comparison.model.input, true, &[]);
        let why = format!(
            "The clip in both dumps is not that of --input {clip}; leave out --input to compare the network on the clip \
             of the dumps."
        );
        (diff.verdict, diff.cause) = (Verdict::Diverged, Some(Cause::Preprocessing));
        diff.first_divergent = Some(words.name.clone());
        diff.culprit = Some(Culprit { explanation: Some(why), ..words });
    }
    if diff.cause != Some(Cause::Port) {
        return Ok(());
    }
    if let Some(wrong) = measured.wrong_reference.filter(|_| measured.right_candidate) {
        diff.remarks.retain(|remark| Some(remark) != remarks::trained_weights(plan).as_ref());
        let (cause, culprit) = of_reference(plan, comparison, wrong);
        diff.first_divergent = Some(culprit.name.clone());
        (diff.cause, diff.culprit) = (Some(cause), Some(culprit));
        return Ok(());
    }
    if let (Some(reference), Some(candidate)) = (measured.wrong_reference, measured.wrong_candidate)
        && !reference.weights
        && !candidate.weights
    {
        // Where they differ first, either of them may be right.
        let culprit = in_words(&comparison.model, candidate.first, true, &[]);
        diff.first_divergent = Some(culprit.name.clone());
        diff.culprit = Some(culprit);
        return Ok(());
    }
    let recorded_after_relu = diff.culprit.as_ref().and_then(|c| c.explanation.as_deref());
    if recorded_after_relu.is_some_and(|why| why.contains(AFTER_RELU)) {
        diff.cause = Some(Cause::Recording);
        return Ok(());
    }
    let Some((cause, why)) = causes::other_than_the_port(plan, comparison, measured, diff)? else {
        return Ok(());
    };
    if cause != Cause::Port {
        diff.remarks.retain(|remark| Some(remark) != remarks::trained_weights(plan).as_ref());
    }
    let besides = match cause {
        Cause::Recording => causes::wrong_besides(&comparison.model, measured, diff),
        _ => vec![],
    };
    let hidden = causes::mistake(comparison, measured, &besides)?;
    if let Some(id) = hidden {
        let recorded = diff.first_divergent.take().unwrap_or_default();
        diff.remarks.push(format!("besides, the recording of {recorded} is wrong. {why}"));
        let culprit = culprit(comparison, plan, measured, id)?;
        diff.first_divergent = Some(culprit.name.clone());
        diff.culprit = Some(culprit);
    } else if let Some(culprit) = &mut diff.culprit {
        diff.cause = Some(cause);
        let of_shown = |text: &String| {
            let shown = "The values that are shown fit this";
            format!(" {}", text.replace("The values fit this mistake", shown))
        };
        let more = culprit.explanation.as_ref().map(of_shown).unwrap_or_default();
        culprit.explanation = Some(why + &more);
        diff.remarks.extend(besides.first().map(|first| {
            format!(
                "besides, {} behind it {} too much own error, first {}",
                reports::count(besides.len(), "layer"),
                if besides.len() == 1 { "has" } else { "have" },
                comparison.model.module(*first).name
            )
        }));
    }
    Ok(())
}

/// The cause and the culprit where the candidate is right and the reference, a dump, is not.
fn of_reference(plan: &Plan, comparison: &Comparison, wrong: Wrong) -> (Cause, Culprit) {
    let words = in_words(&comparison.model, wrong.first, true, &[]);
    let weights = &plan.source;
    let (cause, text, why) = if wrong.first == comparison.model.input {
        (
            Cause::Preprocessing,
            format!("{OF_REFERENCE} was made from another clip than the candidate"),
            "Make both from the same clip.".to_owned(),
        )
    } else if wrong.weights {
        (
            Cause::Weights,
            format!("{OF_REFERENCE} {}", words.text),
            format!(
                "The candidate computes what the network does with the weights {weights}, and nearly all convolutions \
                 of the reference are off: it was probably made with other weights."
            ),
        )
    } else {
        (
            Cause::Reference,
            format!("{OF_REFERENCE} {}", words.text),
            format!(
                "In every compared layer the candidate computes what the network does with the weights {weights}; the \
                 reference does not."
            ),
        )
    };
    (cause, Culprit { text, explanation: Some(why), ..words })
}
