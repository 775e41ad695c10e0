//! Builds the plan from the model's description (section 3 of the paper). The plainest version of
//! the network is `impls/scalar/src/network.rs`.

use checkpoint::Weights;
use lower::fold::{Affine, Kernel, Params};
use lower::{Activation, Stage, embedding};
use spec::model::{
    BatchNorm, Block as Residual, Body, Conv as Layer, ConvBn, Ctl, Gate, Ioi, Linear,
};
use spec::{EngineError, Model, Precision};

use super::constants::{Constant, Constants};
use super::{Conv, CtlBlock, Embedding, Epilogue, Input, Map, Op, Plan, Step};
use crate::kernels::windows::Shape;
use crate::kernels::{bands, dense, hopper_stem, vector};

/// Makes the plan of a network. With `in_bands`, convolutions may run in bands
/// (`bands.cuh`): their weights are stored in that order, too, and the products of maps and gates are
/// steps, which a layout may leave out. A missing
/// tensor is [`EngineError::MissingWeight`], one of another shape is [`EngineError::Shape`].
pub fn plan(
    model: &Model,
    weights: Weights,
    precision: Precision,
    in_bands: bool,
) -> Result<Plan, EngineError> {
    let mut b = Builder {
        model,
        params: Params::new(model, weights)?,
        constants: Constants::new(precision),
        vector: vector(precision),
        in_bands,
        steps: vec![],
        ctl_blocks: vec![],
        buffers: 0,
    };
    let mut x = b.stem()?;
    for block in &model.blocks {
        x = b.residual(block, x)?;
    }
    let features = b.average_pool("head mean", model.avgpool, x);
    let output = match &model.fc {
        Some(fc) => b.classifier(fc, features)?,
        None => features,
    };
    let constants = b.constants.into_bytes();
    Ok(Plan { steps: b.steps, ctl_blocks: b.ctl_blocks, buffers: b.buffers, output, constants })
}

struct Builder<'a> {
    model: &'a Model,
    params: Params,
    constants: Constants,
    /// Channels are padded to a multiple of this.
    vector: usize,
    in_bands: bool,
    steps: Vec<Step>,
    ctl_blocks: Vec<CtlBlock>,
    buffers: usize,
}

/// `values`, then zeros up to `length`.
fn padded(values: impl Iterator<Item = f64>, length: usize) -> impl Iterator<Item = f64> {
    values.chain(std::iter::repeat(0.0)).take(length)
}

/// A convolution over a map of `pitch` channels, as one in bands.
fn band_shape(layer: &Layer, pitch: usize) -> Shape {
    Shape { channels: pitch, kernel: layer.kernel, stride: layer.stride }
}

impl Builder<'_> {
    /// A new map in the storage format.
    fn map(&mut self, channels: usize, size: (usize, usize)) -> Map {
        let buffer = self.buffers;
        self.buffers += 1;
        let pitch = channels.next_multiple_of(self.vector);
        Map { buffer, channels, pitch, size, wide: false }
    }

    /// A new map in float32.
    fn wide(&mut self, channels: usize, size: (usize, usize)) -> Map {
        Map { wide: true, ..self.map(channels, size) }
    }

    /// Appends a step and returns its index.
    fn push(&mut self, op: Op, name: &str, kind: &'static str, macs: u64) -> usize {
        self.steps.push(Step { op, name: name.to_owned(), kind, macs });
        self.steps.len() - 1
    }

    /// An epilogue with scale and bias.
    fn affine(&mut self, out: Map, affine: &Affine) -> Epilogue {
        let scale = Some(self.constants.wide(padded(affine.scale.iter().copied(), out.pitch)));
        let bias = Some(self.constants.wide(padded(affine.shift.iter().copied(), out.pitch)));
        Epilogue { scale, bias, ..Epilogue::to(out) }
    }

    /// An epilogue with the bias of a convolution.
    fn biased(&mut self, out: Map, kernel: &Kernel) -> Epilogue {
        let bias = (0..out.channels).map(|o| kernel.bias(o));
        Epilogue { bias: Some(self.constants.wide(padded(bias, out.pitch))), ..Epilogue::to(out) }
    }

    /// Packs the weights of a convolution as [outputs, kernel, kernel, pitch], where the weights of
    /// output `o` are multiplied by `scale(o)`.
    fn weights(
        &mut self,
        layer: &Layer,
        kernel: &Kernel,
        pitch: usize,
        scale: impl Fn(usize) -> f64,
    ) -> Constant {
        let pixels = layer.kernel * layer.kernel;
        let (outputs, inputs) = (layer.out_channels, layer.in_channels);
        let scale = &scale;
        self.constants.stored((0..outputs).flat_map(move |o| {
            (0..pixels).flat_map(move |pixel| {
                padded((0..inputs).map(move |c| kernel.at(o, c, pixel) * scale(o)), pitch)
            })
        }))
    }

    fn input(&mut self, layer: &Layer, kernel: &Kernel, from: Map, gate: Option<Map>) -> Input {
        self.scaled_input(layer, kernel, from, gate, |_| 1.0)
    }

    fn scaled_input(
        &mut self,
        layer: &Layer,
        kernel: &Kernel,
        from: Map,
        gate: Option<Map>,
        scale: impl Fn(usize) -> f64,
    ) -> Input {
        let weights = self.weights(layer, kernel, from.pitch, &scale);
        let keeps_size = layer.stride == 1 && layer.padding == layer.kernel / 2;
        let band_weights = (self.in_bands && keeps_size && gate.is_none())
            .then(|| self.band_weights(layer, kernel, band_shape(layer, from.pitch), &scale));
        let Layer { kernel, stride, padding, .. } = *layer;
        Input { from, weights, band_weights, plane_weights: None, gate, kernel, stride, padding }
    }

    /// Packs the weights of a convolution as [outputs, K] for each window of its shape.
    fn band_weights(
        &mut self,
        layer: &Layer,
        kernel: &Kernel,
        shape: Shape,
        scale: impl Fn(usize) -> f64,
    ) -> Constant {
        let (inputs, scale) = (layer.in_channels, &scale);
        self.constants.stored(shape.windows().flat_map(move |window| {
            (0..layer.out_channels).flat_map(move |o| {
                window.positions().map(move |(pixel, c)| {
                    if c < inputs { kernel.at(o, c, pixel) * scale(o) } else { 0.0 }
                })
            })
        }))
    }

    /// Packs the weights of the stem as [outputs, K] for `hopper_stem.cu`.
    fn plane_weights(&mut self, layer: &Layer, kernel: &Kernel) -> Constant {
        let planes = layer.in_channels;
        self.constants.stored((0..layer.out_channels).flat_map(move |o| {
            hopper_stem::positions(planes).map(move |(plane, pixel)| {
                if plane < planes { kernel.at(o, plane, pixel) } else { 0.0 }
            })
        }))
    }

    fn conv(
        &mut self,
        layer: &Layer,
        kind: &'static str,
        input: Input,
        init: Option<Map>,
        epilogue: Epilogue,
    ) -> usize {
        let macs = self.model.module(layer.id).macs;
        let op = Op::Conv(Box::new(Conv { inputs: vec![input], init, epilogue }));
        self.push(op, &layer.name, kind, macs)
    }

    fn average_pool(&mut self, name: &str, module: spec::ModuleId, from: Map) -> Map {
        let out = self.wide(from.channels, (1, 1));
        self.push(Op::AveragePool { from, out, module }, name, "mean", 0);
        out
    }

    fn stem(&mut self) -> Result<Map, EngineError> {
        let stem = &self.model.stem;
        let pixels = self.map(stem.conv.in_channels, self.model.config.size);
        self.push(Op::Import { out: pixels }, "input", "import", 0);
        let kernel = self.params.kernel(&stem.conv)?;
        let out = self.map(stem.conv.out_channels, stem.conv.out_size);
        let affine = self.params.affine_of(&kernel, &stem.bn)?;
        // The max-pool applies the ReLU.
        let epilogue = self.affine(out, &affine).tap_at(Stage::Linear, stem.bn.id);
        let mut input = self.input(&stem.conv, &kernel, pixels, None);
        let shape = band_shape(&stem.conv, pixels.pitch);
        // Phases of equal size, each of which begins with a step of K of its own.
        let groups = [(pixels.size.0, out.size.0), (pixels.size.1, out.size.1)];
        let even = groups.iter().all(|(size, out)| *size == out * shape.stride);
        let whole = shape.channels.is_multiple_of(bands::STEP);
        if self.in_bands && shape.stride == 2 && even && whole {
            input.band_weights = Some(self.band_weights(&stem.conv, &kernel, shape, |_| 1.0));
        }
        let square = (stem.conv.kernel, stem.conv.padding) == (hopper_stem::KERNEL, 2);
        let fits = hopper_stem::fits(pixels.channels, out.channels);
        if self.in_bands && shape.stride == 2 && even && square && fits {
            input.plane_weights = Some(self.plane_weights(&stem.conv, &kernel));
        }
        self.conv(&stem.conv, "stem", input, None, epilogue);
        let halved = (out.size.0.div_ceil(2), out.size.1.div_ceil(2));
        let pooled = self.map(out.channels, halved);
        let epilogue = Epilogue::to(pooled).tap_at(Stage::End, self.model.maxpool);
        self.push(Op::MaxPool { from: out, epilogue }, "maxpool", "pool", 0);
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
                let epilogue = self.affine(out, &affine).activation(Activation::Relu);
                let epilogue = epilogue.tap_at(Stage::Linear, reduce.bn.id);
                let input = self.input(&reduce.conv, &kernel, x, None);
                self.conv(&reduce.conv, "reduce 1x1", input, None, epilogue);
                let end = |epilogue: Epilogue| {
                    epilogue.activation(Activation::Relu).tap_at(Stage::Linear, bn2.id)
                };
                let h = self.ctl(ctl, bn2, out, end)?;
                self.expand(block, expand, h, x)
            }
            Body::Basic { ctl1, bn1, ctl2, bn2 } => {
                let h = self.ctl(ctl1, bn1, x, |epilogue| {
                    epilogue.activation(Activation::Relu).tap_at(Stage::Linear, bn1.id)
                })?;
                let shortcut = match &block.shortcut {
                    Some(shortcut) => self.shortcut(shortcut, x)?,
                    None => x,
                };
                self.ctl(ctl2, bn2, h, |epilogue| {
                    Epilogue { residual: Some(shortcut), ..epilogue }
                        .activation(Activation::Relu)
                        .tap_at(Stage::Activation, block.id)
                })
            }
        }
    }

    fn downsample(&mut self, pair: &ConvBn, x: Map) -> Result<Map, EngineError> {
        let kernel = &self.params.kernel(&pair.conv)?;
        let out = self.map(x.channels, pair.conv.out_size);
        let weights = (0..4).flat_map(|pixel| {
            padded((0..x.channels).map(move |c| kernel.at(c, 0, pixel)), x.pitch)
        });
        let weights = self.constants.wide(weights);
        let affine = self.params.affine_of(kernel, &pair.bn)?;
        let epilogue = self.affine(out, &affine).tap_at(Stage::Linear, pair.bn.id);
        let macs = self.model.module(pair.conv.id).macs;
        let op = Op::Depthwise { from: x, weights, epilogue };
        self.push(op, &pair.conv.name, "downsample", macs);
        Ok(out)
    }

    /// The shortcut of a basic block. It cannot be observed: it runs before the second CTL, whose
    /// modules come first in the order of the model.
    fn shortcut(&mut self, pair: &ConvBn, x: Map) -> Result<Map, EngineError> {
        let kernel = self.params.kernel(&pair.conv)?;
        let out = self.map(pair.conv.out_channels, x.size);
        let affine = self.params.affine_of(&kernel, &pair.bn)?;
        let epilogue = self.affine(out, &affine);
        let input = self.input(&pair.conv, &kernel, x, None);
        self.conv(&pair.conv, "shortcut 1x1", input, None, epilogue);
        Ok(out)
    }

    /// ReLU(BN(conv(h)) + shortcut(x)). A convolution in the shortcut is a second input of the same
    /// step; the scales of both normalisations are then folded into the weights.
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
        let end = |epilogue: Epilogue| {
            epilogue.activation(Activation::Relu).tap_at(Stage::Activation, block.id)
        };
        let Some(shortcut) = &block.shortcut else {
            let epilogue = Epilogue { residual: Some(x), ..end(self.affine(out, &affine)) };
            let input = self.input(&expand.conv, &kernel, h, None);
            self.conv(&expand.conv, "expand 1x1", input, None, epilogue);
            return Ok(out);
        };
        let other = self.params.kernel(&shortcut.conv)?;
        let added = self.params.affine_of(&other, &shortcut.bn)?;
        let bias = affine.shift.iter().zip(&added.shift).map(|(a, b)| a + b);
        let bias = Some(self.constants.wide(padded(bias, out.pitch)));
        let epilogue = end(Epilogue { bias, ..Epilogue::to(out) });
        let first = self.scaled_input(&expand.conv, &kernel, h, None, |o| affine.scale[o]);
        let second = self.scaled_input(&shortcut.conv, &other, x, None, |o| added.scale[o]);
        let macs = [expand.conv.id, shortcut.conv.id].map(|id| self.model.module(id).macs);
        let op = Op::Conv(Box::new(Conv { inputs: vec![first, second], init: None, epilogue }));
        self.push(op, &expand.conv.name, "expand + shortcut 1x1", macs.iter().sum());
        Ok(out)
    }

    fn classifier(&mut self, fc: &Linear, features: Map) -> Result<Map, EngineError> {
        let kernel = &self.params.dense(fc)?;
        let out = self.wide(fc.out_features, (1, 1));
        let weights = self.dense_weights(kernel, out.channels, features);
        let epilogue = self.biased(out, kernel).tap_at(Stage::Linear, fc.id);
        let macs = self.model.module(fc.id).macs;
        self.push(Op::Dense { from: features, weights, epilogue }, &fc.name, "head", macs);
        Ok(out)
    }

    /// The weights of a dense layer, with padded rows.
    fn dense_weights(&mut self, kernel: &Kernel, outputs: usize, from: Map) -> Constant {
        let row = |o| padded((0..from.channels).map(move |c| kernel.at(o, c, 0)), from.pitch);
        let length = outputs.next_multiple_of(dense::OUTPUTS) * from.pitch;
        self.constants.wide(padded((0..outputs).flat_map(row), length))
    }

    fn dense(&mut self, layer: &Layer, from: Map, epilogue: Epilogue) -> Result<(), EngineError> {
        let kernel = &self.params.kernel(layer)?;
        let weights = self.dense_weights(kernel, layer.out_channels, from);
        let macs = self.model.module(layer.id).macs;
        self.push(Op::Dense { from, weights, epilogue }, &layer.name, "gate", macs);
        Ok(())
    }

    /// bn(CTL(x)). `end` completes the epilogue with an activation, a residual, and stages to
    /// observe.
    fn ctl(
        &mut self,
        ctl: &Ctl,
        bn: &BatchNorm,
        x: Map,
        end: impl FnOnce(Epilogue) -> Epilogue,
    ) -> Result<Map, EngineError> {
        let gate = match ctl.semantics.tfc {
            true => Some(self.gate(&ctl.gate, x)?),
            false => None,
        };
        let (gated, gate) = match gate {
            Some(gate) if self.in_bands => (self.scale(x, gate), None),
            gate => (x, gate),
        };
        let spatial = match ctl.semantics.ioi {
            true => Some(self.ioi(ctl, x, gated, gate)?),
            false => None,
        };
        let kernel = self.params.kernel(&ctl.temporal_conv)?;
        let affine = self.params.affine(bn)?;
        let out = self.map(ctl.temporal_conv.out_channels, x.size);
        let epilogue = end(self.affine(out, &affine).tap_at(Stage::Sum, ctl.id));
        let input = self.input(&ctl.temporal_conv, &kernel, gated, gate);
        let init = spatial.map(|(product, ..)| product);
        let temporal = self.conv(&ctl.temporal_conv, "tfc 1x1", input, init, epilogue);
        if let Some((_, short, glo_out)) = spatial {
            self.ctl_blocks.push(CtlBlock { short, glo_out, temporal });
        }
        Ok(out)
    }

    /// x * gate as a map of its own.
    fn scale(&mut self, x: Map, gate: Map) -> Map {
        let out = self.map(x.channels, x.size);
        self.push(Op::Scale { from: x, gate, out }, "gate product", "gate", 0);
        out
    }

    /// g = sigmoid(W2 ReLU(BN(W1 mean(x)))), [images, channels].
    fn gate(&mut self, gate: &Gate, x: Map) -> Result<Map, EngineError> {
        let pooled = self.average_pool("gate mean", gate.pool, x);
        let hidden = self.wide(gate.conv1.out_channels, (1, 1));
        let affine = self.params.affine(&gate.bn)?;
        let epilogue = self.affine(hidden, &affine).activation(Activation::Relu);
        let epilogue =
            epilogue.tap_at(Stage::Linear, gate.bn.id).tap_at(Stage::Activation, gate.relu);
        self.dense(&gate.conv1, pooled, epilogue)?;
        let out = self.wide(gate.conv2.out_channels, (1, 1));
        let epilogue = Epilogue::to(out)
            .activation(Activation::Sigmoid)
            .tap_at(Stage::Linear, gate.conv2.id)
            .tap_at(Stage::Activation, gate.sigmoid);
        self.dense(&gate.conv2, hidden, epilogue)?;
        Ok(out)
    }

    /// short(x) * sigmoid(conv(ReLU(BN(conv7x7(ReLU(BN(conv(g * x))) + e))))) as a wide map, where
    /// g is the gate and e the embedding; g * x is `gated`, unless there is a `gate` left to apply. Also returns the index of the short and of the last
    /// convolution.
    fn ioi(
        &mut self,
        ctl: &Ctl,
        x: Map,
        gated: Map,
        gate: Option<Map>,
    ) -> Result<(Map, usize, usize), EngineError> {
        let ioi = &ctl.spatial_conv;
        let kernel = self.params.kernel(&ioi.short_conv)?;
        let short = self.wide(ioi.short_conv.out_channels, x.size);
        let epilogue = self.biased(short, &kernel).tap_at(Stage::Linear, ioi.short_conv.id);
        let input = self.input(&ioi.short_conv, &kernel, x, None);
        let first = self.conv(&ioi.short_conv, "short 3x3", input, None, epilogue);

        let global = self.global(ioi, ctl, gated, gate)?;
        let middle = self.middle(ioi, global)?;

        let kernel = self.params.kernel(&ioi.glo_out)?;
        let product = self.wide(ioi.glo_out.out_channels, x.size);
        let epilogue = Epilogue { factor: Some(short), ..self.biased(product, &kernel) }
            .activation(Activation::Sigmoid)
            .tap_at(Stage::Linear, ioi.glo_out.id)
            .tap_at(Stage::Activation, ioi.glo_sigmoid)
            .tap_at(Stage::Product, ioi.id);
        let input = self.input(&ioi.glo_out, &kernel, middle, None);
        let last = self.conv(&ioi.glo_out, "ioi 3x3 out", input, None, epilogue);
        Ok((product, first, last))
    }

    /// The start of the global branch: ReLU(BN(conv(g * x))) + e.
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
        let addend = Some((self.embedding(ioi, ctl, out)?, ioi.pos_embed.id));
        let epilogue = Epilogue { addend, ..self.affine(out, &affine) }
            .activation(Activation::Relu)
            .tap_at(Stage::Linear, ioi.glo_in.bn.id)
            .tap_at(Stage::Activation, ioi.glo_in_relu);
        let input = self.input(layer, &kernel, x, gate);
        self.conv(layer, "ioi 3x3 in", input, None, epilogue);
        Ok(out)
    }

    /// The middle of the global branch: ReLU(BN(conv7x7(x))).
    fn middle(&mut self, ioi: &Ioi, global: Map) -> Result<Map, EngineError> {
        let layer = &ioi.glo_mid.conv;
        let kernel = self.params.kernel(layer)?;
        let out = self.map(layer.out_channels, global.size);
        let affine = self.params.affine_of(&kernel, &ioi.glo_mid.bn)?;
        let epilogue = self
            .affine(out, &affine)
            .activation(Activation::Relu)
            .tap_at(Stage::Linear, ioi.glo_mid.bn.id)
            .tap_at(Stage::Activation, ioi.glo_mid_relu);
        let input = self.input(layer, &kernel, global, None);
        self.conv(layer, "ioi 7x7", input, None, epilogue);
        Ok(out)
    }

    /// The positional embedding at the size of `map`.
    fn embedding(&mut self, ioi: &Ioi, ctl: &Ctl, map: Map) -> Result<Embedding, EngineError> {
        let (at, semantics) = (&ioi.pos_embed, ctl.semantics.pos_embed);
        let values = embedding::resized("cuda", &self.params, at, semantics, map.pitch)?;
        let constant = self.constants.wide(values.iter().map(|&value| f64::from(value)));
        Ok(Embedding { constant, values })
    }
}
