//! The network as a list of steps, made once at load: batch normalisation folded into scales,
//! weights packed, kernels chosen. What depends on the batch is a [`crate::run::layout::Layout`].
//!
//! Reading order: [`build`] (the network), [`ctl`] (its channel-time learning block), [`choose`]
//! (which algorithm a 3x3 convolution gets), [`fold`] (weights), [`embedding`].

pub mod build;
pub mod choose;
pub mod ctl;
pub mod embedding;
pub mod fold;

use spec::ModuleId;

use crate::kernels::epilogue::{Activation, stage};
use crate::kernels::winograd::Tile;
use crate::pack::{Packed, Planes};

/// f32 in a cache line.
pub const LINE: usize = 16;

/// A buffer of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BufferId(pub usize);

/// Feature maps [N, H, W, stride] in a buffer; a vector for each clip has H = W = 1.
#[derive(Debug, Clone, Copy)]
pub struct Map {
    /// Where.
    pub buffer: BufferId,
    /// Channels that mean something.
    pub channels: usize,
    /// Elements from one pixel to the next: whole vectors, and perhaps more.
    pub stride: usize,
    /// Height and width.
    pub size: (usize, usize),
}

impl Map {
    /// Pixels of one image.
    pub fn pixels(&self) -> usize {
        self.size.0 * self.size.1
    }

    /// Vectors of so many lanes that hold the channels.
    pub fn vectors(&self, lanes: usize) -> usize {
        self.channels.div_ceil(lanes)
    }

    /// Elements of one image.
    pub fn image(&self) -> usize {
        self.pixels() * self.stride
    }
}

/// Where a step's result can be observed.
#[derive(Debug, Clone, Copy)]
pub struct Show {
    /// The end of this stage of the epilogue.
    pub stage: u8,
    /// What the value is.
    pub module: ModuleId,
}

/// What becomes of sums: [`crate::kernels::epilogue::Epilogue`] with buffers instead of pointers.
pub struct Finish {
    /// Added first.
    pub sum: Option<BufferId>,
    /// Scale of each channel.
    pub scale: Option<Vec<f32>>,
    /// Bias of each channel.
    pub bias: Option<Vec<f32>>,
    /// Added after the bias.
    pub residual: Option<BufferId>,
    /// The function.
    pub activation: Activation,
    /// Multiplied by, after the function.
    pub factor: Option<BufferId>,
    /// Added last, for each pixel and channel: the positional embedding, and where it is observed.
    pub post: Option<(Vec<f32>, ModuleId)>,
    /// The result.
    pub out: Map,
    /// Where it can be observed, in order.
    pub shows: Vec<Show>,
}

impl Finish {
    /// Stores into a map.
    pub fn to(out: Map) -> Self {
        Finish {
            sum: None,
            scale: None,
            bias: None,
            residual: None,
            activation: Activation::Identity,
            factor: None,
            post: None,
            out,
            shows: vec![],
        }
    }

    /// Adds a function.
    pub fn then(self, activation: Activation) -> Self {
        Finish { activation, ..self }
    }

    /// Makes a stage observable.
    pub fn show(mut self, stage: u8, module: ModuleId) -> Self {
        self.shows.push(Show { stage, module });
        self
    }

    fn reads(&self) -> impl Iterator<Item = BufferId> {
        [self.sum, self.residual, self.factor].into_iter().flatten()
    }
}

/// One product of a step.
pub struct Source<E> {
    /// The input.
    pub from: Map,
    /// Side of the kernel, stride 1, padded to keep the size.
    pub kernel: usize,
    /// A gate [N, channels] that the input is multiplied by.
    pub gate: Option<Map>,
    /// The weights [kernel * kernel * channels, outputs].
    pub weights: Packed<E>,
}

impl<E> Source<E> {
    /// Whether it reads a band with a border or a gate instead of the map itself.
    pub fn banded(&self) -> bool {
        self.kernel > 1 || self.gate.is_some()
    }

    /// Channels of a pixel of the band.
    pub fn channels(&self) -> usize {
        self.weights.k / (self.kernel * self.kernel)
    }

    /// Elements of a line of the band.
    pub fn line(&self) -> usize {
        (self.from.size.1 + self.kernel - 1) * self.channels()
    }
}

/// One set of outputs of a Winograd layer.
pub struct Arm<E> {
    /// A matrix for each plane.
    pub weights: Planes<E>,
    /// What becomes of the sums.
    pub finish: Finish,
}

/// A 3x3 convolution by Winograd's algorithm, and a second one on the gated input, which shares the
/// transform: conv(g * x).
pub struct Winograd<E> {
    /// The tile.
    pub tile: Tile,
    /// The input.
    pub from: Map,
    /// The gate of the second arm.
    pub gate: Option<Map>,
    /// conv(x).
    pub main: Arm<E>,
    /// conv(g * x), or another conv(x) without a gate.
    pub second: Option<Arm<E>>,
    /// Room for transformed tiles, gated tiles and products, where threads share a layer.
    pub room: [BufferId; 3],
}

/// What a step does.
#[allow(clippy::large_enum_variant, reason = "a network has some hundred steps")]
pub enum Op<E> {
    /// The clip to the map that the stem reads.
    Import {
        /// 3 T.
        planes: usize,
        /// Height and width of the clip.
        size: (usize, usize),
        /// The result.
        out: Map,
    },
    /// A convolution or a dense layer, as a matrix product.
    Gemm {
        /// The product.
        first: Source<E>,
        /// Another one into the same sums; neither is banded then.
        second: Option<Source<E>>,
        /// What becomes of the sums.
        finish: Finish,
    },
    /// A 3x3 convolution.
    Winograd(Box<Winograd<E>>),
    /// Depthwise 2x2 of stride 2.
    Depthwise {
        /// The input.
        from: Map,
        /// Weights [4, stride].
        weights: Vec<f32>,
        /// What becomes of the sums.
        finish: Finish,
    },
    /// 3x3 of stride 2 over max(x, 0).
    MaxPool {
        /// The input.
        from: Map,
        /// The result and where it is observed.
        finish: Finish,
    },
    /// Mean over the map.
    Mean {
        /// The input.
        from: Map,
        /// The result and where it is observed.
        finish: Finish,
    },
}

/// One step.
pub struct Step<E> {
    /// What it does.
    pub op: Op<E>,
    /// The module that it computes or ends with.
    pub name: String,
    /// The kind of work, for profiles.
    pub kind: &'static str,
    /// Multiply-accumulates per clip of the convolutions that it stands for.
    pub macs: u64,
}

impl<E> Op<E> {
    /// Its results: two for a Winograd layer with two arms.
    pub fn finishes(&self) -> [Option<&Finish>; 2] {
        match self {
            Op::Import { .. } => [None, None],
            Op::Gemm { finish, .. }
            | Op::Depthwise { finish, .. }
            | Op::MaxPool { finish, .. }
            | Op::Mean { finish, .. } => [Some(finish), None],
            Op::Winograd(w) => [Some(&w.main.finish), w.second.as_ref().map(|arm| &arm.finish)],
        }
    }

    /// Buffers that it reads.
    pub fn reads(&self) -> Vec<BufferId> {
        let mut reads = match self {
            Op::Import { .. } => vec![],
            Op::Gemm { first, second, .. } => {
                let sources = std::iter::once(first).chain(second);
                sources.flat_map(|s| [Some(s.from), s.gate]).flatten().map(|m| m.buffer).collect()
            }
            Op::Winograd(w) => {
                [Some(w.from), w.gate].into_iter().flatten().map(|m| m.buffer).collect()
            }
            Op::Depthwise { from, .. } | Op::MaxPool { from, .. } | Op::Mean { from, .. } => {
                vec![from.buffer]
            }
        };
        reads.extend(self.finishes().into_iter().flatten().flat_map(Finish::reads));
        reads
    }

    /// Maps that it writes.
    pub fn writes(&self) -> Vec<Map> {
        match self {
            Op::Import { out, .. } => vec![*out],
            _ => self.finishes().into_iter().flatten().map(|finish| finish.out).collect(),
        }
    }
}

/// The whole network.
pub struct Plan<E> {
    /// In order.
    pub steps: Vec<Step<E>>,
    /// How many buffers there are.
    pub buffers: usize,
    /// The logits or features.
    pub output: Map,
}

/// Stages at which a plain result can be observed.
pub const DONE: u8 = stage::END;
