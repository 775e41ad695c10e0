//! numpy's archive of arrays (`numpy.savez`, `numpy.savez_compressed`).

use std::cell::RefCell;

use super::Checkpoint;
use super::archive::Archive;
use crate::weights::error::Fault;
use crate::weights::npy::{self, Header};
use crate::weights::tensor::{Bytes, Number, RawTensor};

pub(super) fn read(bytes: &[u8]) -> Result<Checkpoint<'_>, Fault> {
    let mut archive = Archive::open(bytes)?;
    let names: Vec<String> = archive.names().map(|name| name.into_owned()).collect();
    let mut tensors = Vec::new();
    for name in &names {
        let Some(tensor) = name.strip_suffix(".npy") else { continue };
        if names.iter().any(|other| other == tensor) {
            return Err(Fault::new(
                "the npz has the entry twice, with and without .npy",
                "save the file again, each array once",
            )
            .of(tensor));
        }
        tensors.push(array(&mut archive, name, tensor).map_err(|fault| fault.of(tensor))?);
    }
    match tensors.is_empty() {
        true => Err(Fault::new("the npz holds no arrays", "save it again with numpy.savez")),
        false => Ok(Checkpoint { archive: Some(RefCell::new(archive)), ..Checkpoint::of(tensors) }),
    }
}

fn array<'a>(archive: &mut Archive<'a>, entry: &str, tensor: &str) -> Result<RawTensor<'a>, Fault> {
    let missing = || Fault::damaged("its entry is missing");
    let index = archive.index(entry).ok_or_else(missing)?;
    let length = Header::length(&archive.start(index, npy::START)?)?;
    let header = Header::parse(&archive.start(index, length)?)?;
    let len = archive.announced(index)?.checked_sub(header.end);
    let len = len.ok_or_else(|| Fault::damaged("its header reaches beyond its end"))?;
    let view = header.view()?;
    if let Number::Known(dtype, _) = &header.number {
        let needed = view.count()?.checked_mul(dtype.size());
        if needed != Some(len) {
            let shape = &header.shape;
            return Err(Fault::damaged(format!(
                "its shape {shape:?} does not fit its {len} bytes"
            )));
        }
    }
    RawTensor::new(tensor, header.number, view, Bytes::Entry { index, skip: header.end, len })
}
