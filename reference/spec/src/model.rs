//! The network as the tree that an engine walks, with names, shapes and costs. See section 3 of the
//! paper and the table of modules in the README.

mod build;
mod tiled;

use crate::config::{Config, ConfigError, Semantics};
use crate::module::{Module, ModuleId};
use crate::param::ParamSpec;

pub use tiled::Tiled;

/// The eps that every batch normalisation adds to the variance.
pub const BN_EPS: f64 = 1e-5;

/// Number of channels in the middle of the global branch of an IOI; it does not depend on T.
pub const GLOBAL_CHANNELS: usize = 16;

/// A 2D convolution with a weight [out, in / groups, kh, kw] and an optional bias `[out]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    /// The module that observes the output.
    pub id: ModuleId,
    /// Module path; the parameters are `{name}.weight` and `{name}.bias`.
    pub name: String,
    /// Number of input channels.
    pub in_channels: usize,
    /// Number of output channels.
    pub out_channels: usize,
    /// Side of the square kernel in pixels.
    pub kernel: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// Zero padding in pixels on every side.
    pub padding: usize,
    /// Number of groups: the number of channels for a depthwise convolution, otherwise 1.
    pub groups: usize,
    /// Whether the convolution has a bias.
    pub bias: bool,
    /// Height and width of the output in pixels.
    pub out_size: (usize, usize),
}

/// A batch normalisation with running statistics: (x - running_mean) / sqrt(running_var + eps)
/// * weight + bias, for each channel.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNorm {
    /// The module that observes the output, before any ReLU.
    pub id: ModuleId,
    /// Module path; the parameters below it are weight, bias, running_mean and running_var.
    pub name: String,
    /// Number of channels.
    pub channels: usize,
    /// Added to the variance before the square root.
    pub eps: f64,
}

/// A convolution and its batch normalisation.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvBn {
    /// The convolution, which comes first.
    pub conv: Conv,
    /// The batch normalisation of its output.
    pub bn: BatchNorm,
}

/// The temporal-focus gate: sigmoid(W2 ReLU(BN(W1 mean(x)))), one value for each channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// The module that observes the mean over the map, [N, C, 1, 1].
    pub pool: ModuleId,
    /// W1, a 1x1 convolution without bias.
    pub conv1: Conv,
    /// The batch normalisation of W1's output.
    pub bn: BatchNorm,
    /// The module that observes the output of the ReLU.
    pub relu: ModuleId,
    /// W2, a 1x1 convolution without bias.
    pub conv2: Conv,
    /// The module that observes the gate, after the sigmoid; all ones if TFC is off.
    pub sigmoid: ModuleId,
}

/// The positional embedding [1, 16, p, p], which is resized to the size of the map.
#[derive(Debug, Clone, PartialEq)]
pub struct PosEmbedding {
    /// The module that observes the resized embedding [1, 16, H, W].
    pub id: ModuleId,
    /// Name of the parameter in the state dict.
    pub name: String,
    /// p, the side of the learned embedding in pixels.
    pub dim: usize,
    /// Height and width of the map in pixels.
    pub size: (usize, usize),
}

/// Inter-temporal object interaction: short_conv(x) * sigmoid(conv(ReLU(BN(conv7x7(ReLU(BN(conv(g *
/// x))) + pos_embed))))).
#[derive(Debug, Clone, PartialEq)]
pub struct Ioi {
    /// The module that observes the product of both branches; all zeros if IOI is off.
    pub id: ModuleId,
    /// The short branch: a 3x3 convolution with bias on x.
    pub short_conv: Conv,
    /// The first step of the global branch: a 3x3 convolution with bias on g * x, to 16 channels.
    pub glo_in: ConvBn,
    /// The module that observes the ReLU after `glo_in`, before the embedding is added.
    pub glo_in_relu: ModuleId,
    /// The positional embedding that is added to the global branch.
    pub pos_embed: PosEmbedding,
    /// A 7x7 convolution with bias, from 16 to 16 channels.
    pub glo_mid: ConvBn,
    /// The module that observes the ReLU after `glo_mid`.
    pub glo_mid_relu: ModuleId,
    /// A 3x3 convolution with bias, from 16 channels.
    pub glo_out: Conv,
    /// The module that observes the sigmoid after `glo_out`.
    pub glo_sigmoid: ModuleId,
}

/// A channel-time learning block: temporal_conv(g * x) + IOI(x, g).
#[derive(Debug, Clone, PartialEq)]
pub struct Ctl {
    /// The module that observes the output.
    pub id: ModuleId,
    /// Module path, such as `layer1.0.conv2`.
    pub name: String,
    /// N in the alias `ctlN`, counted from 1.
    pub number: usize,
    /// Parts that are off or changed in this block.
    pub semantics: Semantics,
    /// The gate g, which both branches share.
    pub gate: Gate,
    /// The temporal branch: a 1x1 convolution without bias on g * x.
    pub temporal_conv: Conv,
    /// The inter-temporal object interaction branch.
    pub spatial_conv: Ioi,
}

/// The main path of a residual block.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// The three steps ReLU(BN(1x1)), ReLU(BN(CTL)) and BN(1x1).
    Bottleneck {
        /// The 1x1 convolution that reduces the number of channels, with its normalisation.
        reduce: Box<ConvBn>,
        /// The CTL, which keeps the number of channels.
        ctl: Box<Ctl>,
        /// The batch normalisation of the CTL's output.
        bn2: BatchNorm,
        /// The 1x1 convolution that expands the number of channels, with its normalisation.
        expand: Box<ConvBn>,
    },
    /// The two steps ReLU(BN(CTL)) and BN(CTL).
    Basic {
        /// The first CTL; its embedding is always 7x7.
        ctl1: Box<Ctl>,
        /// The batch normalisation of the first CTL's output.
        bn1: BatchNorm,
        /// The second CTL, whose embedding has the side of its stage.
        ctl2: Box<Ctl>,
        /// The batch normalisation of the second CTL's output.
        bn2: BatchNorm,
    },
}

/// A residual block: ReLU(body(x) + shortcut(x)). The first block of stages 2 to 4 downsamples x
/// first.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// The module that observes the output, after the ReLU.
    pub id: ModuleId,
    /// Module path, such as `layer1.0`.
    pub name: String,
    /// A depthwise 2x2 convolution of stride 2 with bias, and its normalisation, if x is downsampled.
    pub downsample: Option<ConvBn>,
    /// The main path of the block.
    pub body: Body,
    /// A 1x1 convolution and its normalisation if the number of channels changes; otherwise the
    /// shortcut is x itself.
    pub shortcut: Option<ConvBn>,
}

/// The classifier, with a weight [classes, C] and a bias `[classes]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// The module that observes the logits.
    pub id: ModuleId,
    /// Module path, which is `fc`.
    pub name: String,
    /// C, the number of pooled features.
    pub in_features: usize,
    /// Number of classes.
    pub out_features: usize,
}

/// The description of a SqueezeTime network.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The configuration from which the model was built.
    pub config: Config,
    /// The module that observes the clips [N, 3, T, H, W].
    pub input: ModuleId,
    /// A 5x5 convolution of stride 2 over 3 T channels (channel index = colour * T + frame), and its
    /// normalisation.
    pub stem: ConvBn,
    /// The module that observes the max-pool (3x3, stride 2, padding 1), which follows a ReLU.
    pub maxpool: ModuleId,
    /// All residual blocks in order of execution.
    pub blocks: Vec<Block>,
    /// The module that observes the mean over the map, the features [N, C].
    pub avgpool: ModuleId,
    /// The classifier; `None` for a backbone.
    pub fc: Option<Linear>,
    modules: Vec<Module>,
    parameters: Vec<ParamSpec>,
}

impl Model {
    /// Builds the description of a network with its classifier. Fails if the configuration is invalid
    /// or the input is too small.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        build::build(config, true)
    }

    /// Builds the description of a backbone without a classifier, whose output is the pooled features.
    /// Fails as [`Model::new`] does.
    pub fn backbone(config: Config) -> Result<Self, ConfigError> {
        build::build(config, false)
    }

    /// All modules, in order of execution.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// The module with this id, which must be one of this model.
    pub fn module(&self, id: ModuleId) -> &Module {
        &self.modules[id.0]
    }

    /// The module with this official name, if there is one.
    pub fn find(&self, name: &str) -> Option<&Module> {
        self.modules.iter().find(|m| m.name == name)
    }

    /// Every tensor of the state dict, in order of execution.
    pub fn parameters(&self) -> &[ParamSpec] {
        &self.parameters
    }

    /// The module whose output is that of the network: the classifier, or for a backbone the mean over
    /// the map.
    pub fn output(&self) -> ModuleId {
        self.fc.as_ref().map_or(self.avgpool, |fc| fc.id)
    }

    /// The shape [n, 3, T, H, W] of a batch of n clips.
    pub fn input_shape(&self, n: usize) -> Vec<usize> {
        let Config { frames, size, .. } = self.config;
        vec![n, 3, frames, size.0, size.1]
    }

    /// All CTLs in order of execution.
    pub fn ctls(&self) -> impl Iterator<Item = &Ctl> {
        self.blocks.iter().flat_map(|block| match &block.body {
            Body::Bottleneck { ctl, .. } => vec![ctl.as_ref()],
            Body::Basic { ctl1, ctl2, .. } => vec![ctl1.as_ref(), ctl2.as_ref()],
        })
    }

    /// The CTL with this number (counted from 1), so that its semantics can be changed.
    pub fn ctl_mut(&mut self, number: usize) -> Option<&mut Ctl> {
        self.blocks
            .iter_mut()
            .flat_map(|block| match &mut block.body {
                Body::Bottleneck { ctl, .. } => vec![ctl.as_mut()],
                Body::Basic { ctl1, ctl2, .. } => vec![ctl1.as_mut(), ctl2.as_mut()],
            })
            .find(|ctl| ctl.number == number)
    }

    /// The batch normalisation with this id, so that its eps can be changed.
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

    /// Number of learned values without those of the classifier.
    pub fn backbone_params(&self) -> u64 {
        let head = self.fc.as_ref().map(|fc| self.module(fc.id).params).unwrap_or(0);
        self.modules.iter().map(|m| m.params).sum::<u64>() - head
    }

    /// Number of multiply-accumulates for one clip.
    pub fn macs(&self) -> u64 {
        self.modules.iter().map(|m| m.macs).sum()
    }
}
