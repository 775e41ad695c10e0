//! The network as a list of steps, made once at load: batch normalisation folded into scales, weights
//! packed. What depends on the batch, such as which steps become one kernel, is a
//! [`crate::run::layout::Layout`].
//!
//! Reading order: [`build`] (the network), [`fold`] (learned values), [`embedding`], [`constants`].

pub mod build;
pub mod constants;
pub mod embedding;
pub mod fold;

use spec::ModuleId;

use crate::kernels::args::Activation;
use constants::Constant;

/// Feature maps [N, H, W, pitch] in memory of their own; a vector for each clip has H = W = 1.
#[derive(Debug, Clone, Copy)]
pub struct Map {
    /// Which, from 0.
    pub buffer: usize,
    /// Channels that mean something.
    pub channels: usize,
    /// Channels with padding.
    pub pitch: usize,
    /// Height and width.
    pub size: (usize, usize),
    /// Whether it holds f32 whatever the precision.
    pub wide: bool,
}

impl Map {
    /// Pixels of one image.
    pub fn pixels(&self) -> usize {
        self.size.0 * self.size.1
    }

    /// Values of one image.
    pub fn image(&self) -> usize {
        self.pixels() * self.pitch
    }
}

/// What becomes of sums: [`crate::kernels::args::Epilogue`] before it has addresses.
#[derive(Debug, Clone)]
pub struct Finish {
    /// f32 [pitch]; with it a bias.
    pub scale: Option<Constant>,
    /// f32 [pitch].
    pub bias: Option<Constant>,
    /// Added after the bias.
    pub residual: Option<Map>,
    /// The function.
    pub activation: Activation,
    /// Multiplied by, after the function; a wide map.
    pub factor: Option<Map>,
    /// Added last for each pixel and channel: the positional embedding, and where it is observed.
    pub post: Option<(Post, ModuleId)>,
    /// The result.
    pub out: Map,
    /// Where the value can be observed: after a stage, in order.
    pub shows: Vec<(usize, ModuleId)>,
}

/// A positional embedding [H * W, pitch]: on the device, and to be shown.
#[derive(Debug, Clone)]
pub struct Post {
    /// On the device.
    pub constant: Constant,
    /// The same values here.
    pub values: Vec<f32>,
}

impl Finish {
    /// Stores into a map.
    pub fn to(out: Map) -> Self {
        let (scale, bias, residual, factor, post) = (None, None, None, None, None);
        let activation = Activation::Identity;
        Finish { scale, bias, residual, activation, factor, post, out, shows: vec![] }
    }

    /// Adds a function.
    pub fn then(self, activation: Activation) -> Self {
        Finish { activation, ..self }
    }

    /// Makes a stage observable.
    pub fn show(mut self, stage: usize, module: ModuleId) -> Self {
        self.shows.push((stage, module));
        self
    }
}

/// One input of a convolution.
#[derive(Debug, Clone, Copy)]
pub struct Input {
    /// The map.
    pub from: Map,
    /// Stored [outputs, kernel, kernel, pitch of `from`].
    pub weights: Constant,
    /// A gate that the map is multiplied by.
    pub gate: Option<Map>,
    /// Side.
    pub kernel: usize,
    /// In both directions.
    pub stride: usize,
    /// On every side.
    pub padding: usize,
}

impl Input {
    /// Terms of a sum, with padding.
    pub fn depth(&self) -> usize {
        self.kernel * self.kernel * self.from.pitch
    }
}

/// A convolution of stride 1 or more, or the sum of two.
#[derive(Debug, Clone)]
pub struct Conv {
    /// One or two.
    pub inputs: Vec<Input>,
    /// Sums to begin with; a wide map.
    pub init: Option<Map>,
    /// What becomes of the sums.
    pub finish: Finish,
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum Op {
    /// The clip to pixels.
    Import {
        /// The result.
        out: Map,
    },
    /// A convolution.
    Conv(Box<Conv>),
    /// Depthwise 2x2 of stride 2.
    Depthwise {
        /// The input.
        from: Map,
        /// f32 [4, pitch].
        weights: Constant,
        /// What becomes of the sums.
        finish: Finish,
    },
    /// 3x3 of stride 2 over max(x, 0).
    MaxPool {
        /// The input.
        from: Map,
        /// What becomes of the maxima.
        finish: Finish,
    },
    /// Mean over the map.
    Mean {
        /// The input.
        from: Map,
        /// A wide vector for each clip.
        out: Map,
        /// Where it is observed.
        show: ModuleId,
    },
    /// A dense layer.
    Dense {
        /// A wide vector for each clip.
        from: Map,
        /// f32 [outputs, inputs].
        weights: Constant,
        /// What becomes of the sums: scale, bias and activation only, into a wide vector.
        finish: Finish,
    },
}

impl Op {
    /// What becomes of its sums.
    pub fn finish(&self) -> Option<&Finish> {
        match self {
            Op::Import { .. } | Op::Mean { .. } => None,
            Op::Conv(conv) => Some(&conv.finish),
            Op::Depthwise { finish, .. }
            | Op::MaxPool { finish, .. }
            | Op::Dense { finish, .. } => Some(finish),
        }
    }

    /// Its result.
    pub fn out(&self) -> Map {
        match self {
            Op::Import { out } | Op::Mean { out, .. } => *out,
            other => other.finish().expect("all others end with an epilogue").out,
        }
    }

    /// Maps that it reads.
    pub fn reads(&self) -> Vec<Map> {
        let mut reads = match self {
            Op::Import { .. } => vec![],
            Op::Conv(conv) => {
                let maps = conv.inputs.iter().flat_map(|input| [Some(input.from), input.gate]);
                maps.chain([conv.init]).flatten().collect()
            }
            Op::Depthwise { from, .. }
            | Op::MaxPool { from, .. }
            | Op::Mean { from, .. }
            | Op::Dense { from, .. } => vec![*from],
        };
        if let Some(finish) = self.finish() {
            reads.extend([finish.residual, finish.factor].into_iter().flatten());
        }
        reads
    }
}

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    /// What it does.
    pub op: Op,
    /// The module that it computes or ends with.
    pub name: String,
    /// The kind of work, for profiles.
    pub kind: &'static str,
    /// Multiply-accumulates per clip of the convolutions that it stands for.
    pub macs: u64,
}

/// The steps of a channel-time learning block that can be one kernel: the short convolution, the last
/// one of the global branch, and the temporal one, which comes right after that.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// Index of the short convolution.
    pub short: usize,
    /// Index of the last convolution of the global branch.
    pub glo_out: usize,
    /// Index of the temporal convolution.
    pub temporal: usize,
}

/// The whole network.
pub struct Plan {
    /// In order.
    pub steps: Vec<Step>,
    /// What can be one kernel.
    pub blocks: Vec<Block>,
    /// How many maps there are.
    pub buffers: usize,
    /// The logits or features.
    pub output: Map,
    /// Weights, scales, biases, embeddings.
    pub constants: Vec<u8>,
}
