//! The plan: the network as a list of steps, made once at load, with batch normalisation folded
//! into scales, weights packed and algorithms chosen. What depends on the size of the batch is in a
//! [`crate::run::layout::Layout`].
//!
//! Reading order: [`build`] (the network), [`ctl`] (its channel-time learning block), [`pointwise`] (1x1
//! convolutions), [`choose`] (the algorithm for a convolution).

pub mod build;
pub mod choose;
pub mod ctl;
pub mod pointwise;

use lower::tap::TapPoint;
use lower::{Activation, Stage};
use spec::ModuleId;

use crate::kernels::rows::POINTS;
use crate::kernels::strassen::PRODUCTS;
use crate::kernels::winograd::Tile;
use crate::pack::{Packed, Planes};

/// Number of f32 in a cache line.
pub const LINE: usize = 16;

/// The index of a buffer of the plan; a layout gives it an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BufferId(pub usize);

/// Feature maps [N, H, W, pitch] in a buffer. A map with H = W = 1 holds one vector for each clip.
#[derive(Debug, Clone, Copy)]
pub struct Map {
    /// The buffer that holds the maps.
    pub buffer: BufferId,
    /// Number of channels, without padding.
    pub channels: usize,
    /// Elements from one pixel to the next: a whole number of vectors, and perhaps some cache
    /// lines more.
    pub pitch: usize,
    /// Height and width in pixels.
    pub size: (usize, usize),
}

impl Map {
    /// Number of pixels of one image.
    pub fn pixels(&self) -> usize {
        self.size.0 * self.size.1
    }

    /// Number of vectors of `lanes` elements that hold the channels.
    pub fn vectors(&self, lanes: usize) -> usize {
        self.channels.div_ceil(lanes)
    }

    /// Number of elements of one image, with padding.
    pub fn image(&self) -> usize {
        self.pixels() * self.pitch
    }
}

/// The parameters of an epilogue: [`crate::kernels::epilogue::Epilogue`] with buffers instead of
/// pointers, and the points at which it can be observed.
pub struct EpilogueSpec {
    /// The map that is added first.
    pub sum: Option<BufferId>,
    /// Scale of each channel, padded to whole vectors; None for 1.
    pub scale: Option<Vec<f32>>,
    /// Bias of each channel, padded to whole vectors; None for 0.
    pub bias: Option<Vec<f32>>,
    /// The map that is added after the bias.
    pub residual: Option<BufferId>,
    /// The activation function.
    pub activation: Activation,
    /// The map that multiplies the activation.
    pub factor: Option<BufferId>,
    /// The positional embedding [H * W, pitch], which is added last, and the module as which it is
    /// observed.
    pub embedding: Option<(Vec<f32>, ModuleId)>,
    /// The map of the result.
    pub out: Map,
    /// The points at which the result can be observed, in the order of their stages.
    pub tap_points: Vec<TapPoint>,
}

impl EpilogueSpec {
    /// An epilogue that only stores to a map.
    pub fn to(out: Map) -> Self {
        EpilogueSpec {
            sum: None,
            scale: None,
            bias: None,
            residual: None,
            activation: Activation::Identity,
            factor: None,
            embedding: None,
            out,
            tap_points: vec![],
        }
    }

    /// Sets the activation function.
    pub fn activation(self, activation: Activation) -> Self {
        EpilogueSpec { activation, ..self }
    }

    /// Makes the value after a stage observable as the output of a module.
    pub fn tap_at(mut self, stage: Stage, module: ModuleId) -> Self {
        self.tap_points.push(TapPoint { stage, module });
        self
    }

    fn reads(&self) -> impl Iterator<Item = BufferId> {
        [self.sum, self.residual, self.factor].into_iter().flatten()
    }
}

/// One product of a step: its input and its weights.
pub struct OperandSpec<E> {
    /// The input map.
    pub from: Map,
    /// Height and width of the kernel; the stride is 1 and the padding keeps the size.
    pub kernel: usize,
    /// The gate [N, channels] that multiplies the input.
    pub gate: Option<Map>,
    /// The packed weights [kernel * kernel * channels, outputs].
    pub weights: Packed<E>,
}

impl<E> OperandSpec<E> {
    /// Whether the product reads a band, because of a border or a gate, instead of the map itself.
    pub fn banded(&self) -> bool {
        self.kernel > 1 || self.gate.is_some()
    }

    /// Number of channels of a pixel of the band.
    pub fn channels(&self) -> usize {
        self.weights.k / (self.kernel * self.kernel)
    }

    /// Number of elements of a line of the band.
    pub fn line(&self) -> usize {
        (self.from.size.1 + self.kernel - 1) * self.channels()
    }
}

/// One convolution of a Winograd layer: its weights and its epilogue.
pub struct Branch<E> {
    /// The transformed weights, one matrix for each plane.
    pub weights: Planes<E>,
    /// What is done with the sums.
    pub epilogue: EpilogueSpec,
}

/// A 3x3 convolution by Winograd's algorithm, conv(x), and optionally a second one on the gated
/// input, conv(g * x). Both share one input transform.
pub struct Winograd<E> {
    /// The algorithm, F(2x2, 3x3) or F(4x4, 3x3).
    pub tile: Tile,
    /// The input map.
    pub from: Map,
    /// The gate of the second convolution.
    pub gate: Option<Map>,
    /// The first convolution, conv(x).
    pub main: Branch<E>,
    /// The second convolution, conv(g * x), or conv(x) if there is no gate.
    pub second: Option<Branch<E>>,
    /// Buffers for the transformed tiles, the gated tiles and the products. They are used if all
    /// threads work on the layer together; otherwise the tiles lie in the scratch memory of the
    /// threads.
    pub workspace: [BufferId; 3],
}

impl<E> Winograd<E> {
    /// Size of the transformed weights of both convolutions, in bytes.
    pub fn weights_bytes(&self) -> usize {
        let branches = std::iter::once(&self.main).chain(&self.second);
        branches.map(|branch| branch.weights.data.len() * size_of::<E>()).sum()
    }
}

/// A 1x1 convolution by Strassen's algorithm ([`crate::kernels::strassen`]), or the sum of two.
pub struct Strassen<E> {
    /// The input maps. The low half of the channels is that of every map, one after the other.
    pub from: Vec<Map>,
    /// The gate [N, channels] that multiplies the input; there is one map then.
    pub gate: Option<Map>,
    /// Elements from one pair of pixels to the next in a sum of blocks of inputs.
    pub pitch: usize,
    /// Elements from one pair of pixels to the next in a product: the outputs of a group.
    pub width: usize,
    /// The weights, in the order in which they are read.
    pub groups: Vec<OutputGroup<E>>,
    /// What is done with the sums.
    pub epilogue: EpilogueSpec,
}

/// The weights of some of the outputs of a [`Strassen`] step: as many of the low half as of the high half.
pub struct OutputGroup<E> {
    /// First output, counted within a half.
    pub output: usize,
    /// The sums of blocks of weights [half of the channels, outputs], one for each product.
    pub weights: [Packed<E>; PRODUCTS],
}

impl<E> OutputGroup<E> {
    /// Number of vectors of outputs in each half.
    pub fn vectors(&self) -> usize {
        self.weights[0].vectors
    }
}

impl<E> Strassen<E> {
    /// The only map, if products can read its blocks: if it has no gate, and every pair of pixels is whole, so
    /// that the pairs of all images follow each other.
    pub fn whole_map(&self) -> Option<&Map> {
        match &self.from[..] {
            [map] if map.pixels().is_multiple_of(2) && self.gate.is_none() => Some(map),
            _ => None,
        }
    }

    /// Pairs of pixels in an image.
    pub fn pairs(&self) -> usize {
        self.epilogue.out.pixels().div_ceil(2)
    }
}

/// A 7x7 convolution by Winograd's algorithm along the rows ([`crate::kernels::rows`]).
pub struct RowWinograd<E> {
    /// The input map.
    pub from: Map,
    /// The transformed weights [KERNEL, parts, channels, outputs] of each point.
    pub weights: [Packed<E>; POINTS],
    /// What is done with the sums.
    pub epilogue: EpilogueSpec,
}

/// The operation of a step.
#[allow(clippy::large_enum_variant, reason = "a network has some hundred steps")]
pub enum Op<E> {
    /// Converts the clip to the map that the stem reads.
    Import {
        /// Number of planes of the clip, 3 T.
        planes: usize,
        /// Height and width of the clip.
        size: (usize, usize),
        /// The map of 2x2 cells.
        out: Map,
    },
    /// A convolution or a dense layer, as a matrix product.
    Gemm {
        /// The product, or the first of two.
        first: OperandSpec<E>,
        /// A second product that is accumulated into the same sums. Neither reads a band then.
        second: Option<OperandSpec<E>>,
        /// What is done with the sums.
        epilogue: EpilogueSpec,
    },
    /// A 1x1 convolution by Strassen's algorithm, or the sum of two.
    Strassen(Strassen<E>),
    /// A 7x7 convolution by Winograd's algorithm along the rows.
    RowWinograd(RowWinograd<E>),
    /// One or two 3x3 convolutions by Winograd's algorithm.
    Winograd(Box<Winograd<E>>),
    /// A depthwise 2x2 convolution of stride 2 without padding.
    Depthwise {
        /// The input map.
        from: Map,
        /// Weights [4, pitch], one row for each tap.
        weights: Vec<f32>,
        /// What is done with the sums.
        epilogue: EpilogueSpec,
    },
    /// A 3x3 max-pool of stride 2 and padding 1 of ReLU(x).
    MaxPool {
        /// The input map.
        from: Map,
        /// The result and the points at which it is observed; nothing else applies.
        epilogue: EpilogueSpec,
    },
    /// The mean over all pixels.
    Mean {
        /// The input map.
        from: Map,
        /// The result and the points at which it is observed; nothing else applies.
        epilogue: EpilogueSpec,
    },
}

/// One step of the plan.
pub struct Step<E> {
    /// The operation.
    pub op: Op<E>,
    /// Name of a module that the step computes.
    pub name: String,
    /// The kind of work for profiles, such as `expand 1x1`.
    pub kind: &'static str,
    /// Multiply-accumulates for one clip of the convolutions that the step computes, as many
    /// as direct convolutions take.
    pub macs: u64,
}

impl<E> Op<E> {
    /// The epilogues of its results: two for a Winograd layer with two convolutions.
    pub fn epilogues(&self) -> [Option<&EpilogueSpec>; 2] {
        match self {
            Op::Import { .. } => [None, None],
            Op::Gemm { epilogue, .. }
            | Op::Depthwise { epilogue, .. }
            | Op::MaxPool { epilogue, .. }
            | Op::Mean { epilogue, .. } => [Some(epilogue), None],
            Op::Strassen(s) => [Some(&s.epilogue), None],
            Op::RowWinograd(w) => [Some(&w.epilogue), None],
            Op::Winograd(w) => {
                [Some(&w.main.epilogue), w.second.as_ref().map(|branch| &branch.epilogue)]
            }
        }
    }

    /// The buffers that the step reads.
    pub fn reads(&self) -> Vec<BufferId> {
        let mut reads = match self {
            Op::Import { .. } => vec![],
            Op::Gemm { first, second, .. } => {
                let sources = std::iter::once(first).chain(second);
                sources.flat_map(|s| [Some(s.from), s.gate]).flatten().map(|m| m.buffer).collect()
            }
            Op::Strassen(s) => s.from.iter().chain(&s.gate).map(|map| map.buffer).collect(),
            Op::RowWinograd(w) => vec![w.from.buffer],
            Op::Winograd(w) => {
                [Some(w.from), w.gate].into_iter().flatten().map(|m| m.buffer).collect()
            }
            Op::Depthwise { from, .. } | Op::MaxPool { from, .. } | Op::Mean { from, .. } => {
                vec![from.buffer]
            }
        };
        reads.extend(self.epilogues().into_iter().flatten().flat_map(EpilogueSpec::reads));
        reads
    }

    /// The maps that the step writes, without its workspace.
    pub fn writes(&self) -> Vec<Map> {
        match self {
            Op::Import { out, .. } => vec![*out],
            _ => self.epilogues().into_iter().flatten().map(|epilogue| epilogue.out).collect(),
        }
    }
}

/// The plan of the whole network.
pub struct Plan<E> {
    /// The steps in order of execution.
    pub steps: Vec<Step<E>>,
    /// Number of buffers.
    pub buffers: usize,
    /// The output: logits, or features if the model has no classifier.
    pub output: Map,
}
