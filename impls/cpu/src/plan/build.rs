//! From the model's description to steps.

use spec::model::{Block, Body, Conv, ConvBn, Linear};
use spec::weights::Weights;
use spec::{EngineError, Model, ModuleId};

use super::choose::{Convolution, Layer};
use super::fold::{Affine, Kernel, Params};
use super::{Arm, BufferId, DONE, Finish, Map, Op, Plan, Source, Step, Winograd};
use crate::isa::{Kernels, Tabled};
use crate::kernels::epilogue::{Activation, stage};
use crate::kernels::import::CELL;
use crate::memory::Store;
use crate::pack::{Packed, Planes, grouped, padded};

/// What a plan is made for.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// How 3x3 convolutions are computed.
    pub convolution: Convolution,
}

/// Makes the plan of a network.
pub fn plan<E: Tabled>(
    model: &Model,
    weights: Weights,
    kernels: &Kernels<E>,
    target: Target,
) -> Result<Plan<E>, EngineError> {
    let params = Params::new(model, weights)?;
    let mut b = Builder {
        model,
        params,
        kernels,
        target,
        steps: vec![],
        buffers: 0,
        store: Store::default(),
    };
    let mut x = b.stem()?;
    for block in &model.blocks {
        x = b.block(block, x)?;
    }
    let features = b.mean("head mean", model.avgpool, x);
    let output = match &model.fc {
        Some(fc) => b.linear(fc, features)?,
        None => features,
    };
    Ok(Plan { steps: b.steps, buffers: b.buffers, output })
}

/// A plan in the making.
pub struct Builder<'a, E> {
    pub(super) model: &'a Model,
    pub(super) params: Params,
    kernels: &'a Kernels<E>,
    target: Target,
    steps: Vec<Step<E>>,
    buffers: usize,
    store: Store,
}

/// A convolution, its weights and what becomes of it.
pub(super) type Wanted<'c> = (&'c Conv, &'c Kernel, Finish);

impl<E: Tabled> Builder<'_, E> {
    pub(super) fn lanes(&self) -> usize {
        self.kernels.lanes
    }

    fn buffer(&mut self) -> BufferId {
        self.buffers += 1;
        BufferId(self.buffers - 1)
    }

    /// A new map.
    pub(super) fn map(&mut self, channels: usize, size: (usize, usize)) -> Map {
        let mut stride = channels.next_multiple_of(self.lanes());
        // The rows of a GEMM tile are pixels: at a distance of 2 KiB or more, 14 of them would meet
        // in one or two sets of the first cache level.
        if (stride * size_of::<E>()).is_multiple_of(2048) {
            stride += 64 / size_of::<E>();
        }
        Map { buffer: self.buffer(), channels, stride, size }
    }

    fn push(&mut self, op: Op<E>, name: &str, kind: &'static str, macs: u64) {
        self.steps.push(Step { op, name: name.to_owned(), kind, macs });
    }

    fn macs(&self, id: ModuleId) -> u64 {
        self.model.module(id).macs
    }

    /// A result that is scaled and shifted.
    pub(super) fn affine(&self, out: Map, affine: &Affine) -> Finish {
        let scale = Some(padded(affine.scale.iter().copied(), self.lanes()));
        let bias = Some(padded(affine.shift.iter().copied(), self.lanes()));
        Finish { scale, bias, ..Finish::to(out) }
    }

    /// A result with the bias of a convolution.
    pub(super) fn biased(&self, out: Map, kernel: &Kernel) -> Finish {
        let bias = padded((0..out.channels).map(|o| kernel.bias(o)), self.lanes());
        Finish { bias: Some(bias), ..Finish::to(out) }
    }

    /// Packed weights of a 1x1 convolution.
    pub(super) fn matrix(
        &mut self,
        conv: &Conv,
        weight: impl Fn(usize, usize) -> f64 + Sync,
    ) -> Packed<E> {
        let (shape, lanes) = ([conv.in_channels, conv.out_channels], self.lanes());
        Packed::matrix(&mut self.store, shape, lanes, weight)
    }

    pub(super) fn source(
        &self,
        from: Map,
        kernel: usize,
        gate: Option<Map>,
        weights: Packed<E>,
    ) -> Source<E> {
        Source { from, kernel, gate, weights }
    }

    pub(super) fn gemm(
        &mut self,
        name: &str,
        kind: &'static str,
        module: ModuleId,
        first: Source<E>,
        second: Option<Source<E>>,
        finish: Finish,
    ) {
        let macs = self.macs(module);
        self.push(Op::Gemm { first, second, finish }, name, kind, macs);
    }

    /// A convolution of stride 1 as a product.
    pub(super) fn conv(
        &mut self,
        conv: &Conv,
        kind: &'static str,
        kernel: &Kernel,
        x: Map,
        gate: Option<Map>,
        finish: Finish,
    ) {
        let (inner, taps) = (grouped::<E>(x.channels), conv.kernel * conv.kernel);
        let (shape, lanes) = ([taps * inner, conv.out_channels], self.lanes());
        let weights = Packed::matrix(&mut self.store, shape, lanes, |output, k| {
            let (tap, channel) = (k / inner, k % inner);
            if channel < x.channels { kernel.at(output, channel, tap) } else { 0.0 }
        });
        let source = self.source(x, conv.kernel, gate, weights);
        self.gemm(&conv.name, kind, conv.id, source, None, finish);
    }

    fn choose(&self, x: Map, outputs: usize) -> Option<crate::kernels::winograd::Tile> {
        let layer = Layer {
            channels: x.channels,
            outputs,
            size: x.size,
            lanes: self.lanes(),
            depth: self.kernels.depth,
            bytes: size_of::<E>(),
        };
        layer.choose(self.target.convolution)
    }

    /// A 3x3 convolution.
    pub(super) fn conv3x3(
        &mut self,
        conv: &Conv,
        kind: &'static str,
        kernel: &Kernel,
        x: Map,
        finish: Finish,
    ) {
        match self.choose(x, conv.out_channels) {
            None => self.conv(conv, kind, kernel, x, None, finish),
            Some(tile) => {
                let main = self.arm(tile, x, (conv, kernel, finish));
                let room = std::array::from_fn(|_| self.buffer());
                let op = Winograd { tile, from: x, gate: None, main, second: None, room };
                let macs = self.macs(conv.id);
                self.push(Op::Winograd(Box::new(op)), &conv.name, kind, macs);
            }
        }
    }

    /// Two 3x3 convolutions, the second of the gated input.
    pub(super) fn pair3x3(
        &mut self,
        first: Wanted<'_>,
        second: Wanted<'_>,
        kind: &'static str,
        x: Map,
        gate: Option<Map>,
    ) {
        let outputs = first.0.out_channels + second.0.out_channels;
        let Some(tile) = self.choose(x, outputs) else {
            self.conv(first.0, kind, first.1, x, None, first.2);
            return self.conv(second.0, "ioi 3x3 in", second.1, x, gate, second.2);
        };
        let macs = self.macs(first.0.id) + self.macs(second.0.id);
        let name = first.0.name.clone();
        let main = self.arm(tile, x, first);
        let second = Some(self.arm(tile, x, second));
        let room = std::array::from_fn(|_| self.buffer());
        let op = Winograd { tile, from: x, gate, main, second, room };
        self.push(Op::Winograd(Box::new(op)), &name, kind, macs);
    }

    fn arm(
        &mut self,
        tile: crate::kernels::winograd::Tile,
        x: Map,
        (conv, kernel, finish): Wanted<'_>,
    ) -> Arm<E> {
        let taps = |output, channel| kernel.taps(output, channel);
        let (shape, lanes) = ([x.channels, conv.out_channels], self.lanes());
        let thirds = [0..x.channels, 0..x.channels];
        let weights = Planes::new(&mut self.store, tile, shape, lanes, &thirds, taps);
        Arm { weights, finish }
    }

    pub(super) fn mean(&mut self, kind: &'static str, module: ModuleId, x: Map) -> Map {
        let out = self.map(x.channels, (1, 1));
        let finish = Finish::to(out).show(DONE, module);
        let name = self.model.module(module).name.clone();
        self.push(Op::Mean { from: x, finish }, &name, kind, 0);
        out
    }

    /// The stem's 5x5 convolution of stride 2 is a 3x3 convolution on cells of 2x2 pixels (see
    /// [`crate::kernels::import`]), whose taps beyond the fifth row and column are zero.
    fn stem(&mut self) -> Result<Map, EngineError> {
        let stem = &self.model.stem;
        let (planes, size) = (stem.conv.in_channels, self.model.config.size);
        let cells = self.map(4 * planes, (size.0.div_ceil(2), size.1.div_ceil(2)));
        self.push(Op::Import { planes, size, out: cells }, "input", "import", 0);

        let kernel = self.params.kernel(&stem.conv)?;
        let out = self.map(stem.conv.out_channels, cells.size);
        // The ReLU is part of the pooling.
        let finish = self
            .affine(out, &self.params.affine_of(&kernel, &stem.bn)?)
            .show(stage::LINEAR, stem.bn.id);
        let tap = |output: usize, channel: usize, ty: usize, tx: usize| {
            let ((dy, dx), plane) = (CELL[channel / planes], channel % planes);
            let (y, x) = (2 * ty + dy, 2 * tx + dx);
            if y < 5 && x < 5 { kernel.at(output, plane, y * 5 + x) } else { 0.0 }
        };
        let (lanes, outputs) = (self.lanes(), stem.conv.out_channels);
        let op = match self.choose(cells, outputs) {
            Some(tile) => {
                let taps = |o: usize, c: usize| std::array::from_fn(|t| tap(o, c, t / 3, t % 3));
                let shape = [4 * planes, outputs];
                // The fifth row and column lie in these pixels of a cell.
                let thirds = [0..2 * planes, planes..3 * planes];
                let weights = Planes::new(&mut self.store, tile, shape, lanes, &thirds, taps);
                let main = Arm { weights, finish };
                let room = std::array::from_fn(|_| self.buffer());
                let op = Winograd { tile, from: cells, gate: None, main, second: None, room };
                Op::Winograd(Box::new(op))
            }
            None => {
                let inner = grouped::<E>(4 * planes);
                let shape = [9 * inner, outputs];
                let weights = Packed::matrix(&mut self.store, shape, lanes, |o, k| {
                    let (t, c) = (k / inner, k % inner);
                    tap(o, c, t / 3, t % 3)
                });
                let first = self.source(cells, 3, None, weights);
                Op::Gemm { first, second: None, finish }
            }
        };
        self.push(op, &stem.conv.name, "stem", self.macs(stem.conv.id));

        let pooled = self.map(outputs, (cells.size.0.div_ceil(2), cells.size.1.div_ceil(2)));
        let finish = Finish::to(pooled).show(DONE, self.model.maxpool);
        self.push(Op::MaxPool { from: out, finish }, "maxpool", "pool", 0);
        Ok(pooled)
    }

    fn block(&mut self, block: &Block, x: Map) -> Result<Map, EngineError> {
        let x = match &block.downsample {
            Some(downsample) => self.downsample(downsample, x)?,
            None => x,
        };
        match &block.body {
            Body::Bottleneck { reduce, ctl, bn2, expand } => {
                let h = self.conv1x1(reduce, "reduce 1x1", x, Activation::Relu, true)?;
                let h = self.ctl(ctl, bn2, h, |finish| {
                    finish.then(Activation::Relu).show(stage::LINEAR, bn2.id)
                })?;
                self.expand(block, expand, h, x)
            }
            Body::Basic { ctl1, bn1, ctl2, bn2 } => {
                let h = self.ctl(ctl1, bn1, x, |finish| {
                    finish.then(Activation::Relu).show(stage::LINEAR, bn1.id)
                })?;
                let shortcut = match &block.shortcut {
                    // Observed, it would come before the block that precedes it in the model.
                    Some(shortcut) => {
                        self.conv1x1(shortcut, "shortcut 1x1", x, Activation::Identity, false)?
                    }
                    None => x,
                };
                self.ctl(ctl2, bn2, h, |finish| {
                    Finish { residual: Some(shortcut.buffer), ..finish }
                        .then(Activation::Relu)
                        .show(stage::ACTIVATION, block.id)
                })
            }
        }
    }

    fn downsample(&mut self, pair: &ConvBn, x: Map) -> Result<Map, EngineError> {
        let kernel = self.params.kernel(&pair.conv)?;
        let out = self.map(x.channels, pair.conv.out_size);
        let weights: Vec<f32> = (0..4)
            .flat_map(|tap| padded((0..x.channels).map(|c| kernel.at(c, 0, tap)), x.stride))
            .collect();
        let finish = self
            .affine(out, &self.params.affine_of(&kernel, &pair.bn)?)
            .show(stage::LINEAR, pair.bn.id);
        let macs = self.macs(pair.conv.id);
        let op = Op::Depthwise { from: x, weights, finish };
        self.push(op, &pair.conv.name, "downsample", macs);
        Ok(out)
    }

    fn conv1x1(
        &mut self,
        pair: &ConvBn,
        kind: &'static str,
        x: Map,
        activation: Activation,
        shown: bool,
    ) -> Result<Map, EngineError> {
        let kernel = self.params.kernel(&pair.conv)?;
        let out = self.map(pair.conv.out_channels, x.size);
        let mut finish =
            self.affine(out, &self.params.affine_of(&kernel, &pair.bn)?).then(activation);
        if shown {
            finish = finish.show(stage::LINEAR, pair.bn.id);
        }
        let weights = self.matrix(&pair.conv, |o, c| kernel.at(o, c, 0));
        let source = self.source(x, 1, None, weights);
        self.gemm(&pair.conv.name, kind, pair.conv.id, source, None, finish);
        Ok(out)
    }

    /// ReLU(BN(conv h) + shortcut). A convolution on the shortcut goes into the same sums, with both
    /// scales in the weights.
    fn expand(
        &mut self,
        block: &Block,
        expand: &ConvBn,
        h: Map,
        x: Map,
    ) -> Result<Map, EngineError> {
        let kernel = self.params.kernel(&expand.conv)?;
        let affine = self.params.affine_of(&kernel, &expand.bn)?;
        let out = self.map(expand.conv.out_channels, h.size);
        let Some(shortcut) = &block.shortcut else {
            let finish = Finish { residual: Some(x.buffer), ..self.affine(out, &affine) }
                .then(Activation::Relu)
                .show(stage::ACTIVATION, block.id);
            let weights = self.matrix(&expand.conv, |o, c| kernel.at(o, c, 0));
            let source = self.source(h, 1, None, weights);
            self.gemm(&expand.conv.name, "expand 1x1", expand.conv.id, source, None, finish);
            return Ok(out);
        };
        let other = self.params.kernel(&shortcut.conv)?;
        let added = self.params.affine_of(&other, &shortcut.bn)?;
        let bias = affine.shift.iter().zip(&added.shift).map(|(a, b)| a + b);
        let finish = Finish { bias: Some(padded(bias, self.lanes())), ..Finish::to(out) }
            .then(Activation::Relu)
            .show(stage::ACTIVATION, block.id);
        let weights = self.matrix(&expand.conv, |o, c| kernel.at(o, c, 0) * affine.scale[o]);
        let first = self.source(h, 1, None, weights);
        let weights = self.matrix(&shortcut.conv, |o, c| other.at(o, c, 0) * added.scale[o]);
        let second = self.source(x, 1, None, weights);
        let macs = self.macs(expand.conv.id) + self.macs(shortcut.conv.id);
        let op = Op::Gemm { first, second: Some(second), finish };
        self.push(op, &expand.conv.name, "expand + shortcut 1x1", macs);
        Ok(out)
    }

    fn linear(&mut self, fc: &Linear, features: Map) -> Result<Map, EngineError> {
        let kernel = self.params.dense(fc)?;
        let out = self.map(fc.out_features, (1, 1));
        let finish = self.biased(out, &kernel).show(DONE, fc.id);
        let (shape, lanes) = ([fc.in_features, fc.out_features], self.lanes());
        let weights = Packed::matrix(&mut self.store, shape, lanes, |o, c| kernel.at(o, c, 0));
        let source = self.source(features, 1, None, weights);
        self.gemm(&fc.name, "head", fc.id, source, None, finish);
        Ok(out)
    }
}
