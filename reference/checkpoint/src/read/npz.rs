//! Reads numpy's archives of arrays (`numpy.savez`, `numpy.savez_compressed`).

use std::cell::RefCell;

use super::Checkpoint;
use super::archive::Archive;
use crate::error::Failure;
use crate::npy::{self, Header};
use crate::tensor::{Bytes, Number, RawTensor};

pub(super) fn read(bytes: &[u8]) -> Result<Checkpoint<'_>, Failure> {
    let mut archive = Archive::open(bytes)?;
    let names: Vec<String> = archive.names().map(|name| name.into_owned()).collect();
    let mut tensors = Vec::new();
    for name in &names {
        let Some(tensor) = name.strip_suffix(".npy") else { continue };
        if names.iter().any(|other| other == tensor) {
            return Err(Failure::new(
                "is in the npz twice, with and without .npy",
                "save the file again, with each array once",
            )
            .in_tensor(tensor));
        }
        tensors
            .push(array(&mut archive, name, tensor).map_err(|failure| failure.in_tensor(tensor))?);
    }
    match tensors.is_empty() {
        true => Err(Failure::new("the npz has no arrays", "save it again with numpy.savez")),
        false => Ok(Checkpoint { archive: Some(RefCell::new(archive)), ..Checkpoint::of(tensors) }),
    }
}

fn array<'a>(
    archive: &mut Archive<'a>,
    entry: &str,
    tensor: &str,
) -> Result<RawTensor<'a>, Failure> {
    let missing = || Failure::damaged("its entry is missing");
    let index = archive.index(entry).ok_or_else(missing)?;
    let length = Header::length(&archive.start(index, npy::START)?)?;
    let header = Header::parse(&archive.start(index, length)?)?;
    let len = archive.stated_size(index)?.checked_sub(header.end);
    let len = len.ok_or_else(|| Failure::damaged("its header is longer than its entry"))?;
    let view = header.view()?;
    if let Number::Known(dtype, _) = &header.number {
        let needed = view.count()?.checked_mul(dtype.size());
        if needed != Some(len) {
            let shape = &header.shape;
            return Err(Failure::damaged(format!(
                "its shape {shape:?} does not fit its {len} bytes"
            )));
        }
    }
    RawTensor::new(tensor, header.number, view, Bytes::Entry { index, skip: header.end, len })
}
