//! The tensors of weights that a model needs.

/// The name and the shape of a tensor that a model needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamSpec {
    /// Official name, such as `layer1.0.conv2.spatial_conv.glo_conv.0.weight` or `fc.bias`.
    pub name: String,
    /// Shape in PyTorch's order: convolutions [out, in, kh, kw], linear layers [out, in], positional
    /// embeddings [1, 16, h, w].
    pub shape: Vec<usize>,
}
