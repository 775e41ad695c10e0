//! Proposes which module each array of a dump shows, whatever the arrays are called.
//!
//! Names that are known count first. The others are matched by value: every array is correlated with
//! the truth at every module of its shape, on the clip of the dump. Correlations ignore factors and
//! offsets, so that an array with a small mistake is still found. Behind a large mistake the network
//! and its port have nothing in common, so the truth is fed the arrays that are matched already, as
//! often as this finds more. An array that correlates with nothing is a mistake itself, or no output of
//! a module. Its neighbours in the file's order suggest a module for it, and the modules that read it
//! confirm it: they agree if they are fed this array and do not if they are fed the truth. What is
//! then still open is left to the user.
//!
//! Reading order: `sample` (what is kept of an array), `arrays` (reading the file), `targets` (what an
//! array may show, and the correlations), `between` (values between two modules), `align` and `order`
//! (pairs by order), this file (the passes), `confirm` (what the readers say), `text` (the map as a file).

mod align;
mod arrays;
mod between;
mod confirm;
mod order;
mod sample;
mod targets;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use spec::{Engine, Kind, Model, ModuleId, Tensor};

use crate::dump::NameMap;
use crate::faults::ModelGraph;
use arrays::Arrays;
use order::Ranking;
use targets::{Clear, Scores, Target};

/// How often the truth is run at most to find more matches.
const PASSES: usize = 8;

/// How often pairs by order that the readers refuse are replaced by others.
const RETRIES: usize = 4;

/// A match with this correlation is kept even if a later pass does not confirm it.
const CERTAIN: f64 = 0.9999;

/// An array at a smaller relative L2 distance than this is equal to the output of a module.
const NEAR: f64 = 0.01;

/// Arrays at a smaller relative L2 distance than this have the same values up to rounding.
const SAME_VALUES: f64 = 1e-3;

/// A proposal for all arrays of a dump.
#[derive(Debug)]
pub struct Suggestion {
    /// One entry for each array, in the file's order.
    pub entries: Vec<Entry>,
    /// How many times the truth was run.
    pub passes: usize,
}

/// The proposal for one array.
#[derive(Debug)]
pub struct Entry {
    /// Name of the array.
    pub array: String,
    /// Shape of the array in the file.
    pub shape: Vec<usize>,
    /// The modules that it shows, by their names; empty if it shows none or if that is open.
    pub modules: Vec<String>,
    /// How that was found out.
    pub how: How,
    /// The reason, or what is known, for the comment in the map.
    pub why: String,
}

/// How an entry was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// By the array's name or the user's map.
    Name,
    /// By the array's values.
    Value,
    /// By its place between others; the modules after it confirm it.
    Order,
    /// It shows no module.
    Nothing,
    /// Not decided: the user has to say it.
    Open,
}

impl Suggestion {
    /// The number of arrays that were found in this way.
    pub fn count(&self, how: How) -> usize {
        self.entries.iter().filter(|entry| entry.how == how).count()
    }

    /// The proposal as a map of names.
    pub fn map(&self) -> NameMap {
        let mut map = NameMap::default();
        for entry in self.entries.iter().filter(|entry| entry.how != How::Open) {
            map.add(&entry.array, &entry.modules);
        }
        map
    }
}

/// Matches the arrays of a dump with the modules of a model. `truth` computes the truth, `map` is what
/// the user has said, and `clip` is the clip that the user has named, if it is not in the dump.
///
/// # Errors
///
/// If the file cannot be read, no array is the clip, or the engine fails.
pub fn suggest(
    truth: &mut dyn Engine,
    model: &Model,
    path: &Path,
    map: &NameMap,
    clip: Option<&Tensor>,
) -> Result<Suggestion> {
    let arrays = Arrays::read(path, model, map, clip)?;
    let mut search = Search {
        truth,
        model,
        graph: ModelGraph::new(model),
        targets: Target::all(model),
        arrays,
        refused: BTreeSet::new(),
        passes: 0,
    };
    // Before the order counts for anything, arrays that show no module are known by their values.
    let first = search.scores(&search.fed(&Found::default(), false))?;
    between::set_aside(&mut search.arrays, model, &first);
    let rankings = order::rankings(&search.arrays);
    let mut best: Option<(Found, &Ranking)> = None;
    for ranking in &rankings {
        let found = search.fixed_point(ranking)?;
        let all = found.clear.len() * 10 >= search.open() * 9;
        if best.as_ref().is_none_or(|(best, _)| found.clear.len() > best.clear.len()) {
            best = Some((found, ranking));
        }
        if all {
            break;
        }
    }
    let mut found = Found::default();
    if let Some((first, ranking)) = best {
        found = search.confirm(first)?;
        found = search.without_refused(found, ranking)?;
    }
    Ok(Suggestion { entries: text::entries(&search, &found), passes: search.passes })
}

/// The matches of a search.
#[derive(Default)]
struct Found {
    /// What arrays show by their values, by index of the array.
    clear: BTreeMap<usize, Clear>,
    /// Further arrays with the values of one in `clear`, each with that one.
    doubles: BTreeMap<usize, usize>,
    /// Steps of normalisations, each with what it is in words.
    steps: BTreeMap<usize, String>,
    /// Pairs by order: array to module.
    ordered: BTreeMap<usize, Ordered>,
    /// The correlations of the last pass.
    scores: Option<Scores>,
}

/// A pair by order.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ordered {
    module: ModuleId,
    /// As many arrays as modules of this shape lie between the neighbours.
    complete: bool,
    /// The neighbours: modules of matched arrays.
    between: [Option<ModuleId>; 2],
    /// What the modules that read it say.
    confirmed: bool,
}

/// A search for the modules of a dump's arrays.
struct Search<'a> {
    truth: &'a mut dyn Engine,
    model: &'a Model,
    graph: ModelGraph<'a>,
    targets: Vec<Target>,
    arrays: Arrays,
    /// Pairs by order, array and module, that the readers of the module refused.
    refused: BTreeSet<(usize, ModuleId)>,
    passes: usize,
}

impl Search<'_> {
    /// The number of arrays that names do not decide.
    fn open(&self) -> usize {
        self.arrays.items.iter().filter(|item| item.is_open()).count()
    }

    fn scores(&mut self, fed: &[(ModuleId, usize)]) -> Result<Scores> {
        self.passes += 1;
        Scores::measure(self.truth, self.model, &self.arrays, &self.targets, fed)
    }

    /// Matches by value and by this order until nothing changes.
    fn fixed_point(&mut self, ranking: &Ranking) -> Result<Found> {
        let mut found = Found::default();
        for _ in 0..PASSES {
            let scores = self.scores(&self.fed(&found, true))?;
            let mut clear = self.clear(&scores);
            for (array, old) in &found.clear {
                if old.score >= CERTAIN {
                    clear.entry(*array).or_insert(*old);
                }
            }
            clear.retain(|array, own| !self.shows_itself(&found, *array, own.target));
            let steps = between::steps(self, &scores, &clear);
            clear.retain(|array, _| !steps.contains_key(array));
            let doubles = self.set_aside_doubles(&mut clear, &scores);
            let ordered = order::pair(self, ranking, (&clear, &steps), &scores);
            let target = |all: &BTreeMap<usize, Clear>| -> Vec<(usize, Target)> {
                all.iter().map(|(array, clear)| (*array, clear.target)).collect()
            };
            let settled = target(&clear) == target(&found.clear) && ordered == found.ordered;
            found = Found { clear, doubles, steps, ordered, scores: Some(scores) };
            if settled {
                break;
            }
        }
        Ok(found)
    }

    /// Replaces pairs by order that the readers refuse by others, as long as there are any.
    fn without_refused(&mut self, mut found: Found, ranking: &Ranking) -> Result<Found> {
        let mut before = 0;
        for _ in 0..RETRIES {
            if self.refused.len() == before {
                break;
            }
            before = self.refused.len();
            let other = self.fixed_point(ranking)?;
            found = self.confirm(other)?;
        }
        Ok(found)
    }

    /// Whether a module has the values of an array only because the truth was fed this array, by its order,
    /// at a module before it: then they agree whatever the array shows.
    fn shows_itself(&self, found: &Found, array: usize, target: Target) -> bool {
        let Some(pair) = found.ordered.get(&array) else { return false };
        let elementwise = [Kind::BatchNorm, Kind::Relu, Kind::Sigmoid];
        let mut at = target.module();
        while at != pair.module {
            match self.graph.reads(at) {
                [before] if elementwise.contains(&self.model.module(at).kind) => at = *before,
                _ => return false,
            }
        }
        target != Target::Module(pair.module)
    }

    /// What the values of the open arrays decide.
    fn clear(&self, scores: &Scores) -> BTreeMap<usize, Clear> {
        let open = self.arrays.items.iter().enumerate().filter(|(_, item)| item.is_open());
        let mut clear: BTreeMap<usize, Clear> =
            open.filter_map(|(array, _)| Some((array, scores.clear(array)?))).collect();
        // Correlations ignore factors and offsets. If one array is equal to the output of a module, an
        // array that is a multiple of it is something else.
        let distance = |array: usize, target: Target| match target {
            Target::Module(id) => scores.distance(&self.arrays, array, id),
            _ => 0.0,
        };
        let nearest = |target: Target| {
            let same = clear.iter().filter(|(_, other)| other.target == target);
            same.map(|(array, _)| distance(*array, target)).fold(f64::INFINITY, f64::min)
        };
        let multiples: Vec<usize> = clear
            .iter()
            .filter(|(array, own)| {
                nearest(own.target) < NEAR && distance(**array, own.target) > 10.0 * NEAR
            })
            .map(|(array, _)| *array)
            .collect();
        for array in multiples {
            clear.remove(&array);
        }
        clear
    }

    /// Removes further arrays with the values of another one, and returns them with that one. Where a port
    /// lacks a ReLU, for example, two arrays have the values that only one of them should have.
    fn set_aside_doubles(
        &self,
        clear: &mut BTreeMap<usize, Clear>,
        scores: &Scores,
    ) -> BTreeMap<usize, usize> {
        let mut of: Vec<(Target, Vec<usize>)> = vec![];
        for (array, own) in clear.iter() {
            match of.iter_mut().find(|(target, _)| *target == own.target) {
                Some((_, all)) => all.push(*array),
                None => of.push((own.target, vec![*array])),
            }
        }
        let mut doubles = BTreeMap::new();
        for (target, all) in of {
            let distance = |array: &usize| match target {
                Target::Module(id) => scores.distance(&self.arrays, *array, id),
                _ => 0.0,
            };
            // The first of those that are equal up to rounding.
            let least = all.iter().map(distance).fold(f64::INFINITY, f64::min);
            let best = all.iter().find(|array| distance(array) <= 2.0 * least + SAME_VALUES);
            let best = best.or(all.first()).copied();
            for array in all.into_iter().filter(|array| Some(*array) != best) {
                doubles.extend(best.map(|best| (array, best)));
                clear.remove(&array);
            }
        }
        doubles
    }

    /// The modules at which the truth is fed, each with the array.
    fn fed(&self, found: &Found, with_ordered: bool) -> Vec<(ModuleId, usize)> {
        let mut fed: BTreeMap<ModuleId, usize> = BTreeMap::new();
        let finite = |array: &usize| {
            let samples = &self.arrays.items[*array].samples;
            !samples.is_empty() && samples.values().all(sample::Sample::is_finite)
        };
        let known = self.arrays.items.iter().enumerate();
        let known = known.filter_map(|(array, item)| Some((*item.known.first()?, array)));
        let clear = found.clear.iter().filter_map(|(array, clear)| match clear.target {
            // The value after the ReLU may be fed before it, too; a sum may not.
            Target::Module(id) | Target::AfterRelu(id) => Some((id, *array)),
            Target::Sum(..) => None,
        });
        let ordered = found.ordered.iter().map(|(array, pair)| (pair.module, *array));
        let ordered = ordered.filter(|_| with_ordered);
        for (id, array) in known.chain(clear).chain(ordered) {
            if id != self.model.input && finite(&array) {
                fed.entry(id).or_insert(array);
            }
        }
        fed.into_iter().collect()
    }
}
