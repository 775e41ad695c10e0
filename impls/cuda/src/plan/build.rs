//! From the model's description to steps (paper, section 3; `impls/scalar/src/network.rs` has the
//! network in plain words).

use checkpoint::Weights;
use spec::model::{
    BatchNorm, Block as Residual, Body, Conv as Layer, ConvBn, Ctl, Gate, Ioi, Linear,
};
use spec::{EngineError, Model, Precision};

use super::constants::{Constant, Constants};
use super::fold::{Affine, Kernel, Params};
use super::{Block, Conv, Finish, Input, Map, Op, Plan, Post, Step, embedding};
use crate::device::failed;
use crate::kernels::args::{Activation, stage};
use crate::kernels::vector;

/// Makes the plan of a network.
pub fn plan(model: &Model, weights: &Weights, precision: Precision) -> Result<Plan, EngineError> {
    let mut b = Builder {
        model,
        params: Params::new(model, weights)?,
        constants: Constants::new(precision),
        vector: vector(precision),
        steps: vec![],
        blocks: vec![],
        buffers: 0,
    };
    let mut x = b.stem()?;
    for block in &model.blocks {
        x = b.residual(block, x)?;
    }
    let features = b.mean("head mean", model.avgpool, x);
    let output = match &model.fc {
        Some(fc) => b.classifier(fc, features)?,
        None => features,
    };
    let constants = b.constants.into_bytes();
    Ok(Plan { steps: b.steps, blocks: b.blocks, buffers: b.buffers, output, constants })
}

struct Builder<'a> {
    model: &'a Model,
    params: Params<'a>,
    constants: Constants,
    vector: usize,
    steps: Vec<Step>,
    blocks: Vec<Block>,
    buffers: usize,
}

/// `values`, and zeros up to a length.
fn padded(values: impl Iterator<Item = f64>, length: usize) -> impl Iterator<Item = f64> {
    values.chain(std::iter::repeat(0.0)).take(length)
}

impl Builder<'_> {
    fn map(&mut self, channels: usize, size: (usize, usize)) -> Map {
        let buffer = self.buffers;
        self.buffers += 1;
        let pitch = channels.next_multiple_of(self.vector);
        Map { buffer, channels, pitch, size, wide: false }
    }

    fn wide(&mut self, channels: usize, size: (usize, usize)) -> Map {
        Map { wide: true, ..self.map(channels, size) }
    }

    /// Adds a step, and returns its index.
    fn push(&mut self, op: Op, name: &str, kind: &'static str, macs: u64) -> usize {
        self.steps.push(Step { op, name: name.to_owned(), kind, macs });
        self.steps.len() - 1
    }

    fn affine(&mut self, out: Map, affine: &Affine) -> Finish {
        let scale = Some(self.constants.wide(padded(affine.scale.iter().copied(), out.pitch)));
        let bias = Some(self.constants.wide(padded(affine.shift.iter().copied(), out.pitch)));
        Finish { scale, bias, ..Finish::to(out) }
    }

    fn biased(&mut self, out: Map, kernel: &Kernel<'_>) -> Finish {
        let bias = (0..out.channels).map(|o| kernel.bias(o));
        Finish { bias: Some(self.constants.wide(padded(bias, out.pitch))), ..Finish::to(out) }
    }

    /// A convolution's weights as [outputs, kernel, kernel, pitch], each output times a scale.
    fn weights(
        &mut self,
        layer: &Layer,
        kernel: &Kernel<'_>,
        pitch: usize,
        scale: impl Fn(usize) -> f64,
    ) -> Constant {
        let taps = layer.kernel * layer.kernel;
        let (outputs, inputs) = (layer.out_channels, layer.in_channels);
        let scale = &scale;
        self.constants.stored((0..outputs).flat_map(move |o| {
            (0..taps).flat_map(move |tap| {
                padded((0..inputs).map(move |c| kernel.at(o, c, tap) * scale(o)), pitch)
            })
        }))
    }

    fn input(&mut self, layer: &Layer, kernel: &Kernel<'_>, from: Map, gate: Option<Map>) -> Input {
        self.scaled_input(layer, kernel, from, gate, |_| 1.0)
    }

    fn scaled_input(
        &mut self,
        layer: &Layer,
        kernel: &Kernel<'_>,
        from: Map,
        gate: Option<Map>,
        scale: impl Fn(usize) -> f64,
    ) -> Input {
        let weights = self.weights(layer, kernel, from.pitch, scale);
        let Layer { kernel, stride, padding, .. } = *layer;
        Input { from, weights, gate, kernel, stride, padding }
    }

    fn conv(
        &mut self,
        layer: &Layer,
        kind: &'static str,
        input: Input,
        init: Option<Map>,
        finish: Finish,
    ) -> usize {
        let macs = self.model.module(layer.id).macs;
        let op = Op::Conv(Box::new(Conv { inputs: vec![input], init, finish }));
        self.push(op, &layer.name, kind, macs)
    }

    fn mean(&mut self, name: &str, show: spec::ModuleId, from: Map) -> Map {
        let out = self.wide(from.channels, (1, 1));
        self.push(Op::Mean { from, out, show }, name, "mean", 0);
        out
    }

    fn stem(&mut self) -> Result<Map, EngineError> {
        let stem = &self.model.stem;
        let pixels = self.map(stem.conv.in_channels, self.model.config.size);
        self.push(Op::Import { out: pixels }, "input", "import", 0);
        let kernel = self.params.kernel(&stem.conv)?;
        let out = self.map(stem.conv.out_channels, stem.conv.out_size);
        let affine = self.params.affine_of(&kernel, &stem.bn)?;
        // The ReLU is part of the pooling.
        let finish = self.affine(out, &affine).show(stage::LINEAR, stem.bn.id);
        let input = self.input(&stem.conv, &kernel, pixels, None);
        self.conv(&stem.conv, "stem", input, None, finish);
        let halved = (out.size.0.div_ceil(2), out.size.1.div_ceil(2));
        let pooled = self.map(out.channels, halved);
        let finish = Finish::to(pooled).show(stage::END, self.model.maxpool);
        self.push(Op::MaxPool { from: out, finish }, "maxpool", "pool", 0);
        Ok(pooled)
    }

    fn residual(&mut self, block: &Residual, x: Map) -> Result<Map, EngineError> {
        let x = match &block.downsample {
            Some(downsample) => self.downsample(downsample, x)?,
            None => x,
        };
        match &block.body {
            Body::Bottleneck { reduce, ctl, bn2, expand } => {
                let kernel = self.params.kernel(&reduce.conv)?;
                let out = self.map(reduce.conv.out_channels, x.size);
                let affine = self.params.affine_of(&kernel, &reduce.bn)?;
                let finish = self.affine(out, &affine).then(Activation::Relu);
                let finish = finish.show(stage::LINEAR, reduce.bn.id);
                let input = self.input(&reduce.conv, &kernel, x, None);
                self.conv(&reduce.conv, "reduce 1x1", input, None, finish);
                let shown =
                    |finish: Finish| finish.then(Activation::Relu).show(stage::LINEAR, bn2.id);
                let h = self.ctl(ctl, bn2, out, shown)?;
                self.expand(block, expand, h, x)
            }
            Body::Basic { ctl1, bn1, ctl2, bn2 } => {
                let h = self.ctl(ctl1, bn1, x, |finish| {
                    finish.then(Activation::Relu).show(stage::LINEAR, bn1.id)
                })?;
                let shortcut = match &block.shortcut {
                    Some(shortcut) => self.shortcut(shortcut, x)?,
                    None => x,
                };
                self.ctl(ctl2, bn2, h, |finish| {
                    Finish { residual: Some(shortcut), ..finish }
                        .then(Activation::Relu)
                        .show(stage::ACTIVATION, block.id)
                })
            }
        }
    }

    fn downsample(&mut self, pair: &ConvBn, x: Map) -> Result<Map, EngineError> {
        let kernel = self.params.kernel(&pair.conv)?;
        let out = self.map(x.channels, pair.conv.out_size);
        let taps = (0..4)
            .flat_map(|tap| padded((0..x.channels).map(move |c| kernel.at(c, 0, tap)), x.pitch));
        let weights = self.constants.wide(taps);
        let affine = self.params.affine_of(&kernel, &pair.bn)?;
        let finish = self.affine(out, &affine).show(stage::LINEAR, pair.bn.id);
        let macs = self.model.module(pair.conv.id).macs;
        let op = Op::Depthwise { from: x, weights, finish };
        self.push(op, &pair.conv.name, "downsample", macs);
        Ok(out)
    }

    /// Not observed by itself: it would come before the block that precedes it in the model.
    fn shortcut(&mut self, pair: &ConvBn, x: Map) -> Result<Map, EngineError> {
        let kernel = self.params.kernel(&pair.conv)?;
        let out = self.map(pair.conv.out_channels, x.size);
        let affine = self.params.affine_of(&kernel, &pair.bn)?;
        let finish = self.affine(out, &affine);
        let input = self.input(&pair.conv, &kernel, x, None);
        self.conv(&pair.conv, "shortcut 1x1", input, None, finish);
        Ok(out)
    }

    /// ReLU(BN(conv(h)) + shortcut). A convolution in the shortcut goes into the same sums.
    fn expand(
        &mut self,
        block: &Residual,
        expand: &ConvBn,
        h: Map,
        x: Map,
    ) -> Result<Map, EngineError> {
        let kernel = self.params.kernel(&expand.conv)?;
        let affine = self.params.affine_of(&kernel, &expand.bn)?;
        let out = self.map(expand.conv.out_channels, x.size);
        let end = |finish: Finish| finish.then(Activation::Relu).show(stage::ACTIVATION, block.id);
        let Some(shortcut) = &block.shortcut else {
            let finish = Finish { residual: Some(x), ..end(self.affine(out, &affine)) };
            let input = self.input(&expand.conv, &kernel, h, None);
            self.conv(&expand.conv, "expand 1x1", input, None, finish);
            return Ok(out);
        };
        let other = self.params.kernel(&shortcut.conv)?;
        let added = self.params.affine_of(&other, &shortcut.bn)?;
        let bias = affine.shift.iter().zip(&added.shift).map(|(a, b)| a + b);
        let bias = Some(self.constants.wide(padded(bias, out.pitch)));
        let finish = end(Finish { bias, ..Finish::to(out) });
        let first = self.scaled_input(&expand.conv, &kernel, h, None, |o| affine.scale[o]);
        let second = self.scaled_input(&shortcut.conv, &other, x, None, |o| added.scale[o]);
        let macs = [expand.conv.id, shortcut.conv.id].map(|id| self.model.module(id).macs);
        let op = Op::Conv(Box::new(Conv { inputs: vec![first, second], init: None, finish }));
        self.push(op, &expand.conv.name, "expand + shortcut 1x1", macs.iter().sum());
        Ok(out)
    }

    fn classifier(&mut self, fc: &Linear, features: Map) -> Result<Map, EngineError> {
        let leaf = |name: &str| self.params.get(&format!("{}.{name}", fc.name));
        let (weight, bias) = (leaf("weight")?, leaf("bias")?);
        let out = self.wide(fc.out_features, (1, 1));
        let weights = self.constants.wide(weight.iter().map(|&w| f64::from(w)));
        let bias = Some(self.constants.wide(bias.iter().map(|&b| f64::from(b))));
        let finish = Finish { bias, ..Finish::to(out) }.show(stage::LINEAR, fc.id);
        let macs = self.model.module(fc.id).macs;
        self.push(Op::Dense { from: features, weights, finish }, &fc.name, "head", macs);
        Ok(out)
    }

    fn dense(&mut self, layer: &Layer, from: Map, finish: Finish) -> Result<(), EngineError> {
        let kernel = self.params.kernel(layer)?;
        let (outputs, inputs) = (layer.out_channels, layer.in_channels);
        let rows = (0..outputs).flat_map(|o| (0..inputs).map(move |c| kernel.at(o, c, 0)));
        let weights = self.constants.wide(rows);
        let macs = self.model.module(layer.id).macs;
        self.push(Op::Dense { from, weights, finish }, &layer.name, "gate", macs);
        Ok(())
    }

    /// bn(CTL(x)) with what `end` adds to it: an activation, a residual, places to observe.
    fn ctl(
        &mut self,
        ctl: &Ctl,
        bn: &BatchNorm,
        x: Map,
        end: impl FnOnce(Finish) -> Finish,
    ) -> Result<Map, EngineError> {
        let gate = match ctl.semantics.tfc {
            true => Some(self.gate(&ctl.gate, x)?),
            false => None,
        };
        let spatial = match ctl.semantics.ioi {
            true => Some(self.ioi(ctl, x, gate)?),
            false => None,
        };
        let kernel = self.params.kernel(&ctl.temporal_conv)?;
        let affine = self.params.affine(bn)?;
        let out = self.map(ctl.temporal_conv.out_channels, x.size);
        let finish = end(self.affine(out, &affine).show(stage::SUM, ctl.id));
        let input = self.input(&ctl.temporal_conv, &kernel, x, gate);
        let init = spatial.map(|(product, ..)| product);
        let temporal = self.conv(&ctl.temporal_conv, "tfc 1x1", input, init, finish);
        if let Some((_, short, glo_out)) = spatial {
            self.blocks.push(Block { short, glo_out, temporal });
        }
        Ok(out)
    }

    /// g = sigmoid(W2 ReLU(BN(W1 mean(x)))), [N, C].
    fn gate(&mut self, gate: &Gate, x: Map) -> Result<Map, EngineError> {
        let pooled = self.mean("gate mean", gate.pool, x);
        let hidden = self.wide(gate.conv1.out_channels, (1, 1));
        let affine = self.params.affine(&gate.bn)?;
        let finish = self.affine(hidden, &affine).then(Activation::Relu);
        let finish = finish.show(stage::LINEAR, gate.bn.id).show(stage::ACTIVATION, gate.relu);
        self.dense(&gate.conv1, pooled, finish)?;
        let out = self.wide(gate.conv2.out_channels, (1, 1));
        let finish = Finish::to(out)
            .then(Activation::Sigmoid)
            .show(stage::LINEAR, gate.conv2.id)
            .show(stage::ACTIVATION, gate.sigmoid);
        self.dense(&gate.conv2, hidden, finish)?;
        Ok(out)
    }

    /// short(x) * sigmoid(conv(ReLU(BN(conv7x7(ReLU(BN(conv(g * x))) + e))))), in f32, with the indices
    /// of its first and its last convolution.
    fn ioi(
        &mut self,
        ctl: &Ctl,
        x: Map,
        gate: Option<Map>,
    ) -> Result<(Map, usize, usize), EngineError> {
        let ioi = &ctl.spatial_conv;
        let kernel = self.params.kernel(&ioi.short_conv)?;
        let short = self.wide(ioi.short_conv.out_channels, x.size);
        let finish = self.biased(short, &kernel).show(stage::LINEAR, ioi.short_conv.id);
        let input = self.input(&ioi.short_conv, &kernel, x, None);
        let first = self.conv(&ioi.short_conv, "short 3x3", input, None, finish);

        let global = self.global(ioi, ctl, x, gate)?;
        let middle = self.middle(ioi, global)?;

        let kernel = self.params.kernel(&ioi.glo_out)?;
        let product = self.wide(ioi.glo_out.out_channels, x.size);
        let finish = Finish { factor: Some(short), ..self.biased(product, &kernel) }
            .then(Activation::Sigmoid)
            .show(stage::LINEAR, ioi.glo_out.id)
            .show(stage::ACTIVATION, ioi.glo_sigmoid)
            .show(stage::PRODUCT, ioi.id);
        let input = self.input(&ioi.glo_out, &kernel, middle, None);
        let last = self.conv(&ioi.glo_out, "ioi 3x3 out", input, None, finish);
        Ok((product, first, last))
    }

    /// ReLU(BN(conv(g * x))) + e.
    fn global(
        &mut self,
        ioi: &Ioi,
        ctl: &Ctl,
        x: Map,
        gate: Option<Map>,
    ) -> Result<Map, EngineError> {
        let layer = &ioi.glo_in.conv;
        let kernel = self.params.kernel(layer)?;
        let out = self.map(layer.out_channels, x.size);
        let affine = self.params.affine_of(&kernel, &ioi.glo_in.bn)?;
        let post = Some((self.embedding(ioi, ctl, out)?, ioi.pos_embed.id));
        let finish = Finish { post, ..self.affine(out, &affine) }
            .then(Activation::Relu)
            .show(stage::LINEAR, ioi.glo_in.bn.id)
            .show(stage::ACTIVATION, ioi.glo_in_relu);
        let input = self.input(layer, &kernel, x, gate);
        self.conv(layer, "ioi 3x3 in", input, None, finish);
        Ok(out)
    }

    fn middle(&mut self, ioi: &Ioi, global: Map) -> Result<Map, EngineError> {
        let layer = &ioi.glo_mid.conv;
        let kernel = self.params.kernel(layer)?;
        let out = self.map(layer.out_channels, global.size);
        let affine = self.params.affine_of(&kernel, &ioi.glo_mid.bn)?;
        let finish = self
            .affine(out, &affine)
            .then(Activation::Relu)
            .show(stage::LINEAR, ioi.glo_mid.bn.id)
            .show(stage::ACTIVATION, ioi.glo_mid_relu);
        let input = self.input(layer, &kernel, global, None);
        self.conv(layer, "ioi 7x7", input, None, finish);
        Ok(out)
    }

    /// The embedding as [H * W, pitch].
    fn embedding(&mut self, ioi: &Ioi, ctl: &Ctl, map: Map) -> Result<Post, EngineError> {
        let at = &ioi.pos_embed;
        let learned = self.params.get(&at.name)?;
        let planes: Option<Vec<Vec<f64>>> = learned
            .chunks(at.dim * at.dim)
            .map(|plane| embedding::resize(plane, at.dim, at.size, ctl.semantics.pos_embed))
            .collect();
        let planes = planes.ok_or_else(|| {
            let (name, dim) = (&at.name, at.dim);
            failed(format!(
                "{name}: the Flax port divides by zero where an embedding of {dim}x{dim} is resized"
            ))
        })?;
        let pixel = |place: usize| padded(planes.iter().map(move |p| p[place]), map.pitch);
        let values: Vec<f64> = (0..map.pixels()).flat_map(pixel).collect();
        let constant = self.constants.wide(values.iter().copied());
        Ok(Post { constant, values: values.into_iter().map(|v| v as f32).collect() })
    }
}
