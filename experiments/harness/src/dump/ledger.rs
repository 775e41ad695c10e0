//! The ledger: what became of every array of a dump. The verdict is computed from it, so that no
//! array that bears a known name can be overlooked.

use std::collections::BTreeMap;

use reports::record::{ArrayState, LedgerEntry};
use spec::{Model, ModuleId, Selection, Tensor};

use super::chain::{Cause, Reading};
use super::{Dump, Offered, State};

/// What a comparison found at an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// The module that it was compared at.
    module: ModuleId,
    /// The array whose bits it has.
    same_as: Option<usize>,
    /// Whether it was within the bound each time.
    within: bool,
}

impl Fate {
    /// Compared at a module; [`Fate::judge`] says how it came out.
    pub fn compared(module: ModuleId) -> Self {
        Fate { module, same_as: None, within: true }
    }

    /// The same bits as another array that shows this module.
    pub fn same(module: ModuleId, as_array: usize) -> Self {
        Fate { module, same_as: Some(as_array), within: true }
    }

    /// One comparison of it.
    pub fn judge(&mut self, within: bool) {
        self.within &= within;
    }

    /// The module that it was compared at.
    pub fn module(&self) -> ModuleId {
        self.module
    }

    /// Whether it was within the bound each time.
    pub fn passed(&self) -> bool {
        self.within
    }
}

impl Offered {
    /// What an engine shows of a module.
    pub fn engine(value: Tensor) -> Self {
        Offered { array: 0, value, after_relu: false, sum: None }
    }
}

/// What is known when the ledger is closed.
pub struct Closing<'a> {
    /// What the comparison found, by array.
    pub fates: &'a BTreeMap<usize, Fate>,
    /// What arrays show instead of their modules.
    pub readings: &'a BTreeMap<ModuleId, Reading>,
    /// The layers that were asked for.
    pub selection: &'a Selection,
    /// Whether the clip of this dump is what the networks were given.
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
        State::Unknown => return (ArrayState::Unknown, None),
        State::Refused(why) => return (ArrayState::Refused, Some(why.clone())),
        State::Step if closing.steps_compared => return (ArrayState::Compared, None),
        State::Step => {
            return (ArrayState::NotSelected, Some("--input VIDEO compares it".to_owned()));
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
            (ArrayState::Same, Some(format!("the same bits as {}", dump.arrays[*other].name)))
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
            let why = "nothing was there to compare it with".to_owned();
            (ArrayState::Refused, Some(why))
        }
    }
}

/// The ledger in one line: `192 arrays: 188 compared, 3 the same as another, 1 the clip`.
pub fn summary(entries: &[LedgerEntry]) -> String {
    let words = [
        (ArrayState::Compared, "compared"),
        (ArrayState::Same, "the same as another"),
        (ArrayState::Fused, "fused into another module and compared there"),
        (ArrayState::Clip, "the clip"),
        (ArrayState::NotSelected, "not asked for"),
        (ArrayState::Unknown, "of no known name"),
        (ArrayState::Refused, "refused"),
    ];
    let counted = words.iter().filter_map(|(state, words)| {
        let count = entries.iter().filter(|entry| entry.state == *state).count();
        (count > 0).then(|| format!("{count} {words}"))
    });
    let counted: Vec<String> = counted.collect();
    format!("{} arrays: {}", entries.len(), counted.join(", "))
}
