//! The steps of a channel-time learning block (paper, section 3.2; `impls/scalar/src/network.rs`
//! has it in plain words).
//!
//! What is merged: gate and convolution (the first convolution of the global branch shares the input
//! transform of the short convolution; the temporal one reads gated rows), sigmoid and product of
//! the interaction branch (in the epilogue of its last convolution), the sum of both branches and
//! the normalisation after the block (in the epilogue of the temporal convolution).

use spec::EngineError;
use spec::model::{BatchNorm, Ctl, Gate, Ioi, PosEmbedding};

use super::build::Builder;
use super::{Finish, Map};
use crate::isa::Tabled;
use crate::kernels::epilogue::{Activation, stage};
use crate::pack::padded;

impl<E: Tabled> Builder<'_, E> {
    /// bn(CTL(x)) with what `finish` adds to it: an activation, a residual, places to observe.
    pub fn ctl(
        &mut self,
        ctl: &Ctl,
        bn: &BatchNorm,
        x: Map,
        finish: impl FnOnce(Finish) -> Finish,
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
        let sums = Finish { sum: spatial.map(|map| map.buffer), ..self.affine(out, &affine) };
        let finish = finish(sums.show(stage::SUM, ctl.id));
        let weights = self.matrix(&ctl.temporal_conv, |o, c| kernel.at(o, c, 0));
        let source = self.source(x, 1, gate, weights);
        self.gemm(&ctl.name, "tfc 1x1", ctl.temporal_conv.id, source, None, finish);
        Ok(out)
    }

    /// g = sigmoid(W2 ReLU(BN(W1 mean(x)))), [N, C].
    fn gate(&mut self, gate: &Gate, x: Map) -> Result<Map, EngineError> {
        let pooled = self.mean("gate mean", gate.pool, x);
        let kernel = self.params.kernel(&gate.conv1)?;
        let hidden = self.map(gate.conv1.out_channels, (1, 1));
        let finish = self
            .affine(hidden, &self.params.affine(&gate.bn)?)
            .then(Activation::Relu)
            .show(stage::LINEAR, gate.bn.id)
            .show(stage::ACTIVATION, gate.relu);
        let weights = self.matrix(&gate.conv1, |o, c| kernel.at(o, c, 0));
        let source = self.source(pooled, 1, None, weights);
        self.gemm(&gate.conv1.name, "gate", gate.conv1.id, source, None, finish);

        let kernel = self.params.kernel(&gate.conv2)?;
        let out = self.map(gate.conv2.out_channels, (1, 1));
        let finish = Finish::to(out)
            .then(Activation::Sigmoid)
            .show(stage::LINEAR, gate.conv2.id)
            .show(stage::ACTIVATION, gate.sigmoid);
        let weights = self.matrix(&gate.conv2, |o, c| kernel.at(o, c, 0));
        let source = self.source(hidden, 1, None, weights);
        self.gemm(&gate.conv2.name, "gate", gate.conv2.id, source, None, finish);
        Ok(out)
    }

    /// short(x) * sigmoid(conv(ReLU(BN(conv7x7(ReLU(BN(conv(g * x))) + e))))).
    fn ioi(&mut self, ctl: &Ctl, x: Map, gate: Option<Map>) -> Result<Map, EngineError> {
        let ioi = &ctl.spatial_conv;
        let (short, global) = self.first_convolutions(ioi, ctl, x, gate)?;

        let mid = &ioi.glo_mid;
        let kernel = self.params.kernel(&mid.conv)?;
        let middle = self.map(mid.conv.out_channels, x.size);
        let finish = self
            .affine(middle, &self.params.affine_of(&kernel, &mid.bn)?)
            .then(Activation::Relu)
            .show(stage::LINEAR, mid.bn.id)
            .show(stage::ACTIVATION, ioi.glo_mid_relu);
        self.conv(&mid.conv, "ioi 7x7", &kernel, global, None, finish);

        let kernel = self.params.kernel(&ioi.glo_out)?;
        let product = self.map(ioi.glo_out.out_channels, x.size);
        let finish = Finish { factor: Some(short.buffer), ..self.biased(product, &kernel) }
            .then(Activation::Sigmoid)
            .show(stage::LINEAR, ioi.glo_out.id)
            .show(stage::ACTIVATION, ioi.glo_sigmoid)
            .show(stage::PRODUCT, ioi.id);
        self.conv3x3(&ioi.glo_out, "ioi 3x3 out", &kernel, middle, finish);
        Ok(product)
    }

    /// short(x) and ReLU(BN(conv(g * x))) + e.
    fn first_convolutions(
        &mut self,
        ioi: &Ioi,
        ctl: &Ctl,
        x: Map,
        gate: Option<Map>,
    ) -> Result<(Map, Map), EngineError> {
        let short_kernel = self.params.kernel(&ioi.short_conv)?;
        let short = self.map(ioi.short_conv.out_channels, x.size);
        let short_finish = self.biased(short, &short_kernel).show(stage::LINEAR, ioi.short_conv.id);
        let kernel = self.params.kernel(&ioi.glo_in.conv)?;
        let global = self.map(ioi.glo_in.conv.out_channels, x.size);
        let embedding = self.embedding(&ioi.pos_embed, ctl, global)?;
        let affine = self.affine(global, &self.params.affine_of(&kernel, &ioi.glo_in.bn)?);
        let finish = Finish { post: Some((embedding, ioi.pos_embed.id)), ..affine }
            .then(Activation::Relu)
            .show(stage::LINEAR, ioi.glo_in.bn.id)
            .show(stage::ACTIVATION, ioi.glo_in_relu);
        let first = (&ioi.short_conv, &short_kernel, short_finish);
        let second = (&ioi.glo_in.conv, &kernel, finish);
        self.pair3x3(first, second, "short 3x3", x, gate);
        Ok((short, global))
    }

    /// The embedding as [H * W, stride].
    fn embedding(&self, at: &PosEmbedding, ctl: &Ctl, map: Map) -> Result<Vec<f32>, EngineError> {
        let learned = self.params.get(&at.name)?;
        let plane = at.dim * at.dim;
        let resized: Option<Vec<Vec<f64>>> = learned
            .chunks(plane)
            .map(|p| super::embedding::resize(p, at.dim, at.size, ctl.semantics.pos_embed))
            .collect();
        let resized = resized.ok_or_else(|| EngineError::Backend {
            engine: "cpu",
            message: format!(
                "{}: the Flax port divides by zero where an embedding of {}x{} is resized",
                at.name, at.dim, at.dim
            ),
        })?;
        let pixel = |place: usize| padded(resized.iter().map(|p| p[place]), self.lanes());
        Ok((0..map.pixels()).flat_map(pixel).collect())
    }
}
