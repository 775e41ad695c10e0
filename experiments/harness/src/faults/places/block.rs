//! Windows, residual connections and the head.

use spec::model::{Block, Body};
use spec::{Kind, ModuleId};

use super::super::edit::{Change, Edit};
use super::super::expr::{Expr, Function, Whole};
use super::super::ground::{Ground, change};
use super::super::map::{Window, same_padding};
use super::super::network::size_of;

/// A window with SAME padding, where that moves it and leaves the size of the output.
fn same(window: Window, (height, width): (usize, usize)) -> Option<Window> {
    let Window { kernel, stride, out, .. } = window;
    let (top, left) = (same_padding(height, kernel, stride), same_padding(width, kernel, stride));
    let keeps = out == (height.div_ceil(stride), width.div_ceil(stride));
    let moved = Window { top, left, ..window };
    (keeps && moved != window).then_some(moved)
}

/// SAME padding on a convolution with a stride. The 2x2 convolutions before a stage are no places:
/// on an odd map SAME gives them one pixel more, which no comparison of values can meet.
pub fn same_padding_conv(ground: &Ground) -> Vec<Change> {
    let variant = "SAME padding, which pads more after than before";
    let place = |m: &spec::Module| {
        let Expr::Conv(x, kernel) = ground.network.expr(m.id) else { return None };
        let size = size_of(ground.model, x.reads().first().copied()?);
        let mut other = kernel.clone();
        other.window = same(kernel.window, size)?;
        let edit = Edit::Compute(m.id, Expr::Conv(x.clone(), other));
        Some(change(variant, variant, m.id, vec![edit]))
    };
    ground.of_kind(Kind::Conv).filter_map(place).collect()
}

/// SAME padding on the max-pool.
pub fn same_padding_pool(ground: &Ground) -> Vec<Change> {
    let variant = "max-pool with SAME padding, which pads more after than before";
    let id = ground.model.maxpool;
    let Expr::MaxPool(x, window) = ground.network.expr(id) else { return vec![] };
    let size = size_of(ground.model, ground.model.stem.conv.id);
    let made = same(*window, size).map(|window| {
        let edit = Edit::Compute(id, Expr::MaxPool(x.clone(), window));
        change(variant, variant, id, vec![edit])
    });
    made.into_iter().collect()
}

/// The largest value of a map instead of its mean.
pub fn max_for_mean(ground: &Ground) -> Vec<Change> {
    let variant = "the largest value of the map instead of its mean";
    let place = |m: &spec::Module| {
        let Expr::Whole(x, Whole::Mean) = ground.network.expr(m.id) else { return None };
        let size = size_of(ground.model, x.reads().first().copied()?);
        let edit = Edit::Compute(m.id, Expr::Whole(x.clone(), Whole::Max));
        (size.0 * size.1 > 1).then(|| change(variant, variant, m.id, vec![edit]))
    };
    ground.of_kind(Kind::Pool).filter_map(place).collect()
}

/// The main path and the shortcut that a block adds.
fn sum(ground: &Ground, block: &Block) -> Option<(Expr, Expr)> {
    match ground.operand(block.id)? {
        Expr::Plus(h, shortcut) => Some((*h, *shortcut)),
        _ => None,
    }
}

fn each(
    ground: &Ground,
    variant: &'static str,
    place: impl Fn(&Block) -> Option<(ModuleId, Vec<Edit>)>,
) -> Vec<Change> {
    let made = |block: &Block| {
        let (site, edits) = place(block)?;
        Some(change(variant, variant, site, edits))
    };
    ground.model.blocks.iter().filter_map(made).collect()
}

/// No shortcut.
pub fn residual_missing(ground: &Ground) -> Vec<Change> {
    each(ground, "the residual is not added", |block| {
        let (h, _) = sum(ground, block)?;
        Some((block.id, vec![Edit::Compute(block.id, h.each(Function::Relu))]))
    })
}

/// The shortcut after the block's ReLU.
pub fn residual_after_relu(ground: &Ground) -> Vec<Change> {
    each(ground, "the residual is added after the last ReLU", |block| {
        let (h, shortcut) = sum(ground, block)?;
        Some((block.id, vec![Edit::Compute(block.id, h.each(Function::Relu).plus(shortcut))]))
    })
}

/// The shortcut before the last batch normalisation, where it is there by then.
pub fn residual_before_norm(ground: &Ground) -> Vec<Change> {
    each(ground, "the residual is added before the last batch normalisation", |block| {
        let (h, shortcut) = sum(ground, block)?;
        let norm = match &block.body {
            Body::Bottleneck { expand, .. } => expand.bn.id,
            Body::Basic { bn2, .. } => bn2.id,
        };
        if shortcut.reads().iter().any(|id| *id > norm) {
            return None;
        }
        let x = ground.operand(norm)?;
        let early = ground.exchange_in(norm, &x, &x.clone().plus(shortcut))?;
        Some((norm, vec![early, Edit::Compute(block.id, h.each(Function::Relu))]))
    })
}

/// A shortcut that skips the downsampling and takes every second pixel, as a ResNet's does.
pub fn shortcut_strided(ground: &Ground) -> Vec<Change> {
    let variant = "the shortcut reads the block's input with stride 2, not the downsampled one";
    each(ground, variant, |block| {
        let (shortcut, downsample) = (block.shortcut.as_ref()?, block.downsample.as_ref()?);
        let Expr::Conv(_, kernel) = ground.network.expr(shortcut.conv.id) else { return None };
        let x = ground.operand(downsample.conv.id)?;
        let (height, width) = size_of(ground.model, x.reads().first().copied()?);
        let mut other = kernel.clone();
        other.window.stride = 2;
        let edit = Edit::Compute(shortcut.conv.id, Expr::Conv(Box::new(x), other));
        let even = height % 2 == 0 && width % 2 == 0;
        even.then(|| (shortcut.conv.id, vec![edit]))
    })
}

/// Probabilities for logits.
pub fn softmax(ground: &Ground) -> Vec<Change> {
    let variant = "softmax already applied: these are probabilities, not logits";
    let edit = |id| Edit::Compute(id, Expr::Softmax(Box::new(Expr::Own)));
    let place = |m: &spec::Module| change(variant, variant, m.id, vec![edit(m.id)]);
    ground.of_kind(Kind::Linear).map(place).collect()
}
