//! Looks for the mistake behind a divergence: the truth is made to make it, and if the candidate
//! then agrees, the mistake is named.
//!
//! Every known mistake whose effect would first show at the diverged module is evaluated beside one
//! run of the truth. A mistake is offered only if it changes the module beyond its budget, and fits
//! only if the candidate is then within it, there and at every other module that one of the fitting
//! mistakes alters. What fits is made in the truth's own engine, too, before it is named. Then the
//! rest of the network tells whether the program makes the mistake throughout.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::Result;
use reports::record::Hypothesis;
use spec::weights::Weights;
use spec::{Engine, Flow, Model, ModuleId, Precision, Selection, Tensor};

use super::lockstep::{self, Runner};
use super::measure::{self, Budget, passes};
use super::{Comparison, Side};
use crate::faults::{self, Change, Edited, Ground, Map, Trial, Values, hypotheses};

mod survey;

use survey::{Best, survey};

/// Engines side by side: each holds the weights in float64.
const AT_ONCE: usize = 3;

/// Of several mistakes that fit, those are named whose ratio is at most this, or this part of the
/// best one's: a ratio of 1 is what rounding is granted.
const AS_GOOD: (f64, f64) = (1.0, 1.5);

/// Loads the truth's engine with a description and weights.
pub type Loader<'a> = dyn Fn(Model, Weights) -> Result<Box<dyn Engine>> + 'a;

/// What was found out about a divergence.
#[derive(Debug, Clone, Default)]
pub struct Explanation {
    /// The explanations tried, the best first.
    pub tried: Vec<Hypothesis>,
    /// The module of the mistake that fits.
    pub site: Option<ModuleId>,
    /// The words in the catalogue of what fits: several where they give the same values here.
    pub words: Vec<&'static str>,
    /// At how many places the program makes it, where that is more than one.
    pub places: Option<usize>,
}

/// Looks for the mistakes that explain what a module gives.
pub fn explain(
    comparison: &mut Comparison,
    weights: &Weights,
    at: ModuleId,
    budget: &Budget,
    shown: &dyn Fn(ModuleId) -> bool,
    load: &Loader,
) -> Result<Explanation> {
    let model = comparison.model.clone();
    let ground = Ground::new(&model);
    let changes = hypotheses(&ground, at, shown);
    let trials: Vec<Trial> =
        changes.into_iter().map(|change| Trial::new(&ground, weights, change, shown)).collect();
    let (mut ratios, observed) = screen(comparison, &trials, at, budget, shown)?;
    // The engine of the truth makes what fits, too.
    let fits: Vec<usize> = ratios.iter().filter(|(_, r)| passes(**r)).map(|(i, _)| *i).collect();
    for some in fits.chunks(AT_ONCE) {
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
        false => survey(comparison, &ground, weights, &fits, shown)?,
    };
    Ok(summary(&trials, &ratios, &best, observed))
}

/// For each change, whether it alters a module beyond its budget.
pub fn matter(
    comparison: &mut Comparison,
    weights: &Weights,
    changes: &[Change],
) -> Result<Vec<bool>> {
    let model = comparison.model.clone();
    let ground = Ground::new(&model);
    let all = |_: ModuleId| true;
    let trial = |change: &Change| Trial::new(&ground, weights, change.clone(), &all);
    let trials: Vec<Trial> = changes.iter().map(trial).collect();
    survey::matter(comparison, &trials.iter().collect::<Vec<_>>())
}

fn edited(model: &Model, weights: &Weights, change: &Change, load: &Loader) -> Result<Edited> {
    let (mut model, mut weights) = (model.clone(), weights.clone());
    change.apply(&mut model, &mut weights);
    let engine = load(model, weights.clone())?;
    Ok(Edited { engine, change: change.clone(), weights })
}

/// Puts what was tried in order and into words.
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
    // NaN sorts last: a mistake that breaks the truth explains nothing.
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
            texts.push(match best.habits.get(&(change.word, change.variant)) {
                Some(habit) => habit.in_words(change.variant),
                None => change.what.clone(),
            });
        }
    }
    let what = match texts.as_slice() {
        [one] => one.clone(),
        several => format!("either {}", several.join(", or ")),
    };
    let first = named.first().map(|(_, trial)| &trial.change);
    let habit = first.and_then(|change| best.habits.get(&(change.word, change.variant)));
    let mut hypotheses = vec![Hypothesis { what, ratio: least, fits: true }];
    hypotheses.extend(rest.into_iter().map(|(h, _)| h));
    Explanation {
        tried: hypotheses,
        site: first.map(|change| change.site),
        words,
        places: habit.map(|habit| habit.made),
    }
}

/// How the lanes of a run are fed, and what they gave at a module.
struct Seen<'a> {
    truth: &'a Tensor,
    candidate: Option<&'a Tensor>,
    yardstick: Option<&'a Tensor>,
    others: &'a [Option<Tensor>],
    /// Whether the candidate's array was recorded after the ReLU that follows, as hooks do that keep
    /// references: everything here is what it is after that ReLU.
    late: bool,
}

/// Runs the truth, fed what is shown, beside the candidate and other engines up to a module. `step`
/// sees every module; what the network goes on with at a module of `until` is kept for the modules
/// up to the one that stands there.
fn walk(
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
        Side::Engine { engine, input } => (vec![Runner { engine: engine.as_mut(), input }], None),
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
        let late = recorded.is_some_and(|dump| dump.is_late(id));
        let rectified: Vec<Option<Tensor>> = match late {
            true => values.iter().map(|value| value.clone().map(faults::relu)).collect(),
            false => vec![],
        };
        let visible = if late { &rectified } else { &values };
        if let Some(truth) = visible[live].as_ref() {
            let yardstick = if with_yardstick { visible[live + 1].as_ref() } else { None };
            let seen = Seen { truth, candidate, yardstick, others: &visible[more..], late };
            step(id, seen, &kept);
        }
        if id == last {
            return Flow::Stop;
        }
        // A change must be felt where it first shows: where it is made earlier, at a module that the
        // candidate does not show, nothing may be replaced in between.
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

/// Budget ratio of the candidate against each changed truth, for the changes that alter the module
/// beyond its budget; and whether the candidate is a multiple of the truth, as an observation.
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

/// What a change gives at a module, in the shape of the truth and recorded as the candidate's is.
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
    Some(if seen.late { faults::relu(made) } else { made })
}

/// Budget ratio of the candidate against each engine at one module, all fed alike.
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

/// Budget ratio of a candidate against a changed truth. Where the change rounds to a format, a value
/// half-way between two numbers may be rounded either way: one step of the format does not count,
/// as long as few values differ by one.
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

/// Of this many values at most one may lie half-way between two numbers of a format.
const HALF_WAY: usize = 256;

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

/// Whether the candidate is the truth times one factor, or that and one offset: an observation, which
/// no mistake is needed for. With the ratio that remains.
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
        // Two values always lie on a line.
        let says_something = factor.is_finite() && factor != 0.0 && truth.len() > 3;
        (passes(ratio) && says_something).then_some(Hypothesis { what, ratio, fits: false })
    })
}
