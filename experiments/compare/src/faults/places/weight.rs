//! Mistakes in loading the weights.

use spec::{Kind, Module};

use super::super::edit::{Change, Edit, Rewrite};
use super::super::graph::{ModelGraph, change, weight_name};
use super::super::rewrite;

/// One change for each module: its parameter `leaf` is rewritten.
fn rewritten(
    modules: impl Iterator<Item = impl std::borrow::Borrow<Module>>,
    leaf: &str,
    variant: &'static str,
    rewrite: Rewrite,
) -> Vec<Change> {
    let place = |module: &Module| {
        let name = format!("{}.{leaf}", module.name);
        change(variant, variant, module.id, vec![Edit::Weight(name, rewrite)])
    };
    modules.map(|module| place(module.borrow())).collect()
}

/// The convolutions for which `fits` is true, given the shape of their weight.
fn convs<'a>(
    graph: &'a ModelGraph,
    fits: impl Fn(&[usize], &Module) -> bool + 'a,
) -> impl Iterator<Item = &'a Module> {
    graph.of_kind(Kind::Conv).filter(move |m| fits(graph.weight_shape(m), m))
}

/// Convolutions with a kernel larger than 1x1 and a map of more than one pixel. On a map of one pixel
/// only the centre of the kernel is used.
fn wide<'a>(graph: &'a ModelGraph) -> impl Iterator<Item = &'a Module> {
    convs(graph, |shape, m| shape.last().is_some_and(|&k| k > 1) && graph.area(m.id) > 1)
}

/// The weights of a layer swapped with those of the next layer that has the same shape.
pub fn swapped(graph: &ModelGraph) -> Vec<Change> {
    let weighs = |m: &&Module| matches!(m.kind, Kind::Conv | Kind::Linear);
    let layers: Vec<_> = graph.model.modules().iter().filter(weighs).collect();
    let pairs = layers.iter().enumerate().filter_map(|(at, a)| {
        let same = |b: &&&Module| graph.weight_shape(b) == graph.weight_shape(a);
        layers[at + 1..].iter().find(same).map(|b| (a, b))
    });
    pairs
        .map(|(a, b)| {
            let what = format!("the weights of {} and {} are swapped", a.name, b.name);
            let edits = vec![Edit::Swap(weight_name(a), weight_name(b))];
            change("the weights of two layers are swapped", what, a.id, edits)
        })
        .collect()
}

/// Transposed kernels.
pub fn transposed(graph: &ModelGraph) -> Vec<Change> {
    let variant = "the kernel is transposed (height and width swapped)";
    rewritten(wide(graph), "weight", variant, rewrite::transpose)
}

/// Kernels rotated by 180 degrees.
pub fn turned(graph: &ModelGraph) -> Vec<Change> {
    let variant = "the kernel is rotated by 180 degrees (convolution instead of cross-correlation)";
    rewritten(wide(graph), "weight", variant, rewrite::turn)
}

/// Kernels that are stored as [k, k, I, O]. A 1x1 kernel with as many inputs as outputs is not a place:
/// there this is the same as swapping the channels ([`exchanged`]).
pub fn channels_last(graph: &ModelGraph) -> Vec<Change> {
    let variant = "a kernel stored as HWIO is read as OIHW";
    let fits = |shape: &[usize], _: &Module| match shape {
        [o, i, k, _] => (*k > 1 && o * i > 1) || (o != i && *o > 1 && *i > 1),
        _ => false,
    };
    rewritten(convs(graph, fits), "weight", variant, rewrite::channels_last)
}

/// Kernels with input and output channels swapped, where their numbers are equal.
pub fn exchanged(graph: &ModelGraph) -> Vec<Change> {
    let variant = "the input and output channels of the kernel are swapped";
    let fits = |shape: &[usize], _: &Module| matches!(shape, [o, i, ..] if o == i && *o > 1);
    rewritten(convs(graph, fits), "weight", variant, rewrite::exchange_channels)
}

/// Kernels whose channels are off by one.
pub fn channel_off(graph: &ModelGraph) -> Vec<Change> {
    let fits = |shape: &[usize], _: &Module| matches!(shape, [o, i, ..] if o * i > 1);
    rewritten(convs(graph, fits), "weight", "the channels are off by one", rewrite::channel_off)
}

/// Biases that were not loaded and are zero.
pub fn bias_missing(graph: &ModelGraph) -> Vec<Change> {
    let has_bias = |m: &&Module| {
        let name = format!("{}.bias", m.name);
        m.kind != Kind::BatchNorm && graph.model.parameters().iter().any(|p| p.name == name)
    };
    let modules = graph.model.modules().iter().filter(has_bias);
    rewritten(modules, "bias", "the bias is missing", rewrite::zero)
}

/// The matrix of the classifier in the wrong order.
pub fn dense_order(graph: &ModelGraph) -> Vec<Change> {
    let variant = "a matrix stored as [in, out] is read as [out, in]";
    let fits = |m: &&Module| matches!(graph.weight_shape(m), [o, i] if *o > 1 && *i > 1);
    let modules = graph.of_kind(Kind::Linear).filter(fits);
    rewritten(modules, "weight", variant, rewrite::channels_last)
}
