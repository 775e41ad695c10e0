//! Reads files of PyTorch 1.6 and later: a zip archive, not compressed, with the pickle in
//! `NAME/data.pkl`, each storage in `NAME/data/KEY`, and the byte order in `NAME/byteorder`.

use std::collections::HashMap;

use super::Checkpoint;
use super::archive::Archive;
use super::choose::Wanted;
use super::state_dict::collect;
use crate::dtype::Endian;
use crate::error::{Failure, quoted};
use crate::pickle::{self, TensorView};
use crate::tensor::{Bytes, Number, RawTensor, View};

const PICKLE: &str = "data.pkl";

pub(super) fn read<'a>(bytes: &'a [u8], wanted: &Wanted<'_>) -> Result<Checkpoint<'a>, Failure> {
    let mut archive = Archive::open(bytes)?;
    archive.detect_checksums()?;
    let at_root = |name: &str| {
        let folder = name.strip_suffix(PICKLE)?;
        (folder.is_empty() || folder.ends_with('/')).then(|| folder.to_owned())
    };
    let folder = archive.names().find_map(|name| at_root(&name));
    let folder = folder.ok_or_else(|| Failure::damaged("its archive has no data.pkl"))?;
    let endian = byte_order(&mut archive, &folder)?;
    let program = archive.stored(&format!("{folder}{PICKLE}"))?;
    let pickle = pickle::parse(program)?;
    let mut storages = Storages { archive, folder, endian, known: HashMap::new() };
    collect(&pickle, wanted, &mut |name, view| storages.tensor(name, view))
}

/// Reads the byte order. Archives of PyTorch before 2.1 do not state it; they are little-endian.
fn byte_order(archive: &mut Archive<'_>, folder: &str) -> Result<Endian, Failure> {
    let name = format!("{folder}byteorder");
    if archive.index(&name).is_none() {
        return Ok(Endian::Little);
    }
    match archive.stored(&name)? {
        b"little" => Ok(Endian::Little),
        b"big" => Ok(Endian::Big),
        other => {
            let word = quoted(&String::from_utf8_lossy(other));
            Err(Failure::damaged(format!("its byte order is {word}, neither little nor big")))
        }
    }
}

struct Storages<'a> {
    archive: Archive<'a>,
    folder: String,
    endian: Endian,
    /// Storages whose checksum has been verified; many tensors may share a storage.
    known: HashMap<String, &'a [u8]>,
}

impl<'a> Storages<'a> {
    fn tensor(&mut self, name: &str, tensor: &TensorView<'a>) -> Result<RawTensor<'a>, Failure> {
        let storage = &tensor.storage;
        let bytes = self.bytes(storage.key)?;
        if storage.whole.checked_mul(storage.dtype.size()) != Some(bytes.len()) {
            let (n, dtype, there) = (storage.whole, storage.dtype.name(), bytes.len());
            return Err(Failure::damaged(format!(
                "{n} values of {dtype} do not fit {there} bytes"
            )));
        }
        let number = Number::Known(storage.dtype, self.endian);
        let view = View {
            shape: tensor.shape.clone(),
            strides: tensor.strides.clone(),
            offset: storage.start.saturating_add(tensor.offset),
        };
        RawTensor::new(name, number, view, Bytes::Slice(bytes))
    }

    fn bytes(&mut self, key: &str) -> Result<&'a [u8], Failure> {
        if let Some(bytes) = self.known.get(key) {
            return Ok(bytes);
        }
        let bytes = self.archive.stored(&format!("{}data/{key}", self.folder))?;
        self.known.insert(key.to_owned(), bytes);
        Ok(bytes)
    }
}
