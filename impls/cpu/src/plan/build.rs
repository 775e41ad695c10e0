//! Builds the plan: from the model's description to steps.

use checkpoint::Weights;
use lower::fold::{Affine, Kernel, Params};
use lower::{Activation, Stage};
use spec::model::{Block, Body, Conv, ConvBn, Linear};
use spec::{EngineError, Model, ModuleId};

use super::choose::{Convolution, Layer};
use super::pointwise::Pointwise;
use super::{
    Branch, BufferId, EpilogueSpec, Map, Op, OperandSpec, Plan, RowWinograd, Step, Winograd,
};
use crate::isa::{HasKernels, Kernels};
use crate::kernels::import::CELL;
use crate::kernels::rows;
use crate::memory::Arena;
use crate::pack::{Packed, Planes, grouped, padded};

/// Choices that a plan depends on.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// How 3x3 convolutions are computed.
    pub convolution: Convolution,
}

/// Makes the plan of a network and packs its weights. Fails if the weights do not fit the model.
pub fn plan<E: HasKernels>(
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
        arena: Arena::default(),
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

/// A plan that is being built.
pub struct Builder<'a, E> {
    pub(super) model: &'a Model,
    pub(super) params: Params,
    kernels: &'a Kernels<E>,
    pub(super) target: Target,
    steps: Vec<Step<E>>,
    buffers: usize,
    pub(super) arena: Arena,
}

/// A convolution, its weights and its epilogue.
pub(super) type ConvWithEpilogue<'c> = (&'c Conv, &'c Kernel, EpilogueSpec);

impl<E: HasKernels> Builder<'_, E> {
    pub(super) fn lanes(&self) -> usize {
        self.kernels.lanes
    }

    fn buffer(&mut self) -> BufferId {
        self.buffers += 1;
        BufferId(self.buffers - 1)
    }

    /// A map in a new buffer.
    pub(super) fn map(&mut self, channels: usize, size: (usize, usize)) -> Map {
        Map { buffer: self.buffer(), channels, pitch: self.pitch(channels), size }
    }

    /// Elements from one pixel to the next, for pixels of `channels` channels.
    pub(super) fn pitch(&self, channels: usize) -> usize {
        let pitch = channels.next_multiple_of(self.lanes());
        let [multiple, more] = self.kernels.padding;
        match (pitch * size_of::<E>()).is_multiple_of(multiple) {
            true => pitch + more / size_of::<E>(),
            false => pitch,
        }
    }

    pub(super) fn push(&mut self, op: Op<E>, name: &str, kind: &'static str, macs: u64) {
        self.steps.push(Step { op, name: name.to_owned(), kind, macs });
    }

    pub(super) fn macs(&self, id: ModuleId) -> u64 {
        self.model.module(id).macs
    }

    /// An epilogue with the scale and shift of a normalisation.
    pub(super) fn affine(&self, out: Map, affine: &Affine) -> EpilogueSpec {
        let scale = Some(padded(affine.scale.iter().copied(), self.lanes()));
        let bias = Some(padded(affine.shift.iter().copied(), self.lanes()));
        EpilogueSpec { scale, bias, ..EpilogueSpec::to(out) }
    }

    /// An epilogue with the bias of a convolution.
    pub(super) fn biased(&self, out: Map, kernel: &Kernel) -> EpilogueSpec {
        let bias = padded((0..out.channels).map(|o| kernel.bias(o)), self.lanes());
        EpilogueSpec { bias: Some(bias), ..EpilogueSpec::to(out) }
    }

    /// The packed weights [channels, outputs] of a 1x1 convolution.
    pub(super) fn matrix(
        &mut self,
        shape: [usize; 2],
        weight: impl Fn(usize, usize) -> f64 + Sync,
    ) -> Packed<E> {
        let lanes = self.lanes();
        Packed::matrix(&mut self.arena, shape, lanes, weight)
    }

    /// The operand of a product.
    pub(super) fn operand(
        &self,
        from: Map,
        kernel: usize,
        gate: Option<Map>,
        weights: Packed<E>,
    ) -> OperandSpec<E> {
        OperandSpec { from, kernel, gate, weights }
    }

    /// Adds a step that computes `module` as a matrix product.
    pub(super) fn gemm(
        &mut self,
        name: &str,
        kind: &'static str,
        module: ModuleId,
        first: OperandSpec<E>,
        second: Option<OperandSpec<E>>,
        epilogue: EpilogueSpec,
    ) {
        let macs = self.macs(module);
        self.push(Op::Gemm { first, second, epilogue }, name, kind, macs);
    }

    /// Adds a convolution of stride 1 as a matrix product.
    pub(super) fn conv(
        &mut self,
        conv: &Conv,
        kind: &'static str,
        kernel: &Kernel,
        x: Map,
        gate: Option<Map>,
        epilogue: EpilogueSpec,
    ) {
        let (inner, taps) = (grouped::<E>(x.channels), conv.kernel * conv.kernel);
        let (shape, lanes) = ([taps * inner, conv.out_channels], self.lanes());
        let weights = Packed::matrix(&mut self.arena, shape, lanes, |output, k| {
            let (tap, channel) = (k / inner, k % inner);
            if channel < x.channels { kernel.at(output, channel, tap) } else { 0.0 }
        });
        let operand = self.operand(x, conv.kernel, gate, weights);
        self.gemm(&conv.name, kind, conv.id, operand, None, epilogue);
    }

    /// What the choice of an algorithm depends on.
    pub(super) fn layer(&self, channels: usize, outputs: usize, size: (usize, usize)) -> Layer {
        Layer {
            channels,
            outputs,
            size,
            lanes: self.lanes(),
            k_per_instruction: self.kernels.k_per_instruction,
            bytes: size_of::<E>(),
        }
    }

    fn choose(&self, x: Map, outputs: usize) -> Option<crate::kernels::winograd::Tile> {
        self.layer(x.channels, outputs, x.size).choose(self.target.convolution)
    }

    /// Adds a 7x7 convolution of stride 1, with the algorithm that is chosen for it.
    pub(super) fn conv7x7(
        &mut self,
        conv: &Conv,
        kind: &'static str,
        kernel: &Kernel,
        x: Map,
        epilogue: EpilogueSpec,
    ) {
        let layer = self.layer(x.channels, conv.out_channels, x.size);
        let whole = x.channels.is_multiple_of(self.lanes());
        if conv.kernel != rows::KERNEL || !whole || !layer.row_winograd(self.target.convolution) {
            return self.conv(conv, kind, kernel, x, None, epilogue);
        }
        let lanes = self.lanes();
        let inner = |point| rows::parts(point) * x.channels;
        let shapes = std::array::from_fn(|point| [rows::KERNEL * inner(point), conv.out_channels]);
        let weights = Packed::matrices(&mut self.arena, shapes, lanes, |point, output, k| {
            let (row, rest) = (k / inner(point), k % inner(point));
            let (part, channel) = (rest / x.channels, rest % x.channels);
            let tap = |at| kernel.at(output, channel, row * rows::KERNEL + at);
            rows::weight(point, part, tap)
        });
        let macs = self.macs(conv.id);
        let op = RowWinograd { from: x, weights, epilogue };
        self.push(Op::RowWinograd(op), &conv.name, kind, macs);
    }

    /// Adds a 3x3 convolution of stride 1, with the algorithm that is chosen for it.
    pub(super) fn conv3x3(
        &mut self,
        conv: &Conv,
        kind: &'static str,
        kernel: &Kernel,
        x: Map,
        epilogue: EpilogueSpec,
    ) {
        match self.choose(x, conv.out_channels) {
            None => self.conv(conv, kind, kernel, x, None, epilogue),
            Some(tile) => {
                let main = self.branch(tile, x, (conv, kernel, epilogue));
                let workspace = std::array::from_fn(|_| self.buffer());
                let op = Winograd { tile, from: x, gate: None, main, second: None, workspace };
                let macs = self.macs(conv.id);
                self.push(Op::Winograd(Box::new(op)), &conv.name, kind, macs);
            }
        }
    }

    /// Adds two 3x3 convolutions of `x`, the second of the gated input. By Winograd's algorithm,
    /// they are one step.
    pub(super) fn pair3x3(
        &mut self,
        first: ConvWithEpilogue<'_>,
        second: ConvWithEpilogue<'_>,
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
        let main = self.branch(tile, x, first);
        let second = Some(self.branch(tile, x, second));
        let workspace = std::array::from_fn(|_| self.buffer());
        let op = Winograd { tile, from: x, gate, main, second, workspace };
        self.push(Op::Winograd(Box::new(op)), &name, kind, macs);
    }

    fn branch(
        &mut self,
        tile: crate::kernels::winograd::Tile,
        x: Map,
        (conv, kernel, epilogue): ConvWithEpilogue<'_>,
    ) -> Branch<E> {
        let taps = |output, channel| std::array::from_fn(|tap| kernel.at(output, channel, tap));
        let (shape, lanes) = ([x.channels, conv.out_channels], self.lanes());
        let third_taps = [0..x.channels, 0..x.channels];
        let weights = Planes::new(&mut self.arena, tile, shape, lanes, &third_taps, taps);
        Branch { weights, epilogue }
    }

    /// Adds the mean over all pixels.
    pub(super) fn mean(&mut self, kind: &'static str, module: ModuleId, x: Map) -> Map {
        let out = self.map(x.channels, (1, 1));
        let epilogue = EpilogueSpec::to(out).tap_at(Stage::End, module);
        let name = self.model.module(module).name.clone();
        self.push(Op::Mean { from: x, epilogue }, &name, kind, 0);
        out
    }

    /// Adds the stem. Its 5x5 convolution of stride 2 is computed as a 3x3 convolution on cells of
    /// 2x2 pixels ([`crate::kernels::import`]); taps beyond the fifth row and column are zero.
    fn stem(&mut self) -> Result<Map, EngineError> {
        let stem = &self.model.stem;
        let (planes, size) = (stem.conv.in_channels, self.model.config.size);
        let cells = self.map(4 * planes, (size.0.div_ceil(2), size.1.div_ceil(2)));
        self.push(Op::Import { planes, size, out: cells }, "input", "import", 0);

        let kernel = self.params.kernel(&stem.conv)?;
        let out = self.map(stem.conv.out_channels, cells.size);
        // The max-pool applies the ReLU.
        let epilogue = self
            .affine(out, &self.params.affine_of(&kernel, &stem.bn)?)
            .tap_at(Stage::Linear, stem.bn.id);
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
                // The third row of the 3x3 kernel holds the fifth row of the 5x5 kernel, which
                // only these pixels of a cell use; likewise the third column.
                let third_taps = [0..2 * planes, planes..3 * planes];
                let weights = Planes::new(&mut self.arena, tile, shape, lanes, &third_taps, taps);
                let main = Branch { weights, epilogue };
                let workspace = std::array::from_fn(|_| self.buffer());
                let op = Winograd { tile, from: cells, gate: None, main, second: None, workspace };
                Op::Winograd(Box::new(op))
            }
            None => {
                let inner = grouped::<E>(4 * planes);
                let shape = [9 * inner, outputs];
                let weights = Packed::matrix(&mut self.arena, shape, lanes, |o, k| {
                    let (t, c) = (k / inner, k % inner);
                    tap(o, c, t / 3, t % 3)
                });
                let first = self.operand(cells, 3, None, weights);
                Op::Gemm { first, second: None, epilogue }
            }
        };
        self.push(op, &stem.conv.name, "stem", self.macs(stem.conv.id));

        let pooled = self.map(outputs, (cells.size.0.div_ceil(2), cells.size.1.div_ceil(2)));
        let epilogue = EpilogueSpec::to(pooled).tap_at(Stage::End, self.model.maxpool);
        self.push(Op::MaxPool { from: out, epilogue }, "maxpool", "pool", 0);
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
                let h = self.ctl(ctl, bn2, h, |epilogue| {
                    epilogue.activation(Activation::Relu).tap_at(Stage::Linear, bn2.id)
                })?;
                self.expand(block, expand, h, x)
            }
            Body::Basic { ctl1, bn1, ctl2, bn2 } => {
                let h = self.ctl(ctl1, bn1, x, |epilogue| {
                    epilogue.activation(Activation::Relu).tap_at(Stage::Linear, bn1.id)
                })?;
                let shortcut = match &block.shortcut {
                    // Not observable: it is computed before modules that precede it in the model.
                    Some(shortcut) => {
                        self.conv1x1(shortcut, "shortcut 1x1", x, Activation::Identity, false)?
                    }
                    None => x,
                };
                self.ctl(ctl2, bn2, h, |epilogue| {
                    EpilogueSpec { residual: Some(shortcut.buffer), ..epilogue }
                        .activation(Activation::Relu)
                        .tap_at(Stage::Activation, block.id)
                })
            }
        }
    }

    fn downsample(&mut self, pair: &ConvBn, x: Map) -> Result<Map, EngineError> {
        let kernel = self.params.kernel(&pair.conv)?;
        let out = self.map(x.channels, pair.conv.out_size);
        let weights: Vec<f32> = (0..4)
            .flat_map(|tap| padded((0..x.channels).map(|c| kernel.at(c, 0, tap)), x.pitch))
            .collect();
        let epilogue = self
            .affine(out, &self.params.affine_of(&kernel, &pair.bn)?)
            .tap_at(Stage::Linear, pair.bn.id);
        let macs = self.macs(pair.conv.id);
        let op = Op::Depthwise { from: x, weights, epilogue };
        self.push(op, &pair.conv.name, "downsample", macs);
        Ok(out)
    }

    fn conv1x1(
        &mut self,
        pair: &ConvBn,
        kind: &'static str,
        x: Map,
        activation: Activation,
        observable: bool,
    ) -> Result<Map, EngineError> {
        let kernel = self.params.kernel(&pair.conv)?;
        let out = self.map(pair.conv.out_channels, x.size);
        let mut epilogue =
            self.affine(out, &self.params.affine_of(&kernel, &pair.bn)?).activation(activation);
        if observable {
            epilogue = epilogue.tap_at(Stage::Linear, pair.bn.id);
        }
        let macs = self.macs(pair.conv.id);
        let operand: Pointwise<'_> = (x, &|o, c| kernel.at(o, c, 0));
        self.pointwise(&pair.conv.name, kind, macs, &[operand], None, epilogue);
        Ok(out)
    }

    /// Adds ReLU(BN(conv(h)) + shortcut). A convolution on the shortcut is accumulated into the
    /// same sums; the scales of both normalisations are then multiplied into the weights.
    fn expand(
        &mut self,
        block: &Block,
        expand: &ConvBn,
        h: Map,
        x: Map,
    ) -> Result<Map, EngineError> {
        let kernel = self.params.kernel(&expand.conv)?;
        let affine = self.params.affine_of(&kernel, &expand.bn)?;
        let Some(shortcut) = &block.shortcut else {
            // In place, which saves reading and writing another map: nothing reads `x` after this, and
            // the residual is added before the first point at which the result is observed.
            let epilogue = EpilogueSpec { residual: Some(x.buffer), ..self.affine(x, &affine) }
                .activation(Activation::Relu)
                .tap_at(Stage::Activation, block.id);
            let macs = self.macs(expand.conv.id);
            let operand: Pointwise<'_> = (h, &|o, c| kernel.at(o, c, 0));
            self.pointwise(&expand.conv.name, "expand 1x1", macs, &[operand], None, epilogue);
            return Ok(x);
        };
        let out = self.map(expand.conv.out_channels, h.size);
        let other = self.params.kernel(&shortcut.conv)?;
        let added = self.params.affine_of(&other, &shortcut.bn)?;
        let bias = affine.shift.iter().zip(&added.shift).map(|(a, b)| a + b);
        let epilogue =
            EpilogueSpec { bias: Some(padded(bias, self.lanes())), ..EpilogueSpec::to(out) }
                .activation(Activation::Relu)
                .tap_at(Stage::Activation, block.id);
        let operands: [Pointwise<'_>; 2] = [
            (h, &|o, c| kernel.at(o, c, 0) * affine.scale[o]),
            (x, &|o, c| other.at(o, c, 0) * added.scale[o]),
        ];
        let macs = self.macs(expand.conv.id) + self.macs(shortcut.conv.id);
        let name = &expand.conv.name;
        self.pointwise(name, "expand + shortcut 1x1", macs, &operands, None, epilogue);
        Ok(out)
    }

    fn linear(&mut self, fc: &Linear, features: Map) -> Result<Map, EngineError> {
        let kernel = self.params.dense(fc)?;
        let out = self.map(fc.out_features, (1, 1));
        let epilogue = self.biased(out, &kernel).tap_at(Stage::End, fc.id);
        let (shape, lanes) = ([fc.in_features, fc.out_features], self.lanes());
        let weights = Packed::matrix(&mut self.arena, shape, lanes, |o, c| kernel.at(o, c, 0));
        let operand = self.operand(features, 1, None, weights);
        self.gemm(&fc.name, "head", fc.id, operand, None, epilogue);
        Ok(out)
    }
}
