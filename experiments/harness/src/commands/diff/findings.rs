//! Makes the record of the measurements: the verdict, the culprit and the ledger.

use anyhow::{Context, Result};
use checkpoint::Weights;
use record::{
    ArrayState, Cause, Culprit, DiffRecord, LedgerEntry, NotExercised, Run, Stage, Verdict,
};
use spec::{ModuleId, Precision};

use super::plan::Plan;
use super::reconsider::reconsider;
use super::remarks;
use compare::dump::{Closing, Dump, ledger};
use compare::faults;
use compare::measure::{BOUND, passes};
use compare::{Comparison, Measurements, Side, explain, judge::culprit as in_words};

use crate::engines::onnx::TOGETHER;
use crate::{engines, preprocessing};

/// Judges the measurements and explains the first divergence.
pub(super) fn findings(
    plan: &Plan,
    comparison: &mut Comparison,
    measured: &Measurements,
    steps: Vec<Stage>,
    run: Run,
) -> Result<DiffRecord> {
    let found = comparison.judge(measured);
    let mut shown_twice = None;
    let culprit = match found.culprit {
        Some(id) => {
            shown_twice = wrong_array(comparison, measured, id);
            let mut culprit = culprit(comparison, plan, measured, id)?;
            if let Some(array) = &shown_twice {
                let found = format!(
                    "The array `{array}` is wrong, and another array of {name} is right.",
                    name = comparison.model.module(id).name
                );
                let more = culprit.explanation.map(|text| format!(" {text}"));
                culprit.explanation = Some(found + &more.unwrap_or_default());
            }
            Some(of_clip(comparison, measured, of_shape(comparison, culprit)))
        }
        None => None,
    };
    let before = preprocessing::culprit(&steps);
    let mut cause = (found.verdict == Verdict::Diverged).then_some(Cause::Port);
    let ledger = ledgers(plan, comparison, measured, !steps.is_empty());
    let differ = measured.reference_fates.values().any(|fate| !fate.passed());
    let refused = ledger.iter().any(|entry| entry.state == ArrayState::Refused);
    let verdict = match found.verdict {
        _ if before.is_some() || differ => Verdict::Diverged,
        Verdict::Pass if refused || remarks::contradiction(comparison).is_some() => {
            Verdict::Incomplete
        }
        other => other,
    };
    if before.is_some() {
        cause = Some(Cause::Preprocessing);
    } else if differ && culprit.is_none() {
        cause = Some(Cause::Reference);
    }
    let culprit = before.or(culprit).or_else(|| of_reference(comparison, measured));
    let output = comparison.model.output();
    let mut diff = DiffRecord {
        verdict,
        first_divergent: culprit.as_ref().map(|c| c.name.clone()),
        cause,
        explanation: None,
        next: None,
        culprit,
        logits: measured.layers[output.0].inherited,
        bound: BOUND,
        layers: found.layers,
        unmatched: unmatched(&ledger),
        ledger,
        remarks: vec![],
        not_exercised: not_exercised(comparison, plan, measured),
        edge: None,
        clips: None,
        quantisation: None,
        preprocessing: steps,
        heatmap: measured.heatmap.clone(),
        files: vec![],
        run,
    };
    diff.remarks = remarks::remarks(plan, comparison, measured, &diff);
    reconsider(plan, comparison, measured, &mut diff)?;
    let hooked = shown_twice.is_some_and(|array| array.rsplit(['.', '/']).next() != Some("logits"));
    if hooked && diff.cause == Some(Cause::Port) && found.culprit == Some(output) {
        // What the program returns is right.
        diff.cause = Some(Cause::Recording);
    }
    Ok(diff)
}

/// If several arrays of the candidate show a module, the name of the first that is wrong. The arrays that
/// are explained and reproduced are then this one.
fn wrong_array(
    comparison: &mut Comparison,
    measured: &Measurements,
    id: ModuleId,
) -> Option<String> {
    let Side::Dump(dump) = &mut comparison.candidate else { return None };
    let compared = |fate: &compare::dump::Fate| fate.module() == id && !fate.is_copy();
    let here = measured.fates.iter().filter(|(_, fate)| compared(fate));
    let (wrong, right): (Vec<_>, Vec<_>) = here.partition(|(_, fate)| !fate.passed());
    let array = *wrong.first()?.0;
    dump.put_first(array);
    (!right.is_empty()).then(|| dump.arrays[array].name.clone())
}

/// The known mistakes that would not have changed any compared value.
pub(super) fn not_exercised(
    comparison: &Comparison,
    plan: &Plan,
    measured: &Measurements,
) -> Vec<NotExercised> {
    let (model, clip) = (&comparison.model, Some(&comparison.input));
    let compared = |id: ModuleId| measured.layers[id.0].inherited.is_some();
    let largest = |id: ModuleId| measured.layers[id.0].largest.unwrap_or(f64::INFINITY);
    let mut found = faults::not_exercised(model, &compared, &largest, clip);
    let passes_up_to =
        |id: ModuleId| measured.layers[id.0].budget.map_or(0.0, |b| b.passes_up_to());
    let mut hidden = faults::kept_by_weights(model, &plan.weights, &compared);
    hidden.extend(faults::too_small(model, &plan.weights, &compared, &passes_up_to));
    let budget = |id: ModuleId| measured.layers[id.0].budget;
    hidden.extend(faults::small_biases(model, &plan.weights, &compared, &budget));
    for kept in hidden {
        // Another size does not help.
        found.retain(|mistake| mistake.word != kept.word);
        found.push(kept);
    }
    let together = match &comparison.candidate {
        Side::Engine(engine) => engine.notes().iter().any(|note| note == TOGETHER),
        Side::Dump(_) => false,
    };
    if comparison.input.shape[0] == 1 && !together {
        let what = "clips that depend on each other (a batch of two exercises it)".to_owned();
        found.push(faults::NotExercised { word: "mixed-clips", what, try_size: None });
    }
    found
        .into_iter()
        .map(|m| NotExercised { what: m.what, try_size: m.try_size, at_edge: false })
        .collect()
}

/// The sentence on a right module of which every reader is wrong: what it passes on is changed on the way.
fn behind_a_right_one(
    comparison: &Comparison,
    measured: &Measurements,
    id: ModuleId,
) -> Option<String> {
    const SEVERAL: usize = 3;
    let model = &comparison.model;
    let graph = faults::ModelGraph::new(model);
    let right = |id: ModuleId| {
        let errors = measured.layers[id.0].introduced?;
        Some(passes(errors.ratio) && errors.nan == 0)
    };
    let source = graph.reads(id).iter().copied().find(|source| right(*source) == Some(true))?;
    let readers: Vec<bool> = graph.readers(source).iter().filter_map(|id| right(*id)).collect();
    let all_wrong = readers.len() >= SEVERAL && !readers.contains(&true);
    all_wrong.then(|| {
        let name = &model.module(source).name;
        format!(
            "All {} compared modules that read {name} are wrong, and {name} is right: something probably changes its \
             output on the way to them, such as an operation in place.",
            readers.len()
        )
    })
}

/// The culprit for a reference dump: its first array that disagrees with another array of the same module,
/// or with the truth if the candidate has no such array.
fn of_reference(comparison: &Comparison, measured: &Measurements) -> Option<Culprit> {
    let dump = comparison.reference.as_ref()?;
    let (array, fate) = measured.reference_fates.iter().find(|(_, fate)| !fate.passed())?;
    let mut culprit = in_words(&comparison.model, fate.module(), true, &[]);
    culprit.text = format!(
        "the reference's array `{}` differs from the output of {}",
        dump.arrays[*array].name, culprit.name
    );
    Some(culprit)
}

/// The culprit, or what is not compared directly before it because its shape is another one.
fn of_shape(comparison: &Comparison, culprit: Culprit) -> Culprit {
    let Side::Engine(engine) = &comparison.candidate else { return culprit };
    let Some((id, shape)) = engine.misshapen() else { return culprit };
    let module = comparison.model.module(id);
    if !culprit.unseen.contains(&module.name) {
        return culprit;
    }
    let wanted = module.batch_shape(comparison.input.shape[0]);
    let words = in_words(&comparison.model, id, true, &[]);
    Culprit {
        text: format!("{}, whose output has the shape {shape:?} instead of {wanted:?}", words.text),
        explanation: Some(
            "The padding, the stride or the order of the axes is another one.".to_owned(),
        ),
        after: culprit.after,
        unseen: culprit.unseen,
        hypotheses: culprit.hypotheses,
        ..words
    }
}

/// The culprit; if only what reads the clip of a dump is wrong, with the sentence that it may be the clip.
fn of_clip(comparison: &Comparison, measured: &Measurements, culprit: Culprit) -> Culprit {
    let Side::Dump(dump) = &comparison.candidate else { return culprit };
    let model = &comparison.model;
    let first = model.stem.conv.id;
    let wrong = |at: &usize| {
        measured.layers[*at]
            .introduced
            .is_some_and(|errors| !passes(errors.ratio) || errors.nan > 0)
    };
    let others = (first.0 + 1..measured.layers.len()).filter(wrong).count();
    let measured_alone = measured.layers[first.0].introduced.is_some();
    let is_first =
        culprit.name == model.module(first).name && culprit.explanation.is_none() && measured_alone;
    if others > 0 || !is_first {
        return culprit;
    }
    let clip = match dump.input(model) {
        Some((_, name)) => format!("array `{name}`"),
        None => "clip of --input".to_owned(),
    };
    let explanation = Some(format!(
        "Everything behind it follows from it, so check first that the {clip} is what it read: the clip after \
         normalisation, in float32, of the same batch."
    ));
    Culprit { explanation, ..culprit }
}

/// The ledgers of the dumps on both sides, the candidate's first.
fn ledgers(
    plan: &Plan,
    comparison: &Comparison,
    measured: &Measurements,
    steps_compared: bool,
) -> Vec<LedgerEntry> {
    let recorded = match &comparison.candidate {
        Side::Dump(dump) => Some(dump),
        Side::Engine(_) => None,
    };
    let clip_asked_for = plan.input.is_some();
    let close = |dump: &Dump, fates, first: bool| {
        let closing = Closing {
            fates,
            readings: &measured.readings,
            selection: &comparison.selection,
            gave_clip: first && !clip_asked_for,
            steps_compared,
        };
        ledger(dump, &comparison.model, &closing)
    };
    let mut entries = vec![];
    if let Some(dump) = recorded {
        entries.extend(close(dump, &measured.fates, true));
    }
    if let Some(dump) = &comparison.reference {
        entries.extend(close(dump, &measured.reference_fates, recorded.is_none()));
    }
    entries
}

/// The arrays that could not be matched, each with the reason.
fn unmatched(ledger: &[LedgerEntry]) -> Vec<String> {
    let worded = ledger.iter().filter_map(|entry| match entry.state {
        ArrayState::Unknown if entry.detail.is_some() => None,
        ArrayState::Unknown => Some(format!("{} (no module has this name)", entry.array)),
        ArrayState::Refused => {
            let why = entry.detail.as_deref().unwrap_or("it cannot be compared");
            Some(format!("{} ({why})", entry.array))
        }
        _ => None,
    });
    worded.collect()
}

/// The culprit at the module `id`, with the known mistake that explains its values, if there is one.
pub(super) fn culprit(
    comparison: &mut Comparison,
    plan: &Plan,
    measured: &Measurements,
    id: ModuleId,
) -> Result<Culprit> {
    let layer = &measured.layers[id.0];
    let introduced = layer.introduced.as_ref().is_none_or(|e| !passes(e.ratio) || e.nan > 0);
    let mut culprit = in_words(&comparison.model, id, introduced, &measured.layers);
    // Where nearly every value passes, every mistake fits.
    let near = culprit.unseen.len() <= compare::judge::SPAN;
    let telling = layer.budget.filter(|budget| introduced && (near || budget.is_telling()));
    let Some(budget) = telling else { return Ok(culprit) };
    let shows = comparison.shown(measured);
    let load = |model, weights: Weights| {
        let engine = engines::load(plan.truth, model, &weights, Precision::F64, plan.device)?;
        Ok(match &plan.requantised {
            Some(made) => made.engine(engine),
            None => engine,
        })
    };
    let shown = |id: ModuleId| shows[id.0];
    let found = explain(comparison, &plan.weights, id, &budget, &shown, &load)
        .context("while looking for an explanation")?;
    if let Some(site) = found.site {
        culprit = in_words(&comparison.model, site, true, &[]);
        let best = &found.tried[0].what;
        culprit.explanation = Some(format!("The values fit this mistake: {best}."));
    } else {
        culprit.explanation = behind_a_right_one(comparison, measured, id);
    }
    culprit.hypotheses = found.tried;
    Ok(culprit)
}
