//! What a module computes, as an expression that can be changed: the right network is a table of
//! them ([`super::network`]), and many a mistake is one of them with a part exchanged.

use std::sync::Arc;

use half::{bf16, f16};
use spec::weights::Weights;
use spec::{ModuleId, Precision};

use super::clip::{Planes, Scaling};
use super::map::{Channels, Map, Window};
use super::resize::{Resize, resize};

/// An expression over what modules give.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// What the module itself gives, as the engine has computed it.
    Own,
    /// What another module gives.
    Of(ModuleId),
    /// A function of each value.
    Each(Box<Expr>, Function),
    /// The product; a gate is spread over the map.
    Times(Box<Expr>, Box<Expr>),
    /// The sum; an embedding is spread over the batch.
    Plus(Box<Expr>, Box<Expr>),
    /// A convolution with the weights of this name.
    Conv(Box<Expr>, Box<Kernel>),
    /// A batch normalisation with the weights of this name.
    Norm(Box<Expr>, String, Statistics),
    /// A max-pool.
    MaxPool(Box<Expr>, Window),
    /// One value for each map.
    Whole(Box<Expr>, Whole),
    /// The embedding of this name, resized from p x p.
    Embedding(String, usize, (usize, usize), Resize),
    /// A dense layer with the weights of this name.
    Dense(Box<Expr>, String),
    /// Softmax over the classes.
    Softmax(Box<Expr>),
    /// The planes of a clip in another order, of so many frames.
    Planes(Box<Expr>, Planes, usize),
    /// A clip scaled otherwise, of so many frames.
    Scaled(Box<Expr>, Scaling, usize),
    /// Rounded to a number format.
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
    /// x * this.
    Scale(f64),
    /// This, whatever x is.
    Constant(f64),
    /// x and reproducible noise of this amplitude.
    Noise(f64),
}

/// A convolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    /// Module path of its parameters.
    pub name: String,
    /// Whether it has a bias.
    pub bias: bool,
    /// Channels.
    pub channels: Channels,
    /// Its window.
    pub window: Window,
    /// The format that its weights are rounded to.
    pub rounded: Option<Precision>,
}

/// What a batch normalisation divides by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Statistics {
    /// The running ones, with this eps.
    Running(f64),
    /// Those of the batch, with this eps: training mode.
    Batch(f64),
}

/// What one value is made of a whole map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    /// The mean.
    Mean,
    /// The largest.
    Max,
}

/// A value or a tensor that an expression reads and that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gap {
    /// No value of this module was shown.
    Module(ModuleId),
    /// The weights lack this tensor.
    Tensor(String),
}

/// What an expression is evaluated in.
pub struct Scope<'a> {
    /// The weights.
    pub weights: &'a Weights,
    /// What other modules give.
    pub values: &'a dyn Fn(ModuleId) -> Option<Arc<Map>>,
    /// What the module itself gives.
    pub own: &'a dyn Fn() -> Result<Arc<Map>, Gap>,
}

impl Expr {
    /// Its ReLU.
    pub fn each(self, function: Function) -> Expr {
        Expr::Each(Box::new(self), function)
    }

    /// A sum.
    pub fn plus(self, other: Expr) -> Expr {
        Expr::Plus(Box::new(self), Box::new(other))
    }

    /// A product.
    pub fn times(self, other: Expr) -> Expr {
        Expr::Times(Box::new(self), Box::new(other))
    }

    /// The expressions that it is made of.
    fn parts(&self) -> Vec<&Expr> {
        match self {
            Expr::Own | Expr::Of(_) | Expr::Embedding(..) => vec![],
            Expr::Times(a, b) | Expr::Plus(a, b) => vec![a, b],
            Expr::Each(x, _)
            | Expr::Conv(x, _)
            | Expr::Norm(x, ..)
            | Expr::MaxPool(x, _)
            | Expr::Whole(x, _)
            | Expr::Dense(x, _)
            | Expr::Softmax(x)
            | Expr::Planes(x, ..)
            | Expr::Scaled(x, ..)
            | Expr::Rounded(x, _) => vec![x],
        }
    }

    fn parts_mut(&mut self) -> Vec<&mut Expr> {
        match self {
            Expr::Own | Expr::Of(_) | Expr::Embedding(..) => vec![],
            Expr::Times(a, b) | Expr::Plus(a, b) => vec![a, b],
            Expr::Each(x, _)
            | Expr::Conv(x, _)
            | Expr::Norm(x, ..)
            | Expr::MaxPool(x, _)
            | Expr::Whole(x, _)
            | Expr::Dense(x, _)
            | Expr::Softmax(x)
            | Expr::Planes(x, ..)
            | Expr::Scaled(x, ..)
            | Expr::Rounded(x, _) => vec![x],
        }
    }

    /// It and everything that it is made of.
    pub fn all(&self) -> Vec<&Expr> {
        let mut all = vec![self];
        for part in self.parts() {
            all.extend(part.all());
        }
        all
    }

    /// The modules that it reads.
    pub fn reads(&self) -> Vec<ModuleId> {
        let of = |expr: &Expr| if let Expr::Of(id) = expr { Some(*id) } else { None };
        self.all().into_iter().filter_map(of).collect()
    }

    /// Whether it reads what the module itself gives.
    pub fn reads_own(&self) -> bool {
        self.all().contains(&&Expr::Own)
    }

    /// With each part that equals `from` exchanged, None where there is none.
    pub fn exchanged(&self, from: &Expr, to: &Expr) -> Option<Expr> {
        fn exchange(expr: &mut Expr, from: &Expr, to: &Expr) -> bool {
            if expr == from {
                *expr = to.clone();
                return true;
            }
            // Not `any`: every part is visited.
            expr.parts_mut().into_iter().fold(false, |done, part| exchange(part, from, to) | done)
        }
        let mut out = self.clone();
        exchange(&mut out, from, to).then_some(out)
    }

    /// Its value.
    pub fn evaluate(&self, scope: &Scope) -> Result<Arc<Map>, Gap> {
        let value = match self {
            Expr::Own => return (scope.own)(),
            Expr::Of(id) => return (scope.values)(*id).ok_or(Gap::Module(*id)),
            Expr::Each(x, function) => {
                let x = x.evaluate(scope)?;
                match function {
                    Function::Noise(amplitude) => noisy(&x, *amplitude),
                    function => x.each(|x| function.of(x)),
                }
            }
            Expr::Times(a, b) => a.evaluate(scope)?.with(&*b.evaluate(scope)?, |a, b| a * b),
            Expr::Plus(a, b) => a.evaluate(scope)?.with(&*b.evaluate(scope)?, |a, b| a + b),
            Expr::Conv(x, kernel) => conv(&*x.evaluate(scope)?, kernel, scope)?,
            Expr::Norm(x, name, statistics) => {
                norm(&*x.evaluate(scope)?, name, *statistics, scope)?
            }
            Expr::MaxPool(x, window) => x.evaluate(scope)?.max_pool(*window),
            Expr::Whole(x, whole) => x.evaluate(scope)?.whole(|values| whole.of(values)),
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
    /// Its value; noise is none here, since it depends on the place.
    fn of(self, x: f64) -> f64 {
        match self {
            // NaN is left as it is.
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

impl Whole {
    fn of(self, values: &[f64]) -> f64 {
        match self {
            Whole::Mean => values.iter().sum::<f64>() / values.len().max(1) as f64,
            Whole::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

/// Noise relative to the root mean square of the values.
fn noisy(map: &Map, amplitude: f64) -> Map {
    let squares: f64 = map.data.iter().map(|x| x * x).sum();
    let rms = (squares / map.data.len().max(1) as f64).sqrt();
    let draws = spec::weights::formula::uniform("noise", map.data.len(), 1);
    let spread = draws.into_iter().map(|u| (2.0 * f64::from(u) - 1.0) * amplitude * rms);
    let data = map.data.iter().zip(spread).map(|(x, noise)| x + noise).collect();
    Map { shape: map.shape, data }
}

fn conv(x: &Map, kernel: &Kernel, scope: &Scope) -> Result<Map, Gap> {
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

fn norm(x: &Map, name: &str, statistics: Statistics, scope: &Scope) -> Result<Map, Gap> {
    let (weight, bias) = (leaf(scope, name, "weight")?, leaf(scope, name, "bias")?);
    let (eps, (mean, var)) = match statistics {
        Statistics::Running(eps) => {
            (eps, (leaf(scope, name, "running_mean")?, leaf(scope, name, "running_var")?))
        }
        Statistics::Batch(eps) => (eps, x.statistics()),
    };
    Ok(x.norm([&weight, &bias, &mean, &var], eps))
}

fn leaf(scope: &Scope, name: &str, leaf: &str) -> Result<Vec<f64>, Gap> {
    values(scope, &format!("{name}.{leaf}"))
}

/// A tensor of the weights in float64.
fn values(scope: &Scope, name: &str) -> Result<Vec<f64>, Gap> {
    let param = scope.weights.get(name).ok_or_else(|| Gap::Tensor(name.to_owned()))?;
    Ok(param.to_f64())
}

/// The nearest number of a format, as float64.
pub fn round(x: f64, precision: Precision) -> f64 {
    match precision {
        Precision::F64 => x,
        Precision::F32 => f64::from(x as f32),
        Precision::Bf16 => bf16::from_f64(x).to_f64(),
        Precision::F16 => f16::from_f64(x).to_f64(),
        // Ten bits of fraction, to nearest; overflow and NaN are left to the 13 bits' own carry.
        Precision::Tf32 => match x.is_finite() {
            true => f64::from(f32::from_bits((x as f32).to_bits().wrapping_add(0x1000) & !0x1fff)),
            false => x,
        },
    }
}
