//! Cuts a part out of a graph: from values that are given to a value that is wanted. So a module can be
//! computed by the runtime alone, from the reference's values.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result, bail};
use prost::Message;

use crate::proto::{
    DimensionProto, Extent, GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto, element,
};
use crate::read::{Net, NodeId, ValueId, printable};

/// The element type and the shape of a value in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed {
    /// The element type, `TensorProto.DataType`.
    pub element: i32,
    /// The shape.
    pub shape: Vec<usize>,
}

impl Typed {
    /// The type of a value of this shape, by numpy's name of the element type. Other types than floats, such as
    /// those of a label that is returned next to the logits, are [`element::UNDEFINED`].
    pub fn named(element: &str, shape: Vec<usize>) -> Self {
        let element = match element {
            "float32" => element::FLOAT,
            "float64" => element::DOUBLE,
            "float16" => element::FLOAT16,
            "bfloat16" => element::BFLOAT16,
            _ => element::UNDEFINED,
        };
        Typed { element, shape }
    }
}

/// A part of a graph, as a file of its own.
pub struct Part {
    /// The file.
    pub bytes: Vec<u8>,
    /// The values that must be given to it, in order.
    pub inputs: Vec<ValueId>,
}

/// The whole network with more outputs than it has.
///
/// # Errors
///
/// If the file would be larger than the format allows.
pub fn with_outputs(net: &Net, outputs: &[ValueId]) -> Result<Vec<u8>> {
    let mut file = net.file.clone();
    if let Some(graph) = &mut file.graph {
        graph.output = outputs.iter().map(|value| untyped(net.name(*value))).collect();
    }
    encoded(&file)
}

/// A file with one of its values as its only output.
///
/// # Errors
///
/// If the file would be larger than the format allows.
pub fn with_output(file: &ModelProto, name: &str) -> Result<Vec<u8>> {
    let mut file = file.clone();
    if let Some(graph) = &mut file.graph {
        graph.output = vec![untyped(name)];
    }
    encoded(&file)
}

/// The part of a network that computes `wanted` from the values in `given` and constants. `given` holds the
/// types of values that may be given; those that the part needs are its inputs.
///
/// # Errors
///
/// If the part needs the clip, and that is not given, or if it would be larger than the format allows.
pub fn part(net: &Net, wanted: ValueId, given: &HashMap<ValueId, Typed>) -> Result<Part> {
    let mut nodes: BTreeSet<NodeId> = BTreeSet::new();
    let mut inputs: BTreeSet<ValueId> = BTreeSet::new();
    let mut constants: BTreeSet<ValueId> = BTreeSet::new();
    let mut queue = vec![wanted];
    while let Some(value) = queue.pop() {
        if given.contains_key(&value) && value != wanted {
            inputs.insert(value);
        } else if let Some(node) = net.producer(value) {
            if nodes.insert(node) {
                queue.extend(net.inputs(node));
            }
        } else if value == net.input {
            bail!("the value `{}` needs the clip, which is not given", printable(net.name(wanted)));
        } else {
            constants.insert(value);
        }
    }
    let inputs: Vec<ValueId> = inputs.into_iter().collect();
    let typed = |value: &ValueId| {
        let typed = given.get(value).context("the type of an input is not known")?;
        Ok(info(net.name(*value), typed))
    };
    let graph = GraphProto {
        node: nodes.iter().map(|id| net.node(*id).clone()).collect::<Vec<NodeProto>>(),
        name: "part".to_owned(),
        initializer: constants
            .iter()
            .filter_map(|id| net.initializer(*id))
            .cloned()
            .collect::<Vec<TensorProto>>(),
        input: inputs.iter().map(typed).collect::<Result<_>>()?,
        output: vec![untyped(net.name(wanted))],
        ..Default::default()
    };
    let file = ModelProto {
        ir_version: net.file.ir_version,
        opset_import: net.file.opset_import.clone(),
        graph: Some(graph),
        ..Default::default()
    };
    Ok(Part { bytes: encoded(&file)?, inputs })
}

fn encoded(file: &ModelProto) -> Result<Vec<u8>> {
    let size = file.encoded_len() as u64;
    if size > crate::LARGEST {
        bail!(
            "the file with its weights has {size} bytes, but the ONNX format is limited to 2 GiB"
        );
    }
    Ok(file.encode_to_vec())
}

/// An output whose type the runtime infers.
fn untyped(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: name.to_owned(), r#type: None }
}

fn info(name: &str, typed: &Typed) -> ValueInfoProto {
    let extent = |n: &usize| DimensionProto { value: Some(Extent::Value(*n as i64)) };
    let shape = TensorShapeProto { dim: typed.shape.iter().map(extent).collect() };
    let tensor_type = Some(TensorTypeProto { elem_type: typed.element, shape: Some(shape) });
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type }) }
}
