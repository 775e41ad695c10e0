//! From a pickle to the tensors of its state dict.

use super::Checkpoint;
use crate::weights::dtype::DType;
use crate::weights::error::{Fault, first_three};
use crate::weights::pickle::{self, Array, Obj, Pickle, TensorView, Value};
use crate::weights::tensor::{Bytes, Number, RawTensor, View};

/// Where trainers put the state dict; the first that is there is taken, one inside another too.
const SECTIONS: [&str; 11] = [
    "state_dict",
    "model",
    "model_state_dict",
    "net",
    "network",
    "module",
    "variables",
    "state",
    "state_dict_ema",
    "ema_state_dict",
    "model_ema",
];

/// The collections of a Flax checkpoint that the network is made of.
const COLLECTIONS: [&str; 2] = ["params", "batch_stats"];

/// Dictionaries inside each other.
const MAX_DEPTH: usize = 16;
/// Entries that are looked at. Shared dictionaries could repeat without end.
const MAX_ENTRIES: usize = 1 << 16;

/// Bytes in a name. Names are copied for each entry of a dictionary.
const MAX_NAME: usize = 1024;

/// Finds the bytes of a PyTorch tensor.
pub(super) type Resolve<'r, 'a> =
    &'r mut dyn FnMut(&str, &TensorView<'a>) -> Result<RawTensor<'a>, Fault>;

/// A pickle of numpy arrays, nothing around it.
pub(super) fn read_plain(bytes: &[u8]) -> Result<Checkpoint<'_>, Fault> {
    let pickle = pickle::parse(bytes)?;
    collect(&pickle, &mut |_, _| {
        Err(Fault::new(
            "has its numbers outside of the pickle, in no file of PyTorch's",
            "save the checkpoint with torch.save",
        ))
    })
}

/// Lists the tensors of a pickle's state dict.
pub(super) fn collect<'a>(
    pickle: &Pickle<'a>,
    resolve: Resolve<'_, 'a>,
) -> Result<Checkpoint<'a>, Fault> {
    let (root, section) = locate(pickle)?;
    let mut walk = Walk { pickle, resolve, tensors: Vec::new(), entries: 0 };
    let collections = COLLECTIONS.map(|key| (key, pickle.entry(&root, key)));
    match collections[0].1 {
        None => walk.dictionary(&root, "", 0)?,
        Some(_) => {
            for (key, collection) in collections {
                if let Some(collection) = collection {
                    walk.dictionary(collection, key, 0)?;
                }
            }
        }
    }
    if walk.tensors.is_empty() {
        return Err(no_state_dict(pickle, &root));
    }
    let section = (!section.is_empty()).then(|| section.join("."));
    Ok(Checkpoint { tensors: walk.tensors, section, archive: None })
}

/// The state dict and the keys that lead to it.
fn locate<'a>(pickle: &Pickle<'a>) -> Result<(Value<'a>, Vec<&'static str>), Fault> {
    let mut root = pickle.root.clone();
    let mut path = Vec::new();
    while path.len() < MAX_DEPTH {
        let Some(entries) = pickle.dict(&root) else {
            return Err(no_state_dict(pickle, &root));
        };
        let is_tensor = |value: &Value<'a>| {
            matches!(pickle.object(value), Some(Obj::Tensor(_) | Obj::Array(_)))
        };
        let collection = pickle.entry(&root, COLLECTIONS[0]).is_some();
        if collection || entries.iter().any(|(_, value)| is_tensor(value)) {
            break;
        }
        let inner = SECTIONS.iter().find_map(|key| {
            let value = pickle.entry(&root, key)?;
            pickle.dict(value).map(|_| (*key, value.clone()))
        });
        let Some((key, value)) = inner else { break };
        path.push(key);
        root = value;
    }
    Ok((root, path))
}

fn no_state_dict(pickle: &Pickle<'_>, root: &Value<'_>) -> Fault {
    let keys = |entries: &[(Value<'_>, Value<'_>)]| {
        first_three(entries.iter().filter_map(|(key, _)| key.text()))
    };
    let found = match pickle.dict(root) {
        None => ", nor any dictionary".to_owned(),
        Some([]) => " but an empty dictionary".to_owned(),
        Some(entries) => format!(" but the keys {}", keys(entries)),
    };
    let advice = "save {'state_dict': model.state_dict()}";
    Fault::new(format!("the pickle holds no state dict{found}"), advice)
}

struct Walk<'w, 'a> {
    pickle: &'w Pickle<'a>,
    resolve: Resolve<'w, 'a>,
    tensors: Vec<RawTensor<'a>>,
    entries: usize,
}

impl<'a> Walk<'_, 'a> {
    fn dictionary(&mut self, dict: &Value<'a>, path: &str, depth: usize) -> Result<(), Fault> {
        let pickle = self.pickle;
        for (key, value) in pickle.dict(dict).unwrap_or_default() {
            self.entries += 1;
            let Some(key) = key.text() else { continue };
            let too_long = path.len().saturating_add(key.len()) > MAX_NAME;
            if too_long || self.entries > MAX_ENTRIES || depth > MAX_DEPTH {
                return Err(Fault::new(
                    "its names are too long, or its dictionaries nest or repeat without end",
                    "get the checkpoint from another source",
                ));
            }
            let name = if path.is_empty() { key.to_owned() } else { format!("{path}/{key}") };
            match pickle.object(value) {
                Some(Obj::Tensor(view)) => {
                    let tensor = (self.resolve)(&name, view).map_err(|fault| fault.of(&name))?;
                    self.tensors.push(tensor);
                }
                Some(Obj::Array(array)) => {
                    self.tensors.push(of_array(&name, array).map_err(|fault| fault.of(&name))?);
                }
                Some(Obj::Dict(_)) => self.dictionary(value, &name, depth + 1)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// A numpy array whose bytes are in the pickle.
fn of_array<'a>(name: &str, array: &Array<'a>) -> Result<RawTensor<'a>, Fault> {
    let bytes = match &array.data {
        Value::Bytes(bytes) => Bytes::Slice(bytes),
        Value::Str(text) => Bytes::Slice(text.as_bytes()),
        Value::Decoded(bytes) => Bytes::Decoded(bytes.clone()),
        // A list of Python objects.
        _ => Bytes::Slice(&[]),
    };
    let number = match DType::by_code(array.code) {
        Some(dtype) => Number::Known(dtype, array.endian),
        None => Number::Other(array.code.to_owned()),
    };
    let view = match array.fortran {
        true => View::column_major(&array.shape)?,
        false => View::row_major(&array.shape)?,
    };
    RawTensor::new(name, number, view, bytes)
}
