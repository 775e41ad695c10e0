//! The positional embedding: how it is resized, and where it is added.

use spec::model::Ctl;
use spec::{PosEmbed, Semantics};

use super::super::edit::{Change, Edit};
use super::super::expr::Expr;
use super::super::ground::{Ground, change};
use super::super::resize::Resize;
use super::super::rewrite;
use super::activation::first;

fn each(
    ground: &Ground,
    variant: &'static str,
    edits: impl Fn(&Ctl) -> Option<Vec<Edit>>,
) -> Vec<Change> {
    let place = |ctl: &Ctl| {
        let edits = edits(ctl).filter(|_| ctl.semantics.pos_embed != PosEmbed::Off)?;
        let site = first(&edits).unwrap_or(ctl.spatial_conv.pos_embed.id);
        Some(change(variant, variant, site, edits))
    };
    ground.model.ctls().filter_map(place).collect()
}

fn semantics(ctl: &Ctl, pos_embed: PosEmbed) -> Option<Vec<Edit>> {
    let other = Semantics { pos_embed, ..ctl.semantics };
    (other != ctl.semantics).then(|| vec![Edit::Semantics(ctl.number, other)])
}

/// Whether the embedding is resized, and not from one pixel, which is the same in any way.
fn is_resized(ctl: &Ctl) -> bool {
    let p = &ctl.spatial_conv.pos_embed;
    p.size != (p.dim, p.dim) && p.dim > 1
}

/// Dropped: zeros, or not added to what the next convolution reads.
pub fn dropped(ground: &Ground) -> Vec<Change> {
    let zeros =
        each(ground, "the positional embedding is dropped", |ctl| semantics(ctl, PosEmbed::Off));
    let not_added = each(ground, "the positional embedding is not added", |ctl| {
        let ioi = &ctl.spatial_conv;
        let relu = Expr::Of(ioi.glo_in_relu);
        let sum = relu.clone().plus(Expr::Of(ioi.pos_embed.id));
        Some(vec![ground.exchange_in(ioi.glo_mid.conv.id, &sum, &relu)?])
    });
    [zeros, not_added].concat()
}

/// Resized with half-pixel centres.
pub fn half_pixel(ground: &Ground) -> Vec<Change> {
    each(ground, "align_corners off", |ctl| {
        semantics(ctl, PosEmbed::HalfPixel).filter(|_| is_resized(ctl))
    })
}

/// Resized with aligned corners where the network has half-pixel centres.
pub fn aligned(ground: &Ground) -> Vec<Change> {
    each(ground, "align_corners on", |ctl| {
        semantics(ctl, PosEmbed::AlignCorners).filter(|_| is_resized(ctl))
    })
}

/// Made smaller with anti-aliasing; made larger, this is the half-pixel resize.
pub fn antialiased(ground: &Ground) -> Vec<Change> {
    each(ground, "the embedding resized with anti-aliasing (jax.image.resize's default)", |ctl| {
        let p = &ctl.spatial_conv.pos_embed;
        let smaller = p.size.0 < p.dim || p.size.1 < p.dim;
        let expr = Expr::Embedding(p.name.clone(), p.dim, p.size, Resize::Antialias);
        (is_resized(ctl) && smaller).then(|| vec![Edit::Compute(p.id, expr)])
    })
}

/// The Flax port's emulation, which vanishes on a map of one pixel.
pub fn flax(ground: &Ground) -> Vec<Change> {
    each(
        ground,
        "the positional embedding is dropped on 1-pixel maps, as in the Flax port",
        |ctl| {
            let p = &ctl.spatial_conv.pos_embed;
            let vanishes = p.size.0 == 1 || p.size.1 == 1;
            semantics(ctl, PosEmbed::Flax).filter(|_| is_resized(ctl) && vanishes)
        },
    )
}

/// Height and width exchanged.
pub fn transposed(ground: &Ground) -> Vec<Change> {
    each(ground, "the positional embedding transposed (height and width exchanged)", |ctl| {
        let p = &ctl.spatial_conv.pos_embed;
        (p.dim > 1).then(|| vec![Edit::Weight(p.name.clone(), rewrite::transpose)])
    })
}

/// The convolution that reads the embedding, without it.
fn without(ground: &Ground, ctl: &Ctl) -> Option<Edit> {
    let ioi = &ctl.spatial_conv;
    let relu = Expr::Of(ioi.glo_in_relu);
    let sum = relu.clone().plus(Expr::Of(ioi.pos_embed.id));
    ground.exchange_in(ioi.glo_mid.conv.id, &sum, &relu)
}

/// Added to the output of glo_conv.3.
pub fn late(ground: &Ground) -> Vec<Change> {
    each(ground, "the positional embedding added after glo_conv.3 instead of before it", |ctl| {
        let Edit::Compute(conv, expr) = without(ground, ctl)? else { return None };
        Some(vec![Edit::Compute(conv, expr.plus(Expr::Of(ctl.spatial_conv.pos_embed.id)))])
    })
}

/// Added before the first ReLU. The embedding's own module comes after that one, so its expression
/// is taken.
pub fn before_relu(ground: &Ground) -> Vec<Change> {
    each(ground, "the positional embedding added before the first ReLU", |ctl| {
        let ioi = &ctl.spatial_conv;
        let bn = Expr::Of(ioi.glo_in.bn.id);
        let embedding = ground.network.expr(ioi.pos_embed.id).clone();
        let relu = ground.exchange_in(ioi.glo_in_relu, &bn, &bn.clone().plus(embedding))?;
        Some(vec![relu, without(ground, ctl)?])
    })
}

/// Added before the first batch normalisation.
pub fn before_norm(ground: &Ground) -> Vec<Change> {
    each(ground, "the positional embedding added before glo_conv.1", |ctl| {
        let ioi = &ctl.spatial_conv;
        let conv = Expr::Of(ioi.glo_in.conv.id);
        let embedding = ground.network.expr(ioi.pos_embed.id).clone();
        let norm = ground.exchange_in(ioi.glo_in.bn.id, &conv, &conv.clone().plus(embedding))?;
        Some(vec![norm, without(ground, ctl)?])
    })
}
