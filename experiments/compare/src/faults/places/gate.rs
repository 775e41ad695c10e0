//! Mistakes in the gate and in the two branches of a channel-time learning block (CTL).

use spec::model::Ctl;
use spec::{ModuleId, Semantics};

use super::super::edit::{Change, Edit};
use super::super::expr::Expr;
use super::super::graph::{ModelGraph, change};

/// One change for each CTL for which `place` returns the first changed module and the edit.
fn each_ctl(
    graph: &ModelGraph,
    variant: &'static str,
    place: impl Fn(&Ctl) -> Option<(ModuleId, Edit)>,
) -> Vec<Change> {
    let made = |ctl: &Ctl| {
        let (site, edit) = place(ctl)?;
        Some(change(variant, variant, site, vec![edit]))
    };
    graph.model.ctls().filter_map(made).collect()
}

/// The input x of a CTL, and g * x; None if the gate is off.
fn gated(graph: &ModelGraph, ctl: &Ctl) -> Option<(Expr, Expr)> {
    let x = graph.operand(ctl.gate.pool)?;
    let gated = x.clone().times(Expr::Output(ctl.gate.sigmoid));
    ctl.semantics.tfc.then_some((x, gated))
}

/// A gate that is 1 everywhere.
pub fn missing(graph: &ModelGraph) -> Vec<Change> {
    each_ctl(graph, "the gate g is missing (1 everywhere)", |ctl| {
        let semantics = Semantics { tfc: false, ..ctl.semantics };
        let edit = Edit::Semantics(ctl.number, semantics);
        ctl.semantics.tfc.then_some((ctl.gate.sigmoid, edit))
    })
}

/// A temporal branch that reads x instead of g * x.
pub fn missing_in_tfc(graph: &ModelGraph) -> Vec<Change> {
    each_ctl(graph, "the gate is missing in the temporal branch (temporal_conv reads x)", |ctl| {
        let (x, gated) = gated(graph, ctl)?;
        let site = ctl.temporal_conv.id;
        Some((site, graph.exchange_in(site, &gated, &x)?))
    })
}

/// A temporal branch whose result is multiplied by g, instead of what it reads.
pub fn after_tfc(graph: &ModelGraph) -> Vec<Change> {
    each_ctl(graph, "the gate multiplies the result of temporal_conv, not what it reads", |ctl| {
        let (x, gated) = gated(graph, ctl)?;
        let conv = &ctl.temporal_conv;
        if conv.in_channels != conv.out_channels {
            return None;
        }
        let Edit::Compute(site, ungated) = graph.exchange_in(conv.id, &gated, &x)? else {
            return None;
        };
        Some((site, Edit::Compute(site, ungated.times(Expr::Output(ctl.gate.sigmoid)))))
    })
}

/// An IOI branch that reads x instead of g * x.
pub fn missing_in_ioi(graph: &ModelGraph) -> Vec<Change> {
    each_ctl(graph, "the gate is missing in the IOI branch (glo_conv.0 reads x)", |ctl| {
        let (x, gated) = gated(graph, ctl)?;
        let site = ctl.spatial_conv.glo_in.conv.id;
        Some((site, graph.exchange_in(site, &gated, &x)?))
    })
}

/// A short_conv that reads g * x instead of x.
pub fn on_short(graph: &ModelGraph) -> Vec<Change> {
    each_ctl(graph, "the gate is applied to short_conv too (it reads g * x)", |ctl| {
        let (x, gated) = gated(graph, ctl)?;
        let site = ctl.spatial_conv.short_conv.id;
        Some((site, graph.exchange_in(site, &x, &gated)?))
    })
}

/// An IOI branch that is 0 everywhere.
pub fn ioi_missing(graph: &ModelGraph) -> Vec<Change> {
    each_ctl(graph, "the IOI branch is missing (0 everywhere)", |ctl| {
        let semantics = Semantics { ioi: false, ..ctl.semantics };
        let edit = Edit::Semantics(ctl.number, semantics);
        ctl.semantics.ioi.then_some((ctl.spatial_conv.id, edit))
    })
}

/// A temporal branch that is not added.
pub fn tfc_missing(graph: &ModelGraph) -> Vec<Change> {
    each_ctl(graph, "the temporal branch is missing from the sum", |ctl| {
        Some((ctl.id, Edit::Compute(ctl.id, Expr::Output(ctl.spatial_conv.id))))
    })
}
