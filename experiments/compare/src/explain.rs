//! Looks for the mistake behind a divergence: each known mistake is made in the truth, and if the
//! candidate then agrees with it, the mistake is named.
//!
//! 1. [`screen`] evaluates every known mistake whose effect would first show at the culprit, during one
//!    run of the truth. A mistake is a hypothesis only if it changes the module by more than its
//!    budget. It fits if the candidate is within the budget of the changed truth.
//! 2. [`engine_ratios`] makes the mistakes that fit in the truth's own engine and compares again.
//! 3. [`survey`] compares the mistakes that still fit at every module that one of them alters, keeps
//!    those that agree with the candidate at most modules, and finds out whether the program makes the
//!    mistake at one place or throughout.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::Result;
use checkpoint::Weights;
use record::Hypothesis;
use spec::{Engine, Flow, Model, ModuleId, Precision, Selection, Tensor};

use super::lockstep::{self, Runner};
use super::measure::{self, Budget, passes};
use super::{Comparison, Side};
use crate::faults::{self, Change, Edited, Map, ModelGraph, Trial, Values, hypotheses};

mod survey;

use survey::{Best, survey};

/// How many changed engines run side by side. Each of them holds the weights in float64.
const ENGINES_AT_ONCE: usize = 3;

/// Of several mistakes that fit, those are named whose error ratio is at most the first number (a
/// ratio of 1 is what rounding explains) or at most the second number times the smallest ratio.
const AS_GOOD: (f64, f64) = (1.0, 1.5);

/// Loads the truth's engine with a description of the network and weights.
pub type Loader<'a> = dyn Fn(Model, Weights) -> Result<Box<dyn Engine>> + 'a;

/// What was found out about a divergence.
#[derive(Debug, Clone, Default)]
pub struct Explanation {
    /// The hypotheses that were tried, the best one first.
    pub tried: Vec<Hypothesis>,
    /// The module at which the mistake that fits is made; None if none fits.
    pub site: Option<ModuleId>,
    /// The mistakes that fit, by their names in the catalogue. There are several if they give the same
    /// values here.
    pub words: Vec<&'static str>,
    /// At how many places the program makes the mistake, if that is more than one.
    pub places: Option<usize>,
}

/// Looks for the mistakes that explain the candidate's value at the module `at`.
///
/// `weights` are those of the truth, `budget` is the budget of the module in the forced pass, `shown`
/// tells which modules the candidate shows, and `load` makes engines for the truth.
///
/// # Errors
///
/// If an engine cannot be loaded or fails.
pub fn explain(
    comparison: &mut Comparison,
    weights: &Weights,
    at: ModuleId,
    budget: &Budget,
    shown: &dyn Fn(ModuleId) -> bool,
    load: &Loader,
) -> Result<Explanation> {
    let model = comparison.model.clone();
    let graph = ModelGraph::new(&model);
    let changes = hypotheses(&graph, at, shown);
    let trials: Vec<Trial> =
        changes.into_iter().map(|change| Trial::new(&graph, weights, change, shown)).collect();
    let (mut ratios, observed) = screen(comparison, &trials, at, budget, shown)?;
    // Each mistake whose values fit is also made in an engine in float64, which then runs through.
    let fits: Vec<usize> = ratios.iter().filter(|(_, r)| passes(**r)).map(|(i, _)| *i).collect();
    for some in fits.chunks(ENGINES_AT_ONCE) {
        let mut changed = vec![];
        for trial in some.iter().map(|i| &trials[*i]) {
            changed.push(edited(&model, weights, &trial.change, load)?);
        }
        let made = engine_ratios(comparison, &mut changed, at, budget, shown)?;
        ratios.extend(some.iter().copied().zip(made));
    }
    let fits: Vec<&Trial> =
        fits.iter().filter(|i| passes(ratios[*i])).map(|i| &trials[*i]).collect();
    let best = match fits.is_empty() {
        true => Best::default(),
        false => survey(comparison, &graph, weights, &fits, shown)?,
    };
    Ok(summary(&trials, &ratios, &best, observed))
}

/// For each change, whether it alters the truth at some module by more than the budget.
///
/// # Errors
///
/// If an engine fails.
pub fn matter(
    comparison: &mut Comparison,
    weights: &Weights,
    changes: &[Change],
) -> Result<Vec<bool>> {
    let model = comparison.model.clone();
    let graph = ModelGraph::new(&model);
    let all = |_: ModuleId| true;
    let trial = |change: &Change| Trial::new(&graph, weights, change.clone(), &all);
    let trials: Vec<Trial> = changes.iter().map(trial).collect();
    survey::matter(comparison, &trials.iter().collect::<Vec<_>>())
}

fn edited(model: &Model, weights: &Weights, change: &Change, load: &Loader) -> Result<Edited> {
    let (mut model, mut weights) = (model.clone(), weights.clone());
    change.apply(&mut model, &mut weights);
    let engine = load(model, weights.clone())?;
    Ok(Edited { engine, change: change.clone(), weights })
}

/// Sorts the hypotheses that were tried and puts them into words.
fn summary(
    trials: &[Trial],
    ratios: &BTreeMap<usize, f64>,
    best: &Best,
    observed: Option<Hypothesis>,
) -> Explanation {
    let mut tried: Vec<(Hypothesis, &Trial)> = ratios
        .iter()
        .map(|(i, ratio)| {
            let (trial, ratio) = (&trials[*i], *ratio);
            let what = trial.change.what.clone();
            (Hypothesis { what, ratio, fits: passes(ratio) }, trial)
        })
        .collect();
    // NaN sorts last: a mistake that makes the truth NaN explains nothing.
    tried.sort_by(|a, b| a.0.ratio.total_cmp(&b.0.ratio));
    let is_best = |change: &Change| best.whats.contains(&change.what);
    let least = tried.iter().find(|(h, t)| h.fits && is_best(&t.change)).map(|(h, _)| h.ratio);
    let Some(least) = least else {
        let mut tried: Vec<Hypothesis> = tried.into_iter().map(|(h, _)| h).collect();
        tried.splice(0..0, observed);
        return Explanation { tried, ..Explanation::default() };
    };
    let limit = AS_GOOD.0.max(AS_GOOD.1 * least);
    let (named, rest): (Vec<_>, Vec<_>) = tried
        .into_iter()
        .partition(|(h, trial)| h.fits && h.ratio <= limit && is_best(&trial.change));
    let mut words: Vec<&'static str> = vec![];
    let mut texts: Vec<String> = vec![];
    for (_, Trial { change, .. }) in &named {
        if !words.contains(&change.word) {
            words.push(change.word);
            texts.push(match best.prevalences.get(&(change.word, change.variant)) {
                Some(prevalence) if prevalence.made < prevalence.places => {
                    format!("{} (here: {})", prevalence.in_words(change.variant), change.what)
                }
                Some(prevalence) => prevalence.in_words(change.variant),
                None => change.what.clone(),
            });
        }
    }
    let what = match texts.as_slice() {
        [one] => one.clone(),
        several => format!("either {}", several.join(", or ")),
    };
    let first = named.first().map(|(_, trial)| &trial.change);
    let prevalence = first.and_then(|change| best.prevalences.get(&(change.word, change.variant)));
    let mut hypotheses = vec![Hypothesis { what, ratio: least, fits: true }];
    hypotheses.extend(rest.into_iter().map(|(h, _)| h));
    Explanation {
        tried: hypotheses,
        site: first.map(|change| change.site),
        words,
        places: prevalence.map(|prevalence| prevalence.made),
    }
}

/// What the engines of a run gave at one module, all fed alike.
pub(crate) struct Seen<'a> {
    /// The truth's value.
    pub(crate) truth: &'a Tensor,
    /// The candidate's value.
    pub(crate) candidate: Option<&'a Tensor>,
    yardstick: Option<&'a Tensor>,
    others: &'a [Option<Tensor>],
    /// Whether the candidate's array was recorded after the following ReLU, because its hook kept a
    /// reference. The ReLU has then been applied to all other values here, too.
    pub(crate) after_relu: bool,
}

/// Runs the truth, the candidate and the engines `others` side by side up to the module `last`, all
/// fed what the candidate shows, and calls `step` at every module.
///
/// `step` also gets the values that were kept. The value of each module that is a key of `until` is
/// kept up to the module that `until` has for it.
pub(crate) fn walk(
    comparison: &mut Comparison,
    others: &mut [Edited],
    with_yardstick: bool,
    last: ModuleId,
    shown: &dyn Fn(ModuleId) -> bool,
    until: &HashMap<ModuleId, ModuleId>,
    mut step: impl FnMut(ModuleId, Seen, &Values),
) -> Result<()> {
    let (model, precision) = (&comparison.model, comparison.precision);
    let (mut runners, recorded) = match &mut comparison.candidate {
        Side::Engine(engine) => {
            (vec![Runner { engine: engine.as_mut(), input: &comparison.input }], None)
        }
        Side::Dump(dump) => (vec![], Some(&*dump)),
    };
    let live = runners.len();
    runners.push(Runner { engine: comparison.truth.as_mut(), input: &comparison.input });
    if with_yardstick {
        let engine = comparison.yardstick.as_mut();
        runners.push(Runner { engine, input: &comparison.input });
    }
    let more = runners.len();
    for engine in others.iter_mut() {
        runners.push(Runner { engine, input: &comparison.input });
    }
    let driver = recorded.or(comparison.reference.as_ref());
    let mut kept = Values::new();
    lockstep::run(runners, &Selection::all(model.modules()), |id, values| {
        let Some(truth) = values[live].as_ref() else { return Flow::Continue };
        let read = recorded.and_then(|dump| dump.get(id));
        let candidate = read.as_ref().or_else(|| values[..live].first()?.as_ref());
        let after_relu = recorded.is_some_and(|dump| dump.is_after_relu(id));
        let rectified: Vec<Option<Tensor>> = match after_relu {
            true => values.iter().map(|value| value.clone().map(faults::relu)).collect(),
            false => vec![],
        };
        let visible = if after_relu { &rectified } else { &values };
        if let Some(truth) = visible[live].as_ref() {
            let yardstick = if with_yardstick { visible[live + 1].as_ref() } else { None };
            let seen = Seen { truth, candidate, yardstick, others: &visible[more..], after_relu };
            step(id, seen, &kept);
        }
        if id == last {
            return Flow::Stop;
        }
        // The effect of a change must reach the first module that the candidate shows. So nothing is
        // replaced at modules that the candidate does not show.
        let fed = match driver.and_then(|dump| dump.get(id)) {
            Some(value) => Some(value),
            None => shown(id).then(|| truth.clone()),
        };
        let fed = fed.map(|value| precision.round(value));
        kept.retain(|read, _| until.get(read).is_some_and(|last| *last > id));
        if until.contains_key(&id) {
            kept.insert(id, Arc::new(Map::of(fed.as_ref().unwrap_or(truth))));
        }
        fed.map_or(Flow::Continue, Flow::Replace)
    })?;
    Ok(())
}

/// The error ratio of the candidate at the module `at` against each changed truth, by index of the
/// trial, for those changes that alter the module by more than its budget; and an observation if the
/// candidate is a multiple of the truth.
fn screen(
    comparison: &mut Comparison,
    trials: &[Trial],
    at: ModuleId,
    budget: &Budget,
    shown: &dyn Fn(ModuleId) -> bool,
) -> Result<(BTreeMap<usize, f64>, Option<Hypothesis>)> {
    let until = trials.iter().flat_map(|trial| trial.needs(at)).map(|read| (read, at)).collect();
    let clip = Arc::new(Map::of(&comparison.input));
    let precision = comparison.precision;
    let (mut ratios, mut observed) = (BTreeMap::new(), None);
    walk(comparison, &mut [], false, at, shown, &until, |id, seen, values| {
        let (true, Some(candidate)) = (id == at, seen.candidate) else { return };
        observed = affine(seen.truth, candidate, budget, precision);
        for (i, trial) in trials.iter().enumerate() {
            if let Some(made) = value(trial, id, values, &clip, &seen)
                && !passes(ratio(seen.truth, &made, budget, None, precision))
            {
                let rounds = trial.change.rounds();
                ratios.insert(i, ratio(&made, candidate, budget, rounds, precision));
            }
        }
    })?;
    Ok((ratios, observed))
}

/// What a change gives at a module, in the shape of the truth, and after the following ReLU if the
/// candidate was recorded after it.
fn value(
    trial: &Trial,
    at: ModuleId,
    values: &Values,
    clip: &Arc<Map>,
    seen: &Seen,
) -> Option<Tensor> {
    let made = trial.value(at, values, clip)?;
    let of_shape = made.data.len() == seen.truth.len();
    let made = of_shape.then(|| Tensor::f64(seen.truth.shape.clone(), made.data.clone()))?;
    Some(if seen.after_relu { faults::relu(made) } else { made })
}

/// The error ratio of the candidate at the module `at` against each changed engine, all fed alike.
fn engine_ratios(
    comparison: &mut Comparison,
    changed: &mut [Edited],
    at: ModuleId,
    budget: &Budget,
    shown: &dyn Fn(ModuleId) -> bool,
) -> Result<Vec<f64>> {
    let rounds: Vec<_> = changed.iter().map(|engine| engine.change.rounds()).collect();
    let precision = comparison.precision;
    let mut found = vec![f64::NAN; changed.len()];
    walk(comparison, changed, false, at, shown, &HashMap::new(), |id, seen, _| {
        let (true, Some(candidate)) = (id == at, seen.candidate) else { return };
        for ((slot, made), rounds) in found.iter_mut().zip(seen.others).zip(&rounds) {
            if let Some(made) = made {
                *slot = ratio(made, candidate, budget, *rounds, precision);
            }
        }
    })?;
    Ok(found)
}

/// The error ratio of a candidate against a changed truth.
///
/// If the change rounds to the number format `rounds`, a value half-way between two numbers may be
/// rounded either way. A difference of one step of the format is then ignored, provided that few values
/// differ by one.
fn ratio(
    made: &Tensor,
    candidate: &Tensor,
    budget: &Budget,
    rounds: Option<Precision>,
    precision: Precision,
) -> f64 {
    if made.len() != candidate.len() {
        return f64::INFINITY;
    }
    let snapped = rounds.and_then(|format| snapped(made, candidate, format));
    let candidate = snapped.as_ref().unwrap_or(candidate);
    budget.ratio(&measure::distance(made, candidate, precision))
}

/// At most one in this many values may differ by one step of the format.
const HALF_WAY: usize = 256;

/// The candidate without differences of one step from `made`; None if too many values differ so.
fn snapped(made: &Tensor, candidate: &Tensor, format: Precision) -> Option<Tensor> {
    let mut steps = 0;
    let near = |m: f64, c: f64| {
        let step = format.epsilon() * m.abs().max(c.abs());
        m != c && (m - c).abs() <= step && faults::round(c, format) == c
    };
    let values = made.iter().zip(candidate.iter()).map(|(m, c)| {
        let one_step = near(m, c);
        steps += usize::from(one_step);
        if one_step { m } else { c }
    });
    let values = values.collect();
    (steps <= 2 + made.len() / HALF_WAY).then(|| Tensor::f64(candidate.shape.clone(), values))
}

/// An observation that needs no mistake: the candidate is the truth times a factor, or times a factor
/// plus an offset. With the error ratio that remains; None if neither fits.
fn affine(
    truth: &Tensor,
    candidate: &Tensor,
    budget: &Budget,
    precision: Precision,
) -> Option<Hypothesis> {
    if truth.len() != candidate.len() {
        return None;
    }
    let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        truth.iter().zip(candidate.iter()).map(|(t, c)| of(t, c)).sum()
    };
    let (dot, square) = (sum(&|t, c| t * c), sum(&|t, _| t * t));
    let count = truth.len() as f64;
    let (mean_t, mean_c) = (sum(&|t, _| t) / count, sum(&|_, c| c) / count);
    let slope = (dot - count * mean_t * mean_c) / (square - count * mean_t * mean_t);
    let fits = [(dot / square, 0.0), (slope, mean_c - slope * mean_t)];
    fits.into_iter().find_map(|(factor, offset)| {
        let values = truth.iter().map(|t| t * factor + offset).collect();
        let scaled = Tensor::f64(truth.shape.clone(), values);
        let ratio = ratio(&scaled, candidate, budget, None, precision);
        let plus = match offset {
            0.0 => String::new(),
            offset => format!(", plus {offset:.3e}"),
        };
        let what = format!(
            "no known mistake, but all values are {factor:.6} times the expected ones{plus}"
        );
        // A line fits any two values, and few more values prove little.
        let says_something = factor.is_finite() && factor != 0.0 && truth.len() > 3;
        (passes(ratio) && says_something).then_some(Hypothesis { what, ratio, fits: false })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_values_half_way_between_two_numbers_are_snapped_and_many_are_not() {
        let (made, next) = (1.0, 1.0 + Precision::Bf16.epsilon());
        let values = |changed: usize| {
            let value = |at| if at < changed { next } else { made };
            Tensor::f64(vec![512], (0..512).map(value).collect())
        };
        let snap = |changed| snapped(&values(0), &values(changed), Precision::Bf16);
        assert_eq!(snap(4), Some(values(0)));
        assert_eq!(snap(5), None);
    }
}
