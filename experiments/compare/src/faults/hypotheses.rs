//! The mistakes that may explain a divergence at a module: each known mistake that a port can make at this
//! module, or at a module before it that the candidate does not show.

use spec::ModuleId;

use super::catalogue::Fault;
use super::edit::Change;
use super::graph::ModelGraph;
use super::places::activation;
use super::reach::first_shown;

/// The name for an array that was recorded too late. This is a mistake of the recording, not of the
/// network, so it is not in the catalogue.
const LATE_HOOK: &str = "late-hook";

/// The mistakes whose effect first shows at the output of the module `at`, if every module for which
/// `shown` is true is fed the right input. They are made at this module, or between the last modules
/// that are shown and this one.
pub fn hypotheses(
    graph: &ModelGraph,
    at: ModuleId,
    shown: &dyn Fn(ModuleId) -> bool,
) -> Vec<Change> {
    let catalogue = Fault::ALL.iter().flat_map(|fault| fault.places_on(graph));
    let hooks = activation::late_hook(graph).into_iter();
    let hooks = hooks.map(|change| Change { word: LATE_HOOK, ..change });
    let first_seen = |change: &Change| first_shown(graph, change, shown);
    let mut found: Vec<Change> =
        catalogue.chain(hooks).filter(|change| first_seen(change) == Some(at)).collect();
    // Two places may be the same mistake in the same words; one of them is enough.
    let mut seen = std::collections::HashSet::new();
    found.retain(|change| seen.insert((change.word, change.what.clone())));
    found
}
