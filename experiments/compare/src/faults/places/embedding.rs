//! Mistakes in the positional embedding: how it is resized, and where it is added.

use spec::model::Ctl;
use spec::{PosEmbed, Semantics};

use super::super::edit::{Change, Edit};
use super::super::expr::Expr;
use super::super::graph::{ModelGraph, change};
use super::super::resize::Resize;
use super::super::rewrite;
use super::activation::first;

/// One change for each CTL whose embedding is on and for which `edits` returns the edits.
fn each_ctl(
    graph: &ModelGraph,
    variant: &'static str,
    edits: impl Fn(&Ctl) -> Option<Vec<Edit>>,
) -> Vec<Change> {
    let place = |ctl: &Ctl| {
        let edits = edits(ctl).filter(|_| ctl.semantics.pos_embed != PosEmbed::Off)?;
        let site = first(&edits).unwrap_or(ctl.spatial_conv.pos_embed.id);
        Some(change(variant, variant, site, edits))
    };
    graph.model.ctls().filter_map(place).collect()
}

fn semantics(ctl: &Ctl, pos_embed: PosEmbed) -> Option<Vec<Edit>> {
    let other = Semantics { pos_embed, ..ctl.semantics };
    (other != ctl.semantics).then(|| vec![Edit::Semantics(ctl.number, other)])
}

/// Whether the embedding is resized from more than one pixel. From one pixel all resizes are the same.
fn is_resized(ctl: &Ctl) -> bool {
    let p = &ctl.spatial_conv.pos_embed;
    p.size != (p.dim, p.dim) && p.dim > 1
}

/// A missing embedding: it is zero, or it is not added to what the next convolution reads.
pub fn dropped(graph: &ModelGraph) -> Vec<Change> {
    let zeros =
        each_ctl(graph, "the positional embedding is dropped", |ctl| semantics(ctl, PosEmbed::Off));
    let not_added = each_ctl(graph, "the positional embedding is not added", |ctl| {
        let ioi = &ctl.spatial_conv;
        let relu = Expr::Output(ioi.glo_in_relu);
        let sum = relu.clone().plus(Expr::Output(ioi.pos_embed.id));
        Some(vec![graph.exchange_in(ioi.glo_mid.conv.id, &sum, &relu)?])
    });
    [zeros, not_added].concat()
}

/// A resize with half-pixel centres where the network aligns the corners.
pub fn half_pixel(graph: &ModelGraph) -> Vec<Change> {
    each_ctl(graph, "the positional embedding is resized with align_corners off", |ctl| {
        semantics(ctl, PosEmbed::HalfPixel).filter(|_| is_resized(ctl))
    })
}

/// A resize with aligned corners where the network has half-pixel centres.
pub fn aligned(graph: &ModelGraph) -> Vec<Change> {
    each_ctl(graph, "the positional embedding is resized with align_corners on", |ctl| {
        semantics(ctl, PosEmbed::AlignCorners).filter(|_| is_resized(ctl))
    })
}

/// A resize with anti-aliasing. It differs from the half-pixel resize only if the result is smaller.
pub fn antialiased(graph: &ModelGraph) -> Vec<Change> {
    each_ctl(
        graph,
        "the positional embedding is resized with anti-aliasing, the default of jax.image.resize",
        |ctl| {
            let p = &ctl.spatial_conv.pos_embed;
            let smaller = p.size.0 < p.dim || p.size.1 < p.dim;
            let expr = Expr::Embedding(p.name.clone(), p.dim, p.size, Resize::Antialias);
            (is_resized(ctl) && smaller).then(|| vec![Edit::Compute(p.id, expr)])
        },
    )
}

/// The Flax port's emulation of align_corners, which gives zeros on a map of one pixel.
pub fn flax(graph: &ModelGraph) -> Vec<Change> {
    each_ctl(
        graph,
        "the positional embedding is dropped on 1-pixel maps, as in the Flax port",
        |ctl| {
            let p = &ctl.spatial_conv.pos_embed;
            let vanishes = p.size.0 == 1 || p.size.1 == 1;
            semantics(ctl, PosEmbed::Flax).filter(|_| is_resized(ctl) && vanishes)
        },
    )
}

/// A transposed embedding.
pub fn transposed(graph: &ModelGraph) -> Vec<Change> {
    each_ctl(graph, "the positional embedding is transposed (height and width swapped)", |ctl| {
        let p = &ctl.spatial_conv.pos_embed;
        (p.dim > 1).then(|| vec![Edit::Weight(p.name.clone(), rewrite::transpose)])
    })
}

/// The edit of the convolution that reads the embedding, so that it does not.
fn without(graph: &ModelGraph, ctl: &Ctl) -> Option<Edit> {
    let ioi = &ctl.spatial_conv;
    let relu = Expr::Output(ioi.glo_in_relu);
    let sum = relu.clone().plus(Expr::Output(ioi.pos_embed.id));
    graph.exchange_in(ioi.glo_mid.conv.id, &sum, &relu)
}

/// An embedding that is added to the output of glo_conv.3 instead of its input.
pub fn late(graph: &ModelGraph) -> Vec<Change> {
    each_ctl(
        graph,
        "the positional embedding is added after glo_conv.3 instead of before it",
        |ctl| {
            let Edit::Compute(conv, expr) = without(graph, ctl)? else { return None };
            Some(vec![Edit::Compute(conv, expr.plus(Expr::Output(ctl.spatial_conv.pos_embed.id)))])
        },
    )
}

/// An embedding that is added before the first ReLU. The module of the embedding comes after that ReLU,
/// so the expression of the embedding is used instead of its output.
pub fn before_relu(graph: &ModelGraph) -> Vec<Change> {
    each_ctl(graph, "the positional embedding is added before the first ReLU", |ctl| {
        let ioi = &ctl.spatial_conv;
        let bn = Expr::Output(ioi.glo_in.bn.id);
        let embedding = graph.network.expr(ioi.pos_embed.id).clone();
        let relu = graph.exchange_in(ioi.glo_in_relu, &bn, &bn.clone().plus(embedding))?;
        Some(vec![relu, without(graph, ctl)?])
    })
}

/// An embedding that is added before the first batch normalisation.
pub fn before_norm(graph: &ModelGraph) -> Vec<Change> {
    each_ctl(graph, "the positional embedding is added before glo_conv.1", |ctl| {
        let ioi = &ctl.spatial_conv;
        let conv = Expr::Output(ioi.glo_in.conv.id);
        let embedding = graph.network.expr(ioi.pos_embed.id).clone();
        let norm = graph.exchange_in(ioi.glo_in.bn.id, &conv, &conv.clone().plus(embedding))?;
        Some(vec![norm, without(graph, ctl)?])
    })
}
