//! The temporal-focus gate and the two branches of a channel-time learning block.

use spec::model::Ctl;
use spec::{ModuleId, Semantics};

use super::super::edit::{Change, Edit};
use super::super::expr::Expr;
use super::super::ground::{Ground, change};

fn each(
    ground: &Ground,
    variant: &'static str,
    place: impl Fn(&Ctl) -> Option<(ModuleId, Edit)>,
) -> Vec<Change> {
    let made = |ctl: &Ctl| {
        let (site, edit) = place(ctl)?;
        Some(change(variant, variant, site, vec![edit]))
    };
    ground.model.ctls().filter_map(made).collect()
}

/// What a block reads, and g * it; none where the gate is off.
fn gated(ground: &Ground, ctl: &Ctl) -> Option<(Expr, Expr)> {
    let x = ground.operand(ctl.gate.pool)?;
    let gated = x.clone().times(Expr::Of(ctl.gate.sigmoid));
    ctl.semantics.tfc.then_some((x, gated))
}

/// A gate of 1.
pub fn missing(ground: &Ground) -> Vec<Change> {
    each(ground, "the gate g is missing (1 everywhere)", |ctl| {
        let semantics = Semantics { tfc: false, ..ctl.semantics };
        let edit = Edit::Semantics(ctl.number, semantics);
        ctl.semantics.tfc.then_some((ctl.gate.sigmoid, edit))
    })
}

/// Only the temporal branch reads x.
pub fn missing_in_tfc(ground: &Ground) -> Vec<Change> {
    each(ground, "the gate is missing in the temporal branch (temporal_conv reads x)", |ctl| {
        let (x, gated) = gated(ground, ctl)?;
        let site = ctl.temporal_conv.id;
        Some((site, ground.exchange_in(site, &gated, &x)?))
    })
}

/// Only the global branch reads x.
pub fn missing_in_ioi(ground: &Ground) -> Vec<Change> {
    each(ground, "the gate is missing in the IOI branch (glo_conv.0 reads x)", |ctl| {
        let (x, gated) = gated(ground, ctl)?;
        let site = ctl.spatial_conv.glo_in.conv.id;
        Some((site, ground.exchange_in(site, &gated, &x)?))
    })
}

/// The local branch reads g * x, too.
pub fn on_short(ground: &Ground) -> Vec<Change> {
    each(ground, "the gate is laid on short_conv, too (it reads g * x)", |ctl| {
        let (x, gated) = gated(ground, ctl)?;
        let site = ctl.spatial_conv.short_conv.id;
        Some((site, ground.exchange_in(site, &x, &gated)?))
    })
}

/// The interaction adds nothing.
pub fn ioi_missing(ground: &Ground) -> Vec<Change> {
    each(ground, "the IOI branch is missing (0 everywhere)", |ctl| {
        let semantics = Semantics { ioi: false, ..ctl.semantics };
        let edit = Edit::Semantics(ctl.number, semantics);
        ctl.semantics.ioi.then_some((ctl.spatial_conv.id, edit))
    })
}

/// The temporal convolution adds nothing.
pub fn tfc_missing(ground: &Ground) -> Vec<Change> {
    each(ground, "the temporal branch is missing from the sum", |ctl| {
        Some((ctl.id, Edit::Compute(ctl.id, Expr::Of(ctl.spatial_conv.id))))
    })
}
