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
    found: BTreeMap<ModuleId, Found>,
    /// What could not be matched with the model, and why.
    pub unmatched: Vec<String>,
    /// Precision of the arrays: f64 if all are, else f32.
    pub precision: Precision,
    /// Clips in the batch.
    pub batch: usize,
    /// Whether it also holds the steps before the network.
    pub before_network: bool,
    /// Arrays that a module has the name of, but not the shape.
    misfits: usize,
}

/// The array of a module.
#[derive(Debug)]
struct Found {
    name: String,
    /// How it is laid out.
    order: Order,
    /// The shape that the model gives it.
    expected: Vec<usize>,
    /// Whether it has the module's own name, not that of a container that ends in the module.
    exact: bool,
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
            before_network: false,
            misfits: 0,
        };
        for name in names {
            dump.match_array(model, &name)?;
        }
        if dump.misfits > dump.found.len() || dump.found.is_empty() {
            bail!("{}: {}", path.display(), dump.of_another_model());
        }
        Ok(dump)
    }

    fn match_array(&mut self, model: &Model, name: &str) -> Result<()> {
        if crate::preprocessing::NAMES.contains(&name) {
            self.before_network = true;
            return Ok(());
        }
        let Some((id, exact)) = module_of(model, name) else {
            self.unmatched.push(format!("{name} (no module has this name)"));
            return Ok(());
        };
        let expected = model.module(id).batch_shape(self.batch);
        let limit = expected.iter().product::<usize>();
        let shape = self.npz.shape(name)?;
        let Some(order) = Order::detect(&shape, &expected, self.channels_last(name)) else {
            self.misfits += 1;
            self.unmatched.push(format!("{name} (shape {shape:?}, the model has {expected:?})"));
            return Ok(());
        };
        let array = self.npz.read(name, limit)?;
        if matches!(array.data, spec::Data::F32(_)) {
            self.precision = Precision::F32;
        }
        match self.found.get(&id) {
            // A container gives what its last member gives, which is there too.
            Some(_) if !exact => {}
            Some(other) if other.exact => {
                self.unmatched.push(format!("{name} (the same module as {})", other.name));
            }
            _ => {
                let name = name.to_owned();
                self.found.insert(id, Found { name, order, expected, exact });
            }
        }
        Ok(())
    }

    /// Flax names mean NHWC where a shape would allow both orders.
    fn channels_last(&self, name: &str) -> bool {
        name.contains('/')
    }

    fn of_another_model(&self) -> String {
        let some: Vec<&str> = self.unmatched.iter().take(3).map(String::as_str).collect();
        format!(
            "only {} of its {} arrays fit the model: {}; check the names, and --depth, --width, \
             --frames, --size and --classes",
            self.found.len(),
            self.found.len() + self.unmatched.len(),
            some.join(", ")
        )
    }

    /// Whether the dump has this module.
    pub fn has(&self, id: ModuleId) -> bool {
        self.found.contains_key(&id)
    }

    /// The activation of a module in the model's layout, None where the dump lacks it.
    pub fn get(&self, id: ModuleId) -> Option<Tensor> {
        let Found { name, order, expected, .. } = self.found.get(&id)?;
        // `open` has read every matched array once; a file that changed since counts as lacking.
        let array = self.npz.read(name, expected.iter().product()).ok()?;
        Some(order.apply(array, expected))
    }

    /// The clip, where the dump holds it.
    pub fn input(&self, model: &Model) -> Option<Tensor> {
        self.get(model.input)
    }
}

/// The module that an array's name means, and whether it is the module's own name.
fn module_of(model: &Model, name: &str) -> Option<(ModuleId, bool)> {
    if INPUT_NAMES.contains(&name) {
        return Some((model.input, true));
    }
    if name == "logits" {
        return model.fc.as_ref().map(|fc| (fc.id, true));
    }
    let canonical = canonical_module(name);
    if let Some(module) = model.find(&canonical) {
        // `logits` is the head's own name; a dump may hold it as `fc`, too.
        return Some((module.id, Some(module.id) != model.fc.as_ref().map(|fc| fc.id)));
    }
    // A Sequential gives what its last member gives, a stage what its last block does.
    let members = ["7", "5", "1"].map(|last| format!("{canonical}.{last}"));
    let sequential = members.iter().find_map(|name| model.find(name));
    let stage = || {
        let mut blocks =
            model.blocks.iter().filter(|b| b.name.starts_with(&format!("{canonical}.")));
        blocks.next_back().map(|block| model.module(block.id))
    };
    sequential.or_else(stage).map(|module| (module.id, false))
}

/// Clips in the batch: the first extent of the clip, the logits or the first convolution.
fn batch_size(npz: &Npz, names: &[String], model: &Model) -> Result<Option<usize>> {
    let stem = [model.input, model.output(), model.stem.conv.id];
    for wanted in stem {
        let Some(name) =
            names.iter().find(|name| module_of(model, name).is_some_and(|(id, _)| id == wanted))
        else {
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
