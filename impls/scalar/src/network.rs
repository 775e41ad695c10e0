//! The network, step by step, in the order of [`spec::Model::modules`]. The parts have the names
//! that the paper gives them (arXiv 2405.08344, section 3).

use spec::model::{BatchNorm, Block, Body, Conv, ConvBn, Ctl, Gate, Ioi, PosEmbedding};
use spec::{EngineError, Model, ModuleId, PosEmbed, Semantics};

use crate::map::Map;
use crate::ops::activation::{relu, sigmoid};
use crate::ops::{combine, pool};
use crate::params::Params;
use crate::real::Real;
use crate::resize::{self, Method};
use crate::tap::Probe;

type Step<T> = Result<Map<T>, EngineError>;

/// One forward pass through the network.
pub struct Walk<'a, W> {
    model: &'a Model,
    params: &'a Params<W>,
    probe: Probe<'a>,
}

impl<'a, W: Real> Walk<'a, W> {
    /// Prepares a forward pass with the given parameters, observed by `probe`.
    pub fn new(model: &'a Model, params: &'a Params<W>, probe: Probe<'a>) -> Self {
        Walk { model, params, probe }
    }

    /// Takes the squeezed clips [N, 3 T, H, W] (channel index = colour * T + frame) to the logits
    /// [N, classes, 1, 1], or for a backbone to the pooled features [N, C, 1, 1].
    pub fn run<T: Real>(mut self, clip: Map<T>) -> Step<T> {
        let model = self.model;
        let x = self.observe(model.input, clip)?;
        let mut x = self.stem(x)?;
        for block in &model.blocks {
            x = self.block(block, x)?;
        }
        self.head(x)
    }

    /// Time is squeezed into channels: the first convolution reads all frames at once.
    fn stem<T: Real>(&mut self, clip: Map<T>) -> Step<T> {
        let x = self.conv_bn(&self.model.stem, &clip)?;
        self.observe(self.model.maxpool, pool::max_3x3_stride_2(&relu(&x)))
    }

    /// ReLU(body(x) + shortcut(x)). In the first blocks of stages 2 to 4 the height and the width of
    /// x are halved first.
    fn block<T: Real>(&mut self, block: &Block, x: Map<T>) -> Step<T> {
        let x = match &block.downsample {
            Some(downsample) => self.conv_bn(downsample, &x)?,
            None => x,
        };
        let h = match &block.body {
            Body::Bottleneck { reduce, ctl, bn2, expand } => {
                let h = relu(&self.conv_bn(reduce, &x)?);
                let h = self.ctl(ctl, &h)?;
                let h = relu(&self.batch_norm(bn2, &h)?);
                self.conv_bn(expand, &h)?
            }
            Body::Basic { ctl1, bn1, ctl2, bn2 } => {
                let h = self.ctl(ctl1, &x)?;
                let h = relu(&self.batch_norm(bn1, &h)?);
                let h = self.ctl(ctl2, &h)?;
                self.batch_norm(bn2, &h)?
            }
        };
        let shortcut = match &block.shortcut {
            Some(shortcut) => self.conv_bn(shortcut, &x)?,
            None => x,
        };
        self.observe(block.id, relu(&combine::add(&h, &shortcut)))
    }

    /// Channel-time learning: CTL(x) = TFC(x) + IOI(x), the temporal-focus convolution on g * x and
    /// the inter-temporal object interaction, with one gate g.
    fn ctl<T: Real>(&mut self, ctl: &Ctl, x: &Map<T>) -> Step<T> {
        let gate = self.gate(&ctl.gate, ctl.semantics, x)?;
        let gated = combine::gate(x, &gate);
        let temporal = self.conv(&ctl.temporal_conv, &gated)?;
        let spatial = self.ioi(&ctl.spatial_conv, ctl.semantics, x, &gated)?;
        self.observe(ctl.id, combine::add(&temporal, &spatial))
    }

    /// The gate g = sigmoid(W2 ReLU(BN(W1 mean(x)))), [N, C, 1, 1], which weights each channel and,
    /// because channels hold the frames, each moment.
    fn gate<T: Real>(&mut self, gate: &Gate, semantics: Semantics, x: &Map<T>) -> Step<T> {
        let h = self.observe(gate.pool, pool::mean(x))?;
        let h = self.conv(&gate.conv1, &h)?;
        let h = self.batch_norm(&gate.bn, &h)?;
        let h = self.observe(gate.relu, relu(&h))?;
        let h = self.conv(&gate.conv2, &h)?;
        let g = match semantics.tfc {
            true => sigmoid(&h),
            false => Map::filled(h.shape(), T::ONE),
        };
        self.observe(gate.sigmoid, g)
    }

    /// IOI(x) = conv3x3(x) * sigmoid(conv3x3(ReLU(BN(conv7x7(ReLU(BN(conv3x3(g * x))) + e))))): a
    /// map of the objects, weighted by attention to how they move. The positional embedding e
    /// restores the positions, which squeezing the frames has lost.
    fn ioi<T: Real>(
        &mut self,
        ioi: &Ioi,
        semantics: Semantics,
        x: &Map<T>,
        gated: &Map<T>,
    ) -> Step<T> {
        let local = self.conv(&ioi.short_conv, x)?;
        let h = self.conv_bn(&ioi.glo_in, gated)?;
        let h = self.observe(ioi.glo_in_relu, relu(&h))?;
        let embedding = self.pos_embed(&ioi.pos_embed, semantics.pos_embed)?;
        let h = self.conv_bn(&ioi.glo_mid, &combine::add_to_each(&h, &embedding))?;
        let h = self.observe(ioi.glo_mid_relu, relu(&h))?;
        let h = self.conv(&ioi.glo_out, &h)?;
        let global = self.observe(ioi.glo_sigmoid, sigmoid(&h))?;
        let product = match semantics.ioi {
            true => combine::multiply(&local, &global),
            false => Map::filled(local.shape(), T::ZERO),
        };
        self.observe(ioi.id, product)
    }

    /// Resizes the embedding [1, 16, p, p] to the size of the map, [1, 16, H, W].
    fn pos_embed<T: Real>(&mut self, embedding: &PosEmbedding, semantics: PosEmbed) -> Step<T> {
        let learned = self.params.pos_embed(embedding)?;
        let learned: Vec<T> = learned.iter().map(|&v| T::from_f64(v.to_f64())).collect();
        let from = (embedding.dim, embedding.dim);
        let channels = learned.len() / (from.0 * from.1);
        let shape = [1, channels, embedding.size.0, embedding.size.1];
        let method = match semantics {
            PosEmbed::AlignCorners => Some(Method::AlignCorners),
            PosEmbed::HalfPixel => Some(Method::HalfPixel),
            PosEmbed::Flax => Some(Method::FlaxEmulation),
            PosEmbed::Off => None,
        };
        let value = match method {
            None => Map::filled(shape, T::ZERO),
            Some(_) if from == embedding.size => Map::new(shape, learned),
            Some(method) => {
                let resized = resize::planes(method, &learned, from, embedding.size);
                Map::new(shape, resized.map_err(|error| resize_failed(&embedding.name, error))?)
            }
        };
        self.observe(embedding.id, value)
    }

    /// Averages over the map and applies the classifier, which a backbone does not have.
    fn head<T: Real>(&mut self, x: Map<T>) -> Step<T> {
        let features = self.observe(self.model.avgpool, pool::mean(&x))?;
        match &self.model.fc {
            Some(fc) => {
                let logits = self.params.linear(fc)?.apply(&features);
                self.observe(fc.id, logits)
            }
            None => Ok(features),
        }
    }

    fn conv_bn<T: Real>(&mut self, pair: &ConvBn, x: &Map<T>) -> Step<T> {
        let h = self.conv(&pair.conv, x)?;
        self.batch_norm(&pair.bn, &h)
    }

    fn conv<T: Real>(&mut self, conv: &Conv, x: &Map<T>) -> Step<T> {
        let y = self.params.conv(conv)?.apply(x);
        self.observe(conv.id, y)
    }

    fn batch_norm<T: Real>(&mut self, bn: &BatchNorm, x: &Map<T>) -> Step<T> {
        let y = self.params.batch_norm(bn)?.apply(x);
        self.observe(bn.id, y)
    }

    fn observe<T: Real>(&mut self, id: ModuleId, value: Map<T>) -> Step<T> {
        self.probe.observe(id, value)
    }
}

fn resize_failed(name: &str, error: resize::ResizeError) -> EngineError {
    EngineError::Backend { engine: "scalar", message: format!("{name}: {error}") }
}
