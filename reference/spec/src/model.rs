//! The network as a tree: what an engine walks, with names, shapes and costs. See the paper,
//! section 3, and the table of modules in the README.

mod build;
mod tiled;

use crate::config::{Config, ConfigError, Semantics};
use crate::module::{Module, ModuleId};
use crate::weights::ParamSpec;

pub use tiled::Tiled;

/// Variance offset of every batch normalisation.
pub const BN_EPS: f64 = 1e-5;

/// Channels in the middle of the global branch, whatever T is.
pub const GLOBAL_CHANNELS: usize = 16;

/// A 2D convolution; weight [out, in / groups, kh, kw], optional bias [out].
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    /// Where its output is observed.
    pub id: ModuleId,
    /// Module path; parameters are `{name}.weight` and `{name}.bias`.
    pub name: String,
    /// Input channels.
    pub in_channels: usize,
    /// Output channels.
    pub out_channels: usize,
    /// Side of the square kernel.
    pub kernel: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// Zero padding on every side.
    pub padding: usize,
    /// Groups; equal to the channels for a depthwise convolution, else 1.
    pub groups: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// Height and width of the output.
    pub out_size: (usize, usize),
}

/// A batch normalisation with running statistics: (x - running_mean) / sqrt(running_var + eps)
/// * weight + bias, per channel.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNorm {
    /// Where its output is observed, before any ReLU.
    pub id: ModuleId,
    /// Module path; parameters are weight, bias, running_mean, running_var.
    pub name: String,
    /// Channels.
    pub channels: usize,
    /// Offset under the root.
    pub eps: f64,
}

/// A convolution and its batch normalisation.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvBn {
    /// The convolution.
    pub conv: Conv,
    /// The normalisation of its output.
    pub bn: BatchNorm,
}

/// The temporal-focus gate: sigmoid(W2 ReLU(BN(W1 mean(x)))), one value per channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// Mean over the map, [N, C, 1, 1].
    pub pool: ModuleId,
    /// W1, 1x1 without bias.
    pub conv1: Conv,
    /// Normalisation of W1's output.
    pub bn: BatchNorm,
    /// After the ReLU.
    pub relu: ModuleId,
    /// W2, 1x1 without bias.
    pub conv2: Conv,
    /// The gate, after the sigmoid; ones when TFC is off.
    pub sigmoid: ModuleId,
}

/// The positional embedding [1, 16, p, p], resized to the map.
#[derive(Debug, Clone, PartialEq)]
pub struct PosEmbedding {
    /// Where the resized embedding [1, 16, H, W] is observed.
    pub id: ModuleId,
    /// Name of the parameter.
    pub name: String,
    /// p.
    pub dim: usize,
    /// Height and width of the map.
    pub size: (usize, usize),
}

/// Inter-temporal object interaction: short_conv(x) * sigmoid(conv(ReLU(BN(conv7x7(ReLU(BN(conv(g *
/// x))) + pos_embed))))).
#[derive(Debug, Clone, PartialEq)]
pub struct Ioi {
    /// The product of both branches; zeros when IOI is off.
    pub id: ModuleId,
    /// 3x3 with bias on x itself.
    pub short_conv: Conv,
    /// 3x3 with bias on g * x, to 16 channels.
    pub glo_in: ConvBn,
    /// After the ReLU, before the embedding is added.
    pub glo_in_relu: ModuleId,
    /// The embedding.
    pub pos_embed: PosEmbedding,
    /// 7x7 with bias, 16 to 16 channels.
    pub glo_mid: ConvBn,
    /// After the ReLU.
    pub glo_mid_relu: ModuleId,
    /// 3x3 with bias, from 16 channels.
    pub glo_out: Conv,
    /// After the sigmoid.
    pub glo_sigmoid: ModuleId,
}

/// A channel-time learning block: temporal_conv(g * x) + IOI(x, g).
#[derive(Debug, Clone, PartialEq)]
pub struct Ctl {
    /// Where its output is observed.
    pub id: ModuleId,
    /// Module path.
    pub name: String,
    /// N in `ctlN`, from 1.
    pub number: usize,
    /// Parts that are off or changed in this block.
    pub semantics: Semantics,
    /// g.
    pub gate: Gate,
    /// 1x1 without bias on g * x.
    pub temporal_conv: Conv,
    /// The interaction branch.
    pub spatial_conv: Ioi,
}

/// The main path of a residual block.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// ReLU(BN(1x1)), ReLU(BN(CTL)), BN(1x1).
    Bottleneck {
        /// Reduces the channels.
        reduce: Box<ConvBn>,
        /// The CTL.
        ctl: Box<Ctl>,
        /// Normalisation of the CTL's output.
        bn2: BatchNorm,
        /// Expands the channels.
        expand: Box<ConvBn>,
    },
    /// ReLU(BN(CTL)), BN(CTL).
    Basic {
        /// The first CTL; its embedding is always 7x7.
        ctl1: Box<Ctl>,
        /// Normalisation of its output.
        bn1: BatchNorm,
        /// The second CTL.
        ctl2: Box<Ctl>,
        /// Normalisation of its output.
        bn2: BatchNorm,
    },
}

/// A residual block: ReLU(body(x) + shortcut(x)), x downsampled first where the stride is 2.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Where its output is observed, after the ReLU.
    pub id: ModuleId,
    /// `layer1.0`.
    pub name: String,
    /// Depthwise 2x2 of stride 2 with bias, and BN.
    pub downsample: Option<ConvBn>,
    /// The main path.
    pub body: Body,
    /// 1x1 and BN where the channel count changes; otherwise the shortcut is x itself.
    pub shortcut: Option<ConvBn>,
}

/// The classifier: weight [classes, C], bias [classes].
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// Where the logits are observed.
    pub id: ModuleId,
    /// `fc`.
    pub name: String,
    /// Pooled features.
    pub in_features: usize,
    /// Classes.
    pub out_features: usize,
}

/// A SqueezeTime network.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// What it was built from.
    pub config: Config,
    /// The clip [N, 3, T, H, W].
    pub input: ModuleId,
    /// 5x5 of stride 2 over 3 T channels (channel index = colour * T + frame), and BN.
    pub stem: ConvBn,
    /// Max-pool 3x3 of stride 2, padding 1, after a ReLU.
    pub maxpool: ModuleId,
    /// All residual blocks in order.
    pub blocks: Vec<Block>,
    /// Mean over the map: the features [N, C].
    pub avgpool: ModuleId,
    /// The classifier; none for a backbone alone.
    pub fc: Option<Linear>,
    modules: Vec<Module>,
    parameters: Vec<ParamSpec>,
}

impl Model {
    /// Builds the description of a network with its classifier.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        build::build(config, true)
    }

    /// Builds the description of a backbone alone, whose output is the pooled features.
    pub fn backbone(config: Config) -> Result<Self, ConfigError> {
        build::build(config, false)
    }

    /// Everything that can be observed, in order of execution.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// The module with this id.
    pub fn module(&self, id: ModuleId) -> &Module {
        &self.modules[id.0]
    }

    /// The module with this official name.
    pub fn find(&self, name: &str) -> Option<&Module> {
        self.modules.iter().find(|m| m.name == name)
    }

    /// Every tensor of the state dict, in order of execution.
    pub fn parameters(&self) -> &[ParamSpec] {
        &self.parameters
    }

    /// The module whose output is the network's: the classifier, or the pooled features.
    pub fn output(&self) -> ModuleId {
        self.fc.as_ref().map_or(self.avgpool, |fc| fc.id)
    }

    /// Shape of a clip batch.
    pub fn input_shape(&self, n: usize) -> Vec<usize> {
        let Config { frames, size, .. } = self.config;
        vec![n, 3, frames, size.0, size.1]
    }

    /// All CTL blocks in order.
    pub fn ctls(&self) -> impl Iterator<Item = &Ctl> {
        self.blocks.iter().flat_map(|block| match &block.body {
            Body::Bottleneck { ctl, .. } => vec![ctl.as_ref()],
            Body::Basic { ctl1, ctl2, .. } => vec![ctl1.as_ref(), ctl2.as_ref()],
        })
    }

    /// The CTL with this number (from 1), to change its semantics.
    pub fn ctl_mut(&mut self, number: usize) -> Option<&mut Ctl> {
        self.blocks
            .iter_mut()
            .flat_map(|block| match &mut block.body {
                Body::Bottleneck { ctl, .. } => vec![ctl.as_mut()],
                Body::Basic { ctl1, ctl2, .. } => vec![ctl1.as_mut(), ctl2.as_mut()],
            })
            .find(|ctl| ctl.number == number)
    }

    /// Every batch normalisation in order, to change its eps.
    pub fn batch_norm_mut(&mut self, id: ModuleId) -> Option<&mut BatchNorm> {
        fn in_ctl(ctl: &mut Ctl) -> Vec<&mut BatchNorm> {
            let ioi = &mut ctl.spatial_conv;
            vec![&mut ctl.gate.bn, &mut ioi.glo_in.bn, &mut ioi.glo_mid.bn]
        }
        let mut all = vec![&mut self.stem.bn];
        for block in &mut self.blocks {
            all.extend(block.downsample.as_mut().map(|d| &mut d.bn));
            match &mut block.body {
                Body::Bottleneck { reduce, ctl, bn2, expand } => {
                    all.extend([&mut reduce.bn, bn2, &mut expand.bn]);
                    all.extend(in_ctl(ctl));
                }
                Body::Basic { ctl1, bn1, ctl2, bn2 } => {
                    all.extend([bn1, bn2]);
                    all.extend(in_ctl(ctl1));
                    all.extend(in_ctl(ctl2));
                }
            }
            all.extend(block.shortcut.as_mut().map(|s| &mut s.bn));
        }
        all.into_iter().find(|bn| bn.id == id)
    }

    /// Learned values without the classifier's.
    pub fn backbone_params(&self) -> u64 {
        let head = self.fc.as_ref().map(|fc| self.module(fc.id).params).unwrap_or(0);
        self.modules.iter().map(|m| m.params).sum::<u64>() - head
    }

    /// Multiply-accumulates per clip.
    pub fn macs(&self) -> u64 {
        self.modules.iter().map(|m| m.macs).sum()
    }
}
