//! The forward pass. Nothing is computed in place, so that a tap observes the output of the module
//! itself: the published code runs its ReLUs in place, and a hook on a batch normalisation there
//! reads the value after the ReLU.

use std::collections::HashMap;

use spec::model::{BatchNorm, Block, Body, Conv, ConvBn, Ctl, Gate, Ioi, Linear};
use spec::{EngineError, Flow, Model, ModuleId, Precision, Tap};
use tch::{Kind, TchError, Tensor};

use crate::tensors::{failed, from_torch, kind, to_torch};
use crate::{Device, resize};

type Result<T> = std::result::Result<T, EngineError>;

/// One forward pass of a model on libtorch.
pub(crate) struct Run<'a> {
    model: &'a Model,
    weights: &'a HashMap<String, Tensor>,
    precision: Precision,
    device: Device,
    tap: &'a mut dyn Tap,
    /// Whether batch normalisations use the statistics of the batch and update the running ones.
    training: bool,
    /// Whether convolutions are computed as im2col and a matrix product.
    unfold: bool,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        model: &'a Model,
        weights: &'a HashMap<String, Tensor>,
        precision: Precision,
        device: Device,
        tap: &'a mut dyn Tap,
    ) -> Self {
        Run { model, weights, precision, device, tap, training: false, unfold: false }
    }

    /// Sets whether convolutions are computed as im2col and a matrix product.
    pub(crate) fn unfolded_if(self, unfold: bool) -> Self {
        Run { unfold, ..self }
    }

    /// The same forward pass in training mode, in float32.
    pub(crate) fn training(
        model: &'a Model,
        weights: &'a HashMap<String, Tensor>,
        device: Device,
        tap: &'a mut dyn Tap,
    ) -> Self {
        let training = true;
        Run { model, weights, precision: Precision::F32, device, tap, training, unfold: false }
    }

    pub(crate) fn run(self, input: &spec::Tensor) -> Result<spec::Tensor> {
        let batch = batch_of(self.model, input)?;
        let clip = to_torch(input, kind(self.precision), self.device)?;
        self.run_clip(clip, batch)
    }

    /// Runs clips [N, 3, T, H, W] that are libtorch tensors already.
    pub(crate) fn run_clip(mut self, clip: Tensor, batch: usize) -> Result<spec::Tensor> {
        from_torch(&self.walk(clip, batch)?)
    }

    /// Takes clips [N, 3, T, H, W] to the logits [N, classes], as libtorch tensors.
    pub(crate) fn walk(&mut self, clip: Tensor, batch: usize) -> Result<Tensor> {
        let model = self.model;
        let clip = self.observe(model.input, clip)?;

        // [N, 3, T, H, W] -> [N, 3T, H, W]: the frames become channels, colour * T + frame.
        let (height, width) = model.config.size;
        let channels = 3 * model.config.frames as i64;
        let x = ok(clip.f_view([batch as i64, channels, height as i64, width as i64]))?;
        let x = ok(self.conv_bn(&model.stem, &x)?.f_relu())?;
        let x = ok(x.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false))?;
        let mut x = self.observe(model.maxpool, x)?;
        for block in &model.blocks {
            x = self.block(block, x)?;
        }
        let features = ok(x.f_mean_dim([2i64, 3].as_slice(), false, None))?;
        let features = self.observe(model.avgpool, features)?;
        match &model.fc {
            Some(fc) => self.linear(fc, &features),
            None => Ok(features),
        }
    }

    /// Shows a module's output to the tap, if it wants it, and returns the value to continue with.
    fn observe(&mut self, id: ModuleId, value: Tensor) -> Result<Tensor> {
        if !self.tap.wants(id) {
            return Ok(value);
        }
        let shown = from_torch(&value)?;
        let shape = shown.shape.clone();
        match self.tap.observe(id, shown) {
            Flow::Continue => Ok(value),
            Flow::Stop => Err(EngineError::Stopped),
            Flow::Replace(other) => {
                check_shape(&self.model.module(id).name, &shape, &other.shape)?;
                to_torch(&other, kind(self.precision), self.device)
            }
        }
    }

    fn weight(&self, name: &str, leaf: &str) -> Result<&'a Tensor> {
        let full = format!("{name}.{leaf}");
        self.weights.get(&full).ok_or(EngineError::MissingWeight(full))
    }

    fn conv(&mut self, conv: &Conv, x: &Tensor) -> Result<Tensor> {
        let weight = self.weight(&conv.name, "weight")?;
        let bias = match conv.bias {
            true => Some(self.weight(&conv.name, "bias")?),
            false => None,
        };
        let (s, p) = (conv.stride as i64, conv.padding as i64);
        let (x, weight) = (&self.factor(x)?, &self.factor(weight)?);
        if self.unfold && conv.groups == 1 {
            let y = self.product(conv, x, weight, bias)?;
            return self.observe(conv.id, y);
        }
        let y = x.f_conv2d(weight, bias, [s, s], [p, p], [1, 1], conv.groups as i64);
        self.observe(conv.id, ok(y)?)
    }

    /// A convolution as the product of the weights [out, in k k] and the im2col matrix
    /// [N, in k k, H W].
    fn product(
        &self,
        conv: &Conv,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (k, s, p) = (conv.kernel as i64, conv.stride as i64, conv.padding as i64);
        let out = conv.out_channels as i64;
        // The input may be the one-pixel map of a gate, so its batch size is read from the tensor.
        let batch = x.size()[0];
        let (height, width) = (conv.out_size.0 as i64, conv.out_size.1 as i64);
        let columns = ok(x.f_im2col([k, k], [1, 1], [p, p], [s, s]))?;
        let y = ok(weight.f_view([out, -1]).and_then(|weight| weight.f_matmul(&columns)))?;
        let y = ok(y.f_view([batch, out, height, width]))?;
        match bias {
            Some(bias) => ok(bias.f_view([1, out, 1, 1]).and_then(|bias| y.f_add(&bias))),
            None => Ok(y),
        }
    }

    fn batch_norm(&mut self, bn: &BatchNorm, x: &Tensor) -> Result<Tensor> {
        let (momentum, cudnn) = (0.1, true);
        let y = x.f_batch_norm(
            Some(self.weight(&bn.name, "weight")?),
            Some(self.weight(&bn.name, "bias")?),
            Some(self.weight(&bn.name, "running_mean")?),
            Some(self.weight(&bn.name, "running_var")?),
            self.training,
            momentum,
            bn.eps,
            cudnn,
        );
        self.observe(bn.id, ok(y)?)
    }

    fn conv_bn(&mut self, pair: &ConvBn, x: &Tensor) -> Result<Tensor> {
        let y = self.conv(&pair.conv, x)?;
        self.batch_norm(&pair.bn, &y)
    }

    fn block(&mut self, block: &Block, x: Tensor) -> Result<Tensor> {
        let x = match &block.downsample {
            Some(downsample) => self.conv_bn(downsample, &x)?,
            None => x,
        };
        let h = self.body(&block.body, &x)?;
        let shortcut = match &block.shortcut {
            Some(shortcut) => self.conv_bn(shortcut, &x)?,
            None => x,
        };
        let out = ok(h.f_add(&shortcut).and_then(|sum| sum.f_relu()))?;
        self.observe(block.id, out)
    }

    fn body(&mut self, body: &Body, x: &Tensor) -> Result<Tensor> {
        match body {
            Body::Bottleneck { reduce, ctl, bn2, expand } => {
                let h = ok(self.conv_bn(reduce, x)?.f_relu())?;
                let h = self.ctl(ctl, &h)?;
                let h = ok(self.batch_norm(bn2, &h)?.f_relu())?;
                self.conv_bn(expand, &h)
            }
            Body::Basic { ctl1, bn1, ctl2, bn2 } => {
                let h = self.ctl(ctl1, x)?;
                let h = ok(self.batch_norm(bn1, &h)?.f_relu())?;
                let h = self.ctl(ctl2, &h)?;
                self.batch_norm(bn2, &h)
            }
        }
    }

    /// Channel-time learning, CTL = TFC + IOI. Both share the gate.
    fn ctl(&mut self, ctl: &Ctl, x: &Tensor) -> Result<Tensor> {
        let gate = self.gate(&ctl.gate, ctl.semantics.tfc, x)?;
        let gated = ok(x.f_mul(&gate))?;
        let tfc = self.conv(&ctl.temporal_conv, &gated)?;
        let ioi = self.ioi(&ctl.spatial_conv, ctl, x, &gated)?;
        let sum = ok(tfc.f_add(&ioi))?;
        self.observe(ctl.id, sum)
    }

    fn gate(&mut self, gate: &Gate, on: bool, x: &Tensor) -> Result<Tensor> {
        let mean = ok(x.f_mean_dim([2i64, 3].as_slice(), true, None))?;
        let mean = self.observe(gate.pool, mean)?;
        let h = self.conv(&gate.conv1, &mean)?;
        let h = ok(self.batch_norm(&gate.bn, &h)?.f_relu())?;
        let h = self.observe(gate.relu, h)?;
        let h = self.conv(&gate.conv2, &h)?;
        let g = ok(if on { h.f_sigmoid() } else { h.f_ones_like() })?;
        self.observe(gate.sigmoid, g)
    }

    fn ioi(&mut self, ioi: &Ioi, ctl: &Ctl, x: &Tensor, gated: &Tensor) -> Result<Tensor> {
        let short = self.conv(&ioi.short_conv, x)?;
        let h = ok(self.conv_bn(&ioi.glo_in, gated)?.f_relu())?;
        let h = self.observe(ioi.glo_in_relu, h)?;
        let embedding = self
            .weights
            .get(&ioi.pos_embed.name)
            .ok_or_else(|| EngineError::MissingWeight(ioi.pos_embed.name.clone()))?;
        let embedding = resize::embed(embedding, ioi.pos_embed.size, ctl.semantics.pos_embed)?;
        let embedding = self.observe(ioi.pos_embed.id, embedding)?;
        let h = ok(h.f_add(&embedding))?;
        let h = ok(self.conv_bn(&ioi.glo_mid, &h)?.f_relu())?;
        let h = self.observe(ioi.glo_mid_relu, h)?;
        let h = ok(self.conv(&ioi.glo_out, &h)?.f_sigmoid())?;
        let attention = self.observe(ioi.glo_sigmoid, h)?;
        let product = ok(match ctl.semantics.ioi {
            true => short.f_mul(&attention),
            false => short.f_zeros_like(),
        })?;
        self.observe(ioi.id, product)
    }

    fn linear(&mut self, fc: &Linear, x: &Tensor) -> Result<Tensor> {
        let weight = self.weight(&fc.name, "weight")?;
        let bias = self.weight(&fc.name, "bias")?;
        let y = ok(self.factor(x)?.f_linear(&self.factor(weight)?, Some(bias)))?;
        self.observe(fc.id, y)
    }

    /// Prepares a factor of a convolution or a matrix product. For TF32 it is rounded to nearest with
    /// 10 fraction bits, in software, so that the TF32 reference does not depend on a GPU. NaN and
    /// infinities are kept.
    fn factor(&self, x: &Tensor) -> Result<Tensor> {
        if self.precision != Precision::Tf32 {
            return Ok(x.shallow_clone());
        }
        ok(x.f_view_dtype(Kind::Int)
            .and_then(|bits| bits.f_add_scalar(0x1000))
            .and_then(|bits| bits.f_bitwise_and(!0x1fff))
            .and_then(|bits| bits.f_view_dtype(Kind::Float))
            .and_then(|rounded| rounded.f_where_self(&x.f_isfinite()?, x)))
    }
}

fn ok(result: std::result::Result<Tensor, TchError>) -> Result<Tensor> {
    result.map_err(failed)
}

/// The number of clips in the input [N, 3, T, H, W]; fails if it has another shape.
pub(crate) fn batch_of(model: &Model, input: &spec::Tensor) -> Result<usize> {
    let batch = input.shape.first().copied().unwrap_or(0);
    check_shape("input", &model.input_shape(batch), &input.shape)?;
    Ok(batch)
}

fn check_shape(what: &str, expected: &[usize], got: &[usize]) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    let (expected, got) = (expected.to_vec(), got.to_vec());
    Err(EngineError::Shape { what: what.to_owned(), expected, got })
}
