//! The modules with weights, and which of them read which through modules without weights.

use std::collections::BTreeSet;

use spec::model::{Block, Body, Conv, ConvBn, Ctl};
use spec::{Kind, Model, ModuleId};

/// A module with weights.
#[derive(Debug, Clone)]
pub struct Place {
    /// The module.
    pub id: ModuleId,
    /// What it computes: a convolution, a batch normalisation or a linear layer.
    pub kind: Kind,
    /// The shape of a convolution's weight [out, in, kh, kw], of a linear layer's as [out, in, 1, 1], of a
    /// batch normalisation's `[channels]`.
    pub shape: Vec<usize>,
    /// Whether the module has a bias.
    pub bias: bool,
    /// The batch normalisation that reads this convolution and nothing else.
    pub norm: Option<ModuleId>,
    /// The places whose output reaches this one.
    pub before: BTreeSet<usize>,
    /// The places that this one's output reaches.
    pub after: BTreeSet<usize>,
}

/// The places of a model in order of execution.
pub fn places(model: &Model) -> Vec<Place> {
    let mut b = Builder { model, places: vec![] };
    let x = b.conv_bn(&model.stem, &BTreeSet::new());
    let x = model.blocks.iter().fold(x, |x, block| b.block(block, x));
    if let Some(fc) = &model.fc {
        let shape = vec![fc.out_features, fc.in_features, 1, 1];
        b.add(fc.id, shape, true, &x);
    }
    let mut places = b.places;
    for at in 0..places.len() {
        for before in places[at].before.clone() {
            places[before].after.insert(at);
        }
    }
    places
}

type Sources = BTreeSet<usize>;

struct Builder<'a> {
    model: &'a Model,
    places: Vec<Place>,
}

impl Builder<'_> {
    fn add(&mut self, id: ModuleId, shape: Vec<usize>, bias: bool, x: &Sources) -> Sources {
        let kind = self.model.module(id).kind;
        let (before, after) = (x.clone(), Sources::new());
        self.places.push(Place { id, kind, shape, bias, norm: None, before, after });
        Sources::from([self.places.len() - 1])
    }

    fn conv(&mut self, conv: &Conv, x: &Sources) -> Sources {
        let inner = conv.in_channels / conv.groups;
        let shape = vec![conv.out_channels, inner, conv.kernel, conv.kernel];
        self.add(conv.id, shape, conv.bias, x)
    }

    fn norm(&mut self, id: ModuleId, x: &Sources) -> Sources {
        let channels = self.model.module(id).shape[0];
        self.add(id, vec![channels], true, x)
    }

    fn conv_bn(&mut self, pair: &ConvBn, x: &Sources) -> Sources {
        let x = self.conv(&pair.conv, x);
        for &at in &x {
            self.places[at].norm = Some(pair.bn.id);
        }
        self.norm(pair.bn.id, &x)
    }

    fn block(&mut self, block: &Block, x: Sources) -> Sources {
        let x = match &block.downsample {
            Some(downsample) => self.conv_bn(downsample, &x),
            None => x,
        };
        let main = match &block.body {
            Body::Bottleneck { reduce, ctl, bn2, expand } => {
                let h = self.conv_bn(reduce, &x);
                let h = self.ctl(ctl, &h);
                let h = self.norm(bn2.id, &h);
                self.conv_bn(expand, &h)
            }
            Body::Basic { ctl1, bn1, ctl2, bn2 } => {
                let h = self.ctl(ctl1, &x);
                let h = self.norm(bn1.id, &h);
                let h = self.ctl(ctl2, &h);
                self.norm(bn2.id, &h)
            }
        };
        let shortcut = match &block.shortcut {
            Some(shortcut) => self.conv_bn(shortcut, &x),
            None => x,
        };
        main.union(&shortcut).copied().collect()
    }

    fn ctl(&mut self, ctl: &Ctl, x: &Sources) -> Sources {
        let mut gated = x.clone();
        if ctl.semantics.tfc {
            let gate = &ctl.gate;
            let pair = ConvBn { conv: gate.conv1.clone(), bn: gate.bn.clone() };
            let h = self.conv_bn(&pair, x);
            gated.extend(self.conv(&gate.conv2, &h));
        }
        let mut out = self.conv(&ctl.temporal_conv, &gated);
        if ctl.semantics.ioi {
            let ioi = &ctl.spatial_conv;
            out.extend(self.conv(&ioi.short_conv, x));
            let h = self.conv_bn(&ioi.glo_in, &gated);
            let h = self.conv_bn(&ioi.glo_mid, &h);
            out.extend(self.conv(&ioi.glo_out, &h));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use spec::Config;

    use super::*;

    #[test]
    fn every_module_with_weights_is_a_place_and_reads_earlier_ones() {
        let model = Model::new(Config { depth: 50, width: 0.125, ..Config::default() }).unwrap();
        let places = places(&model);
        let weighed = model.modules().iter().filter(|m| m.kind.has_weights()).count();
        assert_eq!(places.len(), weighed);
        for (at, place) in places.iter().enumerate() {
            assert_eq!(place.before.is_empty(), at == 0, "{}", model.module(place.id).name);
            assert!(place.before.iter().all(|&before| before < at));
        }
    }
}
