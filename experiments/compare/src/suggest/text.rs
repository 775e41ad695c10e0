//! The proposal as entries with a reason, and as the text of a map of names.

use std::fmt::Write as _;

use spec::Model;

use super::targets::{Clear, Scores, Target};
use super::{Entry, Found, How, Ordered, Search, Suggestion};
use crate::dump::map::written;

/// The proposal for every array.
pub(super) fn entries(search: &Search, found: &Found) -> Vec<Entry> {
    let items = &search.arrays.items;
    // An array with the same values as one that is decided.
    let double = |array: usize| {
        let decided = found.clear.keys().chain(found.ordered.keys());
        let same = || decided.into_iter().find(|other| search.arrays.same(array, **other));
        found.doubles.get(&array).or_else(same).copied()
    };
    let decide = |array: usize| {
        let item = &items[array];
        let name = |id: &spec::ModuleId| search.model.module(*id).name.clone();
        if !item.known.is_empty() {
            let by_name = item
                .known
                .iter()
                .any(|id| crate::dump::meaning(search.model, &item.name).module() == Some(*id));
            let why = if by_name { "by its name" } else { "by its shape or your map" };
            return (item.known.iter().map(name).collect(), How::Name, why.to_owned());
        }
        if let Some(why) = &item.skipped {
            let how = if item.samples.is_empty() { How::Nothing } else { How::Open };
            return (vec![], how, why.clone());
        }
        if let Some(clear) = found.clear.get(&array) {
            return by_value(search, found, clear);
        }
        if let Some(why) = found.steps.get(&array) {
            return (vec![], How::Nothing, why.clone());
        }
        match (found.ordered.get(&array), double(array)) {
            (Some(pair), _) => by_order(search, found, array, pair),
            (None, Some(other)) if search.arrays.alike(array, other) => {
                let (modules, how, _) = match found.ordered.get(&other) {
                    Some(pair) => by_order(search, found, other, pair),
                    None => by_value(search, found, &found.clear[&other]),
                };
                (modules, how, format!("the same values as {}", items[other].name))
            }
            (None, _) => (vec![], How::Open, candidates(search, found, array)),
        }
    };
    let entry = |array: usize| {
        let item = &items[array];
        let (modules, how, why) = decide(array);
        Entry { array: item.name.clone(), shape: item.shape.clone(), modules, how, why }
    };
    (0..items.len()).map(entry).collect()
}

type Decision = (Vec<String>, How, String);

fn by_value(search: &Search, found: &Found, clear: &Clear) -> Decision {
    let model = search.model;
    let id = clear.target.module();
    let next = match clear.next {
        Some((target, score)) => {
            format!(", next best {score:.3} ({})", target.in_words(model))
        }
        None => ", the only module of its shape".to_owned(),
    };
    let what = match clear.target {
        Target::Module(_) => String::new(),
        other => format!(" with {}", other.in_words(model)),
    };
    let why = format!("by value: correlation {:.6}{what}{next}", clear.score);
    let other = |target: &Target| found.clear.values().any(|clear| clear.target == *target);
    let known = |id| search.arrays.items.iter().any(|item| item.known.contains(&id));
    // A value between two modules has no module of its own if the module has another array.
    if clear.target != Target::Module(id) && (other(&Target::Module(id)) || known(id)) {
        return (vec![], How::Nothing, format!("{why}; not a module of its own"));
    }
    (vec![model.module(id).name.clone()], How::Value, why)
}

fn by_order(search: &Search, found: &Found, array: usize, pair: &Ordered) -> Decision {
    let name = |id: Option<spec::ModuleId>, end: &str| {
        id.map_or(end.to_owned(), |id| search.model.module(id).name.clone())
    };
    let between = match pair.between {
        [None, None] => "by its shape".to_owned(),
        [before, after] => {
            format!(
                "by order, between {} and {}",
                name(before, "the start"),
                name(after, "the end")
            )
        }
    };
    let score = found.scores.as_ref().map_or(0.0, |scores| scores.at(array, pair.module));
    let proof = match pair.confirmed {
        true => "the modules after it agree if they are fed this array, and only then",
        false => "nothing else confirms it",
    };
    let why = format!("{between}: correlation {score:.3}; {proof}");
    (vec![search.model.module(pair.module).name.clone()], How::Order, why)
}

/// The modules that an undecided array may show.
fn candidates(search: &Search, found: &Found, array: usize) -> String {
    let scores = found.scores.as_ref().map(|scores: &Scores| &scores.of[array][..]);
    let best = scores.unwrap_or_default().iter().take(3);
    let best: Vec<String> = best
        .map(|(target, score)| format!("{} ({score:.3})", target.in_words(search.model)))
        .collect();
    match best.is_empty() {
        true => "nothing of its shape was computed".to_owned(),
        false => format!("not decided; the best correlations are {}", best.join(", ")),
    }
}

impl Suggestion {
    /// The text of the map: a line for each array, with the reason as a comment. Open arrays are
    /// comments, which the user completes.
    pub fn text(&self, dump: &str, model: &Model) -> String {
        let config = &model.config;
        let mut text = format!(
            "# Names of the arrays in {}, proposed by `harness diff --suggest-map` for depth {}, width {}.\n\
             # A line is `THEIRS = OURS`; `-` shows no module. Correct it and give it to --map.\n",
            clean(dump),
            config.depth,
            config.width
        );
        for entry in self.entries.iter().filter(|entry| entry.how != How::Open) {
            let ours = match entry.modules.is_empty() {
                true => "-".to_owned(),
                false => entry.modules.join(", "),
            };
            let _ = writeln!(text, "{} = {ours}  # {}", written(&entry.array), clean(&entry.why));
        }
        if self.count(How::Open) > 0 {
            text += "\n# Not decided. Complete a line and remove its mark, or leave it.\n";
        }
        for entry in self.entries.iter().filter(|entry| entry.how == How::Open) {
            let (name, shape) = (written(&entry.array), &entry.shape);
            let _ = writeln!(text, "# {name} = ?  # {shape:?}: {}", clean(&entry.why));
        }
        text
    }
}

/// A text without line breaks and other control characters.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
