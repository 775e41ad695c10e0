//! One reader for each format. Each lists the tensors of a file and checks that their shapes fit the
//! bytes that are there; values are decompressed and converted later.

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

use spec::Data;

use self::archive::Archive;
use self::choose::{Leaf, Wanted, choose};
use super::error::Failure;
use super::format::Format;
use super::provenance::OtherSet;
use super::tensor::RawTensor;

/// The tensors that a reader found.
#[derive(Debug)]
pub(super) struct Checkpoint<'a> {
    pub(super) tensors: Vec<RawTensor<'a>>,
    /// The keys that lead to the set of tensors that was taken, such as `state_dict`.
    pub(super) section: Option<String>,
    /// Sets of tensors that were passed over.
    pub(super) others: Vec<OtherSet>,
    /// The archive, if the tensors are its entries.
    archive: Option<RefCell<Archive<'a>>>,
}

impl<'a> Checkpoint<'a> {
    /// Lists the tensors of a file; if it has several sets, those of the wanted one.
    pub(super) fn read(
        bytes: &'a [u8],
        format: Format,
        wanted: &Wanted<'_>,
    ) -> Result<Self, Failure> {
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

    /// Keeps the wanted set of a file without dictionaries, in which `/` in a name separates keys.
    fn reduced(mut self, wanted: &Wanted<'_>) -> Result<Self, Failure> {
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

    /// Reads the values of one of the tensors, in PyTorch's order of dimensions and without loss, as
    /// float64 or float32.
    pub(super) fn values(&self, tensor: &RawTensor<'a>) -> Result<Data, Failure> {
        tensor.values(|index, skip, len| match &self.archive {
            Some(archive) => archive.borrow_mut().inflate(index, skip, len),
            None => Err(Failure::damaged("it is not an archive")),
        })
    }
}
