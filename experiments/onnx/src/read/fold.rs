//! Computes constants from constants, as far as weights are concerned: exporters put a transposition, a
//! cast or a dequantisation between a stored tensor and the node that uses it.

use std::sync::Arc;

use anyhow::Result;
use spec::Precision;

use super::net::attribute;
use super::tensor::{Constant, constant, format_of, is_readable};
use crate::proto::NodeProto;

/// The most values of a computed constant. A broadcast of hostile shapes could ask for more.
const MOST: usize = 1 << 24;

/// The value of a node whose operands are all constant; None if this operator is left to the runtime.
pub(super) fn fold(node: &NodeProto, operands: &[Option<&Constant>]) -> Result<Option<Constant>> {
    let first = operands.first().copied().flatten();
    let second = operands.get(1).copied().flatten();
    let third = operands.get(2).copied().flatten();
    Ok(match (node.op_type.as_str(), first) {
        ("Constant", _) => return stored(node),
        ("Identity", Some(x)) => Some(x.clone()),
        ("Cast", Some(x)) => cast(node, x),
        ("Transpose", Some(x)) => transpose(x, &order(node, x.shape.len())),
        ("Reshape", Some(x)) => second.and_then(|shape| reshape(x, shape)),
        ("Unsqueeze" | "Squeeze" | "Flatten", Some(x)) => extents(node, x, second),
        ("Sqrt", Some(x)) => Some(each(x, f64::sqrt)),
        ("Neg", Some(x)) => Some(each(x, |v| -v)),
        ("Reciprocal", Some(x)) => Some(each(x, |v| 1.0 / v)),
        ("Add", Some(x)) => second.and_then(|y| both(x, y, |a, b| a + b)),
        ("Sub", Some(x)) => second.and_then(|y| both(x, y, |a, b| a - b)),
        ("Mul", Some(x)) => second.and_then(|y| both(x, y, |a, b| a * b)),
        ("Div", Some(x)) => second.and_then(|y| both(x, y, |a, b| a / b)),
        ("QuantizeLinear", Some(x)) => second.and_then(|scale| quantized(node, x, scale, third)),
        ("DequantizeLinear", Some(x)) => {
            second.and_then(|scale| dequantized(node, x, scale, third))
        }
        _ => None,
    })
}

fn stored(node: &NodeProto) -> Result<Option<Constant>> {
    let Some(tensor) = attribute(node, "value").and_then(|attribute| attribute.t.as_ref()) else {
        return Ok(None);
    };
    if !is_readable(tensor.data_type) {
        return Ok(None);
    }
    let mut value = constant(tensor)?;
    value.from = node.output.first().cloned().unwrap_or_default();
    Ok(Some(value))
}

fn cast(node: &NodeProto, x: &Constant) -> Option<Constant> {
    let to = attribute(node, "to")?.i;
    let format = format_of(i32::try_from(to).ok()?);
    let rounded = match format {
        Some(Precision::F64) => x.clone(),
        Some(Precision::F32) => each(x, |v| f64::from(v as f32)),
        Some(Precision::F16) => each(x, |v| half::f16::from_f64(v).to_f64()),
        Some(_) => each(x, |v| half::bf16::from_f64(v).to_f64()),
        None => each(x, f64::trunc),
    };
    // Weights that are stored in a coarser format keep the rounding of that format.
    let coarser = match (x.format, format) {
        (Some(a), Some(b)) if a.epsilon() > b.epsilon() => Some(a),
        (_, b) => b,
    };
    Some(Constant { format: coarser, element: format, ..rounded })
}

fn order(node: &NodeProto, rank: usize) -> Vec<usize> {
    match attribute(node, "perm") {
        Some(perm) => perm.ints.iter().map(|&at| at as usize).collect(),
        None => (0..rank).rev().collect(),
    }
}

/// The constant with its axes in another order: axis k of the result is axis `order[k]` of `x`.
pub(super) fn transpose(x: &Constant, order: &[usize]) -> Option<Constant> {
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    if sorted != (0..x.shape.len()).collect::<Vec<_>>() {
        return None;
    }
    let mut strides = vec![1; x.shape.len()];
    for at in (1..x.shape.len()).rev() {
        strides[at - 1] = strides[at] * x.shape[at];
    }
    let shape: Vec<usize> = order.iter().map(|&at| x.shape[at]).collect();
    let steps: Vec<usize> = order.iter().map(|&at| strides[at]).collect();
    let moved = |values: &Arc<Vec<f64>>| Arc::new(gather(&shape, &steps, values));
    let (values, steps) = (moved(&x.values), x.steps.as_ref().map(moved));
    Some(Constant { shape, values, steps, ..x.clone() })
}

/// Reads `values` at every index of `shape`, where a step along axis k moves by `steps[k]`.
fn gather(shape: &[usize], steps: &[usize], values: &[f64]) -> Vec<f64> {
    let total: usize = shape.iter().product();
    let mut found = Vec::with_capacity(total);
    let (mut index, mut at) = (vec![0; shape.len()], 0);
    for _ in 0..total {
        found.push(values[at]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += steps[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= steps[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    found
}

fn reshape(x: &Constant, wanted: &Constant) -> Option<Constant> {
    let mut shape = vec![];
    let mut free = None;
    for (at, &extent) in wanted.values.iter().enumerate() {
        match extent {
            -1.0 if free.is_none() => free = Some(at),
            0.0 => shape.push(*x.shape.get(at)?),
            n if n > 0.0 => shape.push(n as usize),
            _ => return None,
        }
    }
    if let Some(at) = free {
        let known = shape.iter().try_fold(1usize, |product, n| product.checked_mul(*n))?;
        shape.insert(at, x.values.len().checked_div(known)?);
    }
    with_shape(x, shape)
}

fn with_shape(x: &Constant, shape: Vec<usize>) -> Option<Constant> {
    let total = shape.iter().try_fold(1usize, |product, n| product.checked_mul(*n))?;
    (total == x.values.len()).then(|| Constant { shape, ..x.clone() })
}

/// Adds or removes axes of extent 1, or joins axes.
fn extents(node: &NodeProto, x: &Constant, axes: Option<&Constant>) -> Option<Constant> {
    let stated = attribute(node, "axes").map(|axes| axes.ints.clone());
    let given = axes.map(|axes| axes.values.iter().map(|&v| v as i64).collect::<Vec<_>>());
    let axes = given.or(stated);
    let rank = x.shape.len();
    let place = |axis: i64, rank: usize| {
        usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok()
    };
    let mut shape = x.shape.clone();
    match node.op_type.as_str() {
        "Unsqueeze" => {
            let full = rank + axes.as_ref()?.len();
            let mut places: Vec<usize> =
                axes?.iter().map(|&axis| place(axis, full)).collect::<Option<_>>()?;
            places.sort_unstable();
            for at in places {
                (at <= shape.len()).then(|| shape.insert(at, 1))?;
            }
        }
        "Squeeze" => {
            let places: Option<Vec<usize>> = match axes {
                Some(axes) => axes.iter().map(|&axis| place(axis, rank)).collect(),
                None => Some((0..rank).filter(|&at| x.shape[at] == 1).collect()),
            };
            let places = places?;
            shape = (0..rank).filter(|at| !places.contains(at)).map(|at| x.shape[at]).collect();
        }
        _ => {
            let axis = place(attribute(node, "axis").map_or(1, |a| a.i), rank)?;
            let product = |part: &[usize]| part.iter().product::<usize>();
            shape = vec![product(x.shape.get(..axis)?), product(x.shape.get(axis..)?)];
        }
    }
    with_shape(x, shape)
}

fn each(x: &Constant, of: impl Fn(f64) -> f64) -> Constant {
    Constant {
        values: Arc::new(x.values.iter().map(|&v| of(v)).collect()),
        steps: None,
        ..x.clone()
    }
}

/// An elementwise operation with broadcasting.
fn both(x: &Constant, y: &Constant, of: impl Fn(f64, f64) -> f64) -> Option<Constant> {
    let rank = x.shape.len().max(y.shape.len());
    let padded = |shape: &[usize]| {
        let ones = std::iter::repeat_n(1, rank - shape.len());
        ones.chain(shape.iter().copied()).collect::<Vec<_>>()
    };
    let (a, b) = (padded(&x.shape), padded(&y.shape));
    let joined = |(&a, &b): (&usize, &usize)| match (a, b) {
        (1, n) | (n, 1) => Some(n),
        (a, b) => (a == b).then_some(a),
    };
    let shape: Vec<usize> = a.iter().zip(&b).map(joined).collect::<Option<_>>()?;
    let total = shape.iter().try_fold(1usize, |product, n| product.checked_mul(*n))?;
    if total > MOST {
        return None;
    }
    let steps = |own: &[usize]| {
        let (mut step, mut steps) = (1, vec![0; rank]);
        for at in (0..rank).rev() {
            steps[at] = if own[at] == 1 { 0 } else { step };
            step *= own[at];
        }
        steps
    };
    let left = gather(&shape, &steps(&a), &x.values);
    let right = gather(&shape, &steps(&b), &y.values);
    let values = left.iter().zip(&right).map(|(&a, &b)| of(a, b)).collect();
    // The larger operand gives the name: the other one is a scale or a shift.
    let named = if x.values.len() >= y.values.len() { x } else { y };
    Some(Constant { shape, values: Arc::new(values), steps: None, ..named.clone() })
}

/// One number for the tensor, or one for each index of the node's axis, in a shape that broadcasts to `x`.
fn along(node: &NodeProto, x: &Constant, each: &Constant) -> Option<Constant> {
    let axis = attribute(node, "axis").map_or(1, |a| a.i);
    let axis = usize::try_from(if axis < 0 { axis + x.shape.len() as i64 } else { axis }).ok()?;
    let mut shape = vec![1; x.shape.len()];
    if each.values.len() > 1 {
        *shape.get_mut(axis)? = each.values.len();
    }
    with_shape(each, shape)
}

/// (x - zero) * scale.
fn dequantized(
    node: &NodeProto,
    x: &Constant,
    scale: &Constant,
    zero: Option<&Constant>,
) -> Option<Constant> {
    let centred = match zero {
        Some(zero) => both(x, &along(node, x, zero)?, |a, b| a - b)?,
        None => x.clone(),
    };
    let scale = along(node, x, scale)?;
    let scaled = both(&centred, &scale, |a, b| a * b)?;
    let steps = both(&centred, &scale, |_, step| step.abs())?.values;
    let Constant { format, element, .. } = scale;
    Some(Constant { format, element, steps: Some(steps), from: x.from.clone(), ..scaled })
}

/// x / scale + zero, rounded to an integer of the zero point's type.
fn quantized(
    node: &NodeProto,
    x: &Constant,
    scale: &Constant,
    zero: Option<&Constant>,
) -> Option<Constant> {
    let (low, high) = zero.map_or(Some((0.0, 255.0)), |zero| zero.integers)?;
    let rounded = both(x, &along(node, x, scale)?, |a, b| (a / b).round_ties_even())?;
    let moved = match zero {
        Some(zero) => both(&rounded, &along(node, x, zero)?, |a, b| a + b)?,
        None => rounded,
    };
    Some(Constant { format: None, element: None, ..each(&moved, |v| v.clamp(low, high)) })
}
