//! Dumps: npz files of activations. Those of other programs are read, whatever names and layouts they
//! use, and our own are written.
//!
//! Reading order: `npz` (the file), `names` (which module an array is named after), `map` (what the user
//! says about names), `survey` (batch,
//! order of dimensions and number format, which are properties of the whole dump), `layout` (how an
//! array is brought into the model's order), `chain` (what an array may show instead of its module),
//! this file (from a file to a [`Dump`]), `ledger` (what became of each array), `write` (our own dumps).
//!
//! ```
//! use compare::dump::{Dump, Naming, Writer};
//! use spec::{Config, Model, Tensor};
//!
//! # fn main() -> anyhow::Result<()> {
//! let model = Model::new(Config { depth: 10, width: 0.125, ..Config::default() })?;
//! let stem = model.find("conv1").expect("every model has a stem");
//! let shape = stem.batch_shape(1);
//! let value = Tensor::f32(shape.clone(), vec![0.5; shape.iter().product()]);
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("dump.npz");
//! let mut writer = Writer::create(&path, Naming::Flax)?; // [N, H, W, C]
//! writer.add(&model, stem.id, value.clone())?;
//! writer.finish()?;
//!
//! let dump = Dump::open(&path, &model, 1)?;
//! assert_eq!(dump.get(stem.id), Some(value)); // [N, C, H, W]
//! # Ok(())
//! # }
//! ```

pub mod chain;
mod flags;
mod layout;
mod ledger;
pub(crate) mod map;
pub(crate) mod names;
mod npz;
mod orphans;
mod survey;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use spec::{Model, ModuleId, Precision, Tensor};

use chain::{Reading, Through};

pub use layout::Order;
pub use ledger::{Closing, Fate, ledger, summary};
pub use map::NameMap;
pub use names::{Meaning, meaning};
pub use npz::Npz;
pub use survey::{MapOrder, Rounding, Text, map_order};
pub use write::{Naming, Writer};

/// Names of the arrays in a dump, in the order of the steps: the frame indexes `[T]`, the decoded frames
/// [T, h, w, 3], the resized frames [T, h, w, 3] and the view [T, H, W, 3]. Frames are RGB bytes.
pub const STEPS: [&str; 4] = ["video.indexes", "video.decoded", "video.resized", "video.view"];

/// A larger last extent of the logits is not taken for a number of classes.
const MOST_CLASSES: usize = 1_000_000;

/// The activations in an npz file. An array is read from the file each time it is asked for.
#[derive(Debug)]
pub struct Dump {
    npz: Npz,
    /// Every array of the file, in the file's order.
    pub arrays: Vec<Array>,
    /// The arrays that show each module; those that bear the module's own name come first.
    shown: BTreeMap<ModuleId, Vec<Shown>>,
    /// The number format of the values, the number of arrays that have it, and the number of arrays
    /// whose format could be told.
    pub format: (Precision, usize, usize),
    /// How the values were rounded when they were written as text, if they were.
    pub text: Option<Text>,
    /// Number of clips in the batch.
    pub batch: usize,
    /// The order of the dimensions of maps.
    pub order: MapOrder,
    /// Whether the dump also holds the steps before the network, such as the resized frames.
    pub before_network: bool,
    /// Whether a map gives the names of its arrays.
    mapped: bool,
}

/// An array of a dump.
#[derive(Debug)]
pub struct Array {
    /// Its name in the file, without `.npy`.
    pub name: String,
    /// What the name means.
    meaning: Meaning,
    /// Whether it can be compared.
    state: State,
}

/// Whether an array fits the model.
#[derive(Debug)]
enum State {
    /// The array can be compared.
    Fits {
        /// How it is laid out.
        order: Order,
        /// The shape that the model gives it, batch included.
        expected: Vec<usize>,
    },
    /// The array holds a step before the network.
    Step,
    /// No module has the array's name.
    Unknown,
    /// The array bears the name of a module but cannot be compared, for this reason.
    Refused(String),
}

/// An array that shows a module.
#[derive(Debug, Clone, Copy)]
struct Shown {
    /// Index of the array.
    array: usize,
    /// How its values relate to the output of the module.
    through: Through,
}

/// A value that a candidate offers for a module.
pub struct Offered {
    /// Index of the array that it comes from; 0 for an engine.
    pub array: usize,
    /// The value, in the model's layout.
    pub value: Tensor,
    /// Whether it was recorded after the ReLU that follows the module. That ReLU then has to be applied
    /// to the target, too.
    pub after_relu: bool,
    /// If the value is the sum of two modules instead of the output of the module: these two.
    pub sum: Option<(ModuleId, ModuleId)>,
}

impl Dump {
    /// Opens a dump and matches the names and shapes of its arrays with the model. Every matched array
    /// is read once, so that damage to the file is found here. `batch` is the number of clips if the
    /// shapes in the file do not tell it.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, holds no arrays or an empty batch, or if most of its arrays have
    /// the shapes of another model.
    pub fn open(path: &Path, model: &Model, batch: usize) -> Result<Self> {
        Dump::open_as(path, model, batch, &NameMap::default())
    }

    /// Opens a dump as [`Dump::open`] does; `map` says which modules some of its arrays show. An array
    /// that shows several modules has several entries in [`Dump::arrays`].
    ///
    /// # Errors
    ///
    /// As [`Dump::open`], and if a line of the map gives a name that no module has.
    pub fn open_as(path: &Path, model: &Model, batch: usize, map: &NameMap) -> Result<Self> {
        let npz = Npz::open(path)?;
        let names = npz.names();
        if names.is_empty() {
            bail!(
                "{}: the npz file holds no arrays; make the dump again (was it interrupted?)",
                path.display()
            );
        }
        let (names, shapes, mut meanings) = entries(&npz, model, map)?;
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
                "{}: the arrays have a batch of 0, so there is nothing to compare; dump at least \
                 one clip",
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
            text: None,
            npz,
            arrays: vec![],
            shown: BTreeMap::new(),
            format: (Precision::F32, 0, 0),
            batch,
            order,
            before_network,
            mapped: !map.is_empty(),
        };
        let mut formats = survey::Formats::default();
        for ((name, meaning), shape) in names.into_iter().zip(meanings).zip(shapes) {
            let state = dump.fit(model, &name, meaning, &shape, &mut formats)?;
            dump.arrays.push(Array { name, meaning, state });
        }
        dump.format = formats.most();
        dump.text = formats.text();
        dump.check_it_is_of_this_model(path, model)?;
        dump.show(model, &BTreeMap::new());
        Ok(dump)
    }

    /// Checks whether an array fits its module, and reads it once.
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
            Meaning::Unknown | Meaning::LeftOut => return Ok(State::Unknown),
            Meaning::NoHead => {
                let why = "the weights have no classifier, so there are no logits to compare it with; give \
                           those with the classifier";
                return Ok(State::Refused(why.to_owned()));
            }
            Meaning::Module(id) | Meaning::Container(id) => id,
        };
        let expected = model.module(id).batch_shape(self.batch);
        let channels_last = self.order == MapOrder::Nhwc;
        let Some(order) = Order::detect(shape, &expected, channels_last) else {
            let by_name = id == model.input && name != "input";
            let role = if by_name { "taken for the clip because of its name: " } else { "" };
            return Ok(State::Refused(format!("{role}shape {shape:?}, expected {expected:?}")));
        };
        match self.npz.read(name, expected.iter().product())? {
            Ok(array) => {
                if id != model.input {
                    formats.count(&array);
                }
                Ok(State::Fits { order, expected })
            }
            // The name may belong to frames in bytes, from which another array, the clip, was made.
            Err(_) if id == model.input && name != "input" => Ok(State::Unknown),
            Err(dtype) => Ok(State::Refused(format!(
                "dtype {dtype}; save it as float32, float64, float16 or bfloat16"
            ))),
        }
    }

    /// Refuses a dump of a deeper network: one with arrays of blocks that the model lacks. A port may number its
    /// blocks otherwise, so only a dump that also has arrays of the first block counts.
    fn check_depth(&self, path: &Path, model: &Model) -> Result<()> {
        let unknown = self.arrays.iter().filter(|array| array.meaning == Meaning::Unknown);
        let lacking = unknown.filter_map(|array| Some((names::block(&array.name)?, &array.name)));
        let mut lacking = lacking.filter(|((layer, block), _)| {
            let has = |block: usize| model.find(&format!("layer{layer}.{block}")).is_some();
            let first = format!("layer{layer}.0.");
            let numbered = self.arrays.iter().any(|array| array.name.contains(&first));
            numbered && has(0) && !has(*block)
        });
        if let Some(((layer, block), name)) = lacking.next() {
            bail!(
                "{}: holds `{name}`, and layer{layer}.{block} is a block that a network of depth {} does \
                 not have; give the --depth of the network that the dump was made from, or, if the port \
                 numbers its blocks otherwise, your own names with --map",
                path.display(),
                model.config.depth
            );
        }
        if let Some(depth) = flags::shallower(&self.named(&self.shapes()), model) {
            bail!(
                "{}: its modules are those of a network of depth {depth}, and the model has depth {}; give \
                 --depth {depth}",
                path.display(),
                model.config.depth
            );
        }
        Ok(())
    }

    /// The shape of every array; empty where it has none.
    fn shapes(&self) -> Vec<Vec<usize>> {
        self.arrays.iter().map(|array| self.npz.shape(&array.name).unwrap_or_default()).collect()
    }

    fn named<'a>(&'a self, shapes: &'a [Vec<usize>]) -> Vec<flags::Named<'a>> {
        self.arrays
            .iter()
            .map(|array| array.name.as_str())
            .zip(shapes.iter().map(Vec::as_slice))
            .collect()
    }

    /// Refuses a dump of another model configuration, and names the flag that has to change if it can
    /// be told.
    fn check_it_is_of_this_model(&self, path: &Path, model: &Model) -> Result<()> {
        self.check_depth(path, model)?;
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
        if fits == 0 && misfits.is_empty() {
            bail!(
                "{}: holds nothing but steps before the network (video.…), so that no layer can be \
                 compared; save `logits`, or the output of another module, next to them",
                path.display()
            );
        }
        if refused > fits || fits == 0 {
            let some: Vec<&str> = misfits.iter().take(3).map(String::as_str).collect();
            let unknown = |array: &&Array| matches!(array.state, State::Unknown);
            let of_another = flags::fitting(&self.named(&self.shapes()), model);
            let is_weight =
                |array: &&Array| model.parameters().iter().any(|p| p.name == array.name);
            let weights = self.arrays.iter().filter(is_weight).count();
            let advice = match of_another {
                _ if 2 * weights > self.arrays.len() => {
                    "these are weights, not the outputs of modules: give the file as --weights".to_owned()
                }
                Some(flags) => format!("the dump fits a model of {flags}"),
                None if self.arrays.iter().filter(unknown).count() > refused => {
                    "--suggest-map matches arrays by their values, and --map FILE takes your own list \
                     of names"
                        .to_owned()
                }
                None => "check the names and --depth, --width, --frames, --size and --classes".to_owned(),
            };
            bail!(
                "{}: only {fits} of {} arrays fit the model; among those that do not are {}; {advice}",
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
                "{}: the logits have {classes} classes, but the model has {}; give --classes {classes}",
                path.display(),
                fc.out_features
            );
        }
        Ok(())
    }

    /// The number of classes of an array that was refused as logits only because of that number.
    fn classes(&self, model: &Model, fc: ModuleId) -> Option<usize> {
        let of_head = |array: &&Array| array.meaning.module() == Some(fc);
        let refused = |array: &&Array| match &array.state {
            State::Refused(why) => why.contains("shape"),
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

    /// Files every array under the module that it shows: the one in `readings`, or else its own.
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
            // A dump may hold the output of the head as `fc`, too; `logits` comes first.
            let is_head = model.fc.as_ref().is_some_and(|fc| fc.id == *id);
            shown.sort_by_key(|shown| {
                let array = &self.arrays[shown.array];
                let own = array.meaning == Meaning::Module(*id);
                (shown.through != Through::AsIs, !own, is_head && array.name != "logits")
            });
        }
    }

    /// Makes an array the first of those that show its module: the one that [`Dump::get`] returns.
    pub fn put_first(&mut self, array: usize) {
        for shown in self.shown.values_mut() {
            if let Some(at) = shown.iter().position(|shown| shown.array == array) {
                shown[..=at].rotate_right(1);
            }
        }
    }

    /// The module that an array is named after; None if the array cannot be compared.
    pub fn module_of(&self, array: usize) -> Option<ModuleId> {
        let array = &self.arrays[array];
        matches!(array.state, State::Fits { .. }).then(|| array.meaning.module()).flatten()
    }

    /// Whether an array of the dump shows this module.
    pub fn has(&self, id: ModuleId) -> bool {
        self.shown.contains_key(&id)
    }

    /// The output of a module in the model's layout; None if the dump does not show the module.
    pub fn get(&self, id: ModuleId) -> Option<Tensor> {
        let shown = self.shown.get(&id)?.first()?;
        let value = self.value(shown.array)?;
        // The output of a block is the sum after a ReLU.
        Some(match shown.through {
            Through::Sum(..) => crate::faults::relu(value),
            _ => value,
        })
    }

    /// Whether [`Dump::get`] returns the output of the module after the ReLU that follows it.
    pub fn is_after_relu(&self, id: ModuleId) -> bool {
        let first = self.shown.get(&id).and_then(|shown| shown.first());
        first.is_some_and(|shown| shown.through == Through::AfterRelu)
    }

    /// The value of every array that shows a module.
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

    /// The modules whose values have to be kept until later modules are compared: the operands of sums
    /// that arrays show.
    pub fn operands(&self) -> std::collections::BTreeSet<ModuleId> {
        let shown = self.shown.values().flatten();
        let operands = shown.filter_map(|shown| match shown.through {
            Through::Sum(a, b) => Some([a, b]),
            _ => None,
        });
        operands.flatten().collect()
    }

    /// The values of an array in the model's layout; None if the array cannot be compared.
    pub fn value(&self, array: usize) -> Option<Tensor> {
        let array = self.arrays.get(array)?;
        let State::Fits { order, expected } = &array.state else { return None };
        // `open` has read every matched array once. If the file has changed since, the array is missing.
        let value = self.npz.read(&array.name, expected.iter().product()).ok()?.ok()?;
        Some(order.apply(value, expected))
    }

    /// If an array has the name of the clip but is not the clip, the reason.
    pub fn why_no_input(&self, model: &Model) -> Option<String> {
        let array = self.arrays.iter().find(|array| array.meaning.module() == Some(model.input))?;
        match &array.state {
            State::Refused(why) => Some(format!("`{}` has {why}", array.name)),
            _ => None,
        }
    }

    /// The shape of the clip if it was recorded with frames and colours in one axis, whose order the shape does
    /// not tell.
    pub fn stacked_clip(&self, model: &Model) -> Option<Vec<usize>> {
        let shown = self.shown.get(&model.input)?.first()?;
        let array = &self.arrays[shown.array];
        let State::Fits { order, .. } = &array.state else { return None };
        let shape = self.npz.shape(&array.name).ok()?;
        order.is_stacked(&shape).then_some(shape)
    }

    /// The clip [N, 3, T, H, W] and the name of its array; None if the dump does not hold it.
    pub fn input(&self, model: &Model) -> Option<(Tensor, &str)> {
        let shown = self.shown.get(&model.input)?.first()?;
        Some((self.value(shown.array)?, &self.arrays[shown.array].name))
    }
}

/// Names, shapes and meanings of a file's arrays. An array that shows several modules is in the lists
/// once for each of them.
type Entries = (Vec<String>, Vec<Vec<usize>>, Vec<Meaning>);

fn entries(npz: &Npz, model: &Model, map: &NameMap) -> Result<Entries> {
    let (mut names, mut shapes, mut meanings) = (vec![], vec![], vec![]);
    for name in npz.names() {
        let (shape, all) = match npz.is_array(&name) {
            true => {
                let mapped = map.meanings(model, &name)?;
                let own = || vec![meaning(model, &name)];
                (npz.shape(&name)?, mapped.unwrap_or_else(own))
            }
            false => (vec![], vec![Meaning::Unknown]),
        };
        for meaning in all {
            names.push(name.clone());
            shapes.push(shape.clone());
            meanings.push(meaning);
        }
    }
    Ok((names, shapes, meanings))
}

/// If one array is the clip, other arrays that have one of the clip's many names but not its shape
/// are not clips, for example a count that is named `frames`.
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

/// If no array has a name for the clip, the only array with a clip's shape is the clip.
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

/// The order in which an array of this shape holds clips, and the model's shape for them; None if the
/// shape is not that of clips.
pub(crate) fn clip_order(model: &Model, shape: &[usize]) -> Option<(Order, Vec<usize>)> {
    let batch = survey::batch(model, &[(model.input, shape.to_vec())])?;
    let expected = model.input_shape(batch);
    Order::detect(shape, &expected, false).map(|order| (order, expected))
}

/// Reads the clip from an npz file: the array that has a name for it, or the only one with its shape.
///
/// # Errors
///
/// If the file cannot be read, holds no clip, or holds one of another size than the model takes.
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
            "{}: no array `input` among the {} arrays; save the clip [N, 3, T, H, W] under that name",
            path.display(),
            names.len()
        );
    };
    let (name, shape) = (&names[at], &shapes[at]);
    let Some((order, expected)) = clip_order(model, shape) else {
        bail!(
            "{}: `{name}` has shape {shape:?}, but the model takes {:?}; check --frames and --size",
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
