//! Interprets the arguments of each constructor.

use std::rc::Rc;

use super::classes::{Class, refusal};
use super::machine::Machine;
use super::value::{Array, Obj, Storage, TensorView, Value};
use crate::dtype::{Endian, MAX_RANK};
use crate::error::{Failure, quoted};

type Done = Result<(), Failure>;

fn unexpected(what: &str) -> Failure {
    Failure::new(
        format!("the arguments of {what} are not those that PyTorch, numpy or JAX write"),
        "convert the checkpoint to safetensors with the program that wrote it",
    )
}

impl<'a> Machine<'a> {
    /// Pushes the object that stands for the result of `class(*args)`.
    pub(super) fn call(&mut self, class: Value<'a>, args: Vec<Value<'a>>) -> Done {
        let class = match class {
            Value::Class(class) => class,
            // Calling an inert object, such as a bound method of a log buffer, gives another one.
            Value::Ref(index) if matches!(self.objects.get(index), Some(Obj::Inert)) => {
                Class::Inert
            }
            _ => {
                return Err(Failure::damaged(
                    "the pickle calls something that is not a constructor",
                ));
            }
        };
        match class {
            Class::Dict => self.dictionary(&args),
            Class::DefaultDict => self.push_object(Obj::Dict(Vec::new())),
            Class::Unsupported(kind) => self.push_object(Obj::Unsupported(kind)),
            Class::Tuple => match args.first() {
                Some(items) => self.push(items.clone()),
                None => self.push_object(Obj::Tuple(Vec::new())),
            },
            Class::RebuildTensor => self.tensor(&args),
            Class::RebuildParameter => {
                self.push(args.into_iter().next().ok_or_else(|| unexpected("a parameter"))?)
            }
            Class::RebuildFromType => self.subclass(args),
            Class::NumpyReconstruct => self.push_object(Obj::Array(empty_array())),
            Class::NumpyFromBuffer => self.buffer(&args),
            Class::NumpyDType => self.dtype(&args),
            Class::Encode => self.encode(&args),
            Class::JaxArray => self.jax_array(&args),
            Class::GetAttr => self.attribute(&args),
            Class::Inert | Class::Number(_) => self.push_object(Obj::Inert),
            Class::NumpyArray | Class::Storage(_) => Err(unexpected("an array")),
        }
    }

    fn dictionary(&mut self, args: &[Value<'a>]) -> Done {
        let Some(first) = args.first() else {
            return self.push_object(Obj::Dict(Vec::new()));
        };
        if let Value::Ref(index) = first
            && matches!(self.objects.get(*index), Some(Obj::Dict(_)))
        {
            return self.push(first.clone());
        }
        // Python 2 wrote the entries as a list of pairs.
        let mut entries = Vec::new();
        for pair in self.sequence(first, "pairs")? {
            let [key, value] = <[_; 2]>::try_from(self.sequence(&pair, "pair")?)
                .map_err(|_| unexpected("a dictionary"))?;
            self.charge(1)?;
            entries.push((key, value));
        }
        self.push_object(Obj::Dict(entries))
    }

    /// Reads `getattr(object, name)`, which mmengine's logs use on inert objects only.
    fn attribute(&mut self, args: &[Value<'a>]) -> Done {
        let inert = match args.first() {
            Some(Value::Class(Class::Inert)) => true,
            Some(Value::Ref(index)) => matches!(self.objects.get(*index), Some(Obj::Inert)),
            _ => false,
        };
        if inert {
            return self.push_object(Obj::Inert);
        }
        Err(refusal("builtins", "getattr"))
    }

    // PyTorch.

    /// Reads a persistent id ('storage', type, key, location, values[, view]).
    pub(super) fn persistent(&mut self) -> Done {
        let id = self.pop()?;
        let parts = self.sequence(&id, "persistent id")?;
        let (tag, class, key, len, view) = match parts.as_slice() {
            [tag, class, key, _, len] => (tag, class, key, len, None),
            [tag, class, key, _, len, view] => (tag, class, key, len, Some(view)),
            _ => return Err(unexpected("a storage")),
        };
        let (Some("storage"), Value::Class(Class::Storage(dtype)), Some(key), Some(whole)) =
            (tag.text(), class, key.text(), len.size())
        else {
            return Err(unexpected("a storage"));
        };
        let (start, len) = match view {
            None | Some(Value::None) => (0, whole),
            Some(view) => match self.sequence(view, "view")?.as_slice() {
                [_, start, len] => (
                    start.size().ok_or_else(|| unexpected("a view"))?,
                    len.size().ok_or_else(|| unexpected("a view"))?,
                ),
                _ => return Err(unexpected("a view")),
            },
        };
        self.push_object(Obj::Storage(Storage { key, dtype: *dtype, len, start, whole }))
    }

    /// Reads a tensor from (storage, offset, size, stride, requires_grad, hooks[, dtype][, metadata]).
    fn tensor(&mut self, args: &[Value<'a>]) -> Done {
        let [Value::Ref(storage), offset, shape, strides, rest @ ..] = args else {
            return Err(unexpected("a tensor"));
        };
        let Some(Obj::Storage(storage)) = self.objects.get(*storage) else {
            return Err(unexpected("a tensor"));
        };
        let mut storage = *storage;
        // In _rebuild_tensor_v3 the number format comes before the metadata.
        let metadata = match rest.get(2) {
            Some(Value::Class(_)) => rest.get(3),
            other => other,
        };
        let neg = metadata.map_or(Ok(false), |bits| self.math_bits(bits))?;
        // The length of an untyped storage is in bytes, and the number format is given separately.
        if let Some(Value::Class(Class::Number(dtype))) = rest.get(2) {
            let size = dtype.size() / storage.dtype.size().min(dtype.size());
            storage.len /= size;
            storage.whole /= size;
            storage.dtype = *dtype;
        }
        let offset = offset.size().ok_or_else(|| unexpected("a tensor"))?;
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        self.push_object(Obj::Tensor(TensorView { storage, offset, shape, strides, neg }))
    }

    /// Reads the metadata of a tensor: whether it is a negated view. A conjugated view can be ignored,
    /// because it is complex and cannot be weights anyway.
    fn math_bits(&self, metadata: &Value<'a>) -> Result<bool, Failure> {
        let Value::Ref(index) = metadata else {
            return if matches!(metadata, Value::None) {
                Ok(false)
            } else {
                Err(unexpected("a tensor"))
            };
        };
        let Some(Obj::Dict(entries)) = self.objects.get(*index) else {
            return Err(unexpected("a tensor"));
        };
        let mut neg = false;
        for (key, value) in entries {
            match (key.text(), value) {
                (Some("neg"), Value::Bool(bit)) => neg = *bit,
                (Some("conj"), Value::Bool(_)) => {}
                (key, _) => {
                    let key = quoted(key.unwrap_or("a key that is not a string"));
                    return Err(Failure::new(
                        format!("a tensor has the metadata `{key}`, which is not supported"),
                        "save clones of the tensors in model.state_dict()",
                    ));
                }
            }
        }
        Ok(neg)
    }

    /// Reads a tensor subclass from (function, type, arguments, state); only the tensor is kept.
    fn subclass(&mut self, args: Vec<Value<'a>>) -> Done {
        let [Value::Class(function), _, inner, ..] = args.as_slice() else {
            return Err(unexpected("a tensor subclass"));
        };
        let (Class::RebuildTensor | Class::RebuildParameter | Class::Unsupported(_)) = function
        else {
            return Err(unexpected("a tensor subclass"));
        };
        let inner = self.sequence(inner, "arguments")?;
        self.call(Value::Class(*function), inner)
    }

    /// Reads a tuple of extents or strides.
    fn sizes(&mut self, value: &Value<'a>) -> Result<Vec<usize>, Failure> {
        let items = self.sequence(value, "sizes")?;
        if items.len() > MAX_RANK {
            return Err(super::machine::beyond("dimensions in a tensor", MAX_RANK));
        }
        items.iter().map(|item| item.size().ok_or_else(|| unexpected("a shape"))).collect()
    }

    // numpy.

    /// Reads dtype('f4', align, copy); the byte order comes later, with the opcode BUILD.
    fn dtype(&mut self, args: &[Value<'a>]) -> Done {
        match args.first() {
            Some(Value::Str(code)) => {
                let (code, endian) = split_code(code);
                self.push_object(Obj::DType(code, endian))
            }
            Some(Value::Class(Class::Number(dtype))) => {
                self.push_object(Obj::DType(dtype.name(), Endian::Little))
            }
            _ => Err(unexpected("a numpy dtype")),
        }
    }

    /// Reads _frombuffer(bytes, dtype, shape, order), with which protocol 5 represents arrays.
    fn buffer(&mut self, args: &[Value<'a>]) -> Done {
        let [data, dtype, shape, order, ..] = args else {
            return Err(unexpected("a numpy array"));
        };
        let fortran = order.text() == Some("F");
        let shape = self.sizes(shape)?;
        let array = self.array(data.clone(), dtype, shape, fortran)?;
        self.push_object(Obj::Array(array))
    }

    fn array(
        &self,
        data: Value<'a>,
        dtype: &Value<'a>,
        shape: Vec<usize>,
        fortran: bool,
    ) -> Result<Array<'a>, Failure> {
        let Value::Ref(index) = dtype else { return Err(unexpected("a numpy array")) };
        let Some(Obj::DType(code, endian)) = self.objects.get(*index) else {
            return Err(unexpected("a numpy array"));
        };
        Ok(Array { shape, code, endian: *endian, fortran, data })
    }

    /// Reads _codecs.encode(text, 'latin1'), with which protocol 2 represents bytes.
    fn encode(&mut self, args: &[Value<'a>]) -> Done {
        let [text, ..] = args else { return Err(unexpected("_codecs.encode")) };
        let text = text.text().ok_or_else(|| unexpected("_codecs.encode"))?;
        self.charge(text.len())?;
        let bytes: Option<Rc<[u8]>> =
            text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
        self.push(Value::Decoded(bytes.ok_or_else(|| unexpected("_codecs.encode"))?))
    }

    /// Reads a JAX array from (function, arguments, state, aval), which wraps a numpy array.
    fn jax_array(&mut self, args: &[Value<'a>]) -> Done {
        match args {
            [Value::Class(Class::NumpyReconstruct), _, state, ..] => {
                let state = self.sequence(state, "state")?;
                let array = self.array_state(&state)?;
                self.push_object(Obj::Array(array))
            }
            [Value::Class(Class::NumpyFromBuffer), inner, ..] => {
                let inner = self.sequence(inner, "arguments")?;
                self.buffer(&inner)
            }
            _ => Err(unexpected("a JAX array")),
        }
    }

    /// Reads the state (version, shape, dtype, is_fortran, bytes) of a numpy array.
    fn array_state(&mut self, state: &[Value<'a>]) -> Result<Array<'a>, Failure> {
        let [_, shape, dtype, Value::Bool(fortran), data] = state else {
            return Err(unexpected("a numpy array"));
        };
        let shape = self.sizes(shape)?;
        self.array(data.clone(), dtype, shape, *fortran)
    }

    /// Executes BUILD, which stands for `object.__setstate__(state)`.
    pub(super) fn build(&mut self) -> Done {
        let state = self.pop()?;
        let target = self.pop()?;
        if let Value::Ref(index) = target {
            match self.objects.get(index) {
                Some(Obj::Array(_)) => {
                    let state = self.sequence(&state, "state")?;
                    self.objects[index] = Obj::Array(self.array_state(&state)?);
                }
                Some(Obj::DType(code, _)) => {
                    let code = *code;
                    let state = self.sequence(&state, "state")?;
                    let order = state.get(1).and_then(Value::text);
                    let endian = if order == Some(">") { Endian::Big } else { Endian::Little };
                    self.objects[index] = Obj::DType(code, endian);
                }
                // Attributes of a dictionary (such as `_metadata` of a state dict) or of any other
                // object contain no numbers.
                _ => {}
            }
        }
        self.push(target)
    }
}

/// Splits a code such as `>f4` into the type code and the byte order.
fn split_code(code: &str) -> (&str, Endian) {
    match code.strip_prefix('>') {
        Some(rest) => (rest, Endian::Big),
        None => (code.trim_start_matches(['<', '=', '|']), Endian::Little),
    }
}

/// The array that `_reconstruct` makes before BUILD fills it.
fn empty_array<'a>() -> Array<'a> {
    Array {
        shape: vec![0],
        code: "u1",
        endian: Endian::Little,
        fortran: false,
        data: Value::Bytes(&[]),
    }
}
