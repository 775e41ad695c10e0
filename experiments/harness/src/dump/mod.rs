//! Activations in npz files: other people's, read with their names and layouts, and our own,
//! written.

mod layout;
mod npz;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use spec::weights::names::canonical_module;
use spec::{Model, ModuleId, Precision, Tensor};

pub use layout::Order;
pub use npz::Npz;
pub use write::{Naming, Writer};

/// Array names that mean the clip.
const INPUT_NAMES: [&str; 2] = ["input", "x"];

/// Activations that an implementation has left in a file. Arrays are read when they are asked for.
#[derive(Debug)]
pub struct Dump {
    npz: Npz,
    /// The array of each module, how it is laid out and the shape that the model gives it.
    found: BTreeMap<ModuleId, (String, Order, Vec<usize>)>,
    /// What could not be matched with the model, and why.
    pub unmatched: Vec<String>,
    /// Precision of the arrays: f64 if all are, else f32.
    pub precision: Precision,
    /// Clips in the batch.
    pub batch: usize,
}

impl Dump {
    /// Opens a dump and matches its names and shapes with the model. Every matched array is read
    /// once, so that a damaged file is found here. `batch` is used where the file does not tell.
    pub fn open(path: &Path, model: &Model, batch: usize) -> Result<Self> {
        let npz = Npz::open(path)?;
        let names = npz.names();
        if names.is_empty() {
            bail!(
                "{}: the npz holds no arrays; was the dump interrupted? Make it again",
                path.display()
            );
        }
        let batch = batch_size(&npz, &names, model)?.unwrap_or(batch);
        let mut dump = Dump {
            npz,
            found: BTreeMap::new(),
            unmatched: vec![],
            precision: Precision::F64,
            batch,
        };
        for name in names {
            dump.match_array(model, &name)?;
        }
        if dump.found.is_empty() {
            bail!("{}: {}", path.display(), dump.nothing_matched());
        }
        Ok(dump)
    }

    fn match_array(&mut self, model: &Model, name: &str) -> Result<()> {
        let Some(id) = module_of(model, name) else {
            self.unmatched.push(format!("{name} (no module has this name)"));
            return Ok(());
        };
        let expected = model.module(id).batch_shape(self.batch);
        let limit = expected.iter().product::<usize>();
        let shape = self.npz.shape(name)?;
        let Some(order) = Order::detect(&shape, &expected, self.channels_last(name)) else {
            self.unmatched.push(format!("{name} (shape {shape:?}, the model has {expected:?})"));
            return Ok(());
        };
        let array = self.npz.read(name, limit)?;
        if matches!(array.data, spec::Data::F32(_)) {
            self.precision = Precision::F32;
        }
        if let Some((other, ..)) = self.found.get(&id) {
            self.unmatched.push(format!("{name} (the same module as {other})"));
            return Ok(());
        }
        self.found.insert(id, (name.to_owned(), order, expected));
        Ok(())
    }

    /// Flax names mean NHWC where a shape would allow both orders.
    fn channels_last(&self, name: &str) -> bool {
        name.contains('/')
    }

    fn nothing_matched(&self) -> String {
        let some: Vec<&str> = self.unmatched.iter().take(3).map(String::as_str).collect();
        format!(
            "none of its {} arrays fits the model: {}; check the names, and --depth, --width, \
             --frames, --size and --classes",
            self.unmatched.len(),
            some.join(", ")
        )
    }

    /// Whether the dump has this module.
    pub fn has(&self, id: ModuleId) -> bool {
        self.found.contains_key(&id)
    }

    /// The activation of a module in the model's layout, None where the dump lacks it.
    pub fn get(&self, id: ModuleId) -> Option<Tensor> {
        let (name, order, expected) = self.found.get(&id)?;
        // `open` has read every matched array once; a file that changed since counts as lacking.
        let array = self.npz.read(name, expected.iter().product()).ok()?;
        Some(order.apply(array, expected))
    }

    /// The clip, where the dump holds it.
    pub fn input(&self, model: &Model) -> Option<Tensor> {
        self.get(model.input)
    }
}

/// The module that an array's name means.
fn module_of(model: &Model, name: &str) -> Option<ModuleId> {
    if INPUT_NAMES.contains(&name) {
        return Some(model.input);
    }
    if name == "logits" {
        return model.fc.as_ref().map(|fc| fc.id);
    }
    let canonical = canonical_module(name);
    let exact = model.find(&canonical);
    // A gate's Sequential gives what its last member, the sigmoid, gives.
    let last = || model.find(&format!("{canonical}.5")).or(model.find(&format!("{canonical}.7")));
    exact.or_else(last).map(|module| module.id)
}

/// Clips in the batch: the first extent of the clip, the logits or the first convolution.
fn batch_size(npz: &Npz, names: &[String], model: &Model) -> Result<Option<usize>> {
    let stem = [model.input, model.output(), model.stem.conv.id];
    for wanted in stem {
        let Some(name) = names.iter().find(|name| module_of(model, name) == Some(wanted)) else {
            continue;
        };
        let shape = npz.shape(name)?;
        let dimensions = model.module(wanted).shape.len();
        if shape.len() > dimensions || (wanted == model.input && shape.len() >= 4) {
            return match shape[0] {
                n if n <= 65_536 => Ok(Some(n)),
                n => Err(anyhow!("{name}: a batch of {n} clips is larger than 65536")),
            };
        }
    }
    Ok(None)
}

/// Reads the array `input` of an npz file as a clip of the model.
pub fn read_input(path: &Path, model: &Model) -> Result<Tensor> {
    let npz = Npz::open(path)?;
    let names = npz.names();
    let Some(name) = names.iter().find(|name| INPUT_NAMES.contains(&name.as_str())) else {
        bail!(
            "{}: there is no array `input` among its {} arrays; save the clip [N, 3, T, H, W] \
             under that name",
            path.display(),
            names.len()
        );
    };
    let shape = npz.shape(name)?;
    let batch = shape.first().copied().unwrap_or(0);
    let expected = model.input_shape(batch);
    let Some(order) = Order::detect(&shape, &expected, false) else {
        bail!(
            "{}: `{name}` has shape {shape:?}, the model takes {expected:?}; check --frames and \
             --size",
            path.display()
        );
    };
    let array = npz.read(name, expected.iter().product())?;
    Ok(order.apply(array, &expected))
}
