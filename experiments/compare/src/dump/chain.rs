//! What an array may hold instead of the output of the module that it is named after.
//!
//! A hook that keeps a reference instead of a copy records the result of later in-place operations on
//! the buffer. A runtime that folds or fuses records a convolution after its batch normalisation, its
//! ReLU or its residual addition. What can happen at a module follows from the order of operations in
//! the network alone. For example, no ReLU follows `downsample.1`, so an array of `downsample.1`
//! without negative values is wrong.

use spec::model::{Block, Body, ConvBn, Ctl};
use spec::{Model, ModuleId};

/// How an array's values relate to the output of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// They are the output.
    AsIs,
    /// They are max(output, 0): a ReLU follows that is not a module of its own.
    AfterRelu,
    /// The module is a block, and they are the sum of these two modules, its last normalisation and
    /// its shortcut, before its last ReLU.
    Sum(ModuleId, ModuleId),
}

/// Why an array shows a later operation than its module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A hook kept a reference, and an in-place operation overwrote the buffer.
    InPlace,
    /// The runtime folded the batch normalisation into the convolution, or fused what follows it.
    Folded,
}

/// What an array shows, if it is not the output of the module that it is named after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The module that it shows.
    pub module: ModuleId,
    /// How its values relate to the output of that module.
    pub through: Through,
    /// Why it shows that module.
    pub cause: Cause,
}

/// A module whose array may show a later operation.
#[derive(Debug, Clone)]
pub struct Site {
    /// The module that arrays are named after.
    pub module: ModuleId,
    /// The line of the program that computes the module, such as `bn1 of a block`. The same line
    /// computes all sites of a role, so one reading holds for all of them.
    pub role: &'static str,
    /// What the array may show instead of its module, the next operation first.
    pub readings: Vec<Reading>,
}

/// Every site of a model, in order of execution.
pub fn sites(model: &Model) -> Vec<Site> {
    let mut sites = Sites(vec![]);
    let relu = Next::Relu(model.stem.bn.id);
    sites.conv_bn(["conv1 of the stem", "bn1 of the stem"], &model.stem, &[relu]);
    let mut before = ("maxpool", model.maxpool);
    for block in &model.blocks {
        sites.block(block, before);
        before = ("a block", block.id);
    }
    let Sites(mut sites) = sites;
    sites.sort_by_key(|site| site.module);
    sites
}

/// An operation that follows a module and may be done in place.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// A ReLU that is not a module of its own, after this normalisation.
    Relu(ModuleId),
    /// A module of its own: a ReLU, a sigmoid, a sum or a product.
    Module(ModuleId),
    /// The residual addition in a block, before its last ReLU: the block, its last normalisation, its
    /// shortcut.
    Add(ModuleId, ModuleId, ModuleId),
}

impl Next {
    fn reading(self, cause: Cause) -> Reading {
        let (module, through) = match self {
            Next::Relu(bn) => (bn, Through::AfterRelu),
            Next::Module(module) => (module, Through::AsIs),
            Next::Add(block, bn, identity) => (block, Through::Sum(bn, identity)),
        };
        Reading { module, through, cause }
    }
}

struct Sites(Vec<Site>);

impl Sites {
    fn add(&mut self, module: ModuleId, role: &'static str, readings: Vec<Reading>) {
        self.0.push(Site { module, role, readings });
    }

    /// Adds a convolution and its normalisation. `next` holds the operations after it, in order.
    fn conv_bn(&mut self, roles: [&'static str; 2], conv_bn: &ConvBn, next: &[Next]) {
        let ConvBn { conv, bn } = conv_bn;
        let folded = std::iter::once(Next::Module(bn.id)).chain(next.iter().copied());
        let folded = folded.map(|next| next.reading(Cause::Folded)).collect();
        self.add(conv.id, roles[0], folded);
        self.bn(roles[1], bn.id, next);
    }

    fn bn(&mut self, role: &'static str, bn: ModuleId, next: &[Next]) {
        let readings: Vec<_> = next.iter().map(|next| next.reading(Cause::InPlace)).collect();
        if !readings.is_empty() {
            self.add(bn, role, readings);
        }
    }

    /// Adds a module whose buffer later operations may overwrite, one after the other.
    fn overwritten(&mut self, role: &'static str, module: ModuleId, by: &[ModuleId]) {
        let readings = by.iter().map(|by| Next::Module(*by).reading(Cause::InPlace)).collect();
        self.add(module, role, readings);
    }

    /// Adds the sites of a block. `before` is the role and the module that the block reads.
    fn block(&mut self, block: &Block, before: (&'static str, ModuleId)) {
        let last_bn = match &block.body {
            Body::Bottleneck { expand, .. } => expand.bn.id,
            Body::Basic { bn2, .. } => bn2.id,
        };
        let downsampled = block.downsample.as_ref().map(|d| ("downsample.1", d.bn.id));
        let shortcut = block.shortcut.as_ref().map(|s| ("shortcut_conv.1", s.bn.id));
        let (role, identity) = shortcut.or(downsampled).unwrap_or(before);
        // The sum may overwrite either of its operands.
        let last = [Next::Add(block.id, last_bn, identity), Next::Module(block.id)];
        if let Some(downsample) = &block.downsample {
            let next = if block.shortcut.is_none() { &last[..] } else { &[] };
            self.conv_bn(["downsample.0", "downsample.1"], downsample, next);
        }
        match &block.body {
            Body::Bottleneck { reduce, ctl, bn2, expand } => {
                let relu = Next::Relu(reduce.bn.id);
                self.conv_bn(["conv1 of a block", "bn1 of a block"], reduce, &[relu]);
                self.ctl(ctl);
                self.bn("bn2 of a block", bn2.id, &[Next::Relu(bn2.id)]);
                self.conv_bn(["conv3 of a block", "bn3 of a block"], expand, &last);
            }
            Body::Basic { ctl1, bn1, ctl2, bn2 } => {
                self.ctl(ctl1);
                self.bn("bn1 of a block", bn1.id, &[Next::Relu(bn1.id)]);
                self.ctl(ctl2);
                self.bn("bn2 of a block", bn2.id, &last);
            }
        }
        match &block.shortcut {
            Some(shortcut) => {
                self.conv_bn(["shortcut_conv.0", "shortcut_conv.1"], shortcut, &last);
            }
            None if downsampled.is_none() => self.bn(role, identity, &last),
            None => {}
        }
    }

    fn ctl(&mut self, ctl: &Ctl) {
        let gate = &ctl.gate;
        let relu = Next::Module(gate.relu);
        let reduce = ConvBn { conv: gate.conv1.clone(), bn: gate.bn.clone() };
        self.conv_bn(["param_conv.1", "param_conv.2"], &reduce, &[relu]);
        self.overwritten("param_conv.4", gate.conv2.id, &[gate.sigmoid]);
        let ioi = &ctl.spatial_conv;
        // The product and the sum of a CTL may overwrite either of their operands.
        self.overwritten("temporal_conv", ctl.temporal_conv.id, &[ctl.id]);
        self.overwritten("short_conv", ioi.short_conv.id, &[ioi.id, ctl.id]);
        self.conv_bn(["glo_conv.0", "glo_conv.1"], &ioi.glo_in, &[Next::Module(ioi.glo_in_relu)]);
        self.conv_bn(["glo_conv.3", "glo_conv.4"], &ioi.glo_mid, &[Next::Module(ioi.glo_mid_relu)]);
        self.overwritten("glo_conv.6", ioi.glo_out.id, &[ioi.glo_sigmoid, ioi.id, ctl.id]);
        self.overwritten("glo_conv.7", ioi.glo_sigmoid, &[ioi.id, ctl.id]);
        self.overwritten("spatial_conv", ioi.id, &[ctl.id]);
    }
}

#[cfg(test)]
mod tests {
    use spec::{Config, Kind};

    use super::*;

    fn readings(depth: usize, name: &str) -> Vec<String> {
        let config = Config { depth, width: 0.125, ..Config::default() };
        let model = Model::new(config).unwrap();
        let id = model.find(name).unwrap().id;
        let name = |id: ModuleId| model.module(id).name.clone();
        let shown = |r: &Reading| match r.through {
            Through::AsIs => name(r.module),
            Through::AfterRelu => format!("relu({})", name(r.module)),
            Through::Sum(a, b) => format!("{} + {}", name(a), name(b)),
        };
        let site = sites(&model).into_iter().find(|site| site.module == id);
        site.map_or(vec![], |site| site.readings.iter().map(shown).collect())
    }

    #[test]
    fn readings_follow_from_the_order_of_operations() {
        let cases: [(usize, &str, &[&str]); 10] = [
            (50, "bn1", &["relu(bn1)"]),
            (50, "layer1.0.bn1", &["relu(layer1.0.bn1)"]),
            (50, "layer1.0.bn3", &["layer1.0.bn3 + layer1.0.shortcut_conv.1", "layer1.0"]),
            (50, "layer1.1.bn3", &["layer1.1.bn3 + layer1.0", "layer1.1"]),
            (18, "layer1.0.bn2", &["layer1.0.bn2 + maxpool", "layer1.0"]),
            (18, "maxpool", &["layer1.0.bn2 + maxpool", "layer1.0"]),
            (50, "conv1", &["bn1", "relu(bn1)"]),
            (50, "layer2.0.downsample.1", &[]),
            (50, "layer2.0.downsample.0", &["layer2.0.downsample.1"]),
            (50, "layer1.0.conv2.temporal_conv", &["layer1.0.conv2"]),
        ];
        for (depth, name, expected) in cases {
            assert_eq!(readings(depth, name), expected, "{name} at depth {depth}");
        }
    }

    #[test]
    fn every_normalisation_but_the_downsampled_input_s_is_a_site() {
        let model = Model::new(Config { depth: 50, width: 0.125, ..Config::default() }).unwrap();
        let sites = sites(&model);
        for module in model.modules().iter().filter(|m| m.kind == Kind::BatchNorm) {
            let is_site = sites.iter().any(|site| site.module == module.id);
            assert_eq!(is_site, !module.name.contains("downsample"), "{}", module.name);
        }
    }
}
