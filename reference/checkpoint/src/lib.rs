//! Checkpoints: reading, checking and writing the weights of a network.
//!
//! [`Weights::load`] takes `formula:SEED` or a file: safetensors, npz, PyTorch (zip and legacy),
//! MindSpore, Flax msgpack, or a pickle of numpy arrays as Flax programs write it. The format is
//! detected from the content. Names and orders of dimensions are converted to those of the authors'
//! PyTorch code ([`names`]). Numbers are converted to float32; float64 values are kept as well
//! ([`Param::to_f64`]). Nothing in a file is executed, and no size that a file states is trusted
//! before the bytes are there. A tensor that is missing, that the model does not know or that cannot
//! be used is an error that names it.
//!
//! Reading order: `format` (detects the format), `read` (one reader for each format), `pickle` (which
//! three of them use), `tensor` (a view of bytes that is converted to numbers), `survey` (compares the
//! file with the model).

pub mod formula;
pub mod names;
pub mod npy;

mod cursor;
mod dtype;
mod error;
mod file;
mod format;
mod infer;
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
use spec::ParamSpec;

pub use self::error::WeightsError;
pub use self::format::Format;
pub use self::infer::{Inferred, infer};
pub use self::inspect::{Inspection, TensorInfo, Verdict, inspect, inspect_bytes, inspect_set};
pub use self::names::Naming;
pub use self::param::Param;
pub use self::provenance::{OtherSet, Provenance};
pub use self::read::archive::announced_entries;
pub use self::source::Source;
pub use self::write::{OutFormat, write};

use self::read::choose::Wanted;
use self::survey::Survey;

/// The weights of a network by their official names. A clone shares the values until one is changed.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    params: BTreeMap<String, Arc<Param>>,
    provenance: Provenance,
}

impl Weights {
    /// Makes weights that a program in any language can reproduce bit for bit; see [`formula`].
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

    /// Loads the weights of a model whose tensors are `specs`. If a file has several sets of tensors,
    /// the one that fits best is taken, or the one whose key is given; see [`Provenance::note`].
    ///
    /// Fails, and names the tensor, if one is missing, has another shape, is not a float, or contains
    /// NaN or infinity; if two tensors have the same official name but different values; and if the
    /// set has tensors that the model does not know, other than bookkeeping (`num_batches_tracked`,
    /// counters, the state of an optimiser) or the classifier for a model without one. Also fails if
    /// the file cannot be read. A classifier that is missing as a whole is not an error; see
    /// [`Weights::has_head`].
    pub fn load(source: &Source, specs: &[ParamSpec]) -> Result<Weights, WeightsError> {
        match source {
            Source::Formula(seed) => Ok(Weights::formula(specs, *seed)),
            Source::File { path, key } => {
                let wanted = Wanted { specs, key: key.as_deref() };
                Weights::parse(&file::read(path)?, &source.to_string(), None, &wanted)
            }
        }
    }

    /// Like [`Weights::load`], but reads bytes, which messages call `file`. If `format` is `None`, it
    /// is detected from the content.
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
        let survey = Survey::new(bytes, format, wanted).map_err(|failure| failure.in_file(file))?;
        let params = survey.load().map_err(|failure| failure.in_file(file))?;
        Ok(Weights { params, provenance: survey.provenance(file, bytes) })
    }

    /// The tensor with this official name, if there is one.
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.params.get(name).map(|param| &**param)
    }

    /// The tensor with this official name, to be changed; clones of these weights keep the old values.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Param> {
        self.params.get_mut(name).map(Arc::make_mut)
    }

    /// Removes and returns a tensor. Its memory is freed with its last owner, so that a program that
    /// converts every tensor does not need memory for both forms of all of them.
    pub fn take(&mut self, name: &str) -> Option<Arc<Param>> {
        self.params.remove(name)
    }

    /// Official names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.params.keys().map(String::as_str)
    }

    /// Whether there is a classifier. Without it only features can be computed.
    pub fn has_head(&self) -> bool {
        self.params.contains_key("fc.weight")
    }

    /// Where the weights come from.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }
}
