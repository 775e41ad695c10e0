//! Finds the tensors of the state dict in a pickle.

use std::collections::HashMap;

use super::Checkpoint;
use super::choose::{Leaf, Wanted, choose};
use crate::dtype::DType;
use crate::error::{Failure, first_three};
use crate::pickle::{self, Array, Obj, Pickle, TensorView, Value};
use crate::tensor::{Bytes, Number, RawTensor, View};

/// Largest depth of nested dictionaries.
const MAX_DEPTH: usize = 16;
/// Largest number of entries that are visited. Without a limit, shared dictionaries could be visited
/// exponentially often.
const MAX_ENTRIES: usize = 1 << 17;

/// Largest length of a name in bytes, because names are copied for each entry of a dictionary.
const MAX_NAME: usize = 1024;

/// A function that finds the bytes of a PyTorch tensor, given its name and view.
pub(super) type Resolve<'r, 'a> =
    &'r mut dyn FnMut(&str, &TensorView<'a>) -> Result<RawTensor<'a>, Failure>;

/// Reads a file that is a single pickle of numpy arrays.
pub(super) fn read_plain<'a>(
    bytes: &'a [u8],
    wanted: &Wanted<'_>,
) -> Result<Checkpoint<'a>, Failure> {
    read_values(&pickle::parse(bytes)?, wanted)
}

/// Lists the arrays of a pickle or of MessagePack; their values are in the same bytes.
pub(super) fn read_values<'a>(
    values: &Pickle<'a>,
    wanted: &Wanted<'_>,
) -> Result<Checkpoint<'a>, Failure> {
    collect(values, wanted, &mut |_, _| {
        Err(Failure::new(
            "has its values outside the pickle, and this is not a PyTorch archive",
            "save the checkpoint with torch.save",
        ))
    })
}

/// Lists the tensors of a pickle's state dict.
pub(super) fn collect<'a>(
    pickle: &Pickle<'a>,
    wanted: &Wanted<'_>,
    resolve: Resolve<'_, 'a>,
) -> Result<Checkpoint<'a>, Failure> {
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
            Obj::Array(array) => from_array(name, array),
            Obj::Unsupported(kind) => unsupported(name, kind),
            _ => continue,
        };
        tensors.push(tensor.map_err(|failure| failure.in_tensor(name))?);
    }
    Ok(Checkpoint { tensors, section: choice.section, others: choice.others, archive: None })
}

fn no_state_dict(pickle: &Pickle<'_>, root: &Value<'_>) -> Failure {
    let keys = |entries: &[(Value<'_>, Value<'_>)]| {
        first_three(entries.iter().filter_map(|(key, _)| key.text()))
    };
    let found = match pickle.dict(root) {
        None => "it is not a dictionary".to_owned(),
        Some([]) => "it is an empty dictionary".to_owned(),
        Some(entries) => format!("it has the keys {}", keys(entries)),
    };
    let advice = "save {'state_dict': model.state_dict()}";
    Failure::new(format!("the pickle has no state dict: {found}"), advice)
}

/// Collects the tensors of a pickle, wherever they are in its dictionaries, lists and tuples.
struct Walk<'w, 'a> {
    pickle: &'w Pickle<'a>,
    leaves: Vec<Leaf>,
    /// The object of each leaf.
    objects: Vec<&'w Obj<'a>>,
    /// Number of entries visited so far.
    entries: usize,
}

impl<'a> Walk<'_, 'a> {
    /// Visits the entries of a dictionary, list or tuple at `path`; `nodes` are the offsets at which the
    /// keys in `path` end.
    fn container(
        &mut self,
        value: &Value<'a>,
        nodes: &mut Vec<usize>,
        path: &str,
    ) -> Result<(), Failure> {
        let pickle = self.pickle;
        match pickle.object(value) {
            Some(Obj::Dict(entries)) => {
                // Of several entries with the same key, Python keeps the last value at the first place.
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
                    // Only objects can contain tensors; skip the many lists of numbers quickly.
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
    ) -> Result<(), Failure> {
        self.entries += 1;
        let too_long = path.len().saturating_add(key.len()) > MAX_NAME;
        if too_long || self.entries > MAX_ENTRIES || nodes.len() > MAX_DEPTH {
            return Err(Failure::new(
                "its names are too long, or its dictionaries nest too deep or repeat each other",
                "get the checkpoint from another source",
            ));
        }
        let Some(object) = self.pickle.object(value) else { return Ok(()) };
        let name = if path.is_empty() { key.to_owned() } else { format!("{path}/{key}") };
        let shape = match object {
            Obj::Tensor(view) => &view.shape[..],
            Obj::Array(array) => &array.shape[..],
            Obj::Unsupported(_) => &[],
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

/// A kind of tensor that cannot be weights as it is. This is an error only if the model needs it.
fn unsupported<'a>(name: &str, kind: &str) -> Result<RawTensor<'a>, Failure> {
    let number = Number::Other(kind.to_owned());
    RawTensor::new(name, number, View::row_major(&[])?, Bytes::Slice(&[]))
}

/// Makes a tensor from a numpy array whose bytes are in the pickle.
fn from_array<'a>(name: &str, array: &Array<'a>) -> Result<RawTensor<'a>, Failure> {
    let bytes = match &array.data {
        Value::Bytes(bytes) => Bytes::Slice(bytes),
        Value::Str(text) => Bytes::Slice(text.as_bytes()),
        Value::Decoded(bytes) => Bytes::Decoded(bytes.clone()),
        // An array of Python objects has no bytes.
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
