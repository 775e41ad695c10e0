//! From a pickle to the tensors of its state dict.

use std::collections::HashMap;

use super::Checkpoint;
use super::choose::{Leaf, Wanted, choose};
use crate::weights::dtype::DType;
use crate::weights::error::{Fault, first_three};
use crate::weights::pickle::{self, Array, Obj, Pickle, TensorView, Value};
use crate::weights::tensor::{Bytes, Number, RawTensor, View};

/// Dictionaries inside each other.
const MAX_DEPTH: usize = 16;
/// Entries that are looked at. Shared dictionaries could repeat without end.
const MAX_ENTRIES: usize = 1 << 17;

/// Bytes in a name. Names are copied for each entry of a dictionary.
const MAX_NAME: usize = 1024;

/// Finds the bytes of a PyTorch tensor.
pub(super) type Resolve<'r, 'a> =
    &'r mut dyn FnMut(&str, &TensorView<'a>) -> Result<RawTensor<'a>, Fault>;

/// A pickle of numpy arrays, nothing around it.
pub(super) fn read_plain<'a>(
    bytes: &'a [u8],
    wanted: &Wanted<'_>,
) -> Result<Checkpoint<'a>, Fault> {
    read_values(&pickle::parse(bytes)?, wanted)
}

/// Arrays that hold their values themselves.
pub(super) fn read_values<'a>(
    values: &Pickle<'a>,
    wanted: &Wanted<'_>,
) -> Result<Checkpoint<'a>, Fault> {
    collect(values, wanted, &mut |_, _| {
        Err(Fault::new(
            "has its numbers outside of the pickle, in no file of PyTorch's",
            "save the checkpoint with torch.save",
        ))
    })
}

/// Lists the tensors of a pickle's state dict.
pub(super) fn collect<'a>(
    pickle: &Pickle<'a>,
    wanted: &Wanted<'_>,
    resolve: Resolve<'_, 'a>,
) -> Result<Checkpoint<'a>, Fault> {
    let mut walk = Walk { pickle, leaves: Vec::new(), objects: Vec::new(), entries: 0 };
    walk.container(&pickle.root, &mut Vec::new(), "")?;
    if walk.leaves.is_empty() {
        return Err(no_state_dict(pickle, &pickle.root));
    }
    let choice = choose(&walk.leaves, wanted)?;
    let mut tensors = Vec::with_capacity(choice.members.len());
    for &index in &choice.members {
        let name = &walk.leaves[index].name[choice.prefix..];
        let tensor = match walk.objects[index] {
            Obj::Tensor(view) => resolve(name, view).map(|tensor| tensor.negated_if(view.neg)),
            Obj::Array(array) => of_array(name, array),
            Obj::Strange(kind) => strange(name, kind),
            _ => continue,
        };
        tensors.push(tensor.map_err(|fault| fault.of(name))?);
    }
    Ok(Checkpoint { tensors, section: choice.section, others: choice.others, archive: None })
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

/// The tensors of a pickle, wherever they are in its dictionaries, lists and tuples.
struct Walk<'w, 'a> {
    pickle: &'w Pickle<'a>,
    leaves: Vec<Leaf>,
    /// What each leaf is.
    objects: Vec<&'w Obj<'a>>,
    entries: usize,
}

impl<'a> Walk<'_, 'a> {
    /// `nodes` are the ends of the keys in `path`.
    fn container(
        &mut self,
        value: &Value<'a>,
        nodes: &mut Vec<usize>,
        path: &str,
    ) -> Result<(), Fault> {
        let pickle = self.pickle;
        match pickle.object(value) {
            Some(Obj::Dict(entries)) => {
                // Python keeps the last of several entries with one key, in the first one's place.
                let mut last: HashMap<&str, &Value<'a>> = HashMap::new();
                let texts = entries.iter().filter_map(|(key, value)| Some((key.text()?, value)));
                last.extend(texts);
                for (key, value) in entries {
                    match key {
                        Value::Str(key) => match last.remove(key) {
                            Some(value) => self.entry(key, value, nodes, path)?,
                            None => self.entries += 1,
                        },
                        Value::Int(number) => {
                            self.entry(&number.to_string(), value, nodes, path)?
                        }
                        _ => self.entries += 1,
                    }
                }
            }
            Some(Obj::List(items) | Obj::Tuple(items)) => {
                for (place, value) in items.iter().enumerate() {
                    // Lists of numbers are many, and hold nothing.
                    if matches!(value, Value::Ref(_)) {
                        self.entry(&place.to_string(), value, nodes, path)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn entry(
        &mut self,
        key: &str,
        value: &Value<'a>,
        nodes: &mut Vec<usize>,
        path: &str,
    ) -> Result<(), Fault> {
        self.entries += 1;
        let too_long = path.len().saturating_add(key.len()) > MAX_NAME;
        if too_long || self.entries > MAX_ENTRIES || nodes.len() > MAX_DEPTH {
            return Err(Fault::new(
                "its names are too long, or its dictionaries nest or repeat without end",
                "get the checkpoint from another source",
            ));
        }
        let Some(object) = self.pickle.object(value) else { return Ok(()) };
        let name = if path.is_empty() { key.to_owned() } else { format!("{path}/{key}") };
        let shape = match object {
            Obj::Tensor(view) => &view.shape[..],
            Obj::Array(array) => &array.shape[..],
            Obj::Strange(_) => &[],
            Obj::Dict(_) | Obj::List(_) | Obj::Tuple(_) => {
                nodes.push(name.len());
                self.container(value, nodes, &name)?;
                nodes.pop();
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.leaves.push(Leaf { name, shape: shape.to_vec(), nodes: nodes.clone() });
        self.objects.push(object);
        Ok(())
    }
}

/// A tensor that cannot be weights as it is, which is no matter where none is wanted.
fn strange<'a>(name: &str, kind: &str) -> Result<RawTensor<'a>, Fault> {
    let number = Number::Other(kind.to_owned());
    RawTensor::new(name, number, View::row_major(&[])?, Bytes::Slice(&[]))
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
