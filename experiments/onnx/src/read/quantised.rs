//! Quantised files, in which pairs of QuantizeLinear and DequantizeLinear (QDQ) round values to integers and
//! back. Such a file is judged in two steps: the network in it, computed without its quantisers, and each
//! quantiser by itself.

use std::collections::HashMap;

use anyhow::{Result, bail};

use super::net::{Net, NodeId, ValueId, attribute};
use crate::proto::NodeProto;

/// A pair of QuantizeLinear and DequantizeLinear that a value passes through.
#[derive(Debug, Clone)]
pub struct Quantiser {
    /// The value before it.
    pub value: ValueId,
    /// The values after it: the integers, and what they are converted back to.
    pub after: Vec<ValueId>,
    /// The smallest and the largest integer.
    pub range: (f64, f64),
    /// Only ReLUs read the values after it.
    pub before_relu: bool,
    to: Scales,
    back: Scales,
}

/// Scales and zero points: one for the tensor, or one for each index of an axis.
#[derive(Debug, Clone, PartialEq)]
struct Scales {
    axis: i64,
    scale: Vec<f64>,
    zero: Vec<f64>,
}

impl Scales {
    /// Scale and zero point of the value at this index of a tensor of this shape.
    fn at(&self, index: usize, shape: &[usize]) -> (f64, f64) {
        let rank = shape.len() as i64;
        let axis = if self.axis < 0 { self.axis + rank } else { self.axis };
        let axis = usize::try_from(axis).unwrap_or(0);
        let inner: usize = shape.iter().skip(axis + 1).product();
        let extent = shape.get(axis).copied().unwrap_or(1);
        let place = index / inner.max(1) % extent.max(1);
        let pick = |values: &[f64]| values.get(place).or(values.first()).copied().unwrap_or(0.0);
        (pick(&self.scale), pick(&self.zero))
    }
}

impl Quantiser {
    /// What the quantiser makes of the values of a tensor.
    pub fn apply(&self, values: &[f64], shape: &[usize]) -> Vec<f64> {
        let (low, high) = self.range;
        let one = |(at, x): (usize, &f64)| {
            let (scale, zero) = self.to.at(at, shape);
            let integer = ((x / scale).round_ties_even() + zero).max(low).min(high);
            let (scale, zero) = self.back.at(at, shape);
            // `max` and `min` would turn NaN into a number.
            if x.is_nan() { f64::NAN } else { (integer - zero) * scale }
        };
        values.iter().enumerate().map(one).collect()
    }

    /// Which share of the values is beyond the integers' range, and which share of that range they reach.
    pub fn reach(&self, values: &[f64], shape: &[usize]) -> (f64, f64) {
        let (mut clipped, mut least, mut most) = (0usize, f64::INFINITY, f64::NEG_INFINITY);
        let (low, high) = self.range;
        for (at, x) in values.iter().enumerate() {
            let (scale, zero) = self.to.at(at, shape);
            let integer = (x / scale).round_ties_even() + zero;
            // What a ReLU would cut off is not clipped.
            let below = integer < low && !((self.rectifies() || self.before_relu) && *x < 0.0);
            clipped += usize::from(below || integer > high);
            (least, most) = (least.min(integer.max(low)), most.max(integer.min(high)));
        }
        let used = (most - least) / (high - low);
        (clipped as f64 / values.len().max(1) as f64, if used >= 0.0 { used } else { 0.0 })
    }

    /// The number of integers.
    pub fn levels(&self) -> f64 {
        self.range.1 - self.range.0 + 1.0
    }

    /// Half the distance of two of its values, the smallest one over its channels.
    fn half_step(&self) -> f64 {
        0.5 * self.to.scale.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Whether the values that it can represent begin at zero, so that it works as a ReLU. Exporters leave
    /// out the ReLU before such a quantiser.
    pub fn rectifies(&self) -> bool {
        self.to.zero.iter().all(|zero| *zero == self.range.0)
    }
}

/// The graph with a ReLU in place of each quantiser whose values begin at zero, where they may be lower than
/// rounding brings to zero, and with nothing in place of every other one; and the quantisers. Weights keep their rounding. A file without quantisers is unchanged.
///
/// # Errors
///
/// If the file computes in integers by other operators than these pairs.
pub fn without_quantisers(net: Net) -> Result<(Net, Vec<Quantiser>)> {
    refuse_integers(&net)?;
    let mut quantisers = vec![];
    let mut changes: Vec<(NodeId, &str)> = vec![];
    let mut bounds = Bounds::default();
    for (id, node) in net.nodes() {
        let data = net.out(id).is_some_and(|out| net.is_data(out));
        match node.op_type.as_str() {
            "QuantizeLinear" if data => {
                let quantiser = quantiser(&net, id)?;
                let cuts =
                    quantiser.rectifies() && bounds.of(quantiser.value) < -quantiser.half_step();
                changes.push((id, if cuts { "Relu" } else { "Identity" }));
                bounds
                    .0
                    .extend(net.out(id).filter(|_| quantiser.rectifies()).map(|out| (out, 0.0)));
                quantisers.push(quantiser);
            }
            "DequantizeLinear" if data => changes.push((id, "Identity")),
            // ONNX Runtime takes a resized embedding for an activation, too.
            "QuantizeLinear" if is_resized(&net, id) => {
                changes.push((id, "Identity"));
                let readers = net.out(id).map(|out| net.consumers(out)).unwrap_or_default();
                changes.extend(readers.iter().map(|reader| (*reader, "Identity")));
            }
            _ => {}
        }
        bounds.pass(&net, id, node);
    }
    if changes.is_empty() {
        return Ok((net, quantisers));
    }
    let mut file = net.file;
    if let Some(graph) = &mut file.graph {
        for (id, op) in changes {
            let node = &mut graph.node[id.0];
            node.op_type = op.to_owned();
            node.domain.clear();
            node.input.truncate(1);
            node.attribute.clear();
        }
        // The types that the file states for values between the pairs are no longer theirs.
        graph.value_info.clear();
    }
    // Values are numbered by their order in the file, which is the same.
    Ok((Net::new(file)?, quantisers))
}

/// Lower bounds of values, none above zero.
#[derive(Default)]
struct Bounds(HashMap<ValueId, f64>);

impl Bounds {
    fn of(&self, value: ValueId) -> f64 {
        self.0.get(&value).copied().unwrap_or(f64::NEG_INFINITY)
    }

    /// Adds the bound of the output of a node, if it has one.
    fn pass(&mut self, net: &Net, id: NodeId, node: &NodeProto) {
        let bound = self.after(net, id, node);
        if bound > f64::NEG_INFINITY {
            self.0.extend(net.out(id).map(|out| (out, bound)));
        }
    }

    fn after(&self, net: &Net, id: NodeId, node: &NodeProto) -> f64 {
        const POSITIVE: [&str; 5] = ["Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs"];
        const KEPT: [&str; 14] = [
            "AveragePool",
            "Cast",
            "DequantizeLinear",
            "Flatten",
            "GlobalAveragePool",
            "GlobalMaxPool",
            "Identity",
            "MaxPool",
            "ReduceMax",
            "ReduceMean",
            "Reshape",
            "Squeeze",
            "Transpose",
            "Unsqueeze",
        ];
        let inputs = net.data_inputs(id);
        let mut bounds = inputs.iter().map(|value| self.of(*value));
        match node.op_type.as_str() {
            op if POSITIVE.contains(&op) => 0.0,
            op if KEPT.contains(&op) => bounds.fold(0.0, f64::min),
            // A product with a constant may change the sign.
            "Mul" if inputs.len() == 2 && bounds.all(|bound| bound == 0.0) => 0.0,
            // A sum with a constant, such as a positional embedding.
            "Add" => {
                let least = |values: &[f64]| values.iter().copied().fold(0.0, f64::min);
                let constants = (0..2).filter_map(|position| net.operand(id, position));
                let terms: Vec<f64> = bounds.chain(constants.map(|c| least(&c.values))).collect();
                if terms.len() == 2 { terms.iter().sum() } else { f64::NEG_INFINITY }
            }
            _ => f64::NEG_INFINITY,
        }
    }
}

fn refuse_integers(net: &Net) -> Result<()> {
    let integers = |op: &str| {
        ["QLinear", "QGemm", "QAttention"].iter().any(|start| op.starts_with(start))
            || ["ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"].contains(&op)
    };
    if let Some((id, _)) = net.nodes().find(|(_, node)| integers(&node.op_type)) {
        bail!(
            "{} computes in integers; only pairs of QuantizeLinear and DequantizeLinear can be compared, so \
             quantise with quant_format=QuantFormat.QDQ (ONNX Runtime), or compare the float file",
            net.called(id)
        );
    }
    Ok(())
}

/// Whether a quantiser stands behind the resize of a constant, and only before nodes that convert back.
fn is_resized(net: &Net, id: NodeId) -> bool {
    let op = |id: NodeId| net.node(id).op_type.as_str();
    let from = net.inputs(id).next().and_then(|value| net.producer(value));
    let to = net.out(id).map(|out| net.consumers(out)).unwrap_or_default();
    from.is_some_and(|id| matches!(op(id), "Resize" | "Upsample"))
        && to.iter().all(|id| op(*id) == "DequantizeLinear")
}

/// Whether only ReLUs read the converted values: what is below zero is cut off anyway.
fn before_relu(net: &Net, after: &[ValueId]) -> bool {
    let readers = after.iter().flat_map(|value| net.consumers(*value));
    let mut readers = readers
        .map(|id| net.node(*id).op_type.as_str())
        .filter(|op| *op != "DequantizeLinear")
        .peekable();
    readers.peek().is_some() && readers.all(|op| op == "Relu")
}

fn quantiser(net: &Net, id: NodeId) -> Result<Quantiser> {
    let node = net.node(id);
    let value = net.inputs(id).next();
    let Some((value, (to, range))) = value.zip(scales(net, id, node)) else {
        bail!(
            "{} has no scale that is constant, or integers of a type other than int8, uint8, int16 and uint16",
            net.called(id)
        );
    };
    let (backs, mut after) = dequantised(net, id);
    after.extend(net.out(id));
    let Some(first) = backs.first() else {
        bail!("the integers of {} are not converted back by a DequantizeLinear", net.called(id));
    };
    let back = backs.iter().find(|back| **back != to).unwrap_or(first).clone();
    let before_relu = before_relu(net, &after);
    Ok(Quantiser { value, after, range, before_relu, to, back })
}

/// The operators that only move integers.
const MOVES: [&str; 10] = [
    "Concat",
    "Flatten",
    "Gather",
    "Identity",
    "MaxPool",
    "Reshape",
    "Slice",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// The scales of the DequantizeLinear nodes that read the integers of a node, also where these were moved; and
/// what those that read them directly give.
fn dequantised(net: &Net, id: NodeId) -> (Vec<Scales>, Vec<ValueId>) {
    let (mut found, mut queue, mut seen, mut after) = (vec![], vec![id], vec![], vec![]);
    while let Some(at) = queue.pop() {
        for &next in net.out(at).map_or(&[][..], |out| net.consumers(out)) {
            if seen.contains(&next) {
                continue;
            }
            seen.push(next);
            match net.node(next).op_type.as_str() {
                "DequantizeLinear" => {
                    found.extend(scales(net, next, net.node(next)).map(|s| s.0));
                    after.extend(net.out(next).filter(|_| at == id));
                }
                op if MOVES.contains(&op) => queue.push(next),
                _ => {}
            }
        }
    }
    (found, after)
}

/// The scales of a node, and the range of its integers.
fn scales(net: &Net, id: NodeId, node: &NodeProto) -> Option<(Scales, (f64, f64))> {
    let scale = net.operand(id, 1)?;
    let zero = net.operand(id, 2);
    if node.input.get(2).is_some_and(|name| !name.is_empty()) && zero.is_none() {
        return None;
    }
    if attribute(node, "block_size").is_some_and(|size| size.i != 0) {
        return None;
    }
    let range = zero.map_or(Some((0.0, 255.0)), |zero| zero.integers)?;
    let zeros = zero.map_or(vec![0.0], |zero| zero.values.to_vec());
    let known = range.1 - range.0 < 65536.0;
    let usable = |s: &f64| s.is_finite() && *s > 0.0;
    (known && scale.values.iter().all(usable)).then(|| {
        let axis = attribute(node, "axis").map_or(1, |a| a.i);
        (Scales { axis, scale: scale.values.to_vec(), zero: zeros }, range)
    })
}
