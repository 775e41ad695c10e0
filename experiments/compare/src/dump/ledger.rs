//! The ledger: every array of a dump, each in exactly one state. The verdict depends on it, so that no
//! array that bears the name of a module can be overlooked.
//!
//! It is filled in three steps. [`Dump::open`] decides which arrays can be compared (the private
//! `State`). The comparison adds a [`Fate`] for each array that it compared. [`ledger`] combines the two
//! into one [`ArrayState`] for each array.

use std::collections::BTreeMap;

use record::{ArrayState, LedgerEntry};
use spec::{Model, ModuleId, Selection, Tensor};

use super::chain::{Cause, Reading};
use super::names::Meaning;
use super::{Dump, Offered, State, orphans};

/// The result of comparing an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// The module with which it was compared.
    module: ModuleId,
    /// Index of the array that it is identical to, if it was not compared for this reason.
    same_as: Option<usize>,
    /// Whether it passed in every pass.
    within: bool,
}

impl Fate {
    /// The array was compared with a module; [`Fate::judge`] adds the results.
    pub fn compared(module: ModuleId) -> Self {
        Fate { module, same_as: None, within: true }
    }

    /// The array is identical to another one that shows this module.
    pub fn same(module: ModuleId, as_array: usize) -> Self {
        Fate { module, same_as: Some(as_array), within: true }
    }

    /// Adds the result of one comparison: whether the error was within the bound.
    pub fn judge(&mut self, within: bool) {
        self.within &= within;
    }

    /// The module with which it was compared.
    pub fn module(&self) -> ModuleId {
        self.module
    }

    /// Whether it was not compared because it is identical to another array of its module.
    pub fn is_copy(&self) -> bool {
        self.same_as.is_some()
    }

    /// Whether it passed in every pass.
    pub fn passed(&self) -> bool {
        self.within
    }
}

impl Offered {
    /// The value that an engine gives for a module.
    pub fn engine(value: Tensor) -> Self {
        Offered { array: 0, value, after_relu: false, sum: None }
    }
}

/// What is known after the comparison, from which the states are derived.
pub struct Closing<'a> {
    /// The results of the comparison, by index of the array.
    pub fates: &'a BTreeMap<usize, Fate>,
    /// What arrays show instead of the modules that they are named after.
    pub readings: &'a BTreeMap<ModuleId, Reading>,
    /// The modules that the user selected.
    pub selection: &'a Selection,
    /// Whether the networks were given the clip of this dump.
    pub gave_clip: bool,
    /// Whether the steps before the network were compared.
    pub steps_compared: bool,
}

/// The state of every array of a dump, in the file's order.
pub fn ledger(dump: &Dump, model: &Model, closing: &Closing) -> Vec<LedgerEntry> {
    let entry = |index: usize| {
        let array = &dump.arrays[index];
        let module = array.meaning.module();
        let (state, detail) = state_of(dump, model, closing, index);
        LedgerEntry {
            array: array.name.clone(),
            module: module.map(|id| model.module(id).name.clone()),
            state,
            detail,
        }
    };
    (0..dump.arrays.len()).map(entry).collect()
}

fn state_of(
    dump: &Dump,
    model: &Model,
    closing: &Closing,
    index: usize,
) -> (ArrayState, Option<String>) {
    let array = &dump.arrays[index];
    match &array.state {
        State::Unknown if array.meaning == Meaning::LeftOut => {
            let nan = if holds_nan(dump, &array.name) { ", and holds NaN" } else { "" };
            return (ArrayState::Unknown, Some(format!("left out by the map of names{nan}")));
        }
        State::Unknown => {
            return match orphans::may_show(dump, model, index, closing.selection) {
                Some(module) => {
                    let why = format!(
                        "no module has this name, and no other array shows {}, which has its shape; say with \
                         --map which module it shows, or that it shows none",
                        module.name
                    );
                    (ArrayState::Refused, Some(why))
                }
                None => (ArrayState::Unknown, None),
            };
        }
        State::Refused(why) => return (ArrayState::Refused, Some(why.clone())),
        State::Step if closing.steps_compared => return (ArrayState::Compared, None),
        State::Step => {
            return (
                ArrayState::NotSelected,
                Some("compared if --input names the video".to_owned()),
            );
        }
        State::Fits { .. } => {}
    }
    let Some(own) = array.meaning.module() else { return (ArrayState::Unknown, None) };
    let is_clip = own == model.input && closing.gave_clip;
    match closing.fates.get(&index) {
        _ if is_clip && dump.input(model).is_some_and(|(_, name)| name == array.name) => {
            (ArrayState::Clip, None)
        }
        Some(fate) if !fate.within => (ArrayState::Compared, Some("beyond the bound".to_owned())),
        Some(Fate { same_as: Some(other), .. }) => {
            (ArrayState::Same, Some(format!("identical to {}", dump.arrays[*other].name)))
        }
        Some(fate) => {
            let shows = || Some(format!("shows {}", model.module(fate.module).name));
            match closing.readings.get(&own).map(|reading| reading.cause) {
                Some(Cause::Folded) => (ArrayState::Fused, shows()),
                Some(Cause::InPlace) => (ArrayState::Compared, shows()),
                None => (ArrayState::Compared, None),
            }
        }
        None if !closing.selection.contains(own) => (ArrayState::NotSelected, None),
        None => {
            let why = "there was no value to compare it with".to_owned();
            (ArrayState::Refused, Some(why))
        }
    }
}

/// Whether a value of an array is NaN. What cannot be read as numbers holds none.
fn holds_nan(dump: &Dump, name: &str) -> bool {
    let Ok(shape) = dump.npz.shape(name) else { return false };
    let values = dump.npz.read_plain(name, shape.iter().product());
    values.is_ok_and(|(_, values)| values.iter().any(|value| value.is_nan()))
}

/// The ledger in one line: `192 arrays: 188 compared, 3 identical to another array, 1 used as the clip`.
pub fn summary(entries: &[LedgerEntry]) -> String {
    let words = [
        (ArrayState::Compared, "compared"),
        (ArrayState::Same, "identical to another array"),
        (ArrayState::Fused, "fused into another module and compared there"),
        (ArrayState::Clip, "used as the clip"),
        (ArrayState::NotSelected, "not selected"),
        (ArrayState::Unknown, "with a name that no module has"),
        (ArrayState::Refused, "refused"),
    ];
    // An array that shows several modules has an entry for each, and counts once: as refused if it was
    // refused for one of them, and else as the first entry.
    let mut of_array: BTreeMap<&str, ArrayState> = BTreeMap::new();
    for entry in entries {
        let state = of_array.entry(&entry.array).or_insert(entry.state);
        if entry.state == ArrayState::Refused {
            *state = entry.state;
        }
    }
    let counted = words.iter().filter_map(|(state, words)| {
        let count = of_array.values().filter(|found| **found == *state).count();
        (count > 0).then(|| format!("{count} {words}"))
    });
    let counted: Vec<String> = counted.collect();
    format!("{} arrays: {}", of_array.len(), counted.join(", "))
}
