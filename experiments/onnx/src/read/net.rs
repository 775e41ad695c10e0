//! The graph of a file with its values numbered, so that it can be walked in both directions.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};

use super::fold;
use super::printable;
use super::tensor::{Constant, constant, is_readable};
use crate::proto::{
    AttributeProto, Extent, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, element,
};

/// A value of the graph: an input, an initializer or an output of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub usize);

/// A node of the graph, by its index in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// A graph whose values are numbered in the order in which they are computed.
pub struct Net {
    /// The file.
    pub file: ModelProto,
    /// The value that the clip is given to.
    pub input: ValueId,
    /// The value that the network returns.
    pub output: ValueId,
    values: Values,
}

impl Net {
    /// Numbers the values of a file and computes the constants among them.
    ///
    /// # Errors
    ///
    /// If a node reads a value that no earlier node computes, if a value is computed twice, if a tensor is
    /// damaged, or if the network does not have exactly one input.
    pub fn new(file: ModelProto) -> Result<Self> {
        let graph = file.graph.as_ref().context("the file holds no graph")?;
        let mut values = Values::default();
        for tensor in &graph.initializer {
            let id = values.define(&tensor.name, None)?;
            if is_readable(tensor.data_type) {
                values.constants.insert(id, constant(tensor)?);
            }
        }
        let mut inputs = vec![];
        for info in &graph.input {
            // Old files list the initializers among the inputs.
            if !values.ids.contains_key(&info.name) {
                let id = values.define(&info.name, None)?;
                values.data[id.0] = true;
                inputs.push(id);
            }
        }
        let [input] = inputs[..] else {
            bail!(
                "the network has {} inputs, but a SqueezeTime has one, the clip; remove the others (for \
                 instance with onnxsim --overwrite-input-shape, or by making them constants)",
                inputs.len()
            );
        };
        for (at, node) in graph.node.iter().enumerate() {
            values.node(graph, NodeId(at), node)?;
        }
        let output = output(graph, &values)?;
        Ok(Net { file, input, output, values })
    }

    /// The graph.
    pub fn graph(&self) -> &GraphProto {
        // `new` has checked that there is one.
        static EMPTY: std::sync::LazyLock<GraphProto> =
            std::sync::LazyLock::new(GraphProto::default);
        self.file.graph.as_ref().unwrap_or(&EMPTY)
    }

    /// All nodes with their indices, in order of execution.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &NodeProto)> {
        self.graph().node.iter().enumerate().map(|(at, node)| (NodeId(at), node))
    }

    /// A node by its index.
    pub fn node(&self, id: NodeId) -> &NodeProto {
        &self.graph().node[id.0]
    }

    /// A node for a message: its name, or if it has none, its operator and output.
    pub fn called(&self, id: NodeId) -> String {
        let node = self.node(id);
        match (node.name.as_str(), node.output.first()) {
            ("", Some(output)) => {
                format!("{} of `{}`", printable(&node.op_type), printable(output))
            }
            (name, _) => format!("{} `{}`", printable(&node.op_type), printable(name)),
        }
    }

    /// The name of a value.
    pub fn name(&self, id: ValueId) -> &str {
        &self.values.names[id.0]
    }

    /// The value of this name.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.values.ids.get(name).copied()
    }

    /// The node that computes a value; None for an input or an initializer.
    pub fn producer(&self, id: ValueId) -> Option<NodeId> {
        self.values.producers[id.0]
    }

    /// The nodes that read a value.
    pub fn consumers(&self, id: ValueId) -> &[NodeId] {
        &self.values.consumers[id.0]
    }

    /// Whether a value depends on the clip.
    pub fn is_data(&self, id: ValueId) -> bool {
        self.values.data[id.0]
    }

    /// The values that a node reads, without those that are left out.
    pub fn inputs(&self, id: NodeId) -> impl Iterator<Item = ValueId> {
        self.node(id).input.iter().filter_map(|name| self.find(name))
    }

    /// The values that a node reads and that depend on the clip, each once.
    pub fn data_inputs(&self, id: NodeId) -> Vec<ValueId> {
        let mut found = vec![];
        for value in self.inputs(id).filter(|value| self.is_data(*value)) {
            if !found.contains(&value) {
                found.push(value);
            }
        }
        found
    }

    /// The first output of a node.
    pub fn out(&self, id: NodeId) -> Option<ValueId> {
        self.find(self.node(id).output.first()?)
    }

    /// A constant operand of a node by its position.
    pub fn operand(&self, id: NodeId, position: usize) -> Option<&Constant> {
        self.constant(self.find(self.node(id).input.get(position)?)?)
    }

    /// The value of a constant; None if it depends on the clip or could not be computed here.
    pub fn constant(&self, id: ValueId) -> Option<&Constant> {
        self.values.constants.get(&id)
    }

    /// The initializer of this value; None if a node computes it.
    pub fn initializer(&self, id: ValueId) -> Option<&TensorProto> {
        self.graph().initializer.iter().find(|tensor| tensor.name == self.values.names[id.0])
    }

    /// The extents of the input that the file states; None for one that is not fixed.
    pub fn input_shape(&self) -> Option<Vec<Option<usize>>> {
        let info =
            self.graph().input.iter().find(|info| self.find(&info.name) == Some(self.input))?;
        extents(info)
    }

    /// The element type of the input that the file states; 0 if it states none.
    pub fn input_type(&self) -> i32 {
        let info = self.graph().input.iter().find(|info| self.find(&info.name) == Some(self.input));
        let tensor = info.and_then(|info| info.r#type.as_ref()?.tensor_type.as_ref());
        tensor.map_or(0, |tensor| tensor.elem_type)
    }
}

/// The extents that a value's type states.
fn extents(info: &ValueInfoProto) -> Option<Vec<Option<usize>>> {
    let shape = info.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?;
    let extent = |value: &Option<Extent>| match value {
        Some(Extent::Value(n)) => usize::try_from(*n).ok().filter(|n| *n > 0),
        _ => None,
    };
    Some(shape.dim.iter().map(|dim| extent(&dim.value)).collect())
}

impl Net {
    /// The values that the file returns and that depend on the clip, and of each whether the file states that
    /// it is [N, `columns`].
    pub fn outputs(&self, columns: usize) -> impl Iterator<Item = (ValueId, bool)> + '_ {
        let wide = move |info: &ValueInfoProto| {
            extents(info).is_some_and(|all| matches!(all[..], [_, Some(last)] if last == columns))
        };
        let of = move |info: &ValueInfoProto| Some((*self.values.ids.get(&info.name)?, wide(info)));
        let floats = self.graph().output.iter().filter(|info| holds_floats(info));
        floats.filter_map(of).filter(|(id, _)| self.values.data[id.0])
    }
}

/// An attribute of a node by its name.
pub fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// Whether the name of an output says that it is the logits, which may stand next to probabilities.
pub fn is_called_logits(name: &str) -> bool {
    name.to_lowercase().contains("logit")
}

/// Whether an output holds floats, as far as the file says: a predicted label is an integer.
fn holds_floats(info: &ValueInfoProto) -> bool {
    let of = |kind: &crate::proto::TypeProto| kind.tensor_type.as_ref().map(|t| t.elem_type);
    let floats =
        [element::UNDEFINED, element::FLOAT, element::FLOAT16, element::DOUBLE, element::BFLOAT16];
    info.r#type.as_ref().and_then(of).is_none_or(|kind| floats.contains(&kind))
}

/// The value that the network returns: the first output of floats that has two dimensions, or else the first one
/// that depends on the clip.
fn output(graph: &GraphProto, values: &Values) -> Result<ValueId> {
    let mut found = None;
    let called = |info: &&ValueInfoProto| is_called_logits(&info.name);
    let named = graph.output.iter().filter(called);
    for info in named.chain(&graph.output) {
        let Some(&id) = values.ids.get(&info.name) else {
            bail!("the output `{}` is computed by no node", printable(&info.name));
        };
        if !holds_floats(info) {
            continue;
        }
        let flat = extents(info).is_some_and(|extents| extents.len() == 2);
        if values.data[id.0] && (found.is_none() || flat) {
            found = Some(id);
            if flat {
                break;
            }
        }
    }
    found.context("none of the outputs of the file depends on its input")
}

/// What is known of the values, by their numbers.
#[derive(Default)]
struct Values {
    names: Vec<String>,
    ids: HashMap<String, ValueId>,
    producers: Vec<Option<NodeId>>,
    consumers: Vec<Vec<NodeId>>,
    /// Whether a value depends on the clip.
    data: Vec<bool>,
    constants: HashMap<ValueId, Constant>,
}

impl Values {
    fn define(&mut self, name: &str, producer: Option<NodeId>) -> Result<ValueId> {
        let id = ValueId(self.names.len());
        if self.ids.insert(name.to_owned(), id).is_some() {
            bail!("the value `{}` is defined twice; the file is damaged", printable(name));
        }
        self.names.push(name.to_owned());
        self.producers.push(producer);
        self.consumers.push(vec![]);
        self.data.push(false);
        Ok(id)
    }

    fn node(&mut self, graph: &GraphProto, id: NodeId, node: &NodeProto) -> Result<()> {
        let mut read = vec![];
        for name in node.input.iter().filter(|name| !name.is_empty()) {
            match self.ids.get(name) {
                Some(value) => read.push(*value),
                None => return Err(undefined(graph, node, name)),
            }
        }
        if node.attribute.iter().any(|attribute| attribute.g.is_some()) {
            bail!(
                "the node `{}` is a {}, which has a graph inside; remove the control flow with onnxsim or \
                 onnxslim first",
                printable(&node.name),
                printable(&node.op_type)
            );
        }
        // The shape of a value does not depend on the clip, only on the size of its frames.
        let shape = matches!(node.op_type.as_str(), "Shape" | "Size");
        let data = !shape && read.iter().any(|value| self.data[value.0]);
        for value in &read {
            self.consumers[value.0].push(id);
        }
        let mut outputs = vec![];
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            let output = self.define(name, Some(id))?;
            self.data[output.0] = data;
            outputs.push(output);
        }
        if let ([output], false) = (&outputs[..], data) {
            let operand = |name: &String| self.constants.get(self.ids.get(name)?);
            let operands: Vec<_> = node.input.iter().map(operand).collect();
            if let Some(constant) = fold::fold(node, &operands)? {
                self.constants.insert(*output, constant);
            }
        }
        Ok(())
    }
}

fn undefined(graph: &GraphProto, node: &NodeProto, name: &str) -> anyhow::Error {
    let later = graph.node.iter().any(|node| node.output.iter().any(|output| output == name));
    let why = match later {
        true => "which is computed only later (the nodes are out of order, or form a cycle)",
        false => "which nothing in the file computes",
    };
    anyhow::anyhow!(
        "the node `{}` ({}) reads `{}`, {why}; the file is damaged",
        printable(&node.name),
        printable(&node.op_type),
        printable(name)
    )
}
