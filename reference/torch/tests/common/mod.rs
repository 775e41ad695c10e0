//! Helpers that the test files share: reading goldens, and forward passes that keep all activations.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use checkpoint::{Weights, formula};
use ndarray::ArrayD;
use ndarray_npy::{NpzReader, ReadableElement};
use serde_json::Value;
use spec::{Config, Engine, Flow, Model, ModuleId, Precision, Tap, Tensor};
use torch::{Device, Torch};

/// The path of a file in `reference/goldens`.
pub fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../goldens").join(name)
}

/// The npz goldens whose names start with `prefix`, with their configurations and batch sizes.
pub fn cases(prefix: &str) -> Vec<(String, Config, usize)> {
    let text = std::fs::read_to_string(golden("manifest.json")).expect("the goldens' manifest");
    let manifest: Value = serde_json::from_str(&text).expect("a manifest in JSON");
    let files = manifest["files"].as_array().expect("a list of files");
    let name = |file: &Value| file["file"].as_str().unwrap_or("").to_owned();
    let wanted = files.iter().filter(|file| name(file).starts_with(prefix));
    let cases: Vec<_> =
        wanted.map(|file| (name(file), config(&file["case"]), batch(file))).collect();
    assert!(!cases.is_empty(), "no golden starts with {prefix}");
    cases
}

fn batch(file: &Value) -> usize {
    file["case"]["batch"].as_u64().expect("a batch size") as usize
}

fn config(case: &Value) -> Config {
    let number = |key: &str| case[key].as_u64().expect("a number") as usize;
    let list = |key: &str| -> Vec<usize> {
        let items = case[key].as_array().expect("a list").iter();
        items.map(|v| v.as_u64().expect("a number") as usize).collect()
    };
    let size = list("size");
    Config {
        depth: number("depth"),
        width: case["width"].as_f64().expect("a width"),
        frames: number("frames"),
        classes: number("classes"),
        size: (size[0], size[1]),
        pos_dim: list("pos_dim").try_into().expect("four sides"),
        ..Config::default()
    }
}

/// The arrays of a golden npz.
pub struct Npz(NpzReader<File>);

impl Npz {
    pub fn open(name: &str) -> Self {
        let file = File::open(golden(name)).unwrap_or_else(|e| panic!("golden {name}: {e}"));
        Npz(NpzReader::new(file).unwrap_or_else(|e| panic!("golden {name}: {e}")))
    }

    pub fn names(&mut self) -> Vec<String> {
        let names = self.0.names().expect("a readable archive");
        names.into_iter().map(|n| n.trim_end_matches(".npy").to_owned()).collect()
    }

    pub fn get<T: ReadableElement>(&mut self, name: &str) -> ArrayD<T> {
        self.0.by_name(name).unwrap_or_else(|e| panic!("array {name}: {e}"))
    }
}

/// A network with formula weights on the CPU, and its formula clips.
pub fn engine(config: Config, precision: Precision, clips: usize) -> (Arc<Model>, Torch, Tensor) {
    let model = Arc::new(Model::new(config).expect("a valid configuration"));
    let weights = Weights::formula(model.parameters(), 0);
    let shape = model.input_shape(clips);
    let count = shape.iter().product();
    let input = Tensor::f32(shape, formula::input(count, 0));
    let engine = Torch::new(model.clone(), &weights, precision, Device::Cpu).expect("an engine");
    (model, engine, input)
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
    pub fn of(engine: &mut dyn Engine, input: &Tensor) -> (Self, Tensor) {
        let mut record = Record::default();
        let logits = engine.forward(input, &mut record).expect("a forward pass");
        (record, logits)
    }
}

/// Asserts that an error is within a bound; a NaN fails.
#[track_caller]
pub fn assert_within(error: f64, bound: f64, what: &str) {
    assert!(error <= bound, "{what}: {error:e} is more than {bound:e}");
}
