//! The values and objects that a pickle describes.

use std::rc::Rc;

use super::classes::Class;
use crate::dtype::{DType, Endian};

/// A value of a pickle: a small one is stored here, an object is referred to by index.
#[derive(Debug, Clone)]
pub(crate) enum Value<'a> {
    None,
    Bool(bool),
    Int(i128),
    /// A value that no checkpoint reader needs, such as a float or a very long integer.
    Other,
    Str(&'a str),
    Bytes(&'a [u8]),
    /// Bytes that had to be decoded from another encoding, and so are not a part of the file.
    Decoded(Rc<[u8]>),
    Class(Class),
    /// The index of an object in [`Pickle::objects`].
    Ref(usize),
}

impl<'a> Value<'a> {
    pub(crate) fn text(&self) -> Option<&'a str> {
        match self {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn size(&self) -> Option<usize> {
        match self {
            Value::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        }
    }
}

/// A reference to the storage of a PyTorch file that holds the numbers of a tensor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Storage<'a> {
    /// The key of the storage in the file.
    pub(crate) key: &'a str,
    pub(crate) dtype: DType,
    /// Number of values.
    pub(crate) len: usize,
    /// Index of the first value in the storage `key`. Only old files have views that start later.
    pub(crate) start: usize,
    /// Number of values in the whole storage `key`, of which a view is a part.
    pub(crate) whole: usize,
}

/// A strided view of a storage.
#[derive(Debug, Clone)]
pub(crate) struct TensorView<'a> {
    pub(crate) storage: Storage<'a>,
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
    /// Whether the values of the tensor are the negatives of those stored (`torch.Tensor.is_neg`).
    pub(crate) neg: bool,
}

/// A numpy array; `code` is the type code without the byte order.
#[derive(Debug, Clone)]
pub(crate) struct Array<'a> {
    pub(crate) shape: Vec<usize>,
    pub(crate) code: &'a str,
    pub(crate) endian: Endian,
    pub(crate) fortran: bool,
    pub(crate) data: Value<'a>,
}

/// An object in the arena of a pickle.
#[derive(Debug)]
pub(crate) enum Obj<'a> {
    Tuple(Vec<Value<'a>>),
    List(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    Storage(Storage<'a>),
    Tensor(TensorView<'a>),
    Array(Array<'a>),
    /// A kind of tensor that cannot be weights as it is, such as a sparse tensor.
    Unsupported(&'static str),
    /// A numpy number format: type code and byte order.
    DType(&'a str, Endian),
    /// A harmless object that no checkpoint reader needs.
    Inert,
}

/// A pickle that has been read.
#[derive(Debug)]
pub(crate) struct Pickle<'a> {
    pub(super) objects: Vec<Obj<'a>>,
    /// The value that the pickle describes.
    pub(crate) root: Value<'a>,
    /// Length of the pickle in bytes.
    pub(crate) end: usize,
}

impl<'a> Pickle<'a> {
    /// The contents of a file of another format, in the form of a pickle.
    pub(crate) fn of(objects: Vec<Obj<'a>>, root: Value<'a>, end: usize) -> Self {
        Pickle { objects, root, end }
    }

    /// The object that a value refers to.
    pub(crate) fn object(&self, value: &Value<'a>) -> Option<&Obj<'a>> {
        match value {
            Value::Ref(index) => self.objects.get(*index),
            _ => None,
        }
    }

    /// All storages that the pickle refers to.
    pub(crate) fn storages(&self) -> impl Iterator<Item = &Storage<'a>> {
        self.objects.iter().filter_map(|object| match object {
            Obj::Storage(storage) => Some(storage),
            _ => None,
        })
    }

    /// The entries of a dictionary, or `None` if the value is not one.
    pub(crate) fn dict(&self, value: &Value<'a>) -> Option<&[(Value<'a>, Value<'a>)]> {
        match self.object(value)? {
            Obj::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value of a key in a dictionary. Of several entries with the same key, Python keeps the last.
    pub(crate) fn entry(&self, dict: &Value<'a>, key: &str) -> Option<&Value<'a>> {
        let entries = self.dict(dict)?;
        entries.iter().rev().find(|(k, _)| k.text() == Some(key)).map(|(_, value)| value)
    }
}
