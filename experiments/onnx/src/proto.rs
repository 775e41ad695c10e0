//! The part of the ONNX format that is written and read here: the messages and field numbers of
//! `onnx.proto` (ONNX 1.12, IR version 8; the IR versions up to 11 only add to them).

use prost::Message;

/// The element types of tensors that are used, `TensorProto.DataType`.
pub mod element {
    /// No type, or one that is not listed here.
    pub const UNDEFINED: i32 = 0;
    /// Values of type float32.
    pub const FLOAT: i32 = 1;
    /// Values of type uint8.
    pub const UINT8: i32 = 2;
    /// Values of type int8.
    pub const INT8: i32 = 3;
    /// Values of type uint16.
    pub const UINT16: i32 = 4;
    /// Values of type int16.
    pub const INT16: i32 = 5;
    /// Values of type int32.
    pub const INT32: i32 = 6;
    /// Values of type int64.
    pub const INT64: i32 = 7;
    /// Truth values, one byte each.
    pub const BOOL: i32 = 9;
    /// Values of type float16.
    pub const FLOAT16: i32 = 10;
    /// Values of type float64.
    pub const DOUBLE: i32 = 11;
    /// Values of type bfloat16.
    pub const BFLOAT16: i32 = 16;
}

/// The types of attributes that are used, `AttributeProto.AttributeType`.
pub mod attribute {
    /// A single float, in `f`.
    pub const FLOAT: i32 = 1;
    /// A single integer, in `i`.
    pub const INT: i32 = 2;
    /// A list of integers, in `ints`.
    pub const INTS: i32 = 7;
}

/// An ONNX file.
#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    /// Version of the file format.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// The program that wrote the file.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// The version of that program.
    #[prost(string, tag = "3")]
    pub producer_version: String,
    /// The network as a graph.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    /// The operator sets that the graph uses.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// Free metadata: the model, its configuration, the source of the weights.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
    /// Operators that the file defines itself; their content is not read.
    #[prost(bytes = "vec", repeated, tag = "25")]
    pub functions: Vec<Vec<u8>>,
}

/// The version of an operator set.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetIdProto {
    /// The name of the operator set, empty for the standard one.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// The opset version, such as 17.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// An entry of the metadata.
#[derive(Clone, PartialEq, Message)]
pub struct StringStringEntryProto {
    /// The key of the entry.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value of the entry.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A network as a graph of operators.
#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    /// The nodes, in order of execution.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    /// The name of the graph.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The constants, weights among them.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    /// The inputs of the network.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    /// The outputs of the network.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
    /// Types of values between the nodes, where the file states them.
    #[prost(message, repeated, tag = "13")]
    pub value_info: Vec<ValueInfoProto>,
}

/// A node: one use of an operator.
#[derive(Clone, PartialEq, Message)]
pub struct NodeProto {
    /// The names of the values that it reads.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// The names of the values that it computes.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// The name of the node.
    #[prost(string, tag = "3")]
    pub name: String,
    /// The name of the operator, such as `Conv`.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// The operator set that the operator is from, empty for the standard one.
    #[prost(string, tag = "7")]
    pub domain: String,
    /// The attributes of the operator, such as strides.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
}

/// An attribute of an operator.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    /// The name of the attribute.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The value of type [`attribute::FLOAT`].
    #[prost(float, tag = "2")]
    pub f: f32,
    /// The value of type [`attribute::INT`].
    #[prost(int64, tag = "3")]
    pub i: i64,
    /// The values of type [`attribute::INTS`].
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// The type of the attribute, from [`attribute`].
    #[prost(int32, tag = "20")]
    pub r#type: i32,
    /// A text.
    #[prost(bytes = "vec", tag = "4")]
    pub s: Vec<u8>,
    /// A tensor, such as the value of a `Constant`.
    #[prost(message, optional, tag = "5")]
    pub t: Option<TensorProto>,
    /// A graph inside a node, such as a branch of an `If`.
    #[prost(message, optional, boxed, tag = "6")]
    pub g: Option<Box<GraphProto>>,
    /// A list of floats.
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    /// A list of texts.
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub strings: Vec<Vec<u8>>,
}

/// A constant tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    /// The shape of the tensor.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// The element type, from [`element`].
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    /// The name of the constant.
    #[prost(string, tag = "8")]
    pub name: String,
    /// The values, row-major and little-endian.
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
    /// The values of a float32 tensor, if `raw_data` is empty.
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// The values of an integer tensor of at most 32 bits, or the bits of a 16-bit float tensor.
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    /// The values of an int64 tensor.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// The values of a float64 tensor.
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    /// Where the values lie if they are in another file: `location`, `offset`, `length`.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    /// 1 if the values are in another file.
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

/// The name and type of an input or output.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    /// The name of the input or output.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its type.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
}

/// The type of a value. Only tensors are used.
#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    /// The type of a tensor.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorTypeProto>,
}

/// The type of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorTypeProto {
    /// The element type, from [`element`].
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    /// The shape of the tensor, if it is known.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// The shape of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    /// The extents of the tensor, batch first.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<DimensionProto>,
}

/// One extent of a shape.
#[derive(Clone, PartialEq, Message)]
pub struct DimensionProto {
    /// The extent: fixed or dynamic.
    #[prost(oneof = "Extent", tags = "1, 2")]
    pub value: Option<Extent>,
}

/// An extent, fixed or dynamic.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Extent {
    /// A fixed extent.
    #[prost(int64, tag = "1")]
    Value(i64),
    /// The name of a dynamic extent, which is known only when the network runs.
    #[prost(string, tag = "2")]
    Param(String),
}
