//! Orders of dimensions in memory.

use crate::tensor::{Data, Tensor};

/// Moves axis `axes[i]` of a tensor to place i. `axes` must be a permutation.
pub fn permute(tensor: Tensor, axes: &[usize]) -> Tensor {
    if axes.iter().enumerate().all(|(to, &from)| to == from) {
        return tensor;
    }
    let shape: Vec<usize> = axes.iter().map(|&axis| tensor.shape[axis]).collect();
    let steps = strides(&tensor.shape);
    let steps: Vec<usize> = axes.iter().map(|&axis| steps[axis]).collect();
    let data = match &tensor.data {
        Data::F32(values) => Data::F32(gather(values, &shape, &steps, 0)),
        Data::F64(values) => Data::F64(gather(values, &shape, &steps, 0)),
    };
    Tensor { shape, data }
}

/// Strides of a row-major tensor.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// The values of a view with any strides, in row-major order. The caller has checked that the
/// last place is inside.
pub fn gather<T: Copy>(values: &[T], shape: &[usize], strides: &[usize], offset: usize) -> Vec<T> {
    let count: usize = shape.iter().product();
    let mut places = vec![0usize; shape.len()];
    let mut at = offset;
    let mut out = Vec::with_capacity(count);
    for _ in 0..count {
        out.push(values[at]);
        for axis in (0..shape.len()).rev() {
            places[axis] += 1;
            at += strides[axis];
            if places[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            places[axis] = 0;
        }
    }
    out
}
