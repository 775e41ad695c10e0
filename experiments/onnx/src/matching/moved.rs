//! Constants that an exporter has moved from one node to another: tf2onnx subtracts the mean of a
//! normalisation before the sum that the normalisation reads, or within the bias of the convolution before it.
//! The network computes the same, but values in between are off by a known number for each channel.
//!
//! Each node's constants are held against its module's. What is too much or too little is followed through
//! the graph as an offset. Where offsets cancel before anything else than a sum reads them, they were moved;
//! where they do not, the file computes something else, and nothing is taken off.

use std::collections::{BTreeSet, HashMap};

use checkpoint::Weights;
use spec::{Kind, Model};

use super::align::{Alignment, norm};
use super::anchors::{Anchor, Content};
use super::places::Place;
use super::weigh::{Likeness, Norm};
use crate::read::{Net, NodeId, ValueId};

/// What the values of a file have more than those of the modules, one number for each channel.
pub type Offsets = HashMap<ValueId, Vec<f64>>;

/// The moved constants of a file.
#[derive(Default)]
pub(super) struct Moved {
    pub(super) offsets: Offsets,
    /// The anchors whose constants are others than their module's, but are made up for by other anchors.
    pub(super) settled: BTreeSet<usize>,
}

/// Finds the moved constants.
pub(super) fn moved(
    net: &Net,
    model: &Model,
    weights: &Weights,
    anchors: &[Anchor],
    places: &[Place],
    aligned: &Alignment,
) -> Moved {
    let roles = (0..anchors.len()).map(|a| {
        let place = aligned.places[a].map(|p| &places[p]);
        let likeness = aligned.places[a].and_then(|p| aligned.evidence.get(&(a, p)).copied());
        role(&anchors[a], place, likeness, model, weights)
    });
    let mut search = Search {
        net,
        anchors,
        roles: roles.collect(),
        nodes: nodes(net, anchors),
        refuted: BTreeSet::new(),
        confirmed: BTreeSet::new(),
    };
    search.run()
}

/// What a node adds to the values of its module: for each channel, the difference between two constants.
struct Own {
    values: Vec<f64>,
    /// The largest of the constants.
    size: f64,
}

impl Own {
    fn of(here: &[f64], module: &[f64]) -> Self {
        let values = here.iter().zip(module).map(|(here, module)| here - module).collect();
        Own { values, size: largest(here).max(largest(module)) }
    }
}

/// What a node with weights does to an offset, and what it adds to it.
enum Role {
    /// A convolution or a linear layer: it takes no offset, and adds one.
    Source(Own),
    /// A normalisation or a sum, which multiplies an offset by `scale` and adds `own`; None if it is wrong by
    /// itself. `mean` is what the module subtracts first.
    Affine { scale: Vec<f64>, own: Option<Own>, mean: Vec<f64> },
    /// A node that takes no offset and adds none.
    Other,
}

/// The largest sum of rounding errors in units of the format's, relative to the largest summand.
const ROUNDINGS: f64 = 64.0;

fn role(
    anchor: &Anchor,
    place: Option<&Place>,
    likeness: Option<Likeness>,
    model: &Model,
    weights: &Weights,
) -> Role {
    match (&anchor.content, place) {
        (Content::Product { bias, .. }, Some(place)) if likeness == Some(Likeness::Same) => {
            let channels = place.shape[0];
            let own = weights.get(&format!("{}.bias", model.module(place.id).name));
            let own = own.map_or_else(|| vec![0.0; channels], |bias| bias.to_f64());
            let here = bias.as_ref().map_or_else(|| vec![0.0; channels], |bias| bias.to_vec());
            if here.len() != own.len() {
                return Role::Other;
            }
            Role::Source(Own::of(&here, &own))
        }
        (Content::Norm { scale, shift, .. }, Some(place)) if place.kind == Kind::BatchNorm => {
            match norm(place, model, weights) {
                Some(ours) if scale.len() == ours.parts[0].len() => {
                    normalisation(scale, shift, &ours, anchor)
                }
                _ => Role::Other,
            }
        }
        (Content::Norm { scale, shift, .. }, None) if scale.iter().all(|s| *s == 1.0) => {
            let own = Own::of(shift, &vec![0.0; shift.len()]);
            Role::Affine { scale: scale.clone(), own: Some(own), mean: vec![] }
        }
        _ => Role::Other,
    }
}

/// A normalisation with another factor than the module's is wrong by itself, so it adds no offset.
fn normalisation(scale: &[f64], shift: &[f64], ours: &Norm, anchor: &Anchor) -> Role {
    let mean = ours.parts[2].clone();
    let slack = ROUNDINGS * anchor.format.epsilon() * largest(&ours.scale());
    let same = scale.iter().zip(ours.scale()).all(|(here, own)| (here - own).abs() <= slack);
    let own = same.then(|| Own::of(shift, &ours.shift()));
    Role::Affine { scale: scale.to_vec(), own, mean }
}

/// The anchor of each node that is part of one.
fn nodes(net: &Net, anchors: &[Anchor]) -> HashMap<NodeId, usize> {
    let mut found = HashMap::new();
    for (a, anchor) in anchors.iter().enumerate() {
        let mut value = anchor.output;
        while value != anchor.input
            && let Some(node) = net.producer(value)
            && let [input] = net.data_inputs(node)[..]
        {
            found.insert(node, a);
            value = input;
        }
    }
    found
}

/// The offset of a value: what it is, how large its summands are, and which anchors it comes from.
#[derive(Clone)]
struct Offset {
    values: Vec<f64>,
    size: f64,
    sources: BTreeSet<usize>,
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0f64, |m, v| m.max(v.abs()))
}

struct Search<'a> {
    net: &'a Net,
    anchors: &'a [Anchor],
    roles: Vec<Role>,
    nodes: HashMap<NodeId, usize>,
    /// The anchors whose constants are not made up for.
    refuted: BTreeSet<usize>,
    /// The anchors that subtract the mean of the normalisation behind them, which is not the module's by itself:
    /// whatever it computes, they do not have to be made up for elsewhere.
    confirmed: BTreeSet<usize>,
}

impl Search<'_> {
    /// Follows all offsets until no more of them are refuted.
    fn run(&mut self) -> Moved {
        loop {
            let known = (self.refuted.len(), self.confirmed.len());
            let mut offsets = self.followed();
            if (self.refuted.len(), self.confirmed.len()) == known {
                let settled = offsets.values().flat_map(|o| o.sources.iter().copied()).collect();
                offsets.retain(|_, offset| self.tells(offset));
                let offsets = offsets.into_iter().map(|(id, o)| (id, o.values)).collect();
                return Moved { offsets, settled };
            }
        }
    }

    /// Whether an offset is more than rounding errors.
    fn tells(&self, offset: &Offset) -> bool {
        let format = offset.sources.first().map(|a| self.anchors[*a].format.epsilon());
        largest(&offset.values) > ROUNDINGS * format.unwrap_or(0.0) * offset.size
    }

    /// The offset of every value that has one.
    fn followed(&mut self) -> HashMap<ValueId, Offset> {
        let mut offsets: HashMap<ValueId, Offset> = HashMap::new();
        for (id, node) in self.net.nodes() {
            let Some(output) = self.net.out(id) else { continue };
            let inputs = self.net.data_inputs(id);
            let found = match self.nodes.get(&id) {
                Some(&a) if self.anchors[a].output == output => {
                    let given = offsets.get(&self.anchors[a].input).cloned();
                    self.behind(a, given)
                }
                // The other nodes of an anchor count with its last one.
                Some(_) => None,
                None if node.op_type == "Add" && inputs.len() == 2 => {
                    sum(&[offsets.get(&inputs[0]), offsets.get(&inputs[1])])
                }
                None if passes(&node.op_type) => {
                    inputs.first().and_then(|id| offsets.get(id)).cloned()
                }
                None => {
                    for input in inputs {
                        self.ends(offsets.get(&input));
                    }
                    None
                }
            };
            offsets.extend(found.map(|found| (output, found)));
        }
        self.ends(offsets.get(&self.net.output));
        offsets
    }

    /// The offset behind an anchor.
    fn behind(&mut self, a: usize, given: Option<Offset>) -> Option<Offset> {
        if let (Role::Affine { mean, own, .. }, Some(given)) = (&self.roles[a], &given)
            && is_minus(&given.values, mean)
            && own.as_ref().is_none_or(|own| self.added(a, own).is_some())
        {
            self.confirmed.extend(&given.sources);
        }
        let refuted = self.refuted.contains(&a);
        let channels = given.as_ref().map(|given| given.values.len());
        let found = match &self.roles[a] {
            _ if refuted => None,
            Role::Affine { scale, own: Some(own), .. }
                if channels.is_none_or(|n| n == scale.len()) =>
            {
                return self.affine(a, given, scale, own);
            }
            Role::Source(own) => self.added(a, own),
            _ => None,
        };
        self.ends(given.as_ref());
        found
    }

    /// What an anchor adds to values that have no offset; None if that is only rounding errors.
    fn added(&self, a: usize, own: &Own) -> Option<Offset> {
        let (values, sources) = (own.values.clone(), BTreeSet::from([a]));
        let offset = Offset { values, size: own.size, sources };
        self.tells(&offset).then_some(offset)
    }

    /// The offset behind a product and a sum with one number for each channel.
    fn affine(&self, a: usize, given: Option<Offset>, scale: &[f64], own: &Own) -> Option<Offset> {
        let added = self.added(a, own);
        let Some(mut offset) = given else { return added };
        offset.values.iter_mut().zip(scale).for_each(|(value, scale)| *value *= scale);
        offset.size *= largest(scale);
        sum(&[Some(&offset), added.as_ref()])
    }

    /// Something else than a sum reads this value, or it is the network's output: an offset that is left there
    /// was not moved.
    fn ends(&mut self, offset: Option<&Offset>) {
        if let Some(offset) = offset.filter(|offset| self.tells(offset)) {
            self.refuted.extend(offset.sources.difference(&self.confirmed));
        }
    }
}

/// Whether an offset is what a normalisation subtracts first.
fn is_minus(values: &[f64], mean: &[f64]) -> bool {
    const CLOSE: f64 = 1e-5;
    let bound = CLOSE * largest(mean);
    values.len() == mean.len() && values.iter().zip(mean).all(|(v, m)| (v + m).abs() <= bound)
}

/// The offset of a sum.
fn sum(summands: &[Option<&Offset>]) -> Option<Offset> {
    let mut summands = summands.iter().flatten();
    let mut total = (*summands.next()?).clone();
    for offset in summands {
        match offset.values.len() == total.values.len() {
            true => total.values.iter_mut().zip(&offset.values).for_each(|(a, b)| *a += b),
            // Nothing makes up for that.
            false => total.values.fill(f64::INFINITY),
        }
        total.size = total.size.max(offset.size);
        total.sources.extend(&offset.sources);
    }
    Some(total)
}

/// Whether the channels of a node's output are those of its input.
fn passes(op: &str) -> bool {
    matches!(op, "Transpose" | "Identity" | "Cast" | "Reshape" | "Squeeze" | "Unsqueeze")
}
