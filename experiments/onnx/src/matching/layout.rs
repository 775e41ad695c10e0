//! The order of axes: how a file takes the clip, and in which order its maps are.

use std::collections::HashMap;

use anyhow::{Result, bail};
use spec::{Data, Model, Tensor};

use super::anchors::Anchor;
use crate::proto::element;
use crate::read::{Net, ValueId, attribute};

/// The axes of a map in terms of [N, C, H, W]: `[0, 2, 3, 1]` is [N, H, W, C].
pub type Axes = [usize; 4];

/// The order of PyTorch.
const NCHW: Axes = [0, 1, 2, 3];

/// How a file takes the clip [N, 3, T, H, W].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clip {
    /// The axes in the order of the file, as indices into [N, 3, T, H, W].
    order: [usize; 5],
    /// Whether colour and frame are one axis, 3 T long, in the order in which they stand in `order`.
    joined: bool,
    /// The layout in words.
    words: &'static str,
}

const LAYOUTS: [Clip; 6] = [
    Clip { order: [0, 1, 2, 3, 4], joined: false, words: "[N, 3, T, H, W]" },
    Clip { order: [0, 2, 3, 4, 1], joined: false, words: "[N, T, H, W, 3]" },
    Clip { order: [0, 2, 1, 3, 4], joined: false, words: "[N, T, 3, H, W]" },
    Clip { order: [0, 3, 4, 2, 1], joined: false, words: "[N, H, W, T, 3]" },
    Clip { order: [0, 1, 2, 3, 4], joined: true, words: "[N, 3 T, H, W]" },
    Clip { order: [0, 3, 4, 1, 2], joined: true, words: "[N, H, W, 3 T]" },
];

impl Clip {
    /// The shape of the file's input for a clip of this shape.
    fn shape(self, clip: &[usize]) -> Vec<usize> {
        let mut shape: Vec<usize> = self.order.iter().map(|&axis| clip[axis]).collect();
        if self.joined {
            let at = self.order.iter().position(|&axis| axis == 1).unwrap_or(1);
            let next = shape.remove(at + 1);
            shape[at] *= next;
        }
        shape
    }

    /// The layout in words.
    pub fn words(self) -> &'static str {
        self.words
    }

    /// The clip [N, 3, T, H, W] in the file's layout.
    pub fn arranged(self, clip: &Tensor) -> Tensor {
        let shape = self.shape(&clip.shape);
        let data = Data::F32(permuted(&clip.to_f32(), &clip.shape, &self.order));
        Tensor { shape, data }
    }
}

/// Values with their axes in another order: axis k of the result is axis `order[k]`.
fn permuted<T: Copy>(values: &[T], shape: &[usize], order: &[usize]) -> Vec<T> {
    let mut strides = vec![1; shape.len()];
    for at in (1..shape.len()).rev() {
        strides[at - 1] = strides[at] * shape[at];
    }
    let extents: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
    let steps: Vec<usize> = order.iter().map(|&axis| strides[axis]).collect();
    let mut found = Vec::with_capacity(values.len());
    let mut index = vec![0; extents.len()];
    let mut at = 0;
    for _ in 0..values.len() {
        found.push(values[at]);
        for axis in (0..extents.len()).rev() {
            index[axis] += 1;
            at += steps[axis];
            if index[axis] < extents[axis] {
                break;
            }
            at -= steps[axis] * extents[axis];
            index[axis] = 0;
        }
    }
    found
}

/// A map of the file as [N, C, H, W]. `wanted` is the shape of the module. None if the shapes do not fit.
pub fn as_module(value: Tensor, axes: Option<Axes>, wanted: &[usize]) -> Option<Tensor> {
    if value.len() != wanted.iter().product::<usize>() {
        return None;
    }
    let permuted_to = |value: &Tensor, axes: Axes| {
        let mut back = [0; 4];
        axes.iter().enumerate().for_each(|(at, &axis)| back[axis] = at);
        let shape: Vec<usize> = back.iter().map(|&at| *value.shape.get(at).unwrap_or(&0)).collect();
        (shape == wanted).then(|| Tensor {
            data: match &value.data {
                Data::F32(v) => Data::F32(permuted(v, &value.shape, &back)),
                Data::F64(v) => Data::F64(permuted(v, &value.shape, &back)),
            },
            shape,
        })
    };
    let flat = |tensor: &Tensor| {
        // The axes without those of extent 1, such as [N, C, 1, 1] and [N, C].
        let long = |shape: &[usize]| shape.iter().filter(|&&n| n != 1).copied().collect::<Vec<_>>();
        (long(&tensor.shape) == long(wanted))
            .then(|| Tensor { shape: wanted.to_vec(), data: tensor.data.clone() })
    };
    if value.shape.len() == 4 && wanted.len() == 4 {
        let known = axes.and_then(|axes| permuted_to(&value, axes));
        let same = || (value.shape == wanted).then(|| value.clone());
        return known
            .or_else(same)
            .or_else(|| permuted_to(&value, [0, 2, 3, 1]))
            .or_else(|| flat(&value));
    }
    if value.shape.len() == 3 && wanted.len() == 4 {
        // An embedding without the axis of the batch.
        let shape = [&[1], &value.shape[..]].concat();
        return as_module(Tensor { shape, data: value.data }, axes, wanted);
    }
    // The clip [N, 3, T, H, W] is seen as [N, 3 T, H, W].
    let joined = |a: &[usize]| a.len() == 5;
    if joined(wanted) && value.shape.len() == 4 {
        let merged = [wanted[0], wanted[1] * wanted[2], wanted[3], wanted[4]];
        let map = as_module(value, axes, &merged)?;
        return Some(Tensor { shape: wanted.to_vec(), data: map.data });
    }
    flat(&value)
}

/// A module's value in the shape and order that the file has it in.
pub fn as_file(value: &Tensor, axes: Option<Axes>, shape: &[usize]) -> Option<Tensor> {
    if value.len() != shape.iter().product::<usize>() {
        return None;
    }
    let source = match value.shape[..] {
        [n, c, t, h, w] => vec![n, c * t, h, w],
        _ => value.shape.clone(),
    };
    let ordered = |axes: Axes| {
        let to: Vec<usize> = axes.iter().map(|&axis| source[axis]).collect();
        (to == shape).then(|| Tensor {
            shape: to,
            data: match &value.data {
                Data::F32(v) => Data::F32(permuted(v, &source, &axes)),
                Data::F64(v) => Data::F64(permuted(v, &source, &axes)),
            },
        })
    };
    if source.len() == 4 && shape.len() == 3 {
        let whole = as_file(value, axes, &[&[1], shape].concat())?;
        return Some(Tensor { shape: shape.to_vec(), data: whole.data });
    }
    if source.len() == 4 && shape.len() == 4 {
        let known = axes.and_then(ordered);
        return known.or_else(|| ordered(NCHW)).or_else(|| ordered([0, 2, 3, 1]));
    }
    Some(Tensor { shape: shape.to_vec(), data: value.data.clone() })
}

/// How the file takes the clip.
pub(super) fn clip(net: &Net, model: &Model) -> Result<Clip> {
    let name = crate::read::printable(net.name(net.input));
    match net.input_type() {
        0 | element::FLOAT | element::FLOAT16 | element::BFLOAT16 | element::DOUBLE => {}
        element::UINT8 => bail!(
            "the input `{name}` is decoded frames (uint8), but the comparison gives a normalised clip; \
             export the file without --preprocess"
        ),
        other => bail!("the input `{name}` has the element type {other}, but a clip is float"),
    }
    let Some(stated) = net.input_shape() else { return Ok(LAYOUTS[0]) };
    let clip = model.input_shape(1);
    let fits = |layout: &&Clip| {
        let wanted = layout.shape(&clip);
        let near = |(at, (want, have)): (usize, (&usize, &Option<usize>))| {
            at == 0 || have.is_none_or(|have| have == *want)
        };
        wanted.len() == stated.len() && wanted.iter().zip(&stated).enumerate().all(near)
    };
    if let Some(layout) = LAYOUTS.iter().find(fits) {
        return Ok(*layout);
    }
    let shown: Vec<String> =
        stated.iter().map(|e| e.map_or("?".to_owned(), |n| n.to_string())).collect();
    bail!(
        "the input `{name}` has the shape [{}], which is not a clip of {} frames of {} x {} pixels in any \
         layout; give its own --frames and --size, or export it for this clip",
        shown.join(", "),
        clip[2],
        clip[3],
        clip[4]
    )
}

/// The number of clips that the file is fixed to; None if any number goes.
pub fn fixed_batch(net: &Net) -> Option<usize> {
    net.input_shape()?.first().copied().flatten()
}

/// The order of the axes of each map, followed through transpositions.
pub(super) fn axes(net: &Net, anchors: &[Anchor]) -> HashMap<ValueId, Axes> {
    const MAPS: [&str; 8] = [
        "Conv",
        "BatchNormalization",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Resize",
        "Pad",
    ];
    const SHAPES: [&str; 6] = ["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Gemm", "MatMul"];
    let mut found = HashMap::new();
    for (id, node) in net.nodes() {
        let op = node.op_type.as_str();
        let inputs = net.data_inputs(id);
        let own = inputs.iter().find_map(|input| found.get(input).copied());
        let order = match op {
            _ if SHAPES.contains(&op) => None,
            _ if MAPS.contains(&op) => Some(NCHW),
            "Transpose" => {
                transposed(own, attribute(node, "perm").map(|perm| perm.ints.as_slice()))
            }
            _ => own,
        };
        if let (Some(output), Some(order)) = (net.out(id), order) {
            found.insert(output, order);
        }
        // A constant that is added to a map has its order.
        if let ("Add" | "Sum", Some(order)) = (op, own) {
            let constants = net.inputs(id).filter(|value| !net.is_data(*value));
            for value in constants {
                found.entry(value).or_insert(order);
            }
        }
    }
    for anchor in anchors {
        if net.node(anchor.node).op_type == "Conv" {
            found.entry(anchor.input).or_insert(NCHW);
        }
    }
    found
}

fn transposed(own: Option<Axes>, perm: Option<&[i64]>) -> Option<Axes> {
    let (own, perm) = (own?, perm?);
    let mut order = [0; 4];
    for (slot, &at) in order.iter_mut().zip(perm) {
        *slot = *own.get(usize::try_from(at).ok()?)?;
    }
    (perm.len() == 4).then_some(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_is_arranged_and_a_map_comes_back() {
        let values: Vec<f32> = (0..3 * 2 * 4 * 5).map(|v| v as f32).collect();
        let clip = Tensor::f32(vec![1, 3, 2, 4, 5], values);
        for layout in LAYOUTS {
            let arranged = layout.arranged(&clip);
            assert_eq!(arranged.len(), clip.len(), "{}", layout.words);
        }
        assert_eq!(LAYOUTS[1].arranged(&clip).shape, [1, 2, 4, 5, 3]);
        assert_eq!(LAYOUTS[5].arranged(&clip).shape, [1, 4, 5, 6]);
        assert_eq!(LAYOUTS[4].arranged(&clip).data, clip.data);

        let map = Tensor::f32(vec![1, 6, 4, 5], clip.to_f32());
        let nhwc = as_file(&map, Some([0, 2, 3, 1]), &[1, 4, 5, 6]).unwrap();
        assert_ne!(nhwc.data, map.data);
        assert_eq!(as_module(nhwc.clone(), Some([0, 2, 3, 1]), &[1, 6, 4, 5]).unwrap(), map);
        assert_eq!(as_module(nhwc, None, &[1, 6, 4, 5]).unwrap(), map);
        assert!(as_module(map.clone(), None, &[1, 6, 4, 4]).is_none());
        // Without the axis of the batch, as embeddings are stored in Flax.
        for axes in [Some([0, 2, 3, 1]), None] {
            let stored = as_file(
                &map,
                axes.or(Some(NCHW)),
                &[[4, 5, 6], [6, 4, 5]][usize::from(axes.is_none())],
            );
            let stored = stored.unwrap();
            assert_eq!(stored.shape.len(), 3);
            assert_eq!(as_module(stored, axes, &[1, 6, 4, 5]).unwrap(), map);
        }
        // The shape does not tell, but the graph does.
        let cube = Tensor::f32(vec![1, 3, 3, 3], (0..27).map(|v| v as f32).collect());
        let stored = as_file(&cube, Some([0, 2, 3, 1]), &[3, 3, 3]).unwrap();
        assert_ne!(stored.data, cube.data);
        assert_eq!(as_module(stored, Some([0, 2, 3, 1]), &[1, 3, 3, 3]).unwrap(), cube);
    }
}
