//! Batch normalisations.

use spec::{Kind, Module};

use super::super::edit::{Change, Edit, Rewrite};
use super::super::expr::{Expr, Statistics};
use super::super::ground::{Ground, change};
use super::super::rewrite;

fn each(
    ground: &Ground,
    variant: &'static str,
    edits: impl Fn(&Module) -> Option<Vec<Edit>>,
) -> Vec<Change> {
    let place = |m: &Module| Some(change(variant, variant, m.id, edits(m)?));
    ground.of_kind(Kind::BatchNorm).filter_map(place).collect()
}

fn leaves(m: &Module, rewrites: &[(&str, Rewrite)]) -> Option<Vec<Edit>> {
    let edit =
        |(leaf, rewrite): &(&str, Rewrite)| Edit::Weight(format!("{}.{leaf}", m.name), *rewrite);
    Some(rewrites.iter().map(edit).collect())
}

/// Keras' default.
pub fn eps(ground: &Ground) -> Vec<Change> {
    each(ground, "eps 1e-3 instead of 1e-5", |m| Some(vec![Edit::Eps(m.id, 1e-3)]))
}

/// The default of other frameworks.
pub fn eps_small(ground: &Ground) -> Vec<Change> {
    each(ground, "eps 1e-6 instead of 1e-5", |m| Some(vec![Edit::Eps(m.id, 1e-6)]))
}

/// None at all.
pub fn eps_zero(ground: &Ground) -> Vec<Change> {
    each(ground, "eps 0 instead of 1e-5", |m| Some(vec![Edit::Eps(m.id, 0.0)]))
}

/// Running statistics that stayed at their start.
pub fn statistics(ground: &Ground) -> Vec<Change> {
    each(ground, "the running statistics were not loaded (mean 0, variance 1)", |m| {
        leaves(m, &[("running_mean", rewrite::zero), ("running_var", rewrite::one)])
    })
}

/// Weight and bias that stayed at their start.
pub fn affine(ground: &Ground) -> Vec<Change> {
    each(ground, "weight and bias were not loaded (1 and 0)", |m| {
        leaves(m, &[("weight", rewrite::one), ("bias", rewrite::zero)])
    })
}

/// A variance taken for a deviation.
pub fn deviation(ground: &Ground) -> Vec<Change> {
    each(ground, "running_var is taken for the standard deviation", |m| {
        leaves(m, &[("running_var", rewrite::square)])
    })
}

/// Training mode; on a map of one pixel it is an error in most frameworks.
pub fn batch(ground: &Ground) -> Vec<Change> {
    each(ground, "the batch's own statistics are used (training mode)", |m| {
        let Expr::Norm(x, name, Statistics::Running(eps)) = ground.network.expr(m.id) else {
            return None;
        };
        let expr = Expr::Norm(x.clone(), name.clone(), Statistics::Batch(*eps));
        (ground.area(m.id) > 1).then(|| vec![Edit::Compute(m.id, expr)])
    })
}

/// Left out.
pub fn missing(ground: &Ground) -> Vec<Change> {
    each(ground, "the batch normalisation is left out", |m| {
        Some(vec![Edit::Compute(m.id, ground.operand(m.id)?)])
    })
}
