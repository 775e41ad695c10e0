//! One reader for each format. All give the same: tensors whose shapes fit the bytes that are
//! there, with nothing converted or inflated yet.

pub(super) mod archive;
mod mindspore;
mod npz;
mod safetensors;
mod state_dict;
mod torch_legacy;
mod torch_zip;

use std::cell::RefCell;

use self::archive::Archive;
use super::error::Fault;
use super::format::Format;
use super::tensor::RawTensor;
use crate::tensor::Data;

/// What a reader found.
#[derive(Debug)]
pub(super) struct Checkpoint<'a> {
    pub(super) tensors: Vec<RawTensor<'a>>,
    /// Keys that lead to the state dict: `state_dict`.
    pub(super) section: Option<String>,
    /// For tensors that are entries of an archive.
    archive: Option<RefCell<Archive<'a>>>,
}

impl<'a> Checkpoint<'a> {
    /// Lists the tensors of a file.
    pub(super) fn read(bytes: &'a [u8], format: Format) -> Result<Self, Fault> {
        match format {
            Format::Safetensors => safetensors::read(bytes),
            Format::Npz => npz::read(bytes),
            Format::TorchZip => torch_zip::read(bytes),
            Format::TorchLegacy => torch_legacy::read(bytes),
            Format::MindSpore => mindspore::read(bytes),
            Format::Pickle => state_dict::read_plain(bytes),
        }
    }

    fn of(tensors: Vec<RawTensor<'a>>) -> Self {
        Checkpoint { tensors, section: None, archive: None }
    }

    /// The values of one of the tensors in PyTorch's order: float64 or, exactly, float32.
    pub(super) fn values(&self, tensor: &RawTensor<'a>) -> Result<Data, Fault> {
        tensor.values(|index, skip, len| match &self.archive {
            Some(archive) => archive.borrow_mut().inflate(index, skip, len),
            None => Err(Fault::damaged("it is no archive")),
        })
    }
}
