//! What a pickle describes.

use std::rc::Rc;

use super::classes::Class;
use crate::weights::dtype::{DType, Endian};

/// A small value, or the index of an object.
#[derive(Debug, Clone)]
pub(in crate::weights) enum Value<'a> {
    None,
    Bool(bool),
    Int(i128),
    /// Something that no checkpoint reader looks at: a float, a very long integer.
    Other,
    Str(&'a str),
    Bytes(&'a [u8]),
    /// Bytes that the pickle holds in another encoding.
    Decoded(Rc<[u8]>),
    Class(Class),
    Ref(usize),
}

impl<'a> Value<'a> {
    pub(in crate::weights) fn text(&self) -> Option<&'a str> {
        match self {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    pub(in crate::weights) fn size(&self) -> Option<usize> {
        match self {
            Value::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        }
    }
}

/// Where a tensor's numbers are: a storage of a PyTorch file, by key.
#[derive(Debug, Clone, Copy)]
pub(in crate::weights) struct Storage<'a> {
    pub(in crate::weights) key: &'a str,
    pub(in crate::weights) dtype: DType,
    /// Length in values.
    pub(in crate::weights) len: usize,
    /// First value, in the storage that `key` names (only old files have views).
    pub(in crate::weights) start: usize,
    /// Length of the storage that `key` names, which a view is a part of.
    pub(in crate::weights) whole: usize,
}

/// A strided view of a storage.
#[derive(Debug, Clone)]
pub(in crate::weights) struct TensorView<'a> {
    pub(in crate::weights) storage: Storage<'a>,
    pub(in crate::weights) offset: usize,
    pub(in crate::weights) shape: Vec<usize>,
    pub(in crate::weights) strides: Vec<usize>,
    /// Whether every value stands for its negative (`torch.Tensor.is_neg`).
    pub(in crate::weights) neg: bool,
}

/// A numpy array; `code` is the type's, without its order of bytes.
#[derive(Debug, Clone)]
pub(in crate::weights) struct Array<'a> {
    pub(in crate::weights) shape: Vec<usize>,
    pub(in crate::weights) code: &'a str,
    pub(in crate::weights) endian: Endian,
    pub(in crate::weights) fortran: bool,
    pub(in crate::weights) data: Value<'a>,
}

/// An object of the arena.
#[derive(Debug)]
pub(in crate::weights) enum Obj<'a> {
    Tuple(Vec<Value<'a>>),
    List(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    Storage(Storage<'a>),
    Tensor(TensorView<'a>),
    Array(Array<'a>),
    /// A tensor of a kind that cannot be weights as it is, such as a sparse one.
    Strange(&'static str),
    /// A numpy number format: type code and order of bytes.
    DType(&'a str, Endian),
    /// Harmless and of no interest.
    Inert,
}

/// A pickle that has been read.
#[derive(Debug)]
pub(in crate::weights) struct Pickle<'a> {
    pub(super) objects: Vec<Obj<'a>>,
    /// What the pickle stands for.
    pub(in crate::weights) root: Value<'a>,
    /// Bytes that it takes.
    pub(in crate::weights) end: usize,
}

impl<'a> Pickle<'a> {
    /// What a file describes that is no pickle.
    pub(in crate::weights) fn of(objects: Vec<Obj<'a>>, root: Value<'a>, end: usize) -> Self {
        Pickle { objects, root, end }
    }

    /// The object that a value refers to.
    pub(in crate::weights) fn object(&self, value: &Value<'a>) -> Option<&Obj<'a>> {
        match value {
            Value::Ref(index) => self.objects.get(*index),
            _ => None,
        }
    }

    /// Every storage that is mentioned.
    pub(in crate::weights) fn storages(&self) -> impl Iterator<Item = &Storage<'a>> {
        self.objects.iter().filter_map(|object| match object {
            Obj::Storage(storage) => Some(storage),
            _ => None,
        })
    }

    /// The entries of a dictionary.
    pub(in crate::weights) fn dict(&self, value: &Value<'a>) -> Option<&[(Value<'a>, Value<'a>)]> {
        match self.object(value)? {
            Obj::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// An entry of a dictionary; Python keeps the last of several with the same key.
    pub(in crate::weights) fn entry(&self, dict: &Value<'a>, key: &str) -> Option<&Value<'a>> {
        let entries = self.dict(dict)?;
        entries.iter().rev().find(|(k, _)| k.text() == Some(key)).map(|(_, value)| value)
    }
}
