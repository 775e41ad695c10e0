//! Mistakes in ReLUs and sigmoids. Some of these are not modules of their own; then the modules that
//! read them are changed.

use spec::{Kind, ModuleId};

use super::super::edit::{Change, Edit};
use super::super::expr::{Expr, Function};
use super::super::graph::{ModelGraph, change};

/// The note for an array that was recorded by a hook that kept a reference.
pub const AFTER_RELU: &str = "recorded after the ReLU that follows (an in-place ReLU overwrote \
                              what the hook kept; clone in the hook)";

/// The operands of all ReLUs, in order of execution.
fn relu_operands(graph: &ModelGraph) -> Vec<Expr> {
    let mut found: Vec<Expr> = vec![];
    for (_, expr) in graph.network.exprs() {
        for part in expr.all() {
            if let Expr::Each(x, Function::Relu) = part
                && !found.contains(x)
            {
                found.push((**x).clone());
            }
        }
    }
    found
}

/// A ReLU in words, by its operand: a batch normalisation, or the sum at the end of a block.
fn relu_in_words(graph: &ModelGraph, before: &Expr, edits: &[Edit]) -> String {
    match (before, edits.first()) {
        (Expr::Output(id), _) => format!("the ReLU after {}", graph.name(*id)),
        (_, Some(Edit::Compute(id, _))) => format!("the ReLU at the end of {}", graph.name(*id)),
        _ => "the ReLU".to_owned(),
    }
}

/// Replaces each ReLU by `other`. `verb` ends the sentence that begins with the ReLU.
fn relu_replaced(
    graph: &ModelGraph,
    variant: &'static str,
    verb: &str,
    other: impl Fn(Expr) -> Expr,
) -> Vec<Change> {
    let place = |before: Expr| {
        let relu = before.clone().each(Function::Relu);
        let edits = graph.exchange(&relu, &other(before.clone()));
        let what = format!("{} {verb}", relu_in_words(graph, &before, &edits));
        Some(change(variant, what, first(&edits)?, edits))
    };
    relu_operands(graph).into_iter().filter_map(place).collect()
}

/// The first module whose output the edits replace.
pub fn first(edits: &[Edit]) -> Option<ModuleId> {
    let id = |edit: &Edit| if let Edit::Compute(id, _) = edit { Some(*id) } else { None };
    edits.iter().filter_map(id).min()
}

/// A missing ReLU.
pub fn relu_missing(graph: &ModelGraph) -> Vec<Change> {
    relu_replaced(graph, "a ReLU is missing", "is missing", |x| x)
}

/// ReLU6 instead of ReLU, which changes a result only if a value exceeds 6.
pub fn relu6(graph: &ModelGraph) -> Vec<Change> {
    relu_replaced(graph, "ReLU6 instead of ReLU", "is a ReLU6", |x| x.each(Function::Relu6))
}

/// A ReLU after a batch normalisation that is not followed by one in the network.
pub fn relu_added(graph: &ModelGraph) -> Vec<Change> {
    let followed = relu_operands(graph);
    let variant = "a ReLU where the network has none";
    graph
        .of_kind(Kind::BatchNorm)
        .filter(|m| !followed.contains(&Expr::Output(m.id)))
        .map(|m| {
            let edit = Edit::Compute(m.id, Expr::Own.each(Function::Relu));
            let what = format!("a ReLU after {}, where the network has none", m.name);
            change(variant, what, m.id, vec![edit])
        })
        .collect()
}

/// A mistake of the recording, not of the network: the array was recorded after the in-place ReLU.
pub fn late_hook(graph: &ModelGraph) -> Vec<Change> {
    let followed = relu_operands(graph);
    graph
        .of_kind(Kind::BatchNorm)
        .filter(|m| followed.contains(&Expr::Output(m.id)))
        .map(|m| {
            let edit = Edit::Compute(m.id, Expr::Own.each(Function::Relu));
            change(AFTER_RELU, AFTER_RELU, m.id, vec![edit])
        })
        .collect()
}

/// The sigmoid of the IOI branch one convolution too early.
pub fn sigmoid_early(graph: &ModelGraph) -> Vec<Change> {
    let variant = "the sigmoid is applied before glo_conv.6 instead of after it";
    let place = |ctl: &spec::model::Ctl| {
        let ioi = &ctl.spatial_conv;
        let (before, conv) = (Expr::Output(ioi.glo_mid_relu), ioi.glo_out.id);
        let early = graph.exchange_in(conv, &before, &before.clone().each(Function::Sigmoid))?;
        let after = Edit::Compute(ioi.glo_sigmoid, Expr::Output(conv));
        Some(change(variant, variant, conv, vec![early, after]))
    };
    graph.model.ctls().filter_map(place).collect()
}

fn sigmoids(graph: &ModelGraph, variant: &'static str, other: fn(Expr) -> Expr) -> Vec<Change> {
    let place = |m: &spec::Module| {
        let Expr::Each(x, Function::Sigmoid) = graph.network.expr(m.id) else { return None };
        Some(change(variant, variant, m.id, vec![Edit::Compute(m.id, other((**x).clone()))]))
    };
    graph.of_kind(Kind::Sigmoid).filter_map(place).collect()
}

/// A missing sigmoid.
pub fn sigmoid_missing(graph: &ModelGraph) -> Vec<Change> {
    sigmoids(graph, "the sigmoid is missing", |x| x)
}

/// A hard sigmoid instead of a sigmoid.
pub fn hard_sigmoid(graph: &ModelGraph) -> Vec<Change> {
    let variant = "the sigmoid is a hard sigmoid, ReLU6(x + 3) / 6";
    sigmoids(graph, variant, |x| x.each(Function::HardSigmoid))
}
