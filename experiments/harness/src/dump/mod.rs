//! Activations in npz files: other people's, read with their names and layouts, and our own,
//! written.
//!
//! Reading order: `names` (which module an array is named after), `survey` (batch, order of
//! dimensions and number format, which are properties of the whole dump), `chain` (what an array
//! may show instead of its module), `ledger` (what became of each array).

pub mod chain;
mod layout;
mod ledger;
mod names;
mod npz;
mod survey;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use spec::{Model, ModuleId, Precision, Tensor};

use chain::{Reading, Through};
use names::{Meaning, meaning};

pub use layout::Order;
pub use ledger::{Closing, Fate, ledger, summary};
pub use npz::Npz;
pub use survey::MapOrder;
pub use write::{Naming, Writer};

/// Classes that a model may have.
const MOST_CLASSES: usize = 1_000_000;

/// Activations that an implementation has left in a file. Arrays are read when they are asked for.
#[derive(Debug)]
pub struct Dump {
    npz: Npz,
    /// Every array of the file, in the file's order.
    pub arrays: Vec<Array>,
    /// Which arrays show which module: those with the module's own name come first.
    shown: BTreeMap<ModuleId, Vec<Shown>>,
    /// What the values are, and how many of how many arrays have this format.
    pub format: (Precision, usize, usize),
    /// Clips in the batch.
    pub batch: usize,
    /// The order of dimensions of maps.
    pub order: MapOrder,
    /// Whether it also holds the steps before the network.
    pub before_network: bool,
}

/// An array of a dump.
#[derive(Debug)]
pub struct Array {
    /// As the file names it.
    pub name: String,
    /// What the name means.
    meaning: Meaning,
    /// What became of it.
    state: State,
}

/// How an array fits the model.
#[derive(Debug)]
enum State {
    /// It can be compared.
    Fits {
        /// How it is laid out.
        order: Order,
        /// The shape that the model gives it.
        expected: Vec<usize>,
    },
    /// A step before the network.
    Step,
    /// No module has its name.
    Unknown,
    /// It bears the name of a module and cannot be compared, for this reason.
    Refused(String),
}

/// An array that shows a module.
#[derive(Debug, Clone, Copy)]
struct Shown {
    array: usize,
    through: Through,
}

/// A candidate's value for a module.
pub struct Offered {
    /// Which array it is.
    pub array: usize,
    /// The values, in the model's layout.
    pub value: Tensor,
    /// Whether a ReLU was applied to them, so that it has to be applied to the target, too.
    pub after_relu: bool,
    /// The two modules whose sum they are, instead of the output of the module.
    pub sum: Option<(ModuleId, ModuleId)>,
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
        let arrays: Vec<bool> = names.iter().map(|name| npz.is_array(name)).collect();
        let shape = |(name, array): (&String, &bool)| match array {
            true => npz.shape(name),
            false => Ok(vec![]),
        };
        let shapes = names.iter().zip(&arrays).map(shape).collect::<Result<Vec<_>>>()?;
        let meaning_of = |(name, array): (&String, &bool)| match array {
            true => meaning(model, name),
            false => Meaning::Unknown,
        };
        let mut meanings: Vec<Meaning> = names.iter().zip(&arrays).map(meaning_of).collect();
        disown_clips(model, &names, &shapes, &mut meanings);
        adopt_clip(model, &shapes, &mut meanings);
        let named: Vec<(ModuleId, Vec<usize>)> = meanings
            .iter()
            .zip(&shapes)
            .filter_map(|(meaning, shape)| Some((meaning.module()?, shape.clone())))
            .collect();
        let batch = survey::batch(model, &named).unwrap_or(batch);
        if batch == 0 {
            bail!(
                "{}: its arrays have a batch of 0, so that there is nothing to compare; dump at \
                 least one clip",
                path.display()
            );
        }
        let voters = meanings.iter().zip(&shapes).zip(&names);
        let voters = voters.filter_map(|((meaning, shape), name)| {
            Some((meaning.module()?, shape.as_slice(), name.as_str()))
        });
        let order = survey::map_order(model, batch, voters);
        let before_network = meanings.contains(&Meaning::Step);
        let mut dump = Dump {
            npz,
            arrays: vec![],
            shown: BTreeMap::new(),
            format: (Precision::F32, 0, 0),
            batch,
            order,
            before_network,
        };
        let mut formats = survey::Formats::default();
        for ((name, meaning), shape) in names.into_iter().zip(meanings).zip(shapes) {
            let state = dump.fit(model, &name, meaning, &shape, &mut formats)?;
            dump.arrays.push(Array { name, meaning, state });
        }
        dump.format = formats.most();
        dump.check_it_is_of_this_model(path, model)?;
        dump.show(model, &BTreeMap::new());
        Ok(dump)
    }

    /// Fits an array to its module and reads it once.
    fn fit(
        &self,
        model: &Model,
        name: &str,
        meaning: Meaning,
        shape: &[usize],
        formats: &mut survey::Formats,
    ) -> Result<State> {
        let id = match meaning {
            Meaning::Step => return Ok(State::Step),
            Meaning::Unknown => return Ok(State::Unknown),
            Meaning::Module(id) | Meaning::Container(id) => id,
        };
        let expected = model.module(id).batch_shape(self.batch);
        let channels_last = self.order == MapOrder::Nhwc;
        let Some(order) = Order::detect(shape, &expected, channels_last) else {
            return Ok(State::Refused(format!("shape {shape:?}, the model has {expected:?}")));
        };
        match self.npz.read(name, expected.iter().product())? {
            Ok(array) => {
                if id != model.input {
                    formats.count(&array);
                }
                Ok(State::Fits { order, expected })
            }
            // Frames in bytes beside the clip that was made of them.
            Err(_) if id == model.input && name != "input" => Ok(State::Unknown),
            Err(dtype) => Ok(State::Refused(format!(
                "dtype {dtype}; save it as float32, float64, float16 or bfloat16"
            ))),
        }
    }

    /// Refuses a dump whose shapes are those of another configuration, with the flag that is wrong
    /// where one can be named.
    fn check_it_is_of_this_model(&self, path: &Path, model: &Model) -> Result<()> {
        let fits = self.arrays.iter().filter(|a| matches!(a.state, State::Fits { .. })).count();
        let misfits: Vec<String> = self
            .arrays
            .iter()
            .filter_map(|array| match &array.state {
                State::Refused(why) => Some(format!("{} ({why})", array.name)),
                State::Unknown => Some(format!("{} (no module has this name)", array.name)),
                _ => None,
            })
            .collect();
        let refused = self.arrays.iter().filter(|a| matches!(a.state, State::Refused(_))).count();
        if refused > fits || fits == 0 {
            let some: Vec<&str> = misfits.iter().take(3).map(String::as_str).collect();
            bail!(
                "{}: only {fits} of its {} arrays fit the model: {}; check the names, and \
                 --depth, --width, --frames, --size and --classes",
                path.display(),
                fits + misfits.len(),
                some.join(", ")
            );
        }
        if let Some(fc) = &model.fc
            && let Some(classes) = self.classes(model, fc.id)
            && classes != fc.out_features
        {
            bail!(
                "{}: the logits have {classes} classes, the model {}; give --classes {classes}",
                path.display(),
                fc.out_features
            );
        }
        Ok(())
    }

    /// The last extent of the logits, where they have the shape of logits but for the classes.
    fn classes(&self, model: &Model, fc: ModuleId) -> Option<usize> {
        let of_head = |array: &&Array| array.meaning.module() == Some(fc);
        let refused = |array: &&Array| match &array.state {
            State::Refused(why) => why.starts_with("shape"),
            _ => false,
        };
        let array = self.arrays.iter().filter(of_head).find(refused)?;
        let shape = self.npz.shape(&array.name).ok()?;
        match shape[..] {
            [n, classes] if n == self.batch => Some(classes),
            [classes] if self.batch == 1 => Some(classes),
            _ => None,
        }
        .filter(|&classes| {
            (1..=MOST_CLASSES).contains(&classes) && !model.module(fc).shape.contains(&classes)
        })
    }

    /// Files every array under the module that it shows: its own, or what `readings` say.
    pub fn show(&mut self, model: &Model, readings: &BTreeMap<ModuleId, Reading>) {
        self.shown.clear();
        for (index, array) in self.arrays.iter().enumerate() {
            let (State::Fits { .. }, Some(own)) = (&array.state, array.meaning.module()) else {
                continue;
            };
            let reading = readings.get(&own);
            let module = reading.map_or(own, |reading| reading.module);
            let through = reading.map_or(Through::AsIs, |reading| reading.through);
            self.shown.entry(module).or_default().push(Shown { array: index, through });
        }
        for (id, shown) in &mut self.shown {
            // `logits` is the head's own name; a dump may hold it as `fc`, too.
            let is_head = model.fc.as_ref().is_some_and(|fc| fc.id == *id);
            shown.sort_by_key(|shown| {
                let array = &self.arrays[shown.array];
                let own = array.meaning == Meaning::Module(*id);
                (shown.through != Through::AsIs, !own, is_head && array.name != "logits")
            });
        }
    }

    /// The array's own module, for one that can be compared.
    pub fn module_of(&self, array: usize) -> Option<ModuleId> {
        let array = &self.arrays[array];
        matches!(array.state, State::Fits { .. }).then(|| array.meaning.module()).flatten()
    }

    /// Whether the dump shows this module.
    pub fn has(&self, id: ModuleId) -> bool {
        self.shown.contains_key(&id)
    }

    /// The activation of a module in the model's layout, None where the dump does not show it.
    pub fn get(&self, id: ModuleId) -> Option<Tensor> {
        let shown = self.shown.get(&id)?.first()?;
        let value = self.value(shown.array)?;
        // A block's output is its sum after the ReLU.
        Some(match shown.through {
            Through::Sum(..) => crate::faults::relu(value),
            _ => value,
        })
    }

    /// Whether [`Dump::get`] gives the module's output after the ReLU that follows it.
    pub fn is_late(&self, id: ModuleId) -> bool {
        let first = self.shown.get(&id).and_then(|shown| shown.first());
        first.is_some_and(|shown| shown.through == Through::AfterRelu)
    }

    /// Everything that the dump shows of a module.
    pub fn offered(&self, id: ModuleId) -> Vec<Offered> {
        let shown = self.shown.get(&id).map(Vec::as_slice).unwrap_or_default();
        shown.iter().filter_map(|shown| self.offer(*shown)).collect()
    }

    fn offer(&self, shown: Shown) -> Option<Offered> {
        let sum = match shown.through {
            Through::Sum(a, b) => Some((a, b)),
            _ => None,
        };
        let after_relu = shown.through == Through::AfterRelu;
        Some(Offered { array: shown.array, value: self.value(shown.array)?, after_relu, sum })
    }

    /// The modules whose values are needed until later ones are compared: the operands of sums.
    pub fn operands(&self) -> std::collections::BTreeSet<ModuleId> {
        let shown = self.shown.values().flatten();
        let operands = shown.filter_map(|shown| match shown.through {
            Through::Sum(a, b) => Some([a, b]),
            _ => None,
        });
        operands.flatten().collect()
    }

    /// The values of an array in the model's layout.
    pub fn value(&self, array: usize) -> Option<Tensor> {
        let array = self.arrays.get(array)?;
        let State::Fits { order, expected } = &array.state else { return None };
        // `open` has read every matched array once; a file that changed since counts as lacking.
        let value = self.npz.read(&array.name, expected.iter().product()).ok()?.ok()?;
        Some(order.apply(value, expected))
    }

    /// Why the array that has the clip's name is not the clip, where there is one.
    pub fn why_no_input(&self, model: &Model) -> Option<String> {
        let array = self.arrays.iter().find(|array| array.meaning.module() == Some(model.input))?;
        match &array.state {
            State::Refused(why) => Some(format!("`{}` has {why}", array.name)),
            _ => None,
        }
    }

    /// The clip, and the name of its array, where the dump holds it.
    pub fn input(&self, model: &Model) -> Option<(Tensor, &str)> {
        let shown = self.shown.get(&model.input)?.first()?;
        Some((self.value(shown.array)?, &self.arrays[shown.array].name))
    }
}

/// An array beside the clip that merely has one of its many names, such as the number of `frames`, is
/// no clip.
fn disown_clips(model: &Model, names: &[String], shapes: &[Vec<usize>], meanings: &mut [Meaning]) {
    let clip = Meaning::Module(model.input);
    let fits = |at: usize| clip_order(model, &shapes[at]).is_some();
    let fitting = (0..names.len()).any(|at| meanings[at] == clip && fits(at));
    for at in 0..names.len() {
        if fitting && meanings[at] == clip && names[at] != "input" && !fits(at) {
            meanings[at] = Meaning::Unknown;
        }
    }
}

/// Without an array that has a name for the clip, the only one that has a clip's shape is taken.
fn adopt_clip(model: &Model, shapes: &[Vec<usize>], meanings: &mut [Meaning]) {
    if meanings.contains(&Meaning::Module(model.input)) {
        return;
    }
    let is_clip = |at: &usize| {
        let shape = &shapes[*at];
        meanings[*at] == Meaning::Unknown && shape.len() >= 4 && clip_order(model, shape).is_some()
    };
    let alike: Vec<usize> = (0..shapes.len()).filter(is_clip).collect();
    if let [only] = alike[..] {
        meanings[only] = Meaning::Module(model.input);
    }
}

/// How an array holds clips, and how many; None where its shape is not that of clips.
fn clip_order(model: &Model, shape: &[usize]) -> Option<(Order, Vec<usize>)> {
    let batch = survey::batch(model, &[(model.input, shape.to_vec())])?;
    let expected = model.input_shape(batch);
    Order::detect(shape, &expected, false).map(|order| (order, expected))
}

/// Reads the clip of an npz file: the array with a name for it, or the only one with its shape.
pub fn read_input(path: &Path, model: &Model) -> Result<Tensor> {
    let npz = Npz::open(path)?;
    let names = npz.names();
    let shapes = names.iter().map(|name| npz.shape(name)).collect::<Result<Vec<_>>>()?;
    let named = names.iter().position(|name| names::is_clip(name));
    let shaped = || {
        let all = (0..names.len()).filter(|&at| clip_order(model, &shapes[at]).is_some());
        let all: Vec<usize> = all.collect();
        if let [only] = all[..] { Some(only) } else { None }
    };
    let Some(at) = named.or_else(shaped) else {
        bail!(
            "{}: there is no array `input` among its {} arrays; save the clip [N, 3, T, H, W] \
             under that name",
            path.display(),
            names.len()
        );
    };
    let (name, shape) = (&names[at], &shapes[at]);
    let Some((order, expected)) = clip_order(model, shape) else {
        bail!(
            "{}: `{name}` has shape {shape:?}, the model takes {:?}; check --frames and --size",
            path.display(),
            model.input_shape(shape.first().copied().unwrap_or(0).max(1))
        );
    };
    match npz.read(name, expected.iter().product())? {
        Ok(array) => Ok(order.apply(array, &expected)),
        Err(dtype) => {
            bail!("{}: `{name}` has dtype {dtype}; save it as float32 or float64", path.display())
        }
    }
}
