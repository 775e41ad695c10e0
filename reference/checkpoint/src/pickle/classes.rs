//! The constructors that a checkpoint may use.

use crate::dtype::DType;
use crate::error::{Failure, quoted};

/// How a Python name is interpreted. None of the Python functions is ever executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// `OrderedDict`, `dict` or `FrozenDict`, which are all read as dictionaries.
    Dict,
    /// `defaultdict`, whose argument is ignored, because it only makes missing values.
    DefaultDict,
    /// `_rebuild_tensor`, `_rebuild_tensor_v2` or `_rebuild_tensor_v3`.
    RebuildTensor,
    RebuildParameter,
    RebuildFromType,
    /// A constructor of a kind of tensor that cannot be weights as it is.
    Unsupported(&'static str),
    /// A storage class such as `FloatStorage`.
    Storage(DType),
    /// A number format such as `torch.float32` or `ml_dtypes.bfloat16`.
    Number(DType),
    /// `torch.Size`, which is read as a tuple.
    Tuple,
    NumpyReconstruct,
    NumpyFromBuffer,
    NumpyArray,
    NumpyDType,
    /// `_codecs.encode`, with which protocol 2 represents bytes.
    Encode,
    JaxArray,
    /// A class that trainers store in addition to the weights; it is read as an empty object.
    Inert,
    /// `getattr`, allowed only on inert objects.
    GetAttr,
}

/// Finds the interpretation of `module.name`. Fails if a checkpoint does not need it.
pub(super) fn resolve(module: &str, name: &str) -> Result<Class, Failure> {
    let found = match module {
        "torch" | "torch.storage" | "torch.cuda" => torch(name),
        "torch._utils" | "torch._tensor" => rebuild(name),
        "torch.nn.parameter" if matches!(name, "Parameter" | "Buffer") => Some(Class::Inert),
        "torch.torch_version" if name == "TorchVersion" => Some(Class::Inert),
        "torch.serialization" if name == "_get_layout" => Some(Class::Inert),
        "torch.nested._internal.nested_tensor" if name == "_rebuild_njt" => {
            Some(Class::Unsupported("a nested tensor"))
        }
        "collections" => collection(name),
        "builtins" | "__builtin__" => builtin(name),
        "_codecs" if name == "encode" => Some(Class::Encode),
        "flax.core.frozen_dict" if name == "FrozenDict" => Some(Class::Dict),
        "jax._src.array" | "jax.array" if name == "_reconstruct_array" => Some(Class::JaxArray),
        "ml_dtypes" | "jax.numpy" | "ml_dtypes._ml_dtypes_ext" if name == "bfloat16" => {
            Some(Class::Number(DType::BF16))
        }
        "mmengine.logging.history_buffer" if name.starts_with("HistoryBuffer") => {
            Some(Class::Inert)
        }
        "argparse" if name == "Namespace" => Some(Class::Inert),
        "pathlib" if name.ends_with("Path") => Some(Class::Inert),
        "datetime" if matches!(name, "datetime" | "timedelta" | "date") => Some(Class::Inert),
        _ => numpy(module, name),
    };
    found.ok_or_else(|| refusal(module, name))
}

/// The module of PyTorch's layer classes. A pickle that mentions it holds the module objects themselves
/// instead of a state dict.
pub(super) const MODULES: &[u8] = b"torch.nn.modules";

/// The error for a pickle of a whole module.
pub(super) fn whole_module(module: &str, name: &str) -> Failure {
    let asked = quoted(&format!("{module}.{name}"));
    Failure::new(
        format!("this is a whole module, saved as Python objects ({asked}); no code was run"),
        "load it in the program that wrote it and save model.state_dict()",
    )
}

/// The error for a name that a checkpoint does not need.
pub(super) fn refusal(module: &str, name: &str) -> Failure {
    let asked = quoted(&format!("{module}.{name}"));
    Failure::new(
        format!(
            "the pickle asks for {asked}, which is not among the constructors that a checkpoint \
             needs; no code was run"
        ),
        "get the checkpoint from a source you trust, or convert it to safetensors there",
    )
}

fn torch(name: &str) -> Option<Class> {
    match name {
        "UntypedStorage" => Some(Class::Storage(DType::U8)),
        "Size" => Some(Class::Tuple),
        "device" | "Tensor" => Some(Class::Inert),
        // Quantisation schemes, memory formats and layouts.
        _ if name.starts_with("per_") || name.ends_with("_format") => Some(Class::Inert),
        "strided" | "sparse_coo" | "sparse_csr" | "sparse_csc" | "sparse_bsr" | "sparse_bsc" => {
            Some(Class::Inert)
        }
        "QUInt4x2Storage" | "QUInt2x4Storage" => Some(Class::Storage(DType::QU8)),
        "bits8" | "bits4x2" | "quint4x2" | "quint2x4" => Some(Class::Number(DType::QU8)),
        _ => DType::by_storage(name)
            .map(Class::Storage)
            .or_else(|| DType::by_name(name).map(Class::Number)),
    }
}

fn rebuild(name: &str) -> Option<Class> {
    match name {
        "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3" => {
            Some(Class::RebuildTensor)
        }
        "_rebuild_parameter" | "_rebuild_parameter_with_state" => Some(Class::RebuildParameter),
        "_rebuild_from_type_v2" => Some(Class::RebuildFromType),
        "_rebuild_qtensor" => Some(Class::Unsupported("a quantised tensor")),
        "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor" => {
            Some(Class::Unsupported("a sparse tensor"))
        }
        "_rebuild_meta_tensor_no_storage" => Some(Class::Unsupported("a meta tensor")),
        "_rebuild_nested_tensor" => Some(Class::Unsupported("a nested tensor")),
        "_rebuild_wrapper_subclass" => Some(Class::Unsupported("a wrapped tensor")),
        _ => None,
    }
}

fn collection(name: &str) -> Option<Class> {
    match name {
        "OrderedDict" => Some(Class::Dict),
        "defaultdict" => Some(Class::DefaultDict),
        "deque" | "Counter" => Some(Class::Inert),
        _ => None,
    }
}

fn builtin(name: &str) -> Option<Class> {
    match name {
        "dict" => Some(Class::Dict),
        "list" | "tuple" | "set" | "frozenset" | "int" | "float" | "complex" | "bool" | "str"
        | "bytes" | "bytearray" | "slice" | "range" => Some(Class::Inert),
        "getattr" => Some(Class::GetAttr),
        _ => None,
    }
}

fn numpy(module: &str, name: &str) -> Option<Class> {
    match (module, name) {
        ("numpy", "ndarray") => Some(Class::NumpyArray),
        ("numpy", "dtype") => Some(Class::NumpyDType),
        ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => {
            Some(Class::NumpyReconstruct)
        }
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Some(Class::Inert),
        ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => {
            Some(Class::NumpyFromBuffer)
        }
        // Names of statistics in mmengine's training log.
        ("numpy", "mean" | "min" | "max" | "amin" | "amax") => Some(Class::Inert),
        ("numpy.dtypes", class) if class.ends_with("DType") => Some(Class::Inert),
        _ => None,
    }
}
