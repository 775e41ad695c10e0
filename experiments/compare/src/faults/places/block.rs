//! Mistakes in padding, pooling, residual connections and the head.

use spec::model::{Block, Body};
use spec::{Kind, ModuleId};

use super::super::edit::{Change, Edit};
use super::super::expr::{Expr, Function, GlobalPool};
use super::super::graph::{ModelGraph, change};
use super::super::map::{Window, same_padding};
use super::super::network::size_of;

/// The window with SAME padding; None if that does not move it, or if the output has another size.
fn same(window: Window, (height, width): (usize, usize)) -> Option<Window> {
    let Window { kernel, stride, out, .. } = window;
    let (top, left) = (same_padding(height, kernel, stride), same_padding(width, kernel, stride));
    let keeps = out == (height.div_ceil(stride), width.div_ceil(stride));
    let moved = Window { top, left, ..window };
    (keeps && moved != window).then_some(moved)
}

/// SAME padding on a strided convolution. The 2x2 convolutions before a stage are not places: on an odd
/// map SAME makes their output one pixel larger, so that there would be nothing to compare.
pub fn same_padding_conv(graph: &ModelGraph) -> Vec<Change> {
    let variant = "SAME padding, which pads more after the map than before it";
    let place = |m: &spec::Module| {
        let Expr::Conv(x, kernel) = graph.network.expr(m.id) else { return None };
        let size = size_of(graph.model, x.reads().first().copied()?);
        let mut other = kernel.clone();
        other.window = same(kernel.window, size)?;
        let edit = Edit::Compute(m.id, Expr::Conv(x.clone(), other));
        Some(change(variant, variant, m.id, vec![edit]))
    };
    graph.of_kind(Kind::Conv).filter_map(place).collect()
}

/// SAME padding on the max-pool of the stem.
pub fn same_padding_pool(graph: &ModelGraph) -> Vec<Change> {
    let variant = "max-pool with SAME padding, which pads more after the map than before it";
    let id = graph.model.maxpool;
    let Expr::MaxPool(x, window) = graph.network.expr(id) else { return vec![] };
    let size = size_of(graph.model, graph.model.stem.conv.id);
    let made = same(*window, size).map(|window| {
        let edit = Edit::Compute(id, Expr::MaxPool(x.clone(), window));
        change(variant, variant, id, vec![edit])
    });
    made.into_iter().collect()
}

/// Global max pooling instead of global average pooling.
pub fn max_for_mean(graph: &ModelGraph) -> Vec<Change> {
    let variant = "global max pooling instead of global average pooling";
    let place = |m: &spec::Module| {
        let Expr::GlobalPool(x, GlobalPool::Mean) = graph.network.expr(m.id) else { return None };
        let size = size_of(graph.model, x.reads().first().copied()?);
        let edit = Edit::Compute(m.id, Expr::GlobalPool(x.clone(), GlobalPool::Max));
        (size.0 * size.1 > 1).then(|| change(variant, variant, m.id, vec![edit]))
    };
    graph.of_kind(Kind::Pool).filter_map(place).collect()
}

/// The two operands of a block's residual addition: the main path and the shortcut.
fn sum(graph: &ModelGraph, block: &Block) -> Option<(Expr, Expr)> {
    match graph.operand(block.id)? {
        Expr::Plus(h, shortcut) => Some((*h, *shortcut)),
        _ => None,
    }
}

/// One change for each block for which `place` returns the first changed module and the edits.
fn each_block(
    graph: &ModelGraph,
    variant: &'static str,
    place: impl Fn(&Block) -> Option<(ModuleId, Vec<Edit>)>,
) -> Vec<Change> {
    let made = |block: &Block| {
        let (site, edits) = place(block)?;
        Some(change(variant, variant, site, edits))
    };
    graph.model.blocks.iter().filter_map(made).collect()
}

/// A block without its residual addition.
pub fn residual_missing(graph: &ModelGraph) -> Vec<Change> {
    each_block(graph, "the residual is not added", |block| {
        let (h, _) = sum(graph, block)?;
        Some((block.id, vec![Edit::Compute(block.id, h.each(Function::Relu))]))
    })
}

/// The shortcut added after the block's last ReLU.
pub fn residual_after_relu(graph: &ModelGraph) -> Vec<Change> {
    each_block(graph, "the residual is added after the last ReLU", |block| {
        let (h, shortcut) = sum(graph, block)?;
        Some((block.id, vec![Edit::Compute(block.id, h.each(Function::Relu).plus(shortcut))]))
    })
}

/// The shortcut added before the last batch normalisation, if it has been computed by then.
pub fn residual_before_norm(graph: &ModelGraph) -> Vec<Change> {
    each_block(graph, "the residual is added before the last batch normalisation", |block| {
        let (h, shortcut) = sum(graph, block)?;
        let norm = match &block.body {
            Body::Bottleneck { expand, .. } => expand.bn.id,
            Body::Basic { bn2, .. } => bn2.id,
        };
        if shortcut.reads().iter().any(|id| *id > norm) {
            return None;
        }
        let x = graph.operand(norm)?;
        let early = graph.exchange_in(norm, &x, &x.clone().plus(shortcut))?;
        Some((norm, vec![early, Edit::Compute(block.id, h.each(Function::Relu))]))
    })
}

/// A shortcut that reads every second pixel of the block's input, as in a ResNet, instead of the
/// downsampled input.
pub fn shortcut_strided(graph: &ModelGraph) -> Vec<Change> {
    let variant =
        "the shortcut reads the block's input with stride 2 instead of the downsampled input";
    each_block(graph, variant, |block| {
        let (shortcut, downsample) = (block.shortcut.as_ref()?, block.downsample.as_ref()?);
        let Expr::Conv(_, kernel) = graph.network.expr(shortcut.conv.id) else { return None };
        let x = graph.operand(downsample.conv.id)?;
        let (height, width) = size_of(graph.model, x.reads().first().copied()?);
        let mut other = kernel.clone();
        other.window.stride = 2;
        let edit = Edit::Compute(shortcut.conv.id, Expr::Conv(Box::new(x), other));
        let even = height % 2 == 0 && width % 2 == 0;
        even.then(|| (shortcut.conv.id, vec![edit]))
    })
}

/// Probabilities instead of logits.
pub fn softmax(graph: &ModelGraph) -> Vec<Change> {
    let variant = "softmax already applied: these are probabilities, not logits";
    let edit = |id| Edit::Compute(id, Expr::Softmax(Box::new(Expr::Own)));
    let place = |m: &spec::Module| change(variant, variant, m.id, vec![edit(m.id)]);
    graph.of_kind(Kind::Linear).map(place).collect()
}
