//! The nodes of a file that have weights: convolutions, linear layers and normalisations. A normalisation
//! may be one node, or a chain of additions and multiplications with one number for each channel.

use std::collections::{BTreeSet, HashMap};
use std::ops::Deref;
use std::sync::Arc;

use spec::Precision;

use crate::proto::NodeProto;
use crate::read::attribute;
use crate::read::{Constant, Net, NodeId, ValueId};

/// Weights of a node.
#[derive(Debug, Clone)]
pub struct Numbers {
    /// Their values.
    pub values: Arc<Vec<f64>>,
    /// If they are integers with scales: the distance of each from the next integer's value.
    pub steps: Option<Arc<Vec<f64>>>,
}

impl Numbers {
    fn of(constant: &Constant) -> Self {
        Numbers { values: constant.values.clone(), steps: constant.steps.clone() }
    }

    /// How far the value at this index may be from the number that it was rounded from; 0 for a value that is
    /// not an integer with a scale.
    pub fn half_step(&self, at: usize) -> f64 {
        // The scale that the exporter divided by is rounded itself.
        const SLACK: f64 = 1.001;
        self.steps.as_ref().map_or(0.0, |steps| SLACK * steps[at] / 2.0)
    }

    /// The largest half step relative to the largest value.
    pub fn coarseness(&self) -> f64 {
        let largest = self.values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let step = (0..self.values.len()).fold(0.0f64, |m, at| m.max(self.half_step(at)));
        if step == 0.0 { 0.0 } else { step / largest.max(step) }
    }
}

impl Deref for Numbers {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        &self.values
    }
}

/// What a node with weights computes.
#[derive(Debug, Clone)]
pub enum Content {
    /// A convolution or a linear layer.
    Product {
        /// The weight as [out, in, kh, kw].
        shape: Vec<usize>,
        /// Its values.
        values: Numbers,
        /// The bias, one number for each output channel.
        bias: Option<Numbers>,
    },
    /// A normalisation, or another product and sum with one number for each channel.
    Norm {
        /// The factor of each channel.
        scale: Vec<f64>,
        /// What is added to each channel.
        shift: Vec<f64>,
        /// Weight, bias, mean and variance, where the file keeps them apart.
        parts: Vec<Numbers>,
    },
}

/// A node with weights, or several nodes that compute one module.
#[derive(Debug, Clone)]
pub struct Anchor {
    /// The node; of a chain, the first one.
    pub node: NodeId,
    /// What it computes.
    pub content: Content,
    /// The number format of the weights.
    pub format: Precision,
    /// The value that it reads, before any padding that is a node of its own.
    pub input: ValueId,
    /// The value that it computes, after a bias and a cast that are nodes of their own.
    pub output: ValueId,
    /// The anchors whose output reaches this one through other nodes.
    pub before: BTreeSet<usize>,
    /// The anchors that this one's output reaches.
    pub after: BTreeSet<usize>,
}

/// The anchors of a graph in order of execution.
pub fn anchors(net: &Net) -> Vec<Anchor> {
    let mut used = BTreeSet::new();
    let mut found = vec![];
    for (id, node) in net.nodes() {
        if used.contains(&id) {
            continue;
        }
        let made = match node.op_type.as_str() {
            "Conv" => conv(net, id),
            "Gemm" | "MatMul" => linear(net, id, node),
            "BatchNormalization" => norm(net, id, node),
            "Add" | "Sub" | "Mul" | "Div" => chain(net, id, &mut used),
            _ => None,
        };
        found.extend(made.map(|anchor| with_bias(net, anchor, &mut used)));
    }
    connect(net, &mut found);
    found
}

/// The only node that reads a value; None if there is not exactly one, or if the value is the output.
pub fn sole(net: &Net, value: ValueId) -> Option<NodeId> {
    match net.consumers(value) {
        [only] if value != net.output => Some(*only),
        _ => None,
    }
}

fn anchor(
    net: &Net,
    node: NodeId,
    content: Content,
    weight: &Constant,
    input: ValueId,
) -> Option<Anchor> {
    Some(Anchor {
        node,
        content,
        format: weight.format?,
        input: before_padding(net, input),
        output: net.out(node)?,
        before: BTreeSet::new(),
        after: BTreeSet::new(),
    })
}

/// The value before nodes that only pad it.
fn before_padding(net: &Net, mut value: ValueId) -> ValueId {
    while let Some(node) = net.producer(value)
        && net.node(node).op_type == "Pad"
        && let [input] = net.data_inputs(node)[..]
    {
        value = input;
    }
    value
}

fn conv(net: &Net, id: NodeId) -> Option<Anchor> {
    let weight = net.operand(id, 1)?;
    let [input] = net.data_inputs(id)[..] else { return None };
    let bias = net.operand(id, 2).map(Numbers::of);
    if weight.shape.len() != 4 {
        return None;
    }
    let (shape, values) = (weight.shape.clone(), Numbers::of(weight));
    anchor(net, id, Content::Product { shape, values, bias }, weight, input)
}

fn linear(net: &Net, id: NodeId, node: &NodeProto) -> Option<Anchor> {
    let weight = net.operand(id, 1)?;
    let [input] = net.data_inputs(id)[..] else { return None };
    let [a, b] = weight.shape[..] else { return None };
    let flag = |name| attribute(node, name).is_some_and(|attribute| attribute.i != 0);
    let factor = |name| attribute(node, name).map_or(1.0, |attribute| f64::from(attribute.f));
    let (outputs_first, alpha) = (flag("transB"), factor("alpha"));
    let (outputs, inputs) = if outputs_first { (a, b) } else { (b, a) };
    let ordered = |from: &Arc<Vec<f64>>, factor: f64| {
        let at = |o, i| if outputs_first { o * inputs + i } else { i * outputs + o };
        let places = (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i)));
        Arc::new(places.map(|(o, i)| factor * from[at(o, i)]).collect())
    };
    let values = Numbers {
        values: ordered(&weight.values, alpha),
        steps: weight.steps.as_ref().map(|steps| ordered(steps, alpha.abs())),
    };
    let bias = net.operand(id, 2).map(Numbers::of);
    let shape = vec![outputs, inputs, 1, 1];
    anchor(net, id, Content::Product { shape, values, bias }, weight, input)
}

fn norm(net: &Net, id: NodeId, node: &NodeProto) -> Option<Anchor> {
    let parts: Vec<&Constant> = (1..5).map(|at| net.operand(id, at)).collect::<Option<_>>()?;
    let [input] = net.data_inputs(id)[..] else { return None };
    let eps = attribute(node, "epsilon").map_or(1e-5, |attribute| f64::from(attribute.f));
    let channels = parts[0].values.len();
    if parts.iter().any(|part| part.values.len() != channels) {
        return None;
    }
    let of = |part: usize, at: usize| parts[part].values[at];
    let scale: Vec<f64> = (0..channels).map(|c| of(0, c) / (of(3, c) + eps).sqrt()).collect();
    let shift = (0..channels).map(|c| of(1, c) - of(2, c) * scale[c]).collect();
    let apart = parts.iter().map(|part| Numbers::of(part)).collect();
    anchor(net, id, Content::Norm { scale, shift, parts: apart }, parts[0], input)
}

/// The constant operand of an elementwise node as one number for each channel, or one for all; and
/// whether it is the first operand.
fn per_channel(net: &Net, id: NodeId) -> Option<(&Constant, bool)> {
    if net.data_inputs(id).len() != 1 || net.node(id).input.len() != 2 {
        return None;
    }
    let (constant, first) = match (net.operand(id, 0), net.operand(id, 1)) {
        (Some(constant), None) => (constant, true),
        (None, Some(constant)) => (constant, false),
        _ => return None,
    };
    let long = constant.shape.iter().filter(|&&extent| extent != 1).count();
    (long <= 1 && constant.format.is_some()).then_some((constant, first))
}

/// A chain of additions and multiplications that begins at this node.
fn chain(net: &Net, id: NodeId, used: &mut BTreeSet<NodeId>) -> Option<Anchor> {
    let mut links = vec![];
    let mut next = Some(id);
    let mut output = None;
    while let Some(at) = next
        && matches!(net.node(at).op_type.as_str(), "Add" | "Sub" | "Mul" | "Div")
        && let Some((constant, first)) = per_channel(net, at)
    {
        links.push((at, constant, first));
        output = net.out(at);
        next = output.and_then(|output| sole(net, output));
    }
    let channels = links.iter().map(|(_, constant, _)| constant.values.len()).max()?;
    let fits = |constant: &Constant| [1, channels].contains(&constant.values.len());
    if channels < 2 || !links.iter().all(|(_, constant, _)| fits(constant)) {
        return None;
    }
    let (mut scale, mut shift) = (vec![1.0; channels], vec![0.0; channels]);
    for (at, constant, first) in &links {
        for c in 0..channels {
            let k = constant.values[c % constant.values.len()];
            let (a, b) = match (net.node(*at).op_type.as_str(), first) {
                ("Add", _) => (scale[c], shift[c] + k),
                ("Sub", false) => (scale[c], shift[c] - k),
                ("Sub", true) => (-scale[c], k - shift[c]),
                ("Mul", _) => (scale[c] * k, shift[c] * k),
                ("Div", false) => (scale[c] / k, shift[c] / k),
                _ => return None,
            };
            (scale[c], shift[c]) = (a, b);
        }
    }
    let whole = links.iter().map(|(_, constant, _)| *constant);
    let parts = whole.clone().filter(|c| c.values.len() == channels);
    let parts: Vec<_> = parts.map(Numbers::of).collect();
    let weight = whole.max_by_key(|constant| constant.values.len())?;
    let [input] = net.data_inputs(id)[..] else { return None };
    let mut made = anchor(net, id, Content::Norm { scale, shift, parts }, weight, input)?;
    made.output = output?;
    used.extend(links.iter().map(|(at, ..)| *at));
    Some(made)
}

/// The anchor with a bias that is added by a node of its own, and after casts.
fn with_bias(net: &Net, mut anchor: Anchor, used: &mut BTreeSet<NodeId>) -> Anchor {
    if let Content::Product { shape, bias: bias @ None, .. } = &mut anchor.content
        && let Some(add) = sole(net, anchor.output)
        && net.node(add).op_type == "Add"
        && let Some((constant, _)) = per_channel(net, add)
        && constant.values.len() == shape[0]
        && let Some(output) = net.out(add)
    {
        *bias = Some(Numbers::of(constant));
        anchor.output = output;
        used.insert(add);
    }
    while let Some(cast) = sole(net, anchor.output)
        && matches!(net.node(cast).op_type.as_str(), "Cast" | "Identity")
        && let Some(output) = net.out(cast)
    {
        anchor.output = output;
    }
    anchor
}

/// Finds which anchors reach which. For each value, the anchors that reach it are collected in order of
/// execution; an anchor's output is reached by that anchor alone.
fn connect(net: &Net, anchors: &mut [Anchor]) {
    let by_output: HashMap<ValueId, usize> =
        anchors.iter().enumerate().map(|(at, anchor)| (anchor.output, at)).collect();
    let mut reach: HashMap<ValueId, BTreeSet<usize>> = HashMap::new();
    for (id, node) in net.nodes() {
        let mut sources = BTreeSet::new();
        for input in net.data_inputs(id) {
            sources.extend(reach.get(&input).into_iter().flatten().copied());
        }
        for output in node.output.iter().filter_map(|name| net.find(name)) {
            let own = by_output.get(&output);
            let reached = own.map_or_else(|| sources.clone(), |&at| BTreeSet::from([at]));
            reach.insert(output, reached);
        }
    }
    for at in 0..anchors.len() {
        let before = reach.get(&anchors[at].input).cloned().unwrap_or_default();
        for &source in &before {
            anchors[source].after.insert(at);
        }
        anchors[at].before = before;
    }
}
