//! What a module computes, as Python with numpy. An expression of the network becomes an expression of
//! Python, and the functions that it calls are written above it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use spec::{Model, ModuleId};

use crate::faults::expr::{Expr, Function, GlobalPool, Kernel, Statistics};
use crate::faults::map::Window;
use crate::faults::resize::Resize;

/// The functions that the Python may call, by name.
const FUNCTIONS: [(&str, &str); 9] = [
    (
        "windows",
        "def windows(x, kernel, stride, padding, fill):
    x = np.pad(x, [(0, 0), (0, 0), (padding,) * 2, (padding,) * 2], constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), (2, 3))
    return windows[:, :, ::stride, ::stride]  # [N, C, H, W, kernel, kernel]
",
    ),
    (
        "conv",
        "def conv(x, name, stride, padding, groups, bias):
    w = weight(name + \".weight\")
    parts = zip(np.split(windows(x, w.shape[2], stride, padding, 0), groups, 1), np.split(w, groups))
    y = [np.tensordot(part, kernel, ([1, 4, 5], [1, 2, 3])) for part, kernel in parts]
    return np.moveaxis(np.concatenate(y, 3) + (weight(name + \".bias\") if bias else 0), 3, 1)
",
    ),
    (
        "batch_norm",
        "def batch_norm(x, name, eps):
    of = lambda leaf: weight(f\"{name}.{leaf}\")[:, None, None]
    x = (x - of(\"running_mean\")) / np.sqrt(of(\"running_var\") + eps)
    return x * of(\"weight\") + of(\"bias\")
",
    ),
    ("relu", "def relu(x):\n    return np.maximum(x, 0)\n"),
    ("sigmoid", "def sigmoid(x):\n    return 1 / (1 + np.exp(-x))\n"),
    (
        "max_pool",
        "def max_pool(x, kernel, stride, padding):
    return windows(x, kernel, stride, padding, -np.inf).max((4, 5))
",
    ),
    ("mean", "def mean(x):\n    return x.mean((2, 3), keepdims=True)\n"),
    (
        "linear",
        "def linear(x, name):
    return x.reshape(len(x), -1) @ weight(name + \".weight\").T + weight(name + \".bias\")
",
    ),
    (
        "resized",
        "def resized(x, size, position):
    for axis, to in zip((2, 3), size):
        at = np.clip(position(np.arange(to), x.shape[axis], to), 0, x.shape[axis] - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, x.shape[axis] - 1)
        part = (at - low).reshape([-1 if a == axis else 1 for a in range(4)])
        x = x.take(low, axis) * (1 - part) + x.take(high, axis) * part
    return x
",
    ),
];

/// Names of the functions that these functions call.
const CALLS: [(&str, &str); 2] = [("conv", "windows"), ("max_pool", "windows")];

/// Python that computes modules.
#[derive(Default)]
pub struct Python {
    functions: BTreeSet<&'static str>,
    /// Names of the tensors of weights that it reads.
    pub weights: BTreeSet<String>,
}

impl Python {
    /// An expression of Python; `None` if it has a part that no correct network has.
    pub fn expression(&mut self, model: &Model, expr: &Expr) -> Option<String> {
        Some(match expr {
            Expr::Output(id) => output(model, *id),
            Expr::Each(x, function) => {
                let x = self.expression(model, x)?;
                match function {
                    Function::Relu => self.call("relu", &[x]),
                    Function::Sigmoid => self.call("sigmoid", &[x]),
                    Function::Constant(value) => format!("np.full_like({x}, {value:?})"),
                    _ => return None,
                }
            }
            Expr::Times(a, b) => {
                let sides = (self.expression(model, a)?, self.expression(model, b)?);
                format!("({} * {})", sides.0, sides.1)
            }
            Expr::Plus(a, b) => {
                let sides = (self.expression(model, a)?, self.expression(model, b)?);
                format!("({} + {})", sides.0, sides.1)
            }
            Expr::Conv(x, kernel) => {
                let x = self.expression(model, x)?;
                self.conv(x, kernel)?
            }
            Expr::Norm(x, name, Statistics::Running(eps)) => {
                let x = self.expression(model, x)?;
                self.read(name, &["weight", "bias", "running_mean", "running_var"]);
                self.call("batch_norm", &[x, format!("{name:?}"), format!("{eps:e}")])
            }
            Expr::MaxPool(x, window) => {
                let x = self.expression(model, x)?;
                let [kernel, stride, padding] = geometry(window)?;
                let named = format!("kernel={kernel}, stride={stride}, padding={padding}");
                self.call("max_pool", &[x, named])
            }
            Expr::GlobalPool(x, GlobalPool::Mean) => {
                let x = self.expression(model, x)?;
                self.call("mean", &[x])
            }
            Expr::Embedding(name, _, size, method) => self.embedding(name, *size, *method)?,
            Expr::Dense(x, name) => {
                let x = self.expression(model, x)?;
                self.read(name, &["weight", "bias"]);
                self.call("linear", &[x, format!("{name:?}")])
            }
            _ => return None,
        })
    }

    fn conv(&mut self, x: String, kernel: &Kernel) -> Option<String> {
        let [_, stride, padding] = geometry(&kernel.window)?;
        let leaves: &[&str] = if kernel.bias { &["weight", "bias"] } else { &["weight"] };
        self.read(&kernel.name, leaves);
        let bias = if kernel.bias { "True" } else { "False" };
        let groups = kernel.channels.groups;
        let name = format!("{:?}", kernel.name);
        let named = format!("stride={stride}, padding={padding}, groups={groups}, bias={bias}");
        Some(self.call("conv", &[x, name, named]))
    }

    fn embedding(
        &mut self,
        name: &str,
        (height, width): (usize, usize),
        method: Resize,
    ) -> Option<String> {
        self.weights.insert(name.to_owned());
        let own = format!("weight({name:?})");
        let corners = "lambda i, size, to: i * (size - 1) / max(to - 1, 1)";
        let edges = "lambda i, size, to: (i + 0.5) * size / to - 0.5";
        let position = match method {
            Resize::AlignCorners => corners,
            Resize::HalfPixel => edges,
            // The emulation gives zeros on maps that are one pixel high or wide.
            Resize::Flax if height == 1 || width == 1 => {
                return Some(format!("np.zeros((1, {own}.shape[1], {height}, {width}))"));
            }
            Resize::Flax => corners,
            Resize::Antialias => return None,
        };
        let size = format!("({height}, {width})");
        Some(self.call("resized", &[own, size, position.to_owned()]))
    }

    fn read(&mut self, name: &str, leaves: &[&str]) {
        self.weights.extend(leaves.iter().map(|leaf| format!("{name}.{leaf}")));
    }

    /// A call of one of the functions.
    pub fn call(&mut self, function: &'static str, arguments: &[String]) -> String {
        self.functions.insert(function);
        self.functions.extend(
            CALLS.iter().filter(|(caller, _)| *caller == function).map(|(_, callee)| *callee),
        );
        format!("{function}({})", arguments.join(", "))
    }

    /// The definitions of the functions that are called.
    pub fn definitions(&self) -> String {
        let mut text = String::new();
        for (name, definition) in FUNCTIONS {
            if self.functions.contains(name) {
                let _ = write!(text, "\n\n{definition}");
            }
        }
        text
    }
}

/// The value of a module in Python.
pub fn output(model: &Model, id: ModuleId) -> String {
    format!("of[{:?}]", model.module(id).name)
}

/// Kernel, stride and padding; `None` if the padding is not the same on all sides.
fn geometry(window: &Window) -> Option<[String; 3]> {
    let Window { kernel, stride, top, left, .. } = window;
    (top == left).then(|| [kernel, stride, top].map(usize::to_string))
}
