//! One reader for each format. All give the same: tensors whose shapes fit the bytes that are
//! there, with nothing converted or inflated yet.

pub(super) mod archive;
pub(super) mod choose;
mod mindspore;
mod msgpack;
mod npz;
mod safetensors;
mod state_dict;
mod torch_legacy;
mod torch_zip;

use std::cell::RefCell;

use self::archive::Archive;
use self::choose::{Leaf, Wanted, choose};
use super::error::Fault;
use super::format::Format;
use super::provenance::OtherSet;
use super::tensor::RawTensor;
use crate::tensor::Data;

/// What a reader found.
#[derive(Debug)]
pub(super) struct Checkpoint<'a> {
    pub(super) tensors: Vec<RawTensor<'a>>,
    /// Keys that lead to the state dict: `state_dict`.
    pub(super) section: Option<String>,
    /// Sets of tensors that were passed over.
    pub(super) others: Vec<OtherSet>,
    /// For tensors that are entries of an archive.
    archive: Option<RefCell<Archive<'a>>>,
}

impl<'a> Checkpoint<'a> {
    /// Lists the tensors of a file, of several sets those of the one that is wanted.
    pub(super) fn read(
        bytes: &'a [u8],
        format: Format,
        wanted: &Wanted<'_>,
    ) -> Result<Self, Fault> {
        match format {
            Format::Safetensors => safetensors::read(bytes)?.reduced(wanted),
            Format::Npz => npz::read(bytes)?.reduced(wanted),
            Format::MindSpore => mindspore::read(bytes)?.reduced(wanted),
            Format::TorchZip => torch_zip::read(bytes, wanted),
            Format::TorchLegacy => torch_legacy::read(bytes, wanted),
            Format::Pickle => state_dict::read_plain(bytes, wanted),
            Format::Msgpack => msgpack::read(bytes, wanted),
        }
    }

    fn of(tensors: Vec<RawTensor<'a>>) -> Self {
        Checkpoint { tensors, section: None, others: Vec::new(), archive: None }
    }

    /// The wanted set of a file without dictionaries, where `/` in a name stands for one.
    fn reduced(mut self, wanted: &Wanted<'_>) -> Result<Self, Fault> {
        let leaf = |tensor: &RawTensor<'a>| Leaf {
            name: tensor.name.clone(),
            shape: tensor.view.shape.clone(),
            nodes: tensor.name.match_indices('/').map(|(at, _)| at).collect(),
        };
        let leaves: Vec<Leaf> = self.tensors.iter().map(leaf).collect();
        if leaves.is_empty() {
            return Ok(self);
        }
        let choice = choose(&leaves, wanted)?;
        let mut all: Vec<_> = self.tensors.into_iter().map(Some).collect();
        let members = choice.members.iter().filter_map(|&index| all.get_mut(index)?.take());
        self.tensors = members
            .map(|mut tensor| {
                tensor.name.drain(..choice.prefix);
                tensor
            })
            .collect();
        (self.section, self.others) = (choice.section, choice.others);
        Ok(self)
    }

    /// The values of one of the tensors in PyTorch's order: float64 or, exactly, float32.
    pub(super) fn values(&self, tensor: &RawTensor<'a>) -> Result<Data, Fault> {
        tensor.values(|index, skip, len| match &self.archive {
            Some(archive) => archive.borrow_mut().inflate(index, skip, len),
            None => Err(Fault::damaged("it is no archive")),
        })
    }
}
