//! Helpers that the test files of this crate share.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use checkpoint::{Weights, formula};
use ndarray::{ArrayD, OwnedRepr};
use ndarray_npy::{NpzReader, ReadNpzError, ReadableElement};
use scalar::{Real, Scalar};
use spec::{Config, Engine, EngineError, Flow, Ignore, Model, ModuleId, Tap, Tensor};

/// The path of a file in `reference/goldens`.
pub fn golden_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../reference/goldens").join(name)
}

/// The arrays of a golden npz.
pub struct Npz(NpzReader<File>);

impl Npz {
    /// Opens a golden; if it is missing, the test fails with its name.
    pub fn open(name: &str) -> Self {
        let path = golden_path(name);
        let file = File::open(&path).unwrap_or_else(|e| panic!("golden {name}: {e}"));
        Npz(NpzReader::new(file).unwrap_or_else(|e| panic!("golden {name}: {e}")))
    }

    pub fn names(&mut self) -> Vec<String> {
        self.0.names().unwrap()
    }

    /// Reads an array; panics if the golden does not have it.
    pub fn get<T: ReadableElement>(&mut self, name: &str) -> ArrayD<T> {
        self.find(name).unwrap_or_else(|| panic!("the golden has no array {name}"))
    }

    /// Reads an array, or returns `None` if the golden does not have it.
    pub fn find<T: ReadableElement>(&mut self, name: &str) -> Option<ArrayD<T>> {
        let has = self.names().iter().any(|n| n.trim_end_matches(".npy") == name);
        has.then(|| {
            let read: Result<ndarray::ArrayBase<OwnedRepr<T>, _>, ReadNpzError> =
                self.0.by_name(name);
            read.unwrap_or_else(|e| panic!("array {name}: {e}"))
        })
    }
}

/// A network with formula weights and formula clips.
pub struct Case {
    pub model: Arc<Model>,
    pub weights: Weights,
    pub input: Tensor,
}

impl Case {
    pub fn new(config: Config, clips: usize) -> Self {
        Case::of(Model::new(config).unwrap(), clips)
    }

    pub fn of(model: Model, clips: usize) -> Self {
        let weights = Weights::formula(model.parameters(), 0);
        let shape = model.input_shape(clips);
        let input = Tensor::f32(shape.clone(), formula::input(shape.iter().product(), 0));
        Case { model: Arc::new(model), weights, input }
    }

    pub fn engine<T: Real>(&self) -> Scalar<T> {
        Scalar::new(self.model.clone(), &self.weights).unwrap()
    }

    /// The output of a forward pass without a tap.
    pub fn run<T: Real>(&self) -> Tensor {
        self.run_with::<T>(&mut Ignore).unwrap()
    }

    pub fn run_with<T: Real>(&self, tap: &mut dyn Tap) -> Result<Tensor, EngineError> {
        self.engine::<T>().forward(&self.input, tap)
    }

    pub fn id(&self, name: &str) -> ModuleId {
        self.model.find(name).unwrap_or_else(|| panic!("no module {name}")).id
    }
}

/// A small network that has every kind of step: blocks with and without a downsample, embeddings that
/// are resized, and maps of few pixels in the last stage.
pub fn small_config(depth: usize) -> Config {
    Config {
        depth,
        width: 0.0625,
        frames: 2,
        size: (40, 33),
        classes: 5,
        pos_dim: [5, 4, 3, 2],
        ..Config::default()
    }
}

/// A tap that keeps every activation.
#[derive(Default)]
pub struct Record(pub Vec<(ModuleId, Tensor)>);

impl Tap for Record {
    fn wants(&self, _: ModuleId) -> bool {
        true
    }

    fn observe(&mut self, id: ModuleId, value: Tensor) -> Flow {
        self.0.push((id, value));
        Flow::Continue
    }
}

impl Record {
    pub fn value(&self, id: ModuleId) -> &Tensor {
        &self.0.iter().find(|(seen, _)| *seen == id).expect("a module that was seen").1
    }
}

/// The largest |got - want|; NaN if either vector contains a NaN.
pub fn max_error(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len(), "both vectors must have the same length");
    let errors = got.iter().zip(want).map(|(g, w)| (g - w).abs());
    errors.fold(0.0, |worst: f64, e| if worst.is_nan() || e <= worst { worst } else { e })
}

/// Asserts that an error is within a bound; a NaN fails.
#[track_caller]
pub fn assert_within(error: f64, bound: f64, what: &str) {
    assert!(error <= bound, "{what}: {error:e} is more than {bound:e}");
}

/// The bits of every value, so that a comparison distinguishes 0 from -0 and equates equal NaNs.
pub fn bits(tensor: &Tensor) -> Vec<u64> {
    tensor.iter().map(f64::to_bits).collect()
}
