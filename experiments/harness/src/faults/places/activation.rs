//! ReLUs and sigmoids, also those that are no module of their own: what reads them is computed
//! again.

use spec::{Kind, ModuleId};

use super::super::edit::{Change, Edit};
use super::super::expr::{Expr, Function};
use super::super::ground::{Ground, change};

/// What follows a hook that keeps a reference.
pub const AFTER_RELU: &str = "recorded after the ReLU that follows (an in-place ReLU overwrites \
                              what a hook has seen; clone in the hook)";

/// Everything that a ReLU is made on, in order of execution.
fn rectified(ground: &Ground) -> Vec<Expr> {
    let mut found: Vec<Expr> = vec![];
    for (_, expr) in ground.network.exprs() {
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

/// A ReLU by what is before it: a batch normalisation, or the sum at the end of a block.
fn named(ground: &Ground, before: &Expr, edits: &[Edit]) -> String {
    match (before, edits.first()) {
        (Expr::Of(id), _) => format!("the ReLU after {}", ground.name(*id)),
        (_, Some(Edit::Compute(id, _))) => format!("the ReLU at the end of {}", ground.name(*id)),
        _ => "the ReLU".to_owned(),
    }
}

fn instead(
    ground: &Ground,
    variant: &'static str,
    verb: &str,
    other: impl Fn(Expr) -> Expr,
) -> Vec<Change> {
    let place = |before: Expr| {
        let relu = before.clone().each(Function::Relu);
        let edits = ground.exchange(&relu, &other(before.clone()));
        let what = format!("{} {verb}", named(ground, &before, &edits));
        Some(change(variant, what, first(&edits)?, edits))
    };
    rectified(ground).into_iter().filter_map(place).collect()
}

/// The first module that is computed again.
pub fn first(edits: &[Edit]) -> Option<ModuleId> {
    let id = |edit: &Edit| if let Edit::Compute(id, _) = edit { Some(*id) } else { None };
    edits.iter().filter_map(id).min()
}

/// A ReLU forgotten.
pub fn relu_missing(ground: &Ground) -> Vec<Change> {
    instead(ground, "a ReLU is missing", "is missing", |x| x)
}

/// ReLU6, which changes something only where a value exceeds 6.
pub fn relu6(ground: &Ground) -> Vec<Change> {
    instead(ground, "ReLU6 instead of ReLU", "is a ReLU6", |x| x.each(Function::Relu6))
}

/// A ReLU after a batch normalisation that none follows.
pub fn relu_added(ground: &Ground) -> Vec<Change> {
    let followed = rectified(ground);
    let variant = "a ReLU where the network has none";
    ground
        .of_kind(Kind::BatchNorm)
        .filter(|m| !followed.contains(&Expr::Of(m.id)))
        .map(|m| {
            let edit = Edit::Compute(m.id, Expr::Own.each(Function::Relu));
            let what = format!("a ReLU after {}, where the network has none", m.name);
            change(variant, what, m.id, vec![edit])
        })
        .collect()
}

/// No mistake of a network, but of its recording.
pub fn late_hook(ground: &Ground) -> Vec<Change> {
    let followed = rectified(ground);
    ground
        .of_kind(Kind::BatchNorm)
        .filter(|m| followed.contains(&Expr::Of(m.id)))
        .map(|m| {
            let edit = Edit::Compute(m.id, Expr::Own.each(Function::Relu));
            change(AFTER_RELU, AFTER_RELU, m.id, vec![edit])
        })
        .collect()
}

/// The sigmoid of the global branch one convolution too early.
pub fn sigmoid_early(ground: &Ground) -> Vec<Change> {
    let variant = "the sigmoid before glo_conv.6 instead of after it";
    let place = |ctl: &spec::model::Ctl| {
        let ioi = &ctl.spatial_conv;
        let (before, conv) = (Expr::Of(ioi.glo_mid_relu), ioi.glo_out.id);
        let early = ground.exchange_in(conv, &before, &before.clone().each(Function::Sigmoid))?;
        let after = Edit::Compute(ioi.glo_sigmoid, Expr::Of(conv));
        Some(change(variant, variant, conv, vec![early, after]))
    };
    ground.model.ctls().filter_map(place).collect()
}

fn sigmoids(ground: &Ground, variant: &'static str, other: fn(Expr) -> Expr) -> Vec<Change> {
    let place = |m: &spec::Module| {
        let Expr::Each(x, Function::Sigmoid) = ground.network.expr(m.id) else { return None };
        Some(change(variant, variant, m.id, vec![Edit::Compute(m.id, other((**x).clone()))]))
    };
    ground.of_kind(Kind::Sigmoid).filter_map(place).collect()
}

/// A sigmoid forgotten.
pub fn sigmoid_missing(ground: &Ground) -> Vec<Change> {
    sigmoids(ground, "the sigmoid is missing", |x| x)
}

/// A sigmoid approximated.
pub fn hard_sigmoid(ground: &Ground) -> Vec<Change> {
    let variant = "hard sigmoid, ReLU6(x + 3) / 6, instead of the sigmoid";
    sigmoids(ground, variant, |x| x.each(Function::HardSigmoid))
}
