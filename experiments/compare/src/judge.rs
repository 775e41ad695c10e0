//! From errors to verdicts, and to the culprit: the layer to look at first.

use std::collections::BTreeSet;

use record::{Culprit, Layer, LayerKind, LayerVerdict, Verdict};
use spec::{Kind, Model, Module, ModuleId, Selection};

use super::Measured;
use super::measure::within;
use crate::faults::ModelGraph;

/// The verdict on a run and on each of its layers.
pub struct Findings {
    /// The verdict on the run.
    pub verdict: Verdict,
    /// The first layer with too much own error, or else the first one with too much accumulated
    /// error; None if there is neither.
    pub culprit: Option<ModuleId>,
    /// Every selected layer with its verdict, in order of execution.
    pub layers: Vec<Layer>,
}

/// Judges what was measured: a list with an entry for each module, as in
/// [`Measurements::layers`](super::Measurements::layers).
///
/// `fused` is true for an engine: every module that it does not show is checked through the next one.
/// In a dump that holds for modules without weights, and for chains of a convolution, its normalisation and
/// its activation.
pub fn judge(
    model: &Model,
    selection: &Selection,
    measured: &[Measured],
    batch: usize,
    fused: bool,
) -> Findings {
    let chosen: Vec<&Module> =
        model.modules().iter().filter(|m| selection.contains(m.id)).collect();
    let graph = ModelGraph::new(model);
    let hollow = is_hollow(&graph, &chosen, measured);
    let proves = |id: ModuleId| {
        let known = &measured[id.0];
        let long = || nearest_before(&graph, id, measured).0.len() > SPAN;
        known.inherited.is_some()
            && !known.constant
            && !(hollow && known.silent)
            && (known.budget.is_none_or(|b| b.is_telling()) || !long())
    };
    let verdicts: Vec<_> = chosen
        .iter()
        .enumerate()
        .map(|(at, m)| match own_verdict(&measured[m.id.0]) {
            Some(LayerVerdict::Diverged) if has_wrong_input(&graph, m.id, measured) => {
                (LayerVerdict::Inherited, None)
            }
            Some(LayerVerdict::Pass) if !proves(m.id) => (LayerVerdict::NotCompared, None),
            Some(verdict) => (verdict, None),
            None => match covered_by(&graph, &chosen[at..], (measured, &proves), fused) {
                Some(other) => (LayerVerdict::Covered, Some(other)),
                None => (LayerVerdict::NotCompared, None),
            },
        })
        .collect();
    let first = |wanted: LayerVerdict| {
        let at = verdicts.iter().position(|(verdict, _)| *verdict == wanted)?;
        Some(chosen[at].id)
    };
    let culprit = first(LayerVerdict::Diverged).or(first(LayerVerdict::Inherited));
    let verdict = match (culprit, first(LayerVerdict::NotCompared)) {
        (Some(_), _) => Verdict::Diverged,
        (None, Some(_)) => Verdict::Incomplete,
        (None, None) => Verdict::Pass,
    };
    let layers = chosen.iter().zip(verdicts).map(|(m, (verdict, covered_by))| {
        let covered_by = covered_by.map(|other| other.name.clone());
        let mut found = layer(m, &measured[m.id.0], batch, verdict, covered_by);
        if verdict == LayerVerdict::NotCompared {
            found.note = proves_nothing(&measured[m.id.0]).or(found.note);
        }
        found
    });
    Findings { verdict, culprit, layers: layers.collect() }
}

fn own_verdict(measured: &Measured) -> Option<LayerVerdict> {
    let inherited = measured.inherited.as_ref()?;
    Some(match &measured.introduced {
        Some(introduced) if !within(introduced) => LayerVerdict::Diverged,
        None if !within(inherited) => LayerVerdict::Diverged,
        _ if !within(inherited) => LayerVerdict::Inherited,
        _ => LayerVerdict::Pass,
    })
}

/// If more modules than these lie between two compared ones, what is allowed after them may be so much that passing
/// proves nothing. A block has about 45.
pub const SPAN: usize = 20;

/// What a comparison with one value everywhere shows, and what helps.
pub const SILENT: &str = "the reference holds one value everywhere here, which proves nothing: give trained weights \
                          or formula:0 as --weights, and a clip that is not of one value";

/// Whether the reference, where it was compared, holds one value everywhere in a module that everything passes
/// through, or in most modules with weights. A branch alone may end in zeros, as new residual branches do.
fn is_hollow(graph: &ModelGraph, chosen: &[&Module], measured: &[Measured]) -> bool {
    let compared = |module: &&&Module| measured[module.id.0].inherited.is_some();
    let silent = |module: &&&Module| measured[module.id.0].silent;
    let narrow = |module: &&Module| {
        let later = measured.len();
        let behind = |at: usize| graph.reads(ModuleId(at)).iter().all(|read| *read >= module.id);
        (module.id.0 + 1..later).all(behind)
    };
    let weighted = chosen.iter().filter(|module| module.kind.has_weights()).filter(compared);
    let (silent_ones, count) = (weighted.clone().filter(silent).count(), weighted.count());
    2 * silent_ones > count || chosen.iter().filter(silent).any(narrow)
}

/// Why a module that was compared does not count as compared; None if it was not compared.
fn proves_nothing(measured: &Measured) -> Option<String> {
    if measured.constant {
        return Some("both dumps hold one value everywhere here, which proves nothing".to_owned());
    }
    if measured.silent {
        return Some(SILENT.to_owned());
    }
    let budget = measured.budget.filter(|_| measured.inherited.is_some())?;
    Some(format!(
        "in {} an error of up to {:.0} % passes here, which proves nothing: compare layers before it, too",
        budget.precision,
        100.0 * budget.passes_up_to()
    ))
}

/// Whether a module whose value is right in the whole run only seems to diverge, because what was recorded of
/// a module before it, from which its own error was computed, is wrong.
fn has_wrong_input(graph: &ModelGraph, id: ModuleId, measured: &[Measured]) -> bool {
    if !measured[id.0].inherited.as_ref().is_some_and(within) {
        return false;
    }
    let before = nearest_before(graph, id, measured).1;
    before.iter().any(|id| own_verdict(&measured[id.0]) == Some(LayerVerdict::Diverged))
}

/// The module through which the first one of `rest`, which was not compared, is checked: the module
/// that its array shows, or the next compared one that reads it. None if nothing checks it.
fn covered_by<'a>(
    graph: &ModelGraph<'a>,
    rest: &[&'a Module],
    (measured, proves): (&[Measured], &dyn Fn(ModuleId) -> bool),
    fused: bool,
) -> Option<&'a Module> {
    let model = graph.model;
    let (module, later) = rest.split_first()?;
    if let Some(shown_at) = measured[module.id.0].shown_at {
        return proves(shown_at).then(|| model.module(shown_at));
    }
    // A chain of a convolution, its normalisation and its ReLU or sigmoid is checked through the next of
    // them that was compared if nothing else reads the values between.
    if module.kind.has_weights()
        && let Some(last) = chain_end(graph, module.id, measured)
        && proves(last)
    {
        return Some(model.module(last));
    }
    if module.kind.has_weights() && !fused {
        return None;
    }
    let next = later.iter().find(|m| {
        let Measured { inherited, shown_at, .. } = &measured[m.id.0];
        let lacking = m.kind.has_weights() && !fused && shown_at.is_none();
        inherited.is_some() || lacking
    })?;
    // A convolution that lacks may itself be checked through the end of its chain.
    let end = || chain_end(graph, next.id, measured).map(|end| model.module(end));
    let next = if measured[next.id.0].inherited.is_some() { *next } else { end()? };
    // The output of a block, the clip and a pooled map are read by the next block. The output of any
    // other module is read within its own block.
    let crosses = matches!(module.kind, Kind::Block | Kind::Input | Kind::Pool);
    let near = next.block == module.block || crosses;
    (near && proves(next.id)).then_some(next)
}

/// The first module with a value among those that alone read `id`, one after the other: a normalisation, a
/// ReLU or a sigmoid. A runtime that fuses them gives the last one only.
fn chain_end(graph: &ModelGraph, id: ModuleId, measured: &[Measured]) -> Option<ModuleId> {
    let mut at = id;
    loop {
        let &[reader] = graph.readers(at) else { return None };
        let kind = graph.model.module(reader).kind;
        let follows = matches!(kind, Kind::BatchNorm | Kind::Relu | Kind::Sigmoid);
        if !follows || graph.reads(reader) != [at] {
            return None;
        }
        let Measured { inherited, shown_at, .. } = &measured[reader.0];
        match (inherited, shown_at) {
            (Some(_), _) => return Some(reader),
            (None, Some(shown_at)) => return Some(*shown_at),
            (None, None) => at = reader,
        }
    }
}

fn layer(
    module: &Module,
    measured: &Measured,
    batch: usize,
    verdict: LayerVerdict,
    covered_by: Option<String>,
) -> Layer {
    Layer {
        name: module.name.clone(),
        alias: module.alias.clone(),
        kind: layer_kind(module.kind),
        block: module.block.clone(),
        shape: module.batch_shape(batch).into_iter().map(|extent| extent as u64).collect(),
        params: module.params,
        macs: module.macs,
        n: measured.budget.map_or(1.0, |budget| budget.roundings.l2),
        introduced: measured.introduced,
        inherited: measured.inherited,
        verdict,
        covered_by,
        note: measured.note.clone(),
    }
}

fn layer_kind(kind: Kind) -> LayerKind {
    match kind {
        Kind::Input => LayerKind::Input,
        Kind::Conv => LayerKind::Conv,
        Kind::BatchNorm => LayerKind::Bn,
        Kind::Relu => LayerKind::Relu,
        Kind::Sigmoid => LayerKind::Sigmoid,
        Kind::Pool => LayerKind::Pool,
        Kind::PosEmbed => LayerKind::PosEmbed,
        Kind::SpatialConv => LayerKind::SpatialConv,
        Kind::Ctl => LayerKind::Ctl,
        Kind::Block => LayerKind::Block,
        Kind::Linear => LayerKind::Linear,
    }
}

/// The culprit in words: `first goes wrong at layer4.0.conv2.spatial_conv (ctl14): pos_embed`.
///
/// `introduced` is false if no single layer has too much own error. Modules directly before the
/// culprit that were not compared are as suspect as the culprit, so the whole span is named.
pub fn culprit(model: &Model, id: ModuleId, introduced: bool, measured: &[Measured]) -> Culprit {
    let name = &model.module(id).name;
    let (composite, leaf) = split(model, name);
    let alias = model
        .modules()
        .iter()
        .filter(|m| m.alias.is_some())
        .find(|m| *name == m.name || name.starts_with(&format!("{}.", m.name)))
        .and_then(|m| m.alias.clone());
    let shown_alias = alias.as_ref().map(|a| format!(" ({a})")).unwrap_or_default();
    let place = match (&composite, leaf) {
        (Some(composite), leaf) => format!("{composite}{shown_alias}: {leaf}"),
        (None, leaf) => format!("{leaf}{shown_alias}"),
    };
    let (unseen, last) = unseen_before(model, id, measured);
    let after = (!unseen.is_empty()).then(|| match last {
        Some(last) => model.module(last).name.clone(),
        None => "the clip".to_owned(),
    });
    let text = match (introduced, &after) {
        (true, None) => format!("first goes wrong at {place}"),
        (true, Some(after)) => format!(
            "first goes wrong between {after} and {place}; not compared between them: {}",
            some_of(model, &unseen)
        ),
        (false, _) => format!(
            "no single layer has too much own error; the accumulated error first exceeds the \
             bound at {place}"
        ),
    };
    Culprit {
        name: name.clone(),
        alias,
        composite,
        text,
        after,
        unseen: unseen.iter().map(|id| model.module(*id).name.clone()).collect(),
        explanation: None,
        hypotheses: vec![],
    }
}

/// The first three names of a list, and how many more there are.
fn some_of(model: &Model, modules: &[ModuleId]) -> String {
    const SHOWN: usize = 3;
    let names: Vec<&str> =
        modules.iter().take(SHOWN).map(|id| model.module(*id).name.as_str()).collect();
    match modules.len().saturating_sub(SHOWN) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// The modules that were not compared and whose values reach this one without passing through a
/// compared module, in order of execution; and the last compared module before them.
fn unseen_before(
    model: &Model,
    id: ModuleId,
    measured: &[Measured],
) -> (Vec<ModuleId>, Option<ModuleId>) {
    let graph = ModelGraph::new(model);
    let (unseen, compared) = nearest_before(&graph, id, measured);
    (unseen.into_iter().collect(), compared.last().copied())
}

/// Whether the own error of a module, which is wrong, does not come from what was recorded of the modules before it:
/// theirs is a hundredth of it at most.
pub fn stands_alone(model: &Model, id: ModuleId, measured: &[Measured]) -> bool {
    let own = |id: ModuleId| measured[id.0].introduced.map(|errors| errors.rel_l2);
    let before = nearest_before(&ModelGraph::new(model), id, measured).1;
    own(id).is_some_and(|error| {
        before.iter().all(|id| own(*id).is_none_or(|earlier| 100.0 * earlier <= error))
    })
}

/// The modules whose values reach this one without passing through a compared module: those that were not
/// compared, and the compared ones at their end.
fn nearest_before(
    graph: &ModelGraph,
    id: ModuleId,
    measured: &[Measured],
) -> (BTreeSet<ModuleId>, BTreeSet<ModuleId>) {
    let (mut unseen, mut compared) = (BTreeSet::new(), BTreeSet::new());
    let mut queue = graph.reads(id).to_vec();
    while let Some(read) = queue.pop() {
        match measured.get(read.0) {
            Some(m) if m.inherited.is_some() => {
                compared.insert(read);
            }
            Some(_) if unseen.insert(read) => queue.extend(graph.reads(read)),
            _ => {}
        }
    }
    (unseen, compared)
}

/// The innermost block, CTL or spatial convolution that a module belongs to, and the rest of its name.
fn split<'a>(model: &Model, name: &'a str) -> (Option<String>, &'a str) {
    let cuts = name.rmatch_indices('.').map(|(at, _)| (&name[..at], &name[at + 1..]));
    for (front, leaf) in cuts {
        let composite = model
            .find(front)
            .is_some_and(|m| matches!(m.kind, Kind::Block | Kind::Ctl | Kind::SpatialConv));
        if composite {
            return (Some(front.to_owned()), leaf);
        }
    }
    (None, name)
}

#[cfg(test)]
mod tests {
    use record::Errors;
    use spec::Config;

    use super::*;

    fn model() -> Model {
        Model::new(Config { depth: 10, width: 0.125, ..Config::default() }).unwrap()
    }

    fn errors(ratio: f64) -> Option<Errors> {
        let nan = u64::from(ratio.is_nan());
        Some(Errors {
            rel_l2: 0.0,
            max_abs: 0.0,
            max_rel: 0.0,
            ulp: 0,
            cosine: 1.0,
            ratio,
            e_ref: 0.0,
            nan,
            inf: 0,
        })
    }

    fn good() -> Measured {
        Measured { introduced: errors(0.5), inherited: errors(0.5), ..Measured::default() }
    }

    fn judged(model: &Model, measured: &[Measured], fused: bool) -> Findings {
        judge(model, &Selection::all(model.modules()), measured, 1, fused)
    }

    fn at(model: &Model, name: &str) -> usize {
        model.find(name).unwrap().id.0
    }

    #[test]
    fn all_within_the_bound_is_a_pass() {
        let m = model();
        let found = judged(&m, &vec![good(); m.modules().len()], false);
        assert_eq!((found.verdict, found.culprit), (Verdict::Pass, None));
    }

    #[test]
    fn a_module_that_was_not_compared_makes_the_verdict_incomplete() {
        let m = model();
        for name in ["layer2.0.conv1.temporal_conv", "layer1.0.bn1", "fc"] {
            let mut measured = vec![good(); m.modules().len()];
            measured[at(&m, name)] = Measured::default();
            let found = judged(&m, &measured, false);
            assert_eq!(found.verdict, Verdict::Incomplete, "{name}");
        }
    }

    #[test]
    fn a_convolution_is_covered_by_its_normalisation() {
        let m = model();
        let mut measured = vec![good(); m.modules().len()];
        let conv = at(&m, "layer1.0.conv1.spatial_conv.glo_conv.0");
        measured[conv] = Measured::default();
        let found = judged(&m, &measured, false);
        assert_eq!(found.verdict, Verdict::Pass);
        let by = found.layers[conv].covered_by.as_deref();
        assert_eq!(by, Some("layer1.0.conv1.spatial_conv.glo_conv.1"));
    }

    #[test]
    fn a_fused_chain_is_covered_by_its_last_module_and_a_longer_one_is_not() {
        let m = model();
        let mut measured = vec![good(); m.modules().len()];
        let ctl = |name: &str| at(&m, &format!("layer1.0.conv1.{name}"));
        let glo = |n: usize| ctl(&format!("spatial_conv.glo_conv.{n}"));
        let gate = |n: usize| ctl(&format!("param_conv.{n}"));
        for lacking in [glo(0), glo(1), glo(3), glo(4), glo(6), gate(1), gate(2), gate(4)] {
            measured[lacking] = Measured::default();
        }
        let found = judged(&m, &measured, false);
        assert_eq!(found.verdict, Verdict::Pass);
        let by = |at: usize| found.layers[at].covered_by.clone().unwrap();
        assert_eq!(by(glo(0)), "layer1.0.conv1.spatial_conv.glo_conv.2");
        assert_eq!(by(gate(4)), "layer1.0.conv1.param_conv.5");
        // Without the ReLU between them, two convolutions are one unknown.
        measured[glo(2)] = Measured::default();
        assert_eq!(judged(&m, &measured, false).verdict, Verdict::Incomplete);
    }

    #[test]
    fn a_relu_that_a_dump_lacks_is_covered_by_the_next_convolution() {
        let m = model();
        let mut measured = vec![good(); m.modules().len()];
        let relu = at(&m, "layer1.0.conv1.spatial_conv.glo_conv.2");
        measured[relu] = Measured::default();
        let embedding = at(&m, "layer1.0.conv1.spatial_conv.pos_embed");
        measured[embedding] = Measured::default();
        let found = judged(&m, &measured, false);
        assert_eq!(found.verdict, Verdict::Pass);
        let by = found.layers[relu].covered_by.as_deref();
        assert_eq!(by, Some("layer1.0.conv1.spatial_conv.glo_conv.3"));
    }

    #[test]
    fn logits_alone_are_incomplete() {
        let m = model();
        let mut measured = vec![Measured::default(); m.modules().len()];
        measured[at(&m, "fc")] = good();
        for fused in [false, true] {
            assert_eq!(judged(&m, &measured, fused).verdict, Verdict::Incomplete);
        }
    }

    #[test]
    fn the_first_to_introduce_is_named_not_the_first_to_differ() {
        let m = model();
        let mut measured = vec![good(); m.modules().len()];
        let bad = at(&m, "layer1.0.conv2.spatial_conv.glo_conv.3");
        measured[bad].introduced = errors(f64::NAN);
        measured[bad - 1].inherited = errors(5.0);
        let found = judged(&m, &measured, false);
        assert_eq!((found.verdict, found.culprit), (Verdict::Diverged, Some(ModuleId(bad))));
        let text = culprit(&m, ModuleId(bad), true, &[]).text;
        let expected = "first goes wrong at layer1.0.conv2.spatial_conv (ctl2): glo_conv.3";
        assert_eq!(text, expected);
    }

    #[test]
    fn modules_that_were_not_compared_are_as_suspect_as_the_culprit() {
        let m = model();
        let mut measured = vec![good(); m.modules().len()];
        let bad = at(&m, "layer1.0.conv1.param_conv.0");
        measured[bad - 1] = Measured::default();
        let found = culprit(&m, ModuleId(bad), true, &measured);
        let expected = "first goes wrong between bn1 and layer1.0.conv1 (ctl1): param_conv.0; \
                        not compared between them: maxpool";
        assert_eq!(found.text, expected);
        assert_eq!(found.unseen, ["maxpool"]);
        // With only the logits compared, every module is suspect and no single one is named.
        let mut measured = vec![Measured::default(); m.modules().len()];
        measured[at(&m, "fc")] = good();
        let found = culprit(&m, m.output(), true, &measured);
        assert!(
            found.text.starts_with("first goes wrong between the clip and fc"),
            "{}",
            found.text
        );
    }

    #[test]
    fn culprits_outside_a_ctl_are_named_too() {
        let m = model();
        let text = |name: &str| culprit(&m, m.find(name).unwrap().id, true, &[]).text;
        assert_eq!(text("conv1"), "first goes wrong at conv1");
        assert_eq!(text("layer1.0.bn1"), "first goes wrong at layer1.0: bn1");
        assert_eq!(text("layer1.0.conv2"), "first goes wrong at layer1.0 (ctl2): conv2");
    }
}
