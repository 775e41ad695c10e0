//! Checkpoints: where the numbers of a network come from.
//!
//! [`Weights::load`] takes `formula:SEED` or a file: safetensors, npz, PyTorch (zip and legacy),
//! MindSpore, Flax msgpack, or a pickle of numpy arrays as Flax programs write. The format is told
//! by the content. Names and orders of dimensions become those of the authors' PyTorch code ([`names`]),
//! numbers become float32, beside which float64 ones are kept as they are ([`Param::to_f64`]).
//! Nothing in a file is executed, and no size that it states is believed
//! before the bytes have been seen; what the model misses, does not know or cannot compute with is
//! an error that names the tensor.
//!
//! Reading order: `format` (which reader), `read` (one file per format), `pickle` (for three of
//! them), `tensor` (a view of bytes that becomes numbers), `survey` (file against model).

pub mod formula;
pub mod names;
pub mod npy;

mod cursor;
mod dtype;
mod error;
mod file;
mod format;
mod inspect;
mod param;
mod pickle;
mod provenance;
mod read;
mod source;
mod survey;
mod tensor;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;

pub use self::error::WeightsError;
pub use self::format::Format;
pub use self::inspect::{Inspection, TensorInfo, Verdict, inspect, inspect_bytes, inspect_set};
pub use self::names::Naming;
pub use self::param::Param;
pub use self::provenance::{OtherSet, Provenance};
pub use self::read::archive::announced_entries;
pub use self::source::Source;
pub use self::write::{OutFormat, write};

use self::read::choose::Wanted;
use self::survey::Survey;

/// A tensor that a model needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamSpec {
    /// Official name: `layer1.0.conv2.spatial_conv.glo_conv.0.weight`, `fc.bias`.
    pub name: String,
    /// Shape in PyTorch's order: OIHW, dense [out, in], positional embedding [1, T, h, w].
    pub shape: Vec<usize>,
}

/// The weights of a network by their official names. A clone shares the values.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    params: BTreeMap<String, Arc<Param>>,
    provenance: Provenance,
}

impl Weights {
    /// Weights that any language can reproduce bit for bit, see [`formula`].
    pub fn formula(specs: &[ParamSpec], seed: u64) -> Weights {
        let param = |spec: &ParamSpec| {
            let data = formula::param(&spec.name, &spec.shape, seed);
            (spec.name.clone(), Arc::new(Param::new(spec.shape.clone(), data)))
        };
        let params: BTreeMap<_, _> = specs.par_iter().map(param).collect();
        let dtypes = BTreeMap::from([("float32".to_owned(), params.len())]);
        let source = Source::Formula(seed).to_string();
        Weights { params, provenance: Provenance { source, dtypes, ..Provenance::default() } }
    }

    /// The weights of a model whose tensors are `specs`. Of several sets of tensors in a file the
    /// one is taken that fits best, or that whose key is given; [`Provenance::note`] tells.
    ///
    /// Fails, naming the tensor, where one is missing, has another shape, is no float, or holds
    /// NaN or infinity; where two stand for the same tensor with different values; where the set
    /// has tensors that the model does not know, other than bookkeeping (`num_batches_tracked`,
    /// counters, the state of an optimiser) or the classifier for a model without one; and where
    /// the file cannot be read. A classifier that is missing as a whole is
    /// no failure: [`Weights::has_head`] tells.
    pub fn load(source: &Source, specs: &[ParamSpec]) -> Result<Weights, WeightsError> {
        match source {
            Source::Formula(seed) => Ok(Weights::formula(specs, *seed)),
            Source::File { path, key } => {
                let wanted = Wanted { specs, key: key.as_deref() };
                Weights::parse(&file::read(path)?, &source.to_string(), None, &wanted)
            }
        }
    }

    /// Like [`Weights::load`], from bytes that messages call `file`, in a given format or the one
    /// that the content shows.
    pub fn from_bytes(
        bytes: &[u8],
        file: &str,
        format: Option<Format>,
        specs: &[ParamSpec],
    ) -> Result<Weights, WeightsError> {
        Weights::parse(bytes, file, format, &Wanted { specs, key: None })
    }

    fn parse(
        bytes: &[u8],
        file: &str,
        format: Option<Format>,
        wanted: &Wanted<'_>,
    ) -> Result<Weights, WeightsError> {
        let survey = Survey::new(bytes, format, wanted).map_err(|fault| fault.at(file))?;
        let params = survey.load().map_err(|fault| fault.at(file))?;
        Ok(Weights { params, provenance: survey.provenance(file, bytes) })
    }

    /// A tensor by its official name.
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.params.get(name).map(|param| &**param)
    }

    /// A tensor to change; clones of these weights keep the old values.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Param> {
        self.params.get_mut(name).map(Arc::make_mut)
    }

    /// Takes a tensor out. With its last owner its memory goes: a program that makes something else
    /// of every tensor need not hold both.
    pub fn take(&mut self, name: &str) -> Option<Arc<Param>> {
        self.params.remove(name)
    }

    /// Official names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.params.keys().map(String::as_str)
    }

    /// Whether there is a classifier. A backbone alone serves for features only.
    pub fn has_head(&self) -> bool {
        self.params.contains_key("fc.weight")
    }

    /// Where they come from.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }
}
