//! Weights that are loaded wrongly.

use spec::{Kind, Module};

use super::super::edit::{Change, Edit, Rewrite};
use super::super::ground::{Ground, change, weight_name};
use super::super::rewrite;

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

fn convs<'a>(
    ground: &'a Ground,
    fits: impl Fn(&[usize], &Module) -> bool + 'a,
) -> impl Iterator<Item = &'a Module> {
    ground.of_kind(Kind::Conv).filter(move |m| fits(ground.weight_shape(m), m))
}

/// Convolutions whose kernel has two sides and whose map has more than one pixel: on one pixel only
/// the kernel's centre is used.
fn wide<'a>(ground: &'a Ground) -> impl Iterator<Item = &'a Module> {
    convs(ground, |shape, m| shape.last().is_some_and(|&k| k > 1) && ground.area(m.id) > 1)
}

/// A convolution or the classifier with the next one of the same shape.
pub fn swapped(ground: &Ground) -> Vec<Change> {
    let weighs = |m: &&Module| matches!(m.kind, Kind::Conv | Kind::Linear);
    let layers: Vec<_> = ground.model.modules().iter().filter(weighs).collect();
    let pairs = layers.iter().enumerate().filter_map(|(at, a)| {
        let same = |b: &&&Module| ground.weight_shape(b) == ground.weight_shape(a);
        layers[at + 1..].iter().find(same).map(|b| (a, b))
    });
    pairs
        .map(|(a, b)| {
            let what = format!("the weights of {} and {} swapped", a.name, b.name);
            let edits = vec![Edit::Swap(weight_name(a), weight_name(b))];
            change("the weights of two layers swapped", what, a.id, edits)
        })
        .collect()
}

/// Kernels transposed.
pub fn transposed(ground: &Ground) -> Vec<Change> {
    let variant = "kernel transposed (height and width exchanged)";
    rewritten(wide(ground), "weight", variant, rewrite::transpose)
}

/// Kernels turned.
pub fn turned(ground: &Ground) -> Vec<Change> {
    let variant = "kernel turned by 180 degrees (convolution instead of cross-correlation)";
    rewritten(wide(ground), "weight", variant, rewrite::turn)
}

/// Kernels that lie as [k, k, I, O]; where that is the exchange of both channels it is left to it.
pub fn channels_last(ground: &Ground) -> Vec<Change> {
    let variant = "kernel read in the order HWIO as if it were OIHW";
    let fits = |shape: &[usize], _: &Module| match shape {
        [o, i, k, _] => (*k > 1 && o * i > 1) || (o != i && *o > 1 && *i > 1),
        _ => false,
    };
    rewritten(convs(ground, fits), "weight", variant, rewrite::channels_last)
}

/// Square kernels with input and output exchanged.
pub fn exchanged(ground: &Ground) -> Vec<Change> {
    let variant = "input and output channels of the kernel exchanged";
    let fits = |shape: &[usize], _: &Module| matches!(shape, [o, i, ..] if o == i && *o > 1);
    rewritten(convs(ground, fits), "weight", variant, rewrite::exchange_channels)
}

/// Channels off by one.
pub fn channel_off(ground: &Ground) -> Vec<Change> {
    let fits = |shape: &[usize], _: &Module| matches!(shape, [o, i, ..] if o * i > 1);
    rewritten(convs(ground, fits), "weight", "channels off by one", rewrite::channel_off)
}

/// Biases that were not loaded.
pub fn bias_missing(ground: &Ground) -> Vec<Change> {
    let has_bias = |m: &&Module| {
        let name = format!("{}.bias", m.name);
        m.kind != Kind::BatchNorm && ground.model.parameters().iter().any(|p| p.name == name)
    };
    let modules = ground.model.modules().iter().filter(has_bias);
    rewritten(modules, "bias", "the bias is missing", rewrite::zero)
}

/// The classifier's matrix read in the other order.
pub fn dense_order(ground: &Ground) -> Vec<Change> {
    let variant = "the matrix read in the order [in, out] as if it were [out, in]";
    let fits = |m: &&Module| matches!(ground.weight_shape(m), [o, i] if *o > 1 && *i > 1);
    let modules = ground.of_kind(Kind::Linear).filter(fits);
    rewritten(modules, "weight", variant, rewrite::channels_last)
}
