//! Pairs by order: an array that correlates with nothing lies between others that do.

use std::collections::{BTreeMap, BTreeSet};

use spec::{Model, ModuleId};

use super::align;
use super::arrays::Arrays;
use super::targets::{Clear, Scores, Target};
use super::{Ordered, Search};

/// Programs compute some modules in another order than the model lists them. If no module is left
/// between the neighbours, this many modules before and after them are considered.
const SLACK: usize = 12;

/// The order counts if at least this share of the matched arrays is in the order of execution.
const IN_ORDER: f64 = 0.7;

/// Fewer matches do not tell whether the order is that of execution.
const TELLING: usize = 4;

/// Without an order a correlation decides if it is at least [`FAIR`] and this much better than the next.
const MARGIN: f64 = 0.2;
const FAIR: f64 = 0.5;

/// An order of the arrays: the place of each array.
pub struct Ranking(Vec<usize>);

/// The orders that may be that of execution: that of the file, and that of the names with numbers in
/// them taken as numbers.
pub fn rankings(arrays: &Arrays) -> Vec<Ranking> {
    let count = arrays.items.len();
    let mut by_name: Vec<usize> = (0..count).collect();
    by_name.sort_by_key(|&at| natural(&arrays.items[at].name));
    let mut places = vec![0; count];
    for (place, at) in by_name.iter().enumerate() {
        places[*at] = place;
    }
    let file: Vec<usize> = (0..count).collect();
    if file == places { vec![Ranking(file)] } else { vec![Ranking(file), Ranking(places)] }
}

/// A name as texts and numbers in turn.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = vec![];
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let digits = rest[text..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - text);
        let number = rest[text..text + digits].parse().unwrap_or(u64::MAX);
        parts.push((rest[..text].to_owned(), number));
        rest = &rest[text + digits..];
    }
    parts
}

/// An open array with its neighbours.
struct Gap {
    array: usize,
    between: [Option<ModuleId>; 2],
}

/// The pairs by order of the arrays whose values decide nothing.
pub fn pair(
    search: &Search,
    ranking: &Ranking,
    (clear, steps): (&BTreeMap<usize, Clear>, &BTreeMap<usize, String>),
    scores: &Scores,
) -> BTreeMap<usize, Ordered> {
    let items = &search.arrays.items;
    let module = |array: usize| match clear.get(&array) {
        Some(Clear { target: Target::Module(id) | Target::AfterRelu(id), .. }) => Some(*id),
        Some(_) => None,
        None => items[array].known.first().copied(),
    };
    let mut in_order: Vec<usize> = (0..items.len()).collect();
    in_order.sort_by_key(|&at| ranking.0[at]);
    let matched: Vec<(usize, ModuleId)> =
        in_order.iter().filter_map(|&at| Some((at, module(at)?))).collect();
    let modules: Vec<usize> = matched.iter().map(|(_, id)| id.0).collect();
    let backbone = align::ascending(&modules);
    let ordered =
        matched.len() < TELLING || backbone.len() as f64 >= IN_ORDER * matched.len() as f64;
    let places: Vec<(usize, ModuleId)> =
        backbone.iter().map(|&at| (ranking.0[matched[at].0], matched[at].1)).collect();
    let gap = |&array: &usize| {
        let place = ranking.0[array];
        let after = places.partition_point(|(other, _)| *other < place);
        let before = after.checked_sub(1).map(|at| places[at].1);
        let between = [before, places.get(after).map(|(_, id)| *id)];
        Gap { array, between: if ordered { between } else { [None; 2] } }
    };
    let open =
        |at: &&usize| items[**at].is_open() && !clear.contains_key(*at) && !steps.contains_key(*at);
    let gaps: Vec<Gap> = in_order.iter().filter(open).map(gap).collect();
    let mut taken: BTreeSet<ModuleId> = modules.iter().map(|id| ModuleId(*id)).collect();
    taken.insert(search.model.input);
    let known = items.iter().filter(|item| !item.known.is_empty()).count();
    if 5 * (clear.len() + known) >= 4 * items.len() {
        taken.extend(fused_away(search.model, &modules));
    }
    let mut pairs = BTreeMap::new();
    // Gaps with the same neighbours and the same shape are filled together.
    for (class, _) in search.arrays.classes.shapes.iter().enumerate() {
        let fits = |gap: &&Gap| items[gap.array].samples.contains_key(&class);
        let here: Vec<&Gap> =
            gaps.iter().filter(fits).filter(|gap| !pairs.contains_key(&gap.array)).collect();
        let mut found = vec![];
        for slack in [0, SLACK] {
            let left = |gap: &&&Gap| !found.iter().any(|(array, _)| *array == gap.array);
            let left: Vec<&Gap> = here.iter().filter(left).copied().collect();
            for group in left.chunk_by(|a, b| a.between == b.between) {
                let filled = fill(search, group, (class, slack), ordered, &taken, scores);
                taken.extend(filled.iter().map(|(_, pair)| pair.module));
                found.extend(filled);
            }
        }
        pairs.extend(found);
    }
    pairs
}

/// The modules that the dump lacks in all blocks, because the port fuses them: those of a role of which less
/// than a quarter is among the modules that were found.
fn fused_away(model: &Model, found: &[usize]) -> Vec<ModuleId> {
    let mut roles: BTreeMap<&str, Vec<ModuleId>> = BTreeMap::new();
    for module in model.modules() {
        let place = module.name.strip_prefix(&module.block).unwrap_or(&module.name);
        let place = place.trim_start_matches('.');
        let role = place.split_once('.').filter(|(_, rest)| rest.contains('.'));
        roles.entry(role.map_or(place, |(_, rest)| rest)).or_default().push(module.id);
    }
    let lacks = |all: &Vec<ModuleId>| {
        let shown = all.iter().filter(|id| found.contains(&id.0)).count();
        all.len() >= 4 && 4 * shown < all.len()
    };
    roles.into_values().filter(lacks).flatten().collect()
}

/// Pairs the arrays of a group with the modules of their shape that are free between the neighbours.
fn fill(
    search: &Search,
    group: &[&Gap],
    (class, slack): (usize, usize),
    ordered: bool,
    taken: &BTreeSet<ModuleId>,
    scores: &Scores,
) -> Vec<(usize, Ordered)> {
    let between = group[0].between;
    let low = between[0].map_or(0, |id| (id.0 + 1).saturating_sub(slack));
    let high = between[1].map_or(usize::MAX, |id| id.0 + slack);
    let free = |id: &ModuleId| {
        let fits = search.arrays.classes.of[id.0] == class;
        fits && (low..high).contains(&id.0) && !taken.contains(id)
    };
    let free: Vec<ModuleId> = search.model.modules().iter().map(|m| m.id).filter(free).collect();
    let refused = |at: usize, to: usize| search.refused.contains(&(group[at].array, free[to]));
    let score = |at: usize, to: usize| match refused(at, to) {
        true => 0.0,
        false => scores.at(group[at].array, free[to]).max(0.0),
    };
    let complete = group.len() == free.len() && !(0..group.len()).any(|at| refused(at, at));
    let chosen: Vec<(usize, usize)> = match (ordered, complete) {
        (true, true) => (0..group.len()).map(|at| (at, at)).collect(),
        (true, false) => {
            let score = |a, b| (!refused(a, b)).then(|| 0.05 + score(a, b).powi(2));
            align::pairs(group.len(), free.len(), score)
        }
        (false, true) if group.len() == 1 => vec![(0, 0)],
        (false, _) => fair(group.len(), free.len(), score),
    };
    let pair = |(at, to): (usize, usize)| {
        let complete = complete && slack == 0;
        let pair = Ordered { module: free[to], complete, between, confirmed: false };
        (group[at].array, pair)
    };
    chosen.into_iter().map(pair).collect()
}

/// Pairs whose correlation is fair and clearly the best of both sides.
fn fair(arrays: usize, modules: usize, score: impl Fn(usize, usize) -> f64) -> Vec<(usize, usize)> {
    let clearly = |own: f64, others: Vec<f64>| {
        own >= FAIR && others.iter().all(|other| other + MARGIN <= own)
    };
    let all = (0..arrays).flat_map(|at| (0..modules).map(move |to| (at, to)));
    all.filter(|&(at, to)| {
        let own = score(at, to);
        clearly(own, (0..modules).filter(|&m| m != to).map(|m| score(at, m)).collect())
            && clearly(own, (0..arrays).filter(|&a| a != at).map(|a| score(a, to)).collect())
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_are_numbers() {
        let mut names = ["b10", "b9", "a", "b9.1"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["a", "b9", "b9.1", "b10"]);
        assert_eq!(natural("99999999999999999999").len(), 1);
    }
}
