//! The network as a list of steps, made once at load: batch normalisations are folded into scales
//! and biases, weights are packed in the layout of the kernels.
//!
//! What depends on the batch size, such as which steps become one kernel, is decided in
//! [`crate::run::layout::Layout`].
//!
//! Reading order: [`build`] (the network), [`constants`].

pub mod build;
pub mod constants;

use lower::tap::TapPoint;
use lower::{Activation, Stage};
use spec::ModuleId;

use crate::kernels::windows::Shape;
use constants::Constant;

/// A feature map [images, height, width, pitch] with a buffer of its own. A vector for each image
/// is a map of height and width 1.
#[derive(Debug, Clone, Copy)]
pub struct Map {
    /// Index of the buffer, below [`Plan::buffers`].
    pub buffer: usize,
    /// Channels without padding.
    pub channels: usize,
    /// Channels with padding.
    pub pitch: usize,
    /// Height and width.
    pub size: (usize, usize),
    /// Whether values are f32 whatever the precision.
    pub wide: bool,
}

impl Map {
    /// Pixels of one image.
    pub fn pixels(&self) -> usize {
        self.size.0 * self.size.1
    }

    /// Values of one image, with padding.
    pub fn image(&self) -> usize {
        self.pixels() * self.pitch
    }
}

/// What happens to sums before they are stored: [`crate::kernels::args::Epilogue`] before its parts
/// have addresses.
#[derive(Debug, Clone)]
pub struct Epilogue {
    /// f32 `[pitch]`; requires a bias.
    pub scale: Option<Constant>,
    /// f32 `[pitch]`.
    pub bias: Option<Constant>,
    /// A map that is added after the bias.
    pub residual: Option<Map>,
    /// Applied after the residual.
    pub activation: Activation,
    /// A wide map that the value is multiplied by after the activation.
    pub factor: Option<Map>,
    /// Added last, the same for every image, with the module under which it is observed.
    pub addend: Option<(Embedding, ModuleId)>,
    /// Where the result is stored.
    pub out: Map,
    /// The points at which the value can be observed, in the order of their stages.
    pub tap_points: Vec<TapPoint>,
}

/// A positional embedding [height * width, pitch] in f32.
#[derive(Debug, Clone)]
pub struct Embedding {
    /// The values on the device.
    pub constant: Constant,
    /// The same values on the host, for an observer.
    pub values: Vec<f32>,
}

impl Epilogue {
    /// An epilogue that only stores.
    pub fn to(out: Map) -> Self {
        let (scale, bias, residual, factor, addend) = (None, None, None, None, None);
        let activation = Activation::Identity;
        Epilogue { scale, bias, residual, activation, factor, addend, out, tap_points: vec![] }
    }

    /// Sets the activation function.
    pub fn activation(self, activation: Activation) -> Self {
        Epilogue { activation, ..self }
    }

    /// Makes the value after a stage observable as the activation of a module.
    pub fn tap_at(mut self, stage: Stage, module: ModuleId) -> Self {
        self.tap_points.push(TapPoint { stage, module });
        self
    }
}

/// One input of a convolution.
#[derive(Debug, Clone, Copy)]
pub struct Input {
    /// The input map.
    pub from: Map,
    /// Stored [outputs, kernel, kernel, pitch of `from`].
    pub weights: Constant,
    /// The same weights as `bands.cuh` reads them, on a GPU that has it. A map of which it reads groups
    /// (stride 2) is then stored in groups.
    pub band_weights: Option<Constant>,
    /// The same weights as `hopper_stem.cu` reads them, if it can compute the convolution.
    pub plane_weights: Option<Constant>,
    /// A wide vector for each image that the map is multiplied by.
    pub gate: Option<Map>,
    /// Side of the kernel.
    pub kernel: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// Zeros around the map on every side.
    pub padding: usize,
}

impl Input {
    /// The shape of its windows in bands.
    pub fn band_shape(&self) -> Shape {
        Shape { channels: self.from.pitch, kernel: self.kernel, stride: self.stride }
    }

    /// Length of the reduction, with padded channels.
    pub fn k(&self) -> usize {
        self.kernel * self.kernel * self.from.pitch
    }
}

/// A convolution, or the sum of two convolutions.
#[derive(Debug, Clone)]
pub struct Conv {
    /// One or two inputs.
    pub inputs: Vec<Input>,
    /// A wide map with the initial values of the sums.
    pub init: Option<Map>,
    /// What happens to the sums.
    pub epilogue: Epilogue,
}

/// The operation of a step.
#[derive(Debug, Clone)]
pub enum Op {
    /// From the planes of the clip to channels-last pixels.
    Import {
        /// Where the result is stored.
        out: Map,
    },
    /// A convolution, or the sum of two.
    Conv(Box<Conv>),
    /// Depthwise 2x2 convolution with stride 2.
    Depthwise {
        /// The input map.
        from: Map,
        /// f32 [4, pitch].
        weights: Constant,
        /// What happens to the sums.
        epilogue: Epilogue,
    },
    /// ReLU and 3x3 max-pool with stride 2.
    MaxPool {
        /// The input map.
        from: Map,
        /// What happens to the maxima.
        epilogue: Epilogue,
    },
    /// A map multiplied by its gate.
    Scale {
        /// The input map.
        from: Map,
        /// A wide vector for each image.
        gate: Map,
        /// Where the result is stored.
        out: Map,
    },
    /// Global average pool.
    AveragePool {
        /// The input map.
        from: Map,
        /// A wide vector for each image.
        out: Map,
        /// The module under which the result is observed.
        module: ModuleId,
    },
    /// A dense layer.
    Dense {
        /// A wide vector for each image.
        from: Map,
        /// f32 [outputs, pitch of `from`], followed by zeros as `dense.rs` wants them.
        weights: Constant,
        /// Only scale, bias and activation are supported, and the result is a wide vector.
        epilogue: Epilogue,
    },
}

impl Op {
    /// The epilogue, if the operation has one.
    pub fn epilogue(&self) -> Option<&Epilogue> {
        match self {
            Op::Import { .. } | Op::AveragePool { .. } | Op::Scale { .. } => None,
            Op::Conv(conv) => Some(&conv.epilogue),
            Op::Depthwise { epilogue, .. }
            | Op::MaxPool { epilogue, .. }
            | Op::Dense { epilogue, .. } => Some(epilogue),
        }
    }

    /// The map that it writes.
    pub fn out(&self) -> Map {
        match self {
            Op::Import { out } | Op::AveragePool { out, .. } | Op::Scale { out, .. } => *out,
            other => other.epilogue().expect("every other operation has an epilogue").out,
        }
    }

    /// The maps that it reads.
    pub fn reads(&self) -> Vec<Map> {
        let mut reads = match self {
            Op::Import { .. } => vec![],
            Op::Scale { from, gate, .. } => vec![*from, *gate],
            Op::Conv(conv) => {
                let maps = conv.inputs.iter().flat_map(|input| [Some(input.from), input.gate]);
                maps.chain([conv.init]).flatten().collect()
            }
            Op::Depthwise { from, .. }
            | Op::MaxPool { from, .. }
            | Op::AveragePool { from, .. }
            | Op::Dense { from, .. } => vec![*from],
        };
        if let Some(epilogue) = self.epilogue() {
            reads.extend([epilogue.residual, epilogue.factor].into_iter().flatten());
        }
        reads
    }
}

/// One step of the network.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its operation.
    pub op: Op,
    /// The module whose weights it multiplies, such as `layer1.0.conv1`; of two, the first. A step
    /// without weights has a description, such as `gate mean`.
    pub name: String,
    /// The kind of work, by which a profile groups steps.
    pub kind: &'static str,
    /// Multiply-accumulates for one clip of the convolutions that it computes.
    pub macs: u64,
}

/// The steps of a channel-time learning block that can be one kernel, by their index in
/// [`Plan::steps`]. `temporal` comes right after `glo_out`.
#[derive(Debug, Clone, Copy)]
pub struct CtlBlock {
    /// The short convolution.
    pub short: usize,
    /// The last convolution of the global branch.
    pub glo_out: usize,
    /// The temporal convolution.
    pub temporal: usize,
}

/// The whole network.
pub struct Plan {
    /// The steps, in the order in which they run.
    pub steps: Vec<Step>,
    /// Groups of steps that can be one kernel.
    pub ctl_blocks: Vec<CtlBlock>,
    /// How many buffers the maps need.
    pub buffers: usize,
    /// The logits, or the features where there is no classifier.
    pub output: Map,
    /// Weights, scales, biases and embeddings, as the device needs them.
    pub constants: Vec<u8>,
}

impl Plan {
    /// The step `index`, which must be a convolution.
    pub fn conv(&self, index: usize) -> &Conv {
        match &self.steps[index].op {
            Op::Conv(conv) => conv,
            _ => unreachable!("the step is a convolution"),
        }
    }
}
