//! How a mistake is made.

use half::bf16;
use spec::weights::Weights;
use spec::{Data, Engine, EngineError, Flow, Model, ModuleId, Precision, Semantics, Tap, Tensor};

/// Rewrites a tensor.
pub type Rewrite = fn(Tensor) -> Tensor;

/// Rewrites the values of a tensor of weights, given its shape.
pub type WeightRewrite = fn(&[usize], &mut [f64]);

/// One edit that turns a healthy network into one with a mistake.
#[derive(Debug, Clone)]
pub enum Edit {
    /// Changes the semantics of CTL number N.
    Semantics(usize, Semantics),
    /// Another eps in one batch normalisation.
    Eps(ModuleId, f64),
    /// Rewrites one tensor of the weights.
    Weight(String, WeightRewrite),
    /// Exchanges two tensors of equal shape.
    Swap(String, String),
    /// Rewrites the clip [N, 3, T, H, W] before the network sees it.
    Input(Rewrite),
    /// Rewrites the output of one module.
    Output(ModuleId, Rewrite),
}

/// A mistake at a place.
#[derive(Debug, Clone)]
pub struct Change {
    /// The mistake in words: `eps 1e-3 instead of 1e-5`.
    pub what: String,
    /// The module that it is a mistake of.
    pub site: ModuleId,
    /// How it is made.
    pub edits: Vec<Edit>,
}

impl Change {
    /// Applies the edits that are made before an engine is loaded.
    pub fn apply(&self, model: &mut Model, weights: &mut Weights) {
        for edit in &self.edits {
            match edit {
                Edit::Semantics(number, semantics) => {
                    if let Some(ctl) = model.ctl_mut(*number) {
                        ctl.semantics = *semantics;
                    }
                }
                Edit::Eps(id, eps) => {
                    if let Some(bn) = model.batch_norm_mut(*id) {
                        bn.eps = *eps;
                    }
                }
                Edit::Weight(name, rewrite) => {
                    if let Some(param) = weights.get_mut(name) {
                        param.edit(rewrite);
                    }
                }
                Edit::Swap(a, b) => {
                    let (pa, pb) = (weights.get(a).cloned(), weights.get(b).cloned());
                    if let (Some(pa), Some(pb)) = (pa, pb) {
                        weights.get_mut(a).into_iter().for_each(|slot| *slot = pb.clone());
                        weights.get_mut(b).into_iter().for_each(|slot| *slot = pa.clone());
                    }
                }
                Edit::Input(_) | Edit::Output(..) => {}
            }
        }
    }
}

/// An engine whose input and outputs are rewritten by a [`Change`].
pub struct Edited {
    /// The engine, loaded with the changed description and weights.
    pub engine: Box<dyn Engine>,
    /// The change.
    pub change: Change,
}

impl Engine for Edited {
    fn describe(&self) -> String {
        format!("{} with {}", self.engine.describe(), self.change.what)
    }

    fn precision(&self) -> Precision {
        self.engine.precision()
    }

    fn forward(&mut self, input: &Tensor, tap: &mut dyn Tap) -> Result<Tensor, EngineError> {
        let mut input = input.clone();
        let mut outputs = vec![];
        for edit in &self.change.edits {
            match edit {
                Edit::Input(rewrite) => input = rewrite(input),
                Edit::Output(id, rewrite) => outputs.push((*id, *rewrite)),
                _ => {}
            }
        }
        self.engine.forward(&input, &mut Rewriting { tap, outputs })
    }
}

struct Rewriting<'a> {
    tap: &'a mut dyn Tap,
    outputs: Vec<(ModuleId, Rewrite)>,
}

impl Tap for Rewriting<'_> {
    fn wants(&self, id: ModuleId) -> bool {
        self.outputs.iter().any(|(at, _)| *at == id) || self.tap.wants(id)
    }

    fn see(&mut self, id: ModuleId, value: Tensor) -> Flow {
        let Some((_, rewrite)) = self.outputs.iter().find(|(at, _)| *at == id) else {
            return self.tap.see(id, value);
        };
        let value = rewrite(value);
        let seen = match self.tap.wants(id) {
            true => self.tap.see(id, value.clone()),
            false => Flow::Continue,
        };
        if seen == Flow::Continue { Flow::Replace(value) } else { seen }
    }
}

/// Applies a function to every value, in the tensor's own precision.
pub fn map(mut tensor: Tensor, f: fn(f64) -> f64) -> Tensor {
    match &mut tensor.data {
        Data::F32(values) => values.iter_mut().for_each(|x| *x = f(f64::from(*x)) as f32),
        Data::F64(values) => values.iter_mut().for_each(|x| *x = f(*x)),
    }
    tensor
}

/// Rounds to bfloat16 and back.
pub fn to_bf16(tensor: Tensor) -> Tensor {
    map(tensor, |x| bf16::from_f64(x).to_f64())
}

/// Rounds weights to bfloat16 and back.
pub fn weight_to_bf16(_: &[usize], values: &mut [f64]) {
    values.iter_mut().for_each(|x| *x = bf16::from_f64(*x).to_f64());
}

/// Exchanges height and width of a kernel [O, I, k, k].
pub fn transpose_kernel(shape: &[usize], values: &mut [f64]) {
    let side = shape[3];
    for kernel in values.chunks_exact_mut(side * side) {
        for y in 0..side {
            for x in y + 1..side {
                kernel.swap(y * side + x, x * side + y);
            }
        }
    }
}

/// Turns a kernel [O, I, k, k] by 180 degrees: convolution instead of cross-correlation.
pub fn turn_kernel(shape: &[usize], values: &mut [f64]) {
    let side = shape[3];
    values.chunks_exact_mut(side * side).for_each(<[f64]>::reverse);
}

/// Reads every input channel one too late; a kernel with one input channel (depthwise) is given to
/// the wrong output channel instead.
pub fn channel_off(shape: &[usize], values: &mut [f64]) {
    let [out, inner, ..] = shape[..] else { return };
    let kernel = values.len() / (out * inner).max(1);
    match inner {
        1 => values.rotate_right(kernel),
        _ => values.chunks_exact_mut(inner * kernel).for_each(|o| o.rotate_right(kernel)),
    }
}

/// A tensor that was never loaded: zeros.
pub fn zero(_: &[usize], values: &mut [f64]) {
    values.fill(0.0);
}

/// A tensor that was never loaded: ones.
pub fn one(_: &[usize], values: &mut [f64]) {
    values.fill(1.0);
}

/// max(x, 0), with NaN left as it is.
pub fn relu(tensor: Tensor) -> Tensor {
    map(tensor, |x| if x < 0.0 { 0.0 } else { x })
}

/// Softmax over the last dimension of [N, classes].
pub fn softmax(tensor: Tensor) -> Tensor {
    let classes = tensor.shape.last().copied().unwrap_or(1).max(1);
    let mut values = tensor.to_f64();
    for row in values.chunks_exact_mut(classes) {
        let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row.iter_mut().for_each(|x| *x = (*x - top).exp());
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|x| *x /= sum);
    }
    Tensor::f64(tensor.shape, values)
}

/// Builds a new clip [N, 3, T, H, W] whose plane (colour, frame) is the old one's plane
/// `from(colour, frame, T)`.
pub fn planes(clip: Tensor, from: fn(usize, usize, usize) -> (usize, usize)) -> Tensor {
    let [n, colours, frames, height, width] = clip.shape[..] else { return clip };
    let area = height * width;
    let mut order = Vec::with_capacity(n * colours * frames);
    for clip in 0..n {
        for colour in 0..colours {
            for frame in 0..frames {
                let (c, t) = from(colour, frame, frames);
                order.push((clip * colours + c) * frames + t);
            }
        }
    }
    fn pick<T: Copy>(values: &[T], order: &[usize], area: usize) -> Vec<T> {
        order.iter().flat_map(|&p| &values[p * area..(p + 1) * area]).copied().collect()
    }
    let data = match &clip.data {
        Data::F32(values) => Data::F32(pick(values, &order, area)),
        Data::F64(values) => Data::F64(pick(values, &order, area)),
    };
    Tensor { shape: clip.shape, data }
}
