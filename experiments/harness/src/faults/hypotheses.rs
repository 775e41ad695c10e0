//! What may explain a divergence at a module: the mistakes that ports are known to make there, or
//! before it where that is not shown.

use spec::ModuleId;

use super::catalogue::Fault;
use super::edit::Change;
use super::ground::Ground;
use super::places::activation;
use super::reach::first_shown;

/// The word of a recording that came too late, which is no mistake of a network.
const LATE_HOOK: &str = "late-hook";

/// Mistakes whose effect is first seen at the output of this module, when everything that `shown`
/// tells is fed the right input: made at the module itself, or anywhere between what was compared
/// last and this module.
pub fn hypotheses(ground: &Ground, at: ModuleId, shown: &dyn Fn(ModuleId) -> bool) -> Vec<Change> {
    let catalogue = Fault::ALL.iter().flat_map(|fault| fault.places_on(ground));
    let hooks = activation::late_hook(ground).into_iter();
    let hooks = hooks.map(|change| Change { word: LATE_HOOK, ..change });
    let first_seen = |change: &Change| first_shown(ground, change, shown);
    let mut found: Vec<Change> =
        catalogue.chain(hooks).filter(|change| first_seen(change) == Some(at)).collect();
    // The same mistake may be made in the clip or where it is read; one of them is enough.
    let mut seen = std::collections::HashSet::new();
    found.retain(|change| seen.insert((change.word, change.what.clone())));
    found
}
