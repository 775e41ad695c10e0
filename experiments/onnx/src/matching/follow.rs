//! Finds the values of modules without weights. Each is named by what reads it: the output of a block is
//! what the next block's first convolution reads, whatever the file computes in between. So a missing or
//! additional operation shows at the module whose output it changes.

use std::collections::{BTreeMap, HashMap, HashSet};

use spec::model::{Block, Body, Conv, ConvBn, Ctl};
use spec::{Model, ModuleId};

use super::anchors::{Anchor, Content, sole};
use super::weigh::Likeness;
use crate::read::{Net, NodeId, ValueId, is_called_logits};

/// What is followed from the aligned nodes.
pub(super) struct Follow<'a> {
    pub(super) net: &'a Net,
    pub(super) model: &'a Model,
    pub(super) anchors: &'a [Anchor],
    /// The anchor of each module with weights, and how like their weights are.
    pub(super) at: HashMap<ModuleId, (usize, Likeness)>,
    /// The value of each module that was found.
    pub(super) points: BTreeMap<ModuleId, ValueId>,
    /// The batch normalisations that are folded into the convolution before them.
    pub(super) folded: Vec<ModuleId>,
    /// The nodes of anchors.
    nodes: HashSet<NodeId>,
}

impl<'a> Follow<'a> {
    pub(super) fn new(
        net: &'a Net,
        model: &'a Model,
        anchors: &'a [Anchor],
        at: HashMap<ModuleId, (usize, Likeness)>,
    ) -> Self {
        let nodes = at.values().map(|(a, _)| anchors[*a].node).collect();
        Follow { net, model, anchors, at, points: BTreeMap::new(), folded: vec![], nodes }
    }

    /// Finds all points.
    pub(super) fn all(&mut self) {
        self.pair(&self.model.stem);
        self.set(self.model.input, self.input(self.model.stem.conv.id));
        let model = self.model;
        for (at, block) in model.blocks.iter().enumerate() {
            let before = if at == 0 { model.maxpool } else { model.blocks[at - 1].id };
            self.set(before, self.input_of(block));
            self.block(block);
        }
        let pooled = match &model.fc {
            Some(fc) => self.input(fc.id),
            None => Some(self.net.output),
        };
        self.set(model.avgpool, pooled);
        if let (Some(last), Some(pooled)) = (model.blocks.last(), pooled) {
            self.set(last.id, Some(self.before_pooling(pooled)));
        }
        if let Some(fc) = &model.fc {
            self.set(fc.id, Some(self.logits(fc.out_features, self.own(fc.id))));
        }
    }

    /// What the file returns as logits, whatever computes it: the first output with this number of columns, or
    /// else the first that only nodes with one operand compute from the value `own` of the classifier.
    fn logits(&self, classes: usize, own: Option<ValueId>) -> ValueId {
        let wide = || self.net.outputs(classes).filter(|(_, wide)| *wide);
        let named = wide().find(|(id, _)| is_called_logits(self.net.name(*id)));
        let stated = named.or_else(|| wide().next());
        let follows = |(id, _): &(ValueId, _)| own.is_some_and(|own| self.back(*id, own).is_some());
        let found = stated.or_else(|| self.net.outputs(classes).find(follows));
        found.map_or(self.net.output, |(id, _)| id)
    }

    fn set(&mut self, id: ModuleId, value: Option<ValueId>) {
        if let Some(value) = value {
            self.points.insert(id, value);
        }
    }

    fn anchor(&self, id: ModuleId) -> Option<&'a Anchor> {
        Some(&self.anchors[self.at.get(&id)?.0])
    }

    /// The value that the node of a module computes.
    fn own(&self, id: ModuleId) -> Option<ValueId> {
        Some(self.anchor(id)?.output)
    }

    /// The value that the node of a module reads.
    fn input(&self, id: ModuleId) -> Option<ValueId> {
        Some(self.anchor(id)?.input)
    }

    /// The value that a block reads.
    fn input_of(&self, block: &Block) -> Option<ValueId> {
        let halved = block.downsample.as_ref().and_then(|d| self.input(d.conv.id));
        let shortcut = || block.shortcut.as_ref().and_then(|s| self.input(s.conv.id));
        if block.downsample.is_some() {
            return halved;
        }
        self.body_input(block).or_else(shortcut)
    }

    /// The value that the main path of a block reads.
    fn body_input(&self, block: &Block) -> Option<ValueId> {
        match &block.body {
            Body::Bottleneck { reduce, .. } => self.input(reduce.conv.id),
            Body::Basic { ctl1, .. } => {
                let short = self.input(ctl1.spatial_conv.short_conv.id);
                let pooled = self.input(ctl1.gate.conv1.id).map(|value| self.before_pooling(value));
                // If they read different values, one is computed from the other: the short branch of a port
                // may read what was gated.
                short.into_iter().chain(pooled).min()
            }
        }
    }

    /// The last value that only nodes with one operand compute from this one, and the node with more
    /// operands that reads it, if that is what ends the walk.
    fn ahead(&self, mut value: ValueId) -> (ValueId, Option<NodeId>) {
        while let Some(node) = sole(self.net, value) {
            if self.nodes.contains(&node) {
                return (value, None);
            }
            match self.net.data_inputs(node).len() {
                1 => {}
                _ => return (value, Some(node)),
            }
            match self.net.out(node) {
                Some(output) => value = output,
                None => break,
            }
        }
        (value, None)
    }

    /// The nodes between two values, the last one first, if each has one operand only.
    fn back(&self, mut from: ValueId, to: ValueId) -> Option<Vec<NodeId>> {
        let mut path = vec![];
        while from != to {
            let node = self.net.producer(from)?;
            let [input] = self.net.data_inputs(node)[..] else { return None };
            if self.nodes.contains(&node) {
                return None;
            }
            path.push(node);
            from = input;
        }
        Some(path)
    }

    /// A convolution and the normalisation behind it, which may be folded into it.
    fn pair(&mut self, pair: &ConvBn) {
        let (conv, bn) = (&pair.conv, pair.bn.id);
        if self.at.contains_key(&bn) || !self.at.contains_key(&conv.id) {
            self.set(conv.id, self.own(conv.id));
            self.set(bn, self.own(bn));
            return;
        }
        // Without a normalisation of its own, the node gives what the normalisation would give.
        self.set(bn, self.own(conv.id));
        match self.is_bare(conv) {
            true => self.set(conv.id, self.own(conv.id)),
            false => self.folded.push(bn),
        }
    }

    /// Whether a convolution has the weights of the checkpoint unchanged and no bias added, so that no
    /// normalisation is folded in.
    fn is_bare(&self, conv: &Conv) -> bool {
        let Some((at, likeness)) = self.at.get(&conv.id) else { return false };
        let with_bias = match &self.anchors[*at].content {
            Content::Product { bias, .. } => {
                bias.as_ref().is_some_and(|b| b.iter().any(|v| *v != 0.0))
            }
            Content::Norm { .. } => true,
        };
        *likeness == Likeness::Same && (conv.bias || !with_bias)
    }

    fn block(&mut self, block: &Block) {
        if let Some(downsample) = &block.downsample {
            self.pair(downsample);
            let own = self.points.get(&downsample.bn.id).copied();
            let read = self.body_input(block);
            if let (Some(own), Some(read)) = (own, read)
                && self.back(read, own).is_some()
            {
                self.set(downsample.bn.id, Some(read));
            }
        }
        let last = match &block.body {
            Body::Bottleneck { reduce, ctl, bn2, expand } => {
                self.pair(reduce);
                self.ctl(ctl, bn2.id);
                self.set(bn2.id, self.own(bn2.id));
                self.pair(expand);
                expand.bn.id
            }
            Body::Basic { ctl1, bn1, ctl2, bn2 } => {
                self.ctl(ctl1, bn1.id);
                self.set(bn1.id, self.own(bn1.id));
                self.ctl(ctl2, bn2.id);
                self.set(bn2.id, self.own(bn2.id));
                bn2.id
            }
        };
        if let Some(shortcut) = &block.shortcut {
            self.pair(shortcut);
            self.absorb(shortcut.bn.id);
        }
        self.absorb(last);
    }

    /// Moves a point behind operations that the network does not have, directly before the sum at the
    /// end of a block.
    fn absorb(&mut self, id: ModuleId) {
        let Some(&value) = self.points.get(&id) else { return };
        let (last, joint) = self.ahead(value);
        let rectified = |sum: NodeId| {
            let next = self.net.out(sum).map(|out| self.net.consumers(out));
            next.is_some_and(|next| next.iter().any(|n| is_rectifier(&self.net.node(*n).op_type)))
        };
        if last != value
            && joint.is_some_and(|sum| self.net.node(sum).op_type == "Add" && rectified(sum))
        {
            self.set(id, Some(last));
        }
    }

    fn ctl(&mut self, ctl: &Ctl, norm: ModuleId) {
        let gate = &ctl.gate;
        if ctl.semantics.tfc {
            self.pair(&ConvBn { conv: gate.conv1.clone(), bn: gate.bn.clone() });
            self.set(gate.pool, self.input(gate.conv1.id));
            self.set(gate.relu, self.rectified(gate.bn.id, gate.conv2.id));
            self.set(gate.conv2.id, self.own(gate.conv2.id));
            self.set(gate.sigmoid, self.before_joint(gate.conv2.id));
        }
        if ctl.semantics.ioi {
            self.ioi(ctl);
        }
        let temporal = self.own(ctl.temporal_conv.id);
        if self.is_folded_into(norm, ctl.temporal_conv.id) {
            self.folded.push(norm);
            return self.set(norm, temporal);
        }
        self.set(ctl.temporal_conv.id, temporal);
        let sum = temporal.and_then(|value| self.ahead(value).1);
        let sum = sum.filter(|node| self.net.node(*node).op_type == "Add" && ctl.semantics.ioi);
        let read = self.input(norm);
        self.set(ctl.id, sum.and_then(|node| self.net.out(node)).or(read));
    }

    /// Whether the normalisation behind a CTL is folded into its temporal convolution, which nothing else is
    /// added to: the IOI branch is off or missing.
    fn is_folded_into(&self, norm: ModuleId, conv: ModuleId) -> bool {
        let scaled = self.at.get(&conv).is_some_and(|(_, likeness)| *likeness == Likeness::Scaled);
        scaled && !self.at.contains_key(&norm)
    }

    /// What a ReLU between a normalisation and a convolution gives; without a ReLU, what the convolution
    /// reads. Other operations between them count with the convolution.
    fn rectified(&self, norm: ModuleId, conv: ModuleId) -> Option<ValueId> {
        let read = self.input(conv)?;
        let path = self.points.get(&norm).and_then(|start| self.back(read, *start));
        let relu = path.into_iter().flatten().find(|n| is_rectifier(&self.net.node(*n).op_type));
        relu.and_then(|node| self.net.out(node)).or(Some(read))
    }

    /// The last value before a product or a sum that follows the node of this module.
    fn before_joint(&self, id: ModuleId) -> Option<ValueId> {
        let (last, joint) = self.ahead(self.own(id)?);
        joint.map(|_| last)
    }

    fn ioi(&mut self, ctl: &Ctl) {
        let ioi = &ctl.spatial_conv;
        let short = self.own(ioi.short_conv.id);
        self.set(ioi.short_conv.id, short);
        self.pair(&ioi.glo_in);
        self.pair(&ioi.glo_mid);
        self.late(ioi.glo_mid.conv.id, ioi.glo_mid.bn.id);
        self.between(ctl);
        self.set(ioi.glo_mid_relu, self.rectified(ioi.glo_mid.bn.id, ioi.glo_out.id));
        self.set(ioi.glo_out.id, self.own(ioi.glo_out.id));
        self.set(ioi.glo_sigmoid, self.before_joint(ioi.glo_out.id));
        let product = short.and_then(|value| self.ahead(value).1);
        self.set(ioi.id, product.and_then(|node| self.net.out(node)));
    }

    /// What is added between the second convolution and its normalisation counts with the convolution: an
    /// embedding that comes one layer late.
    fn late(&mut self, conv: ModuleId, norm: ModuleId) {
        if let (Some(own), Some(read)) = (self.own(conv), self.input(norm))
            && self.back(read, own).is_some()
        {
            self.set(conv, Some(read));
        }
    }

    /// The ReLU and the embedding between the first two convolutions of the global branch.
    fn between(&mut self, ctl: &Ctl) {
        let ioi = &ctl.spatial_conv;
        let Some(&start) = self.points.get(&ioi.glo_in.bn.id) else { return };
        let Some(end) = self.input(ioi.glo_mid.conv.id) else { return };
        let Some(path) = self.back(end, start) else { return };
        let sum = path.iter().find_map(|node| {
            let mut inputs = self.net.inputs(*node);
            let added = inputs.find(|value| !self.net.is_data(*value))?;
            let whole = self.net.constant(added).is_none_or(|c| c.values.len() > 1);
            (self.net.node(*node).op_type == "Add" && whole).then_some((*node, added))
        });
        match sum {
            Some((node, embedding)) => {
                self.set(ioi.pos_embed.id, Some(embedding));
                self.set(ioi.glo_in_relu, self.net.data_inputs(node).first().copied());
            }
            None => self.set(ioi.glo_in_relu, Some(end)),
        }
    }

    /// The map before the pooling over all pixels and the flattening that give this value.
    fn before_pooling(&self, mut value: ValueId) -> ValueId {
        // The mean over rows and columns may be two operations.
        const OVER_ALL: [&str; 5] =
            ["GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceSum"];
        // With a window as large as the map, these pool over all pixels, too. Behind such a pooling they do not:
        // there they are the stem's.
        const WINDOWED: [&str; 2] = ["AveragePool", "MaxPool"];
        const SAME: [&str; 8] = [
            "Flatten",
            "Reshape",
            "Squeeze",
            "Unsqueeze",
            "Transpose",
            "Identity",
            "Cast",
            "Expand",
        ];
        let mut pooled = false;
        while let Some(node) = self.net.producer(value)
            && let [input] = self.net.data_inputs(node)[..]
        {
            let op = self.net.node(node).op_type.as_str();
            let pools = OVER_ALL.contains(&op) || (WINDOWED.contains(&op) && !pooled);
            if !pools && !SAME.contains(&op) && !self.scales(node) {
                break;
            }
            pooled |= pools;
            value = input;
        }
        value
    }
}

impl Follow<'_> {
    /// Whether a node multiplies or divides by one number: a sum over pixels becomes their mean.
    fn scales(&self, node: NodeId) -> bool {
        let number = (0..2).filter_map(|position| self.net.operand(node, position));
        let mut sizes = number.map(|constant| constant.values.len());
        matches!(self.net.node(node).op_type.as_str(), "Mul" | "Div") && sizes.any(|size| size == 1)
    }
}

fn is_rectifier(op: &str) -> bool {
    matches!(op, "Relu" | "Clip" | "Max" | "LeakyRelu")
}
