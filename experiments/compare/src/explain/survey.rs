//! A second run of the truth, over the whole network. It answers two questions: which of the mistakes
//! that fit also explains the other modules that it alters, and at how many places does the program
//! make it?

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::Result;
use checkpoint::Weights;
use spec::{ModuleId, Tensor};

use super::super::measure::{self, Budget, passes};
use super::{ratio, value, walk};
use crate::Comparison;
use crate::faults::{Fault, Map, ModelGraph, Trial, Values, everywhere};
use crate::pass::DeferredRoundings;

/// A kind of mistake: the `word` and the `variant` of a [`Change`](crate::faults::Change).
pub type Kind = (&'static str, &'static str);

/// At how many places a program makes a mistake.
#[derive(Debug, Clone, Copy, Default)]
pub struct Prevalence {
    /// Places where the mistake explains the candidate's values.
    pub made: usize,
    /// Places where the mistake would change a compared value.
    pub places: usize,
}

impl Prevalence {
    /// The mistake and the number of its places, in words.
    pub fn in_words(self, variant: &str) -> String {
        let Prevalence { made, places } = self;
        match made == places {
            true => everywhere(variant, places),
            false => format!("{variant}, in {made} of {places} places"),
        }
    }
}

/// The mistakes that agree with the candidate at most modules.
#[derive(Debug, Default)]
pub struct Best {
    /// The mistakes in words.
    pub whats: Vec<String>,
    /// How often the program makes each kind that it makes at more than one place.
    pub prevalences: HashMap<Kind, Prevalence>,
}

/// What one mistake explains.
#[derive(Default)]
struct Outcome {
    /// For each module that the mistake alters: whether the candidate agrees with the changed truth.
    agrees: BTreeMap<ModuleId, bool>,
    /// Whether the mistake changes some module by more than its budget.
    matters: bool,
}

/// Evaluates the mistakes that fit, and the same mistakes at all other places, over the whole network.
///
/// # Errors
///
/// If an engine fails.
pub fn survey(
    comparison: &mut Comparison,
    graph: &ModelGraph,
    weights: &Weights,
    fits: &[&Trial],
    shown: &dyn Fn(ModuleId) -> bool,
) -> Result<Best> {
    let kind = |trial: &Trial| (trial.change.word, trial.change.variant);
    let kinds: BTreeSet<Kind> = fits.iter().map(|trial| kind(trial)).collect();
    let faults = Fault::ALL.iter().filter(|fault| kinds.iter().any(|kind| kind.0 == fault.word));
    let places = faults.flat_map(|fault| fault.places_on(graph));
    let others: Vec<Trial> = places
        .filter(|change| kinds.contains(&(change.word, change.variant)))
        .map(|change| Trial::new(graph, weights, change, shown))
        .collect();
    let all: Vec<&Trial> = fits.iter().copied().chain(&others).collect();
    let (outcomes, right) = run(comparison, &all, shown)?;

    let window: BTreeSet<ModuleId> = fits.iter().flat_map(|trial| &trial.shows).copied().collect();
    let score = |outcome: &Outcome| {
        let agrees = |id| outcome.agrees.get(id).or_else(|| right.get(id)).copied();
        window.iter().filter(|id| agrees(id) == Some(true)).count()
    };
    let most = outcomes[..fits.len()].iter().map(score).max().unwrap_or(0);
    let best = fits.iter().zip(&outcomes).filter(|(_, outcome)| score(outcome) == most);
    let mut best: Vec<&Trial> = best.map(|(trial, _)| *trial).collect();

    let mut prevalences: HashMap<Kind, Prevalence> = HashMap::new();
    for (trial, outcome) in others.iter().zip(&outcomes[fits.len()..]) {
        if outcome.matters {
            let prevalence = prevalences.entry(kind(trial)).or_default();
            prevalence.places += 1;
            let wrong = trial.shows.iter().any(|id| right.get(id) == Some(&false));
            prevalence.made += usize::from(wrong && outcome.agrees.values().all(|agrees| *agrees));
        }
    }
    prevalences.retain(|_, prevalence| prevalence.made > 1);
    // Of two mistakes that cannot be told apart here, the one that the program makes at every possible
    // place is more likely.
    let always = |trial: &Trial| prevalences.get(&kind(trial)).is_some_and(|h| h.made == h.places);
    if best.iter().any(|trial| always(trial)) {
        best.retain(|trial| always(trial));
    }
    Ok(Best { whats: best.iter().map(|trial| trial.change.what.clone()).collect(), prevalences })
}

/// For each trial, whether it alters some module by more than its budget if every module is shown.
pub fn matter(comparison: &mut Comparison, trials: &[&Trial]) -> Result<Vec<bool>> {
    let (outcomes, _) = run(comparison, trials, &|_| true)?;
    Ok(outcomes.into_iter().map(|outcome| outcome.matters).collect())
}

/// Runs the network once. Returns what each trial explains, and for each module whether the candidate
/// agrees with the unchanged truth.
fn run(
    comparison: &mut Comparison,
    trials: &[&Trial],
    shown: &dyn Fn(ModuleId) -> bool,
) -> Result<(Vec<Outcome>, BTreeMap<ModuleId, bool>)> {
    let mut until: HashMap<ModuleId, ModuleId> = HashMap::new();
    for trial in trials {
        for at in &trial.shows {
            for read in trial.needs(*at) {
                let last = until.entry(read).or_insert(*at);
                *last = (*last).max(*at);
            }
        }
    }
    let (model, precision) = (comparison.model.clone(), comparison.precision);
    let last = trials.iter().filter_map(|trial| trial.shows.last()).max().copied();
    let mut outcomes: Vec<Outcome> = trials.iter().map(|_| Outcome::default()).collect();
    let mut right = BTreeMap::new();
    let Some(last) = last else { return Ok((outcomes, right)) };
    let roundings = measure::roundings(&model, precision, true, comparison.tiles);
    let clip = Arc::new(Map::of(&comparison.input));
    let mut deferred = DeferredRoundings::default();
    walk(comparison, &mut [], true, last, shown, &until, |id, seen, values: &Values| {
        let (Some(candidate), Some(yardstick)) = (seen.candidate, seen.yardstick) else {
            deferred.add(&model, id, roundings[id.0]);
            return;
        };
        let granted = roundings[id.0].hypot(deferred.take(&model, id));
        let budget = Budget::new(precision, granted, seen.truth, yardstick);
        right.insert(id, passes(ratio(seen.truth, candidate, &budget, None, precision)));
        for (trial, outcome) in trials.iter().zip(&mut outcomes) {
            if trial.shows.contains(&id) {
                let made = value(trial, id, values, &clip, &seen);
                let of = |made: &Tensor, candidate: &Tensor, rounds| {
                    ratio(made, candidate, &budget, rounds, precision)
                };
                outcome.agrees.insert(id, false);
                if let Some(made) = made {
                    outcome.matters |= !passes(of(seen.truth, &made, None));
                    let agrees = passes(of(&made, candidate, trial.change.rounds()));
                    outcome.agrees.insert(id, agrees);
                }
            }
        }
    })?;
    Ok((outcomes, right))
}
