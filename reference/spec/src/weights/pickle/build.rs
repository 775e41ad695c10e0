//! What a constructor's arguments describe.

use std::rc::Rc;

use super::classes::{Class, refusal};
use super::machine::Machine;
use super::value::{Array, Obj, Storage, TensorView, Value};
use crate::weights::dtype::{Endian, MAX_RANK};
use crate::weights::error::{Fault, quoted};

type Done = Result<(), Fault>;

fn odd(what: &str) -> Fault {
    Fault::new(
        format!("the arguments of {what} are not those that PyTorch, numpy or JAX write"),
        "convert the checkpoint to safetensors with the program that wrote it",
    )
}

impl<'a> Machine<'a> {
    /// What `class(*args)` would have made.
    pub(super) fn call(&mut self, class: Value<'a>, args: Vec<Value<'a>>) -> Done {
        let class = match class {
            Value::Class(class) => class,
            // Calling an inert object (a bound method of a log buffer) gives another.
            Value::Ref(index) if matches!(self.objects.get(index), Some(Obj::Inert)) => {
                Class::Inert
            }
            _ => return Err(Fault::damaged("it calls something that is no constructor")),
        };
        match class {
            Class::Dict => self.dictionary(&args),
            Class::DefaultDict => self.push_object(Obj::Dict(Vec::new())),
            Class::Strange(kind) => self.push_object(Obj::Strange(kind)),
            Class::Tuple => match args.first() {
                Some(items) => self.push(items.clone()),
                None => self.push_object(Obj::Tuple(Vec::new())),
            },
            Class::RebuildTensor => self.tensor(&args),
            Class::RebuildParameter => {
                self.push(args.into_iter().next().ok_or_else(|| odd("a parameter"))?)
            }
            Class::RebuildFromType => self.subclass(args),
            Class::NumpyReconstruct => self.push_object(Obj::Array(empty_array())),
            Class::NumpyFromBuffer => self.buffer(&args),
            Class::NumpyDType => self.dtype(&args),
            Class::Encode => self.encode(&args),
            Class::JaxArray => self.jax_array(&args),
            Class::GetAttr => self.attribute(&args),
            Class::Inert | Class::Number(_) => self.push_object(Obj::Inert),
            Class::NumpyArray | Class::Storage(_) => Err(odd("an array")),
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
        // Python 2 wrote a list of pairs.
        let mut entries = Vec::new();
        for pair in self.sequence(first, "pairs")? {
            let [key, value] = <[_; 2]>::try_from(self.sequence(&pair, "pair")?)
                .map_err(|_| odd("a dictionary"))?;
            self.charge(1)?;
            entries.push((key, value));
        }
        self.push_object(Obj::Dict(entries))
    }

    /// `getattr`, which mmengine's logs use on their own objects only.
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

    /// ('storage', type, key, location, values[, view]).
    pub(super) fn persistent(&mut self) -> Done {
        let id = self.pop()?;
        let parts = self.sequence(&id, "persistent id")?;
        let (tag, class, key, len, view) = match parts.as_slice() {
            [tag, class, key, _, len] => (tag, class, key, len, None),
            [tag, class, key, _, len, view] => (tag, class, key, len, Some(view)),
            _ => return Err(odd("a storage")),
        };
        let (Some("storage"), Value::Class(Class::Storage(dtype)), Some(key), Some(whole)) =
            (tag.text(), class, key.text(), len.size())
        else {
            return Err(odd("a storage"));
        };
        let (start, len) = match view {
            None | Some(Value::None) => (0, whole),
            Some(view) => match self.sequence(view, "view")?.as_slice() {
                [_, start, len] => (
                    start.size().ok_or_else(|| odd("a view"))?,
                    len.size().ok_or_else(|| odd("a view"))?,
                ),
                _ => return Err(odd("a view")),
            },
        };
        self.push_object(Obj::Storage(Storage { key, dtype: *dtype, len, start, whole }))
    }

    /// (storage, offset, size, stride, requires_grad, hooks[, dtype or metadata]).
    fn tensor(&mut self, args: &[Value<'a>]) -> Done {
        let [Value::Ref(storage), offset, shape, strides, rest @ ..] = args else {
            return Err(odd("a tensor"));
        };
        let Some(Obj::Storage(storage)) = self.objects.get(*storage) else {
            return Err(odd("a tensor"));
        };
        let mut storage = *storage;
        // _v3 has the format before the metadata.
        let metadata = match rest.get(2) {
            Some(Value::Class(_)) => rest.get(3),
            other => other,
        };
        let neg = metadata.map_or(Ok(false), |bits| self.math_bits(bits))?;
        // An untyped storage is counted in bytes, and the format stands apart.
        if let Some(Value::Class(Class::Number(dtype))) = rest.get(2) {
            let size = dtype.size() / storage.dtype.size().min(dtype.size());
            storage.len /= size;
            storage.whole /= size;
            storage.dtype = *dtype;
        }
        let offset = offset.size().ok_or_else(|| odd("a tensor"))?;
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        self.push_object(Obj::Tensor(TensorView { storage, offset, shape, strides, neg }))
    }

    /// The metadata of a tensor: whether it is a negated view. A conjugated one is complex, and so
    /// no weights anyway.
    fn math_bits(&self, metadata: &Value<'a>) -> Result<bool, Fault> {
        let Value::Ref(index) = metadata else {
            return if matches!(metadata, Value::None) { Ok(false) } else { Err(odd("a tensor")) };
        };
        let Some(Obj::Dict(entries)) = self.objects.get(*index) else {
            return Err(odd("a tensor"));
        };
        let mut neg = false;
        for (key, value) in entries {
            match (key.text(), value) {
                (Some("neg"), Value::Bool(bit)) => neg = *bit,
                (Some("conj"), Value::Bool(_)) => {}
                (key, _) => {
                    let key = quoted(key.unwrap_or("a key that is no text"));
                    return Err(Fault::new(
                        format!("a tensor in it has the metadata `{key}`, which is not understood"),
                        "save model.state_dict() with tensors that were cloned",
                    ));
                }
            }
        }
        Ok(neg)
    }

    /// (function, type, arguments, state) of a tensor subclass: only the tensor matters.
    fn subclass(&mut self, args: Vec<Value<'a>>) -> Done {
        let [Value::Class(function), _, inner, ..] = args.as_slice() else {
            return Err(odd("a tensor subclass"));
        };
        let (Class::RebuildTensor | Class::RebuildParameter | Class::Strange(_)) = function else {
            return Err(odd("a tensor subclass"));
        };
        let inner = self.sequence(inner, "arguments")?;
        self.call(Value::Class(*function), inner)
    }

    /// A tuple of sizes.
    fn sizes(&mut self, value: &Value<'a>) -> Result<Vec<usize>, Fault> {
        let items = self.sequence(value, "sizes")?;
        if items.len() > MAX_RANK {
            return Err(super::machine::beyond("dimensions in a tensor", MAX_RANK));
        }
        items.iter().map(|item| item.size().ok_or_else(|| odd("a shape"))).collect()
    }

    // numpy.

    /// dtype('f4', align, copy); its byte order comes with BUILD.
    fn dtype(&mut self, args: &[Value<'a>]) -> Done {
        match args.first() {
            Some(Value::Str(code)) => {
                let (code, endian) = split_code(code);
                self.push_object(Obj::DType(code, endian))
            }
            Some(Value::Class(Class::Number(dtype))) => {
                self.push_object(Obj::DType(dtype.name(), Endian::Little))
            }
            _ => Err(odd("a numpy dtype")),
        }
    }

    /// _frombuffer(bytes, dtype, shape, order), as protocol 5 has it.
    fn buffer(&mut self, args: &[Value<'a>]) -> Done {
        let [data, dtype, shape, order, ..] = args else {
            return Err(odd("a numpy array"));
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
    ) -> Result<Array<'a>, Fault> {
        let Value::Ref(index) = dtype else { return Err(odd("a numpy array")) };
        let Some(Obj::DType(code, endian)) = self.objects.get(*index) else {
            return Err(odd("a numpy array"));
        };
        Ok(Array { shape, code, endian: *endian, fortran, data })
    }

    /// _codecs.encode(text, 'latin1'): bytes as protocol 2 spells them.
    fn encode(&mut self, args: &[Value<'a>]) -> Done {
        let [text, ..] = args else { return Err(odd("_codecs.encode")) };
        let text = text.text().ok_or_else(|| odd("_codecs.encode"))?;
        self.charge(text.len())?;
        let bytes: Option<Rc<[u8]>> =
            text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
        self.push(Value::Decoded(bytes.ok_or_else(|| odd("_codecs.encode"))?))
    }

    /// (function, arguments, state, aval): a numpy array in a wrapper.
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
            _ => Err(odd("a JAX array")),
        }
    }

    /// (version, shape, dtype, is_fortran, bytes).
    fn array_state(&mut self, state: &[Value<'a>]) -> Result<Array<'a>, Fault> {
        let [_, shape, dtype, Value::Bool(fortran), data] = state else {
            return Err(odd("a numpy array"));
        };
        let shape = self.sizes(shape)?;
        self.array(data.clone(), dtype, shape, *fortran)
    }

    /// `object.__setstate__(state)`.
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
                // Attributes of a dictionary (`_metadata` of a state dict) or of anything else
                // carry no numbers.
                _ => {}
            }
        }
        self.push(target)
    }
}

/// `>f4` as its code and order of bytes.
fn split_code(code: &str) -> (&str, Endian) {
    match code.strip_prefix('>') {
        Some(rest) => (rest, Endian::Big),
        None => (code.trim_start_matches(['<', '=', '|']), Endian::Little),
    }
}

/// What `_reconstruct` makes before BUILD fills it.
fn empty_array<'a>() -> Array<'a> {
    Array {
        shape: vec![0],
        code: "u1",
        endian: Endian::Little,
        fortran: false,
        data: Value::Bytes(&[]),
    }
}
