//! Reads files of PyTorch before 1.6 (`_use_new_zipfile_serialization=False`). They consist of pickles
//! of a magic number, a protocol version, the properties of the machine, the checkpoint and the keys of
//! its storages. Then, for each key, the number of values (8 bytes) and the values follow.

use std::collections::HashMap;

use super::Checkpoint;
use super::choose::Wanted;
use super::state_dict::collect;
use crate::cursor::Cursor;
use crate::dtype::Endian;
use crate::error::{Failure, quoted};
use crate::format::LEGACY_MAGIC;
use crate::pickle::{self, Obj, Pickle, TensorView, Value};
use crate::tensor::{Bytes, Number, RawTensor, View};

/// The only protocol version that has ever been used.
const PROTOCOL: usize = 1001;

pub(super) fn read<'a>(bytes: &'a [u8], wanted: &Wanted<'_>) -> Result<Checkpoint<'a>, Failure> {
    let mut cursor = Cursor::new(bytes);
    let mut magic = [0; 16];
    magic[..LEGACY_MAGIC.len()].copy_from_slice(&LEGACY_MAGIC);
    match next(&mut cursor)?.root {
        Value::Int(number) if number == i128::from_le_bytes(magic) => {}
        _ => return Err(Failure::damaged("PyTorch's magic number is missing")),
    }
    let protocol = next(&mut cursor)?.root;
    if protocol.size() != Some(PROTOCOL) {
        return Err(Failure::damaged(format!("its protocol version is not {PROTOCOL}")));
    }
    let machine = next(&mut cursor)?;
    let endian = match machine.entry(&machine.root, "little_endian") {
        Some(Value::Bool(false)) => Endian::Big,
        _ => Endian::Little,
    };
    let pickle = next(&mut cursor)?;
    let keys = next(&mut cursor)?;
    let storages = storages(&mut cursor, &pickle, &keys)?;
    collect(&pickle, wanted, &mut |name, view| tensor(&storages, endian, name, view))
}

fn next<'a>(cursor: &mut Cursor<'a>) -> Result<Pickle<'a>, Failure> {
    let pickle = pickle::parse(cursor.rest())?;
    cursor.take(pickle.end)?;
    Ok(pickle)
}

/// Reads the bytes of every storage, by its key.
fn storages<'a>(
    cursor: &mut Cursor<'a>,
    pickle: &Pickle<'a>,
    keys: &Pickle<'a>,
) -> Result<HashMap<&'a str, &'a [u8]>, Failure> {
    let described: HashMap<&str, _> =
        pickle.storages().map(|storage| (storage.key, storage)).collect();
    let Some(Obj::List(keys)) = keys.object(&keys.root) else {
        return Err(Failure::damaged("the list of its storages is missing"));
    };
    let mut found = HashMap::new();
    for key in keys {
        let key = key.text().unwrap_or_default();
        let unknown = || Failure::damaged(format!("no tensor uses the storage {}", quoted(key)));
        let storage = described.get(key).ok_or_else(unknown)?;
        let length = cursor.length::<8>()?;
        if length != storage.whole {
            return Err(Failure::damaged(format!(
                "the storage {} has {length} values, but its tensors expect {}",
                quoted(key),
                storage.whole
            )));
        }
        found.insert(key, cursor.take(length.saturating_mul(storage.dtype.size()))?);
    }
    Ok(found)
}

fn tensor<'a>(
    storages: &HashMap<&'a str, &'a [u8]>,
    endian: Endian,
    name: &str,
    tensor: &TensorView<'a>,
) -> Result<RawTensor<'a>, Failure> {
    let storage = &tensor.storage;
    let missing = || Failure::damaged(format!("the storage {} is missing", quoted(storage.key)));
    let bytes = storages.get(storage.key).ok_or_else(missing)?;
    let view = View {
        shape: tensor.shape.clone(),
        strides: tensor.strides.clone(),
        offset: storage.start.saturating_add(tensor.offset),
    };
    RawTensor::new(name, Number::Known(storage.dtype, endian), view, Bytes::Slice(bytes))
}
