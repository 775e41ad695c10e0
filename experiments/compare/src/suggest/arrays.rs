//! The arrays of a dump with unknown names: shapes, samples, and which of them are the clip.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use spec::{Model, ModuleId, Tensor, relative_l2};

use super::SAME_VALUES;
use super::sample::Sample;
use crate::dump::names::{Meaning, meaning};
use crate::dump::{NameMap, Npz, Order, clip_order};

/// A sample of each array is kept in memory: with this many, 512 MiB.
const MOST_ARRAYS: usize = 8192;

/// The shapes that modules have, each once.
pub struct Classes {
    /// The shapes, batch included.
    pub shapes: Vec<Vec<usize>>,
    /// For each module the index of its shape.
    pub of: Vec<usize>,
}

impl Classes {
    fn new(model: &Model, batch: usize) -> Self {
        let mut shapes: Vec<Vec<usize>> = vec![];
        let class = |module: &spec::Module| {
            let shape = module.batch_shape(batch);
            let known = shapes.iter().position(|other| *other == shape);
            known.unwrap_or_else(|| {
                shapes.push(shape);
                shapes.len() - 1
            })
        };
        let of = model.modules().iter().map(class).collect();
        Classes { shapes, of }
    }
}

/// One array of the file.
pub struct Item {
    /// Its name in the file.
    pub name: String,
    /// Its shape in the file.
    pub shape: Vec<usize>,
    /// The modules that it shows by its name or by the user's map.
    pub known: Vec<ModuleId>,
    /// Why it is not to be matched, if it is not: for example because it does not hold floats.
    pub skipped: Option<String>,
    /// Its values, read in the layout of each class of shapes that it may have.
    pub samples: BTreeMap<usize, Sample>,
}

impl Item {
    /// Whether its module has to be found by value or by order.
    pub fn is_open(&self) -> bool {
        self.known.is_empty() && self.skipped.is_none()
    }
}

/// All arrays of a file.
pub struct Arrays {
    npz: Npz,
    /// The arrays in the file's order.
    pub items: Vec<Item>,
    /// The shapes of the modules.
    pub classes: Classes,
    /// The clip [N, 3, T, H, W].
    pub clip: Tensor,
    channels_last: bool,
}

impl Arrays {
    /// Reads every array once and keeps a sample of it. `clip` is the one that the user named.
    pub fn read(path: &Path, model: &Model, map: &NameMap, clip: Option<&Tensor>) -> Result<Self> {
        let npz = Npz::open(path)?;
        let names: Vec<String> = npz.names().into_iter().filter(|n| npz.is_array(n)).collect();
        if names.len() > MOST_ARRAYS {
            bail!(
                "{}: {} arrays are too many for --suggest-map, which takes {MOST_ARRAYS}; dump the \
                 outputs of modules only",
                path.display(),
                names.len()
            );
        }
        let mut items = vec![];
        for name in names {
            let mapped = map.meanings(model, &name)?;
            let meanings = mapped.unwrap_or_else(|| vec![meaning(model, &name)]);
            let skipped = meanings.iter().find_map(|meaning| match meaning {
                Meaning::LeftOut => Some("left out by the map of names".to_owned()),
                Meaning::Step => Some("a step before the network".to_owned()),
                _ => None,
            });
            let known = meanings.into_iter().filter_map(Meaning::module).collect();
            let (shape, samples) = (npz.shape(&name)?, BTreeMap::new());
            items.push(Item { name, shape, known, skipped, samples });
        }
        let clip = match clip {
            Some(clip) => clip.clone(),
            None => find_clip(&npz, model, &mut items, path)?,
        };
        let classes = Classes::new(model, clip.shape[0]);
        let channels_last = votes_for_channels_last(&items, &classes);
        let mut arrays = Arrays { npz, items, classes, clip, channels_last };
        arrays.sample(model)?;
        Ok(arrays)
    }

    fn order(&self, shape: &[usize], class: usize) -> Option<Order> {
        Order::detect(shape, &self.classes.shapes[class], self.channels_last)
    }

    fn sample(&mut self, model: &Model) -> Result<()> {
        for at in 0..self.items.len() {
            let item = &self.items[at];
            let fits = |class: &usize| self.order(&item.shape, *class).is_some();
            // A known name whose shape does not fit says nothing.
            let known: Vec<ModuleId> = item.known.clone();
            let known: Vec<ModuleId> = known
                .into_iter()
                .filter(|id| *id == model.input || fits(&self.classes.of[id.0]))
                .collect();
            let mut wanted: Vec<usize> = (0..self.classes.shapes.len()).filter(fits).collect();
            if let Some(id) = known.first() {
                wanted = vec![self.classes.of[id.0]];
            }
            let is_clip = known.contains(&model.input);
            self.items[at].known = known;
            if is_clip || self.items[at].skipped.is_some() {
                continue;
            }
            self.keep(at, &wanted)?;
        }
        Ok(())
    }

    fn keep(&mut self, at: usize, wanted: &[usize]) -> Result<()> {
        let Some(first) = wanted.first() else {
            self.items[at].skipped = Some("no module has its shape".to_owned());
            return Ok(());
        };
        let count = self.classes.shapes[*first].iter().product();
        match self.npz.read(&self.items[at].name, count)? {
            Err(dtype) => self.items[at].skipped = Some(format!("it holds {dtype}, not floats")),
            Ok(tensor) => {
                for class in wanted {
                    let Some(order) = self.order(&self.items[at].shape, *class) else { continue };
                    let tensor = order.apply(tensor.clone(), &self.classes.shapes[*class]);
                    self.items[at].samples.insert(*class, Sample::of(&tensor));
                }
            }
        }
        Ok(())
    }

    /// Whether two arrays have one shape and the same values, which are not all the same.
    pub fn same(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.items[a], &self.items[b]);
        let first =
            |item: &Item| item.samples.first_key_value().map(|(class, s)| (*class, s.clone()));
        match (first(a), first(b)) {
            (Some((of_a, x)), Some((of_b, y))) => {
                let varies = x.0.iter().any(|value| value.to_bits() != x.0[0].to_bits());
                a.shape == b.shape && of_a == of_b && varies && x.same_bits(&y)
            }
            _ => false,
        }
    }

    /// Whether two arrays have the same values up to rounding.
    pub fn alike(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.items[a].samples, &self.items[b].samples);
        a.iter().any(|(class, x)| {
            b.get(class).is_some_and(|y| x.same_bits(y) || relative_l2(&x.0, &y.0) < SAME_VALUES)
        })
    }

    /// All values of an array in the layout of a class.
    pub fn value(&self, array: usize, class: usize) -> Option<Tensor> {
        let (item, expected) = (&self.items[array], &self.classes.shapes[class]);
        let order = self.order(&item.shape, class)?;
        let tensor = self.npz.read(&item.name, expected.iter().product()).ok()?.ok()?;
        Some(order.apply(tensor, expected))
    }
}

/// The clip among the arrays: the one with a name for it, or those with its shape if they are equal. They
/// become known.
fn find_clip(npz: &Npz, model: &Model, items: &mut [Item], path: &Path) -> Result<Tensor> {
    let named = |item: &Item| item.known.contains(&model.input);
    let shaped = |item: &Item| item.known.is_empty() && item.shape.len() >= 4;
    let fits = |item: &Item| item.skipped.is_none() && clip_order(model, &item.shape).is_some();
    let mut found: Vec<usize> =
        (0..items.len()).filter(|&at| named(&items[at]) && fits(&items[at])).collect();
    if found.is_empty() {
        found = (0..items.len()).filter(|&at| shaped(&items[at]) && fits(&items[at])).collect();
    }
    let mut clip: Option<Tensor> = None;
    for at in found {
        let Some((order, expected)) = clip_order(model, &items[at].shape) else { continue };
        let Ok(value) = npz.read(&items[at].name, expected.iter().product())? else { continue };
        let value = order.apply(value, &expected);
        match &clip {
            Some(other) if *other != value => bail!(
                "{}: `{}` and an earlier array both have the shape of the clip and differ; name the clip \
                 with a line `NAME = input` in --map FILE, or with --input",
                path.display(),
                items[at].name
            ),
            _ => {}
        }
        items[at].known = vec![model.input];
        clip = Some(value);
    }
    match clip {
        Some(clip) if !clip.is_empty() => Ok(clip),
        Some(_) => bail!("{}: the clip has no values; dump at least one clip", path.display()),
        None => bail!(
            "{}: none of the {} arrays is the clip, which --suggest-map needs; save it as the array \
             `input` {:?}, or name the clip that the dump was made from with --input",
            path.display(),
            items.len(),
            model.input_shape(1)
        ),
    }
}

/// Whether more arrays fit a map in the order [N, H, W, C] only than in [N, C, H, W] only.
fn votes_for_channels_last(items: &[Item], classes: &Classes) -> bool {
    let squeezed =
        |shape: &[usize]| shape.iter().copied().filter(|&n| n != 1).collect::<Vec<usize>>();
    let fits = |item: &Item, turned: bool| {
        classes.shapes.iter().any(|shape| match (&shape[..], turned) {
            (&[n, c, h, w], true) => squeezed(&[n, h, w, c]) == squeezed(&item.shape),
            (&[_, _, _, _], false) => squeezed(shape) == squeezed(&item.shape),
            _ => false,
        })
    };
    let count = |turned: bool| {
        let only = |item: &&Item| fits(item, turned) && !fits(item, !turned);
        items.iter().filter(only).count()
    };
    count(true) > count(false)
}
