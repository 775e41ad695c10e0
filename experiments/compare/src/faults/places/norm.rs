//! Mistakes in batch normalisations.

use spec::{Kind, Module};

use super::super::edit::{Change, Edit, Rewrite};
use super::super::expr::{Expr, Statistics};
use super::super::graph::{ModelGraph, change};
use super::super::rewrite;

/// One change for each batch normalisation for which `edits` returns the edits.
fn each_norm(
    graph: &ModelGraph,
    variant: &'static str,
    edits: impl Fn(&Module) -> Option<Vec<Edit>>,
) -> Vec<Change> {
    let place = |m: &Module| Some(change(variant, variant, m.id, edits(m)?));
    graph.of_kind(Kind::BatchNorm).filter_map(place).collect()
}

/// The edits of a normalisation's parameters, by name, such as `running_mean`.
fn leaves(m: &Module, rewrites: &[(&str, Rewrite)]) -> Option<Vec<Edit>> {
    let edit =
        |(leaf, rewrite): &(&str, Rewrite)| Edit::Weight(format!("{}.{leaf}", m.name), *rewrite);
    Some(rewrites.iter().map(edit).collect())
}

/// The default eps of Keras, 1e-3.
pub fn eps(graph: &ModelGraph) -> Vec<Change> {
    each_norm(graph, "eps 1e-3 instead of 1e-5", |m| Some(vec![Edit::Eps(m.id, 1e-3)]))
}

/// The default eps of some other frameworks, 1e-6.
pub fn eps_small(graph: &ModelGraph) -> Vec<Change> {
    each_norm(graph, "eps 1e-6 instead of 1e-5", |m| Some(vec![Edit::Eps(m.id, 1e-6)]))
}

/// No eps at all.
pub fn eps_zero(graph: &ModelGraph) -> Vec<Change> {
    each_norm(graph, "eps 0 instead of 1e-5", |m| Some(vec![Edit::Eps(m.id, 0.0)]))
}

/// Running statistics that kept their initial values.
pub fn statistics(graph: &ModelGraph) -> Vec<Change> {
    each_norm(graph, "the running statistics were not loaded (mean 0, variance 1)", |m| {
        leaves(m, &[("running_mean", rewrite::zero), ("running_var", rewrite::one)])
    })
}

/// Weight and bias that kept their initial values.
pub fn affine(graph: &ModelGraph) -> Vec<Change> {
    each_norm(graph, "weight and bias were not loaded (1 and 0)", |m| {
        leaves(m, &[("weight", rewrite::one), ("bias", rewrite::zero)])
    })
}

/// A running variance that is used as a standard deviation.
pub fn deviation(graph: &ModelGraph) -> Vec<Change> {
    each_norm(graph, "running_var is used as the standard deviation", |m| {
        leaves(m, &[("running_var", rewrite::square)])
    })
}

/// Training mode. A map of one pixel is not a place: most frameworks report an error there.
pub fn batch(graph: &ModelGraph) -> Vec<Change> {
    each_norm(graph, "the batch's own statistics are used (training mode)", |m| {
        let Expr::Norm(x, name, Statistics::Running(eps)) = graph.network.expr(m.id) else {
            return None;
        };
        let expr = Expr::Norm(x.clone(), name.clone(), Statistics::Batch(*eps));
        (graph.area(m.id) > 1).then(|| vec![Edit::Compute(m.id, expr)])
    })
}

/// A missing batch normalisation.
pub fn missing(graph: &ModelGraph) -> Vec<Change> {
    each_norm(graph, "the batch normalisation is left out", |m| {
        Some(vec![Edit::Compute(m.id, graph.operand(m.id)?)])
    })
}
