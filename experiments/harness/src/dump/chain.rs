//! What an array may hold besides the output of the module that it is named after.
//!
//! A hook that keeps a reference instead of a copy shows what later in-place operations left in the
//! buffer. A runtime that folds or fuses shows a convolution after its batch normalisation, its ReLU
//! or its residual addition. Which of this can happen at which module follows from the order of
//! operations of the network, and from nothing else: no ReLU follows `downsample.1`, so that an
//! array of `downsample.1` without negative values is wrong.

use spec::model::{Block, Body, Conv, ConvBn, Ctl};
use spec::{Model, ModuleId};

/// How an array's values relate to the output of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// They are its output.
    AsIs,
    /// They are max(output, 0), where a ReLU follows that is not a module of its own.
    AfterRelu,
    /// The module's output is max(values, 0): a block before its last ReLU.
    BeforeRelu,
}

/// Who has made an array show something later than its module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A hook kept a reference, and an in-place operation wrote over the buffer.
    InPlace,
    /// The runtime has folded batch normalisation into the convolution, or fused what follows it.
    Folded,
}

/// What an array shows, if it does not show its own module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The module whose output it shows.
    pub module: ModuleId,
    /// How.
    pub through: Through,
    /// Why.
    pub cause: Cause,
}

/// A module whose array may show something later, with what it may show, the next operation first.
#[derive(Debug, Clone)]
pub struct Site {
    /// The module that arrays are named after.
    pub module: ModuleId,
    /// The line of the network's program that it comes from, such as `bn1 of a block`. Programs are
    /// consistent: one reading holds for every site of a role.
    pub role: &'static str,
    /// What its array may show instead.
    pub readings: Vec<Reading>,
}

/// Every site of a model, in order of execution.
pub fn sites(model: &Model) -> Vec<Site> {
    let mut sites = Sites(vec![]);
    let relu = Next::Relu(model.stem.bn.id);
    sites.conv_bn(["conv1 of the stem", "bn1 of the stem"], &model.stem, &[relu]);
    for block in &model.blocks {
        sites.block(block);
    }
    let Sites(mut sites) = sites;
    sites.sort_by_key(|site| site.module);
    sites
}

/// An operation that follows a batch normalisation and may be done in place.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// A ReLU that is not a module: it is seen as the normalisation's output with the ReLU applied.
    Relu(ModuleId),
    /// A module of its own: a ReLU, a sigmoid, a sum or a product.
    Module(ModuleId),
    /// The addition of the shortcut; the block's own ReLU comes after it.
    Add(ModuleId),
}

impl Next {
    fn reading(self, cause: Cause) -> Reading {
        let (module, through) = match self {
            Next::Relu(bn) => (bn, Through::AfterRelu),
            Next::Module(module) => (module, Through::AsIs),
            Next::Add(block) => (block, Through::BeforeRelu),
        };
        Reading { module, through, cause }
    }
}

struct Sites(Vec<Site>);

impl Sites {
    fn add(&mut self, module: ModuleId, role: &'static str, readings: Vec<Reading>) {
        self.0.push(Site { module, role, readings });
    }

    /// A convolution, its normalisation and what follows in place.
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

    /// A convolution without normalisation, and the operation that may write over it.
    fn conv(&mut self, role: &'static str, conv: &Conv, next: ModuleId) {
        self.add(conv.id, role, vec![Next::Module(next).reading(Cause::InPlace)]);
    }

    fn block(&mut self, block: &Block) {
        let last = [Next::Add(block.id), Next::Module(block.id)];
        if let Some(downsample) = &block.downsample {
            self.conv_bn(["downsample.0", "downsample.1"], downsample, &[]);
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
        if let Some(shortcut) = &block.shortcut {
            self.conv_bn(["shortcut_conv.0", "shortcut_conv.1"], shortcut, &[]);
        }
    }

    fn ctl(&mut self, ctl: &Ctl) {
        let gate = &ctl.gate;
        let relu = Next::Module(gate.relu);
        let reduce = ConvBn { conv: gate.conv1.clone(), bn: gate.bn.clone() };
        self.conv_bn(["param_conv.1", "param_conv.2"], &reduce, &[relu]);
        self.conv("param_conv.4", &gate.conv2, gate.sigmoid);
        self.conv("temporal_conv", &ctl.temporal_conv, ctl.id);
        let ioi = &ctl.spatial_conv;
        self.conv("short_conv", &ioi.short_conv, ioi.id);
        self.conv_bn(["glo_conv.0", "glo_conv.1"], &ioi.glo_in, &[Next::Module(ioi.glo_in_relu)]);
        self.conv_bn(["glo_conv.3", "glo_conv.4"], &ioi.glo_mid, &[Next::Module(ioi.glo_mid_relu)]);
        self.conv("glo_conv.6", &ioi.glo_out, ioi.glo_sigmoid);
        // The product and the sum of a CTL may be written over either of their operands.
        let written = |over: ModuleId| vec![Next::Module(over).reading(Cause::InPlace)];
        self.add(ioi.glo_sigmoid, "glo_conv.7", written(ioi.id));
        self.add(ioi.id, "spatial_conv", written(ctl.id));
    }
}

#[cfg(test)]
mod tests {
    use spec::{Config, Kind};

    use super::*;

    fn readings(depth: usize, name: &str) -> Vec<(String, Through)> {
        let config = Config { depth, width: 0.125, ..Config::default() };
        let model = Model::new(config).unwrap();
        let id = model.find(name).unwrap().id;
        let site = sites(&model).into_iter().find(|site| site.module == id);
        let shown = |r: &Reading| (model.module(r.module).name.clone(), r.through);
        site.map_or(vec![], |site| site.readings.iter().map(shown).collect())
    }

    #[test]
    fn readings_follow_from_the_order_of_operations() {
        let owned = |list: &[(&str, Through)]| -> Vec<(String, Through)> {
            list.iter().map(|(name, through)| ((*name).to_owned(), *through)).collect()
        };
        use Through::{AfterRelu, AsIs, BeforeRelu};
        type Case<'a> = (usize, &'a str, &'a [(&'a str, Through)]);
        let cases: [Case; 8] = [
            (50, "bn1", &[("bn1", AfterRelu)]),
            (50, "layer1.0.bn1", &[("layer1.0.bn1", AfterRelu)]),
            (50, "layer1.0.bn3", &[("layer1.0", BeforeRelu), ("layer1.0", AsIs)]),
            (18, "layer1.0.bn2", &[("layer1.0", BeforeRelu), ("layer1.0", AsIs)]),
            (50, "conv1", &[("bn1", AsIs), ("bn1", AfterRelu)]),
            (50, "layer2.0.downsample.1", &[]),
            (50, "layer1.0.shortcut_conv.1", &[]),
            (50, "layer2.0.downsample.0", &[("layer2.0.downsample.1", AsIs)]),
        ];
        for (depth, name, expected) in cases {
            assert_eq!(readings(depth, name), owned(expected), "{name} at depth {depth}");
        }
    }

    #[test]
    fn every_normalisation_before_a_relu_is_a_site_and_no_other() {
        let model = Model::new(Config { depth: 50, width: 0.125, ..Config::default() }).unwrap();
        let sites = sites(&model);
        for module in model.modules().iter().filter(|m| m.kind == Kind::BatchNorm) {
            let shortcut = module.name.contains("downsample") || module.name.contains("shortcut");
            let is_site = sites.iter().any(|site| site.module == module.id);
            assert_eq!(is_site, !shortcut, "{}", module.name);
        }
    }
}
