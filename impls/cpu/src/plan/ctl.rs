//! The steps of a channel-time learning block (CTL; paper, section 3.2).
//! `impls/scalar/src/network.rs` has the unfused version.
//!
//! What is fused:
//!
//! - the gate and the convolutions that read it: the first convolution of the global branch shares the
//!   input transform of the short convolution, and the temporal convolution reads gated rows;
//! - the sigmoid and the product of the IOI branch, in the epilogue of its last convolution;
//! - the sum of both branches and the normalisation after the block, in the epilogue of the temporal
//!   convolution.

use lower::{Activation, Stage, embedding};
use spec::EngineError;
use spec::model::{BatchNorm, Ctl, Gate, Ioi};

use super::build::Builder;
use super::pointwise::Pointwise;
use super::{EpilogueSpec, Map};
use crate::isa::HasKernels;

impl<E: HasKernels> Builder<'_, E> {
    /// Adds bn(CTL(x)). `extend` completes the epilogue with an activation, a residual and tap
    /// points.
    pub fn ctl(
        &mut self,
        ctl: &Ctl,
        bn: &BatchNorm,
        x: Map,
        extend: impl FnOnce(EpilogueSpec) -> EpilogueSpec,
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
        // In place of the spatial branch, which nothing else reads, and which is added before the first
        // point at which the sum is observed.
        let out = spatial.unwrap_or_else(|| self.map(ctl.temporal_conv.out_channels, x.size));
        let sums = EpilogueSpec { sum: spatial.map(|map| map.buffer), ..self.affine(out, &affine) };
        let epilogue = extend(sums.tap_at(Stage::Sum, ctl.id));
        let macs = self.macs(ctl.temporal_conv.id);
        let operand: Pointwise<'_> = (x, &|o, c| kernel.at(o, c, 0));
        self.pointwise(&ctl.name, "tfc 1x1", macs, &[operand], gate, epilogue);
        Ok(out)
    }

    /// Adds the gate g = sigmoid(W2 ReLU(BN(W1 mean(x)))), a map [N, 1, 1, C].
    fn gate(&mut self, gate: &Gate, x: Map) -> Result<Map, EngineError> {
        let pooled = self.mean("gate mean", gate.pool, x);
        let kernel = self.params.kernel(&gate.conv1)?;
        let hidden = self.map(gate.conv1.out_channels, (1, 1));
        let epilogue = self
            .affine(hidden, &self.params.affine(&gate.bn)?)
            .activation(Activation::Relu)
            .tap_at(Stage::Linear, gate.bn.id)
            .tap_at(Stage::Activation, gate.relu);
        let weights = self
            .matrix([gate.conv1.in_channels, gate.conv1.out_channels], |o, c| kernel.at(o, c, 0));
        let operand = self.operand(pooled, 1, None, weights);
        self.gemm(&gate.conv1.name, "gate", gate.conv1.id, operand, None, epilogue);

        let kernel = self.params.kernel(&gate.conv2)?;
        let out = self.map(gate.conv2.out_channels, (1, 1));
        let epilogue = EpilogueSpec::to(out)
            .activation(Activation::Sigmoid)
            .tap_at(Stage::Linear, gate.conv2.id)
            .tap_at(Stage::Activation, gate.sigmoid);
        let weights = self
            .matrix([gate.conv2.in_channels, gate.conv2.out_channels], |o, c| kernel.at(o, c, 0));
        let operand = self.operand(hidden, 1, None, weights);
        self.gemm(&gate.conv2.name, "gate", gate.conv2.id, operand, None, epilogue);
        Ok(out)
    }

    /// Adds the IOI branch, short(x) * sigmoid(conv(ReLU(BN(conv7x7(ReLU(BN(conv(g * x))) + e))))),
    /// where e is the positional embedding.
    fn ioi(&mut self, ctl: &Ctl, x: Map, gate: Option<Map>) -> Result<Map, EngineError> {
        let ioi = &ctl.spatial_conv;
        let (short, global) = self.first_convolutions(ioi, ctl, x, gate)?;

        let mid = &ioi.glo_mid;
        let kernel = self.params.kernel(&mid.conv)?;
        let middle = self.map(mid.conv.out_channels, x.size);
        let epilogue = self
            .affine(middle, &self.params.affine_of(&kernel, &mid.bn)?)
            .activation(Activation::Relu)
            .tap_at(Stage::Linear, mid.bn.id)
            .tap_at(Stage::Activation, ioi.glo_mid_relu);
        self.conv7x7(&mid.conv, "ioi 7x7", &kernel, global, epilogue);

        let kernel = self.params.kernel(&ioi.glo_out)?;
        let product = self.map(ioi.glo_out.out_channels, x.size);
        let epilogue = EpilogueSpec { factor: Some(short.buffer), ..self.biased(product, &kernel) }
            .activation(Activation::Sigmoid)
            .tap_at(Stage::Linear, ioi.glo_out.id)
            .tap_at(Stage::Activation, ioi.glo_sigmoid)
            .tap_at(Stage::Product, ioi.id);
        self.conv3x3(&ioi.glo_out, "ioi 3x3 out", &kernel, middle, epilogue);
        Ok(product)
    }

    /// Adds the first convolutions of both sides of the IOI branch: short(x) and ReLU(BN(conv(g *
    /// x))) + e.
    fn first_convolutions(
        &mut self,
        ioi: &Ioi,
        ctl: &Ctl,
        x: Map,
        gate: Option<Map>,
    ) -> Result<(Map, Map), EngineError> {
        let short_kernel = self.params.kernel(&ioi.short_conv)?;
        let short = self.map(ioi.short_conv.out_channels, x.size);
        let short_epilogue =
            self.biased(short, &short_kernel).tap_at(Stage::Linear, ioi.short_conv.id);
        let kernel = self.params.kernel(&ioi.glo_in.conv)?;
        let global = self.map(ioi.glo_in.conv.out_channels, x.size);
        let semantics = ctl.semantics.pos_embed;
        let embedding =
            embedding::resized("cpu", &self.params, &ioi.pos_embed, semantics, global.pitch)?;
        let affine = self.affine(global, &self.params.affine_of(&kernel, &ioi.glo_in.bn)?);
        let epilogue = EpilogueSpec { embedding: Some((embedding, ioi.pos_embed.id)), ..affine }
            .activation(Activation::Relu)
            .tap_at(Stage::Linear, ioi.glo_in.bn.id)
            .tap_at(Stage::Activation, ioi.glo_in_relu);
        let first = (&ioi.short_conv, &short_kernel, short_epilogue);
        let second = (&ioi.glo_in.conv, &kernel, epilogue);
        self.pair3x3(first, second, "short 3x3", x, gate);
        Ok((short, global))
    }
}
