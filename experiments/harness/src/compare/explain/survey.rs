//! A second run, over the whole network: which of the mistakes that fit explains the other modules
//! that it alters, and at how many places does the program make it?

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::Result;
use spec::weights::Weights;
use spec::{ModuleId, Tensor};

use super::super::measure::{self, Budget, passes};
use super::super::{Comparison, Unseen};
use super::{ratio, value, walk};
use crate::faults::{Fault, Ground, Map, Trial, Values, everywhere};

/// A kind of mistake: its word and its variant.
pub type Kind = (&'static str, &'static str);

/// At how many places of a program a mistake is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Habit {
    /// Places where it explains what the candidate gives.
    pub made: usize,
    /// Places where it would change what is compared.
    pub places: usize,
}

impl Habit {
    /// The mistake of the program.
    pub fn in_words(self, variant: &str) -> String {
        let Habit { made, places } = self;
        match made == places {
            true => everywhere(variant, places),
            false => format!("{variant}, in {made} of {places} places"),
        }
    }
}

/// What fits best over all modules that one of the fitting mistakes alters.
#[derive(Debug, Default)]
pub struct Best {
    /// The mistakes in words.
    pub whats: Vec<String>,
    /// By kind, where they are made at several places.
    pub habits: HashMap<Kind, Habit>,
}

/// What a mistake has explained.
#[derive(Default)]
struct Outcome {
    /// By module: whether the candidate agrees.
    agrees: BTreeMap<ModuleId, bool>,
    /// Whether it changes a module beyond its budget.
    matters: bool,
}

/// Evaluates the mistakes that fit, and all places of their kinds, over the network.
pub fn survey(
    comparison: &mut Comparison,
    ground: &Ground,
    weights: &Weights,
    fits: &[&Trial],
    shown: &dyn Fn(ModuleId) -> bool,
) -> Result<Best> {
    let kind = |trial: &Trial| (trial.change.word, trial.change.variant);
    let kinds: BTreeSet<Kind> = fits.iter().map(|trial| kind(trial)).collect();
    let faults = Fault::ALL.iter().filter(|fault| kinds.iter().any(|kind| kind.0 == fault.word));
    let places = faults.flat_map(|fault| fault.places_on(ground));
    let others: Vec<Trial> = places
        .filter(|change| kinds.contains(&(change.word, change.variant)))
        .map(|change| Trial::new(ground, weights, change, shown))
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

    let mut habits: HashMap<Kind, Habit> = HashMap::new();
    for (trial, outcome) in others.iter().zip(&outcomes[fits.len()..]) {
        if outcome.matters {
            let habit = habits.entry(kind(trial)).or_default();
            habit.places += 1;
            let wrong = trial.shows.iter().any(|id| right.get(id) == Some(&false));
            habit.made += usize::from(wrong && outcome.agrees.values().all(|agrees| *agrees));
        }
    }
    habits.retain(|_, habit| habit.made > 1);
    // A mistake that the program makes wherever it could is likelier than one that it makes at some
    // places and that cannot be told from it here.
    let always = |trial: &Trial| habits.get(&kind(trial)).is_some_and(|h| h.made == h.places);
    if best.iter().any(|trial| always(trial)) {
        best.retain(|trial| always(trial));
    }
    Ok(Best { whats: best.iter().map(|trial| trial.change.what.clone()).collect(), habits })
}

/// For each trial, whether it alters a module beyond its budget, where every module is shown.
pub fn matter(comparison: &mut Comparison, trials: &[&Trial]) -> Result<Vec<bool>> {
    let (outcomes, _) = run(comparison, trials, &|_| true)?;
    Ok(outcomes.into_iter().map(|outcome| outcome.matters).collect())
}

/// Runs the network once. Gives what each trial has explained, and whether the candidate agrees with
/// the right network.
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
    let roundings = measure::roundings(&model, precision, true);
    let clip = Arc::new(Map::of(&comparison.input));
    let mut unseen = Unseen::default();
    walk(comparison, &mut [], true, last, shown, &until, |id, seen, values: &Values| {
        let (Some(candidate), Some(own)) = (seen.candidate, seen.yardstick) else {
            unseen.add(&model, id, roundings[id.0]);
            return;
        };
        let granted = roundings[id.0].hypot(unseen.take(&model, id));
        let budget = Budget::new(precision, granted, seen.truth, own);
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
