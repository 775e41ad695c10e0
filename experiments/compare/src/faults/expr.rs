//! What a module computes, as an expression. The correct network is a table of expressions
//! ([`super::network`]), and many mistakes are one of these with a part replaced.

use std::sync::Arc;

use checkpoint::Weights;
use half::{bf16, f16};
use spec::{ModuleId, Precision};

use super::clip::{Planes, Scaling};
use super::map::{Channels, Map, Window};
use super::resize::{Resize, resize};

/// An expression over the outputs of modules. Its value is a [`Map`] in float64.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// The output of the module itself, as the engine has computed it.
    Own,
    /// The output of another module.
    Output(ModuleId),
    /// A function that is applied to each value.
    Each(Box<Expr>, Function),
    /// The elementwise product, with broadcasting: a gate [N, C, 1, 1] over a map.
    Times(Box<Expr>, Box<Expr>),
    /// The elementwise sum, with broadcasting: an embedding [1, C, H, W] over the batch.
    Plus(Box<Expr>, Box<Expr>),
    /// A convolution.
    Conv(Box<Expr>, Box<Kernel>),
    /// A batch normalisation; the name is the module path of its parameters.
    Norm(Box<Expr>, String, Statistics),
    /// A max-pool.
    MaxPool(Box<Expr>, Window),
    /// A global pooling, [N, C, H, W] to [N, C, 1, 1].
    GlobalPool(Box<Expr>, GlobalPool),
    /// A positional embedding: the name of its tensor, its side p, the height and width that it is
    /// resized to, and how. [1, C, p, p] becomes [1, C, H, W].
    Embedding(String, usize, (usize, usize), Resize),
    /// A dense layer; the name is the module path of its parameters.
    Dense(Box<Expr>, String),
    /// Softmax over the classes.
    Softmax(Box<Expr>),
    /// The planes of a clip in another order; the number is that of the frames.
    Planes(Box<Expr>, Planes, usize),
    /// A clip with another normalisation; the number is that of the frames.
    Scaled(Box<Expr>, Scaling, usize),
    /// Each value rounded to a number format.
    Rounded(Box<Expr>, Precision),
}

/// A function of one value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Function {
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// ReLU6(x + 3) / 6, the hard sigmoid of PyTorch, JAX and MindSpore.
    HardSigmoid,
    /// x times this factor.
    Scale(f64),
    /// This value, whatever x is.
    Constant(f64),
    /// x plus reproducible noise, uniform with this amplitude relative to the rms of the values.
    Noise(f64),
}

/// The parameters and the geometry of a convolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    /// Module path of its parameters.
    pub name: String,
    /// Whether there is a bias.
    pub bias: bool,
    /// Channels and groups.
    pub channels: Channels,
    /// Kernel size, stride and padding.
    pub window: Window,
    /// The number format that the weights are rounded to, if any.
    pub rounded: Option<Precision>,
}

/// The mean and variance that a batch normalisation uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Statistics {
    /// The running statistics from the weights, with this eps.
    Running(f64),
    /// The statistics of the batch, with this eps: training mode.
    Batch(f64),
}

/// How a global pooling reduces a map to one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GlobalPool {
    /// The mean of the map.
    Mean,
    /// The largest value of the map.
    Max,
}

/// What an expression needs and the [`Scope`] does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// The output of this module.
    Module(ModuleId),
    /// The weight tensor of this name.
    Tensor(String),
}

/// Where the evaluation of an expression takes its values from.
pub struct Scope<'a> {
    /// The weights, for the parameters of modules.
    pub weights: &'a Weights,
    /// The outputs of other modules.
    pub values: &'a dyn Fn(ModuleId) -> Option<Arc<Map>>,
    /// The output of the module itself.
    pub own: &'a dyn Fn() -> Result<Arc<Map>, Missing>,
}

impl Expr {
    /// A function applied to each value of this expression.
    pub fn each(self, function: Function) -> Expr {
        Expr::Each(Box::new(self), function)
    }

    /// The sum of this expression and another one.
    pub fn plus(self, other: Expr) -> Expr {
        Expr::Plus(Box::new(self), Box::new(other))
    }

    /// The product of this expression and another one.
    pub fn times(self, other: Expr) -> Expr {
        Expr::Times(Box::new(self), Box::new(other))
    }

    /// The direct operands of this expression.
    fn parts(&self) -> Vec<&Expr> {
        match self {
            Expr::Own | Expr::Output(_) | Expr::Embedding(..) => vec![],
            Expr::Times(a, b) | Expr::Plus(a, b) => vec![a, b],
            Expr::Each(x, _)
            | Expr::Conv(x, _)
            | Expr::Norm(x, ..)
            | Expr::MaxPool(x, _)
            | Expr::GlobalPool(x, _)
            | Expr::Dense(x, _)
            | Expr::Softmax(x)
            | Expr::Planes(x, ..)
            | Expr::Scaled(x, ..)
            | Expr::Rounded(x, _) => vec![x],
        }
    }

    fn parts_mut(&mut self) -> Vec<&mut Expr> {
        match self {
            Expr::Own | Expr::Output(_) | Expr::Embedding(..) => vec![],
            Expr::Times(a, b) | Expr::Plus(a, b) => vec![a, b],
            Expr::Each(x, _)
            | Expr::Conv(x, _)
            | Expr::Norm(x, ..)
            | Expr::MaxPool(x, _)
            | Expr::GlobalPool(x, _)
            | Expr::Dense(x, _)
            | Expr::Softmax(x)
            | Expr::Planes(x, ..)
            | Expr::Scaled(x, ..)
            | Expr::Rounded(x, _) => vec![x],
        }
    }

    /// This expression and all expressions inside it.
    pub fn all(&self) -> Vec<&Expr> {
        let mut all = vec![self];
        for part in self.parts() {
            all.extend(part.all());
        }
        all
    }

    /// The modules whose outputs this expression reads.
    pub fn reads(&self) -> Vec<ModuleId> {
        let of = |expr: &Expr| if let Expr::Output(id) = expr { Some(*id) } else { None };
        self.all().into_iter().filter_map(of).collect()
    }

    /// Whether this expression reads the output of the module itself.
    pub fn reads_own(&self) -> bool {
        self.all().contains(&&Expr::Own)
    }

    /// This expression with every part that equals `from` replaced by `to`; None if no part does.
    pub fn exchanged(&self, from: &Expr, to: &Expr) -> Option<Expr> {
        fn exchange(expr: &mut Expr, from: &Expr, to: &Expr) -> bool {
            if expr == from {
                *expr = to.clone();
                return true;
            }
            // `any` would stop at the first replacement, but every part has to be visited.
            expr.parts_mut().into_iter().fold(false, |done, part| exchange(part, from, to) | done)
        }
        let mut out = self.clone();
        exchange(&mut out, from, to).then_some(out)
    }

    /// Evaluates this expression.
    ///
    /// # Errors
    ///
    /// If the scope lacks a value or a weight tensor.
    pub fn evaluate(&self, scope: &Scope) -> Result<Arc<Map>, Missing> {
        let value = match self {
            Expr::Own => return (scope.own)(),
            Expr::Output(id) => return (scope.values)(*id).ok_or(Missing::Module(*id)),
            Expr::Each(x, function) => {
                let x = x.evaluate(scope)?;
                match function {
                    Function::Noise(amplitude) => noisy(&x, *amplitude),
                    function => x.each(|x| function.of(x)),
                }
            }
            Expr::Times(a, b) => a.evaluate(scope)?.broadcast(&*b.evaluate(scope)?, |a, b| a * b),
            Expr::Plus(a, b) => a.evaluate(scope)?.broadcast(&*b.evaluate(scope)?, |a, b| a + b),
            Expr::Conv(x, kernel) => conv(&*x.evaluate(scope)?, kernel, scope)?,
            Expr::Norm(x, name, statistics) => {
                norm(&*x.evaluate(scope)?, name, *statistics, scope)?
            }
            Expr::MaxPool(x, window) => x.evaluate(scope)?.max_pool(*window),
            Expr::GlobalPool(x, pool) => x.evaluate(scope)?.global_pool(|values| pool.of(values)),
            Expr::Embedding(name, p, size, method) => {
                let data = values(scope, name)?;
                let channels = data.len() / (p * p).max(1);
                resize(&Map { shape: [1, channels, *p, *p], data }, *size, *method)
            }
            Expr::Dense(x, name) => {
                let (weight, bias) = (leaf(scope, name, "weight")?, leaf(scope, name, "bias")?);
                x.evaluate(scope)?.dense(&weight, &bias)
            }
            Expr::Softmax(x) => x.evaluate(scope)?.softmax(),
            Expr::Planes(x, planes, frames) => {
                x.evaluate(scope)?.planes(|channel| planes.from(channel, *frames))
            }
            Expr::Scaled(x, scaling, frames) => {
                x.evaluate(scope)?.by_plane(|channel, x| scaling.of(x, channel / frames.max(&1)))
            }
            Expr::Rounded(x, precision) => x.evaluate(scope)?.each(|x| round(x, *precision)),
        };
        Ok(Arc::new(value))
    }
}

impl Function {
    /// The function's value. Noise returns x unchanged: it depends on the position, see [`noisy`].
    fn of(self, x: f64) -> f64 {
        match self {
            // NaN stays NaN.
            Function::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Function::Relu6 => {
                if x.is_nan() {
                    x
                } else {
                    x.clamp(0.0, 6.0)
                }
            }
            Function::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Function::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Function::Scale(factor) => x * factor,
            Function::Constant(value) => value,
            Function::Noise(_) => x,
        }
    }
}

impl GlobalPool {
    fn of(self, values: &[f64]) -> f64 {
        match self {
            GlobalPool::Mean => values.iter().sum::<f64>() / values.len().max(1) as f64,
            GlobalPool::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

/// Adds noise with an amplitude relative to the rms of the values.
fn noisy(map: &Map, amplitude: f64) -> Map {
    let squares: f64 = map.data.iter().map(|x| x * x).sum();
    let rms = (squares / map.data.len().max(1) as f64).sqrt();
    let draws = checkpoint::formula::uniform("noise", map.data.len(), 1);
    let spread = draws.into_iter().map(|u| (2.0 * f64::from(u) - 1.0) * amplitude * rms);
    let data = map.data.iter().zip(spread).map(|(x, noise)| x + noise).collect();
    Map { shape: map.shape, data }
}

fn conv(x: &Map, kernel: &Kernel, scope: &Scope) -> Result<Map, Missing> {
    let mut weight = leaf(scope, &kernel.name, "weight")?;
    if let Some(precision) = kernel.rounded {
        weight.iter_mut().for_each(|w| *w = round(*w, precision));
    }
    let bias = match kernel.bias {
        true => Some(leaf(scope, &kernel.name, "bias")?),
        false => None,
    };
    Ok(x.conv(&weight, bias.as_deref(), kernel.channels, kernel.window))
}

fn norm(x: &Map, name: &str, statistics: Statistics, scope: &Scope) -> Result<Map, Missing> {
    let (weight, bias) = (leaf(scope, name, "weight")?, leaf(scope, name, "bias")?);
    let (eps, (mean, var)) = match statistics {
        Statistics::Running(eps) => {
            (eps, (leaf(scope, name, "running_mean")?, leaf(scope, name, "running_var")?))
        }
        Statistics::Batch(eps) => (eps, x.statistics()),
    };
    Ok(x.norm([&weight, &bias, &mean, &var], eps))
}

/// A parameter of the module `name` in float64, such as its `weight`.
fn leaf(scope: &Scope, name: &str, leaf: &str) -> Result<Vec<f64>, Missing> {
    values(scope, &format!("{name}.{leaf}"))
}

/// A weight tensor in float64.
fn values(scope: &Scope, name: &str) -> Result<Vec<f64>, Missing> {
    let param = scope.weights.get(name).ok_or_else(|| Missing::Tensor(name.to_owned()))?;
    Ok(param.to_f64())
}

/// The nearest number of a format, as float64.
pub fn round(x: f64, precision: Precision) -> f64 {
    match precision {
        Precision::F64 => x,
        Precision::F32 => f64::from(x as f32),
        Precision::Bf16 => bf16::from_f64(x).to_f64(),
        Precision::F16 => f16::from_f64(x).to_f64(),
        // Keeps ten bits of fraction: adding half of the last kept bit rounds to nearest, and its carry
        // may overflow to infinity. Infinity and NaN stay as they are.
        Precision::Tf32 => match x.is_finite() {
            true => f64::from(f32::from_bits((x as f32).to_bits().wrapping_add(0x1000) & !0x1fff)),
            false => x,
        },
    }
}
