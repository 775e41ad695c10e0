//! Values between two modules: arrays that the network computes on its way and that no module returns.
//!
//! A runtime names every result: a map times the gate, a map plus the positional embedding, and the steps
//! of a batch normalisation that it could not fold. Their values say so exactly, from other arrays of the
//! dump, so that a mistake before them does not matter. Nothing that is compared depends on them: the
//! modules that read them are given the arrays that they were made from.

use std::collections::BTreeMap;

use spec::{Kind, Model, ModuleId, relative_l2};

use super::arrays::Arrays;
use super::sample::{Sample, position};
use super::targets::{Clear, Scores, Target};
use super::{NEAR, Search};

/// The largest relative L2 distance of a value from what it is made of, which bfloat16 can reach.
const EXACT: f64 = 4e-3;

/// A formula must be this many times closer than the value that it begins with.
const FACTOR: f64 = 8.0;

/// As many values decide at first whether a formula can hold.
const FEW: usize = 64;

/// Takes the products with a gate and the sums with a positional embedding out of the search. `scores` is
/// what the values say if no array is fed.
pub fn set_aside(arrays: &mut Arrays, model: &Model, scores: &Scores) {
    let mut found = BTreeMap::new();
    for class in 0..arrays.classes.shapes.len() {
        if let Some(maps) = Maps::of(arrays, class) {
            maps.products(model, scores, &mut found);
            maps.sums(model, scores, &mut found);
        }
    }
    for (array, why) in found {
        arrays.items[array].samples.clear();
        arrays.items[array].skipped = Some(why);
    }
}

/// The arrays of one shape [N, C, H, W] with more than one pixel.
struct Maps<'a> {
    arrays: &'a Arrays,
    shape: [usize; 4],
    /// For each sampled value, its position in the tensor.
    places: Vec<usize>,
    /// The arrays with their samples.
    all: Vec<(usize, &'a Sample)>,
}

impl<'a> Maps<'a> {
    fn of(arrays: &'a Arrays, class: usize) -> Option<Self> {
        let shape: [usize; 4] = arrays.classes.shapes[class].as_slice().try_into().ok()?;
        let all = arrays.items.iter().enumerate();
        let all: Vec<_> =
            all.filter_map(|(at, item)| Some((at, item.samples.get(&class)?))).collect();
        let len = shape.iter().product();
        let places = (0..all.first()?.1.0.len()).map(|n| position(n, len)).collect();
        (shape[2] * shape[3] > 1).then_some(Maps { arrays, shape, places, all })
    }

    /// The index of each sampled value's channel among those of the batch.
    fn channels(&self) -> Vec<usize> {
        self.places.iter().map(|place| place / (self.shape[2] * self.shape[3])).collect()
    }

    /// The arrays that are open and not equal to a module's output.
    fn open(&self, scores: &'a Scores) -> impl Iterator<Item = (usize, &'a Sample)> {
        self.all.iter().copied().filter(|(at, _)| {
            let equal = scores.clear(*at).is_some_and(|clear| match clear.target {
                Target::Module(id) => scores.distance(self.arrays, *at, id) < NEAR,
                _ => false,
            });
            self.arrays.items[*at].is_open() && !equal
        })
    }

    /// The other arrays, and what they are after a ReLU.
    fn factors(&self) -> Vec<(usize, Sample, &'static str)> {
        let plain = self.all.iter().map(|(at, own)| (*at, (*own).clone(), ""));
        let after = self.all.iter().filter(|(_, own)| own.0.iter().any(|x| *x < 0.0));
        plain.chain(after.map(|(at, own)| (*at, own.relu(), " after a ReLU"))).collect()
    }

    fn products(&self, model: &Model, scores: &Scores, found: &mut BTreeMap<usize, String>) {
        let [n, c, ..] = self.shape;
        let gate_class = self.arrays.classes.shapes.iter().position(|s| *s == [n, c, 1, 1]);
        let Some(gate_class) = gate_class else { return };
        let mut gates: Vec<(&str, &Sample)> = vec![];
        for item in &self.arrays.items {
            gates.extend(item.samples.get(&gate_class).map(|own| (item.name.as_str(), own)));
        }
        for module in model.modules() {
            let is_gate = module.kind == Kind::Sigmoid;
            let fits = is_gate && self.arrays.classes.of[module.id.0] == gate_class;
            gates.extend(scores.module(module.id).filter(|_| fits).map(|own| (&*module.name, own)));
        }
        gates.retain(|(_, own)| own.0.len() == n * c);
        let (channels, factors) = (self.channels(), self.factors());
        for (array, own) in self.open(scores) {
            let holds = factors.iter().find_map(|(other, map, after)| {
                if *other == array || !proportional(own, map, &channels) {
                    return None;
                }
                let gate = gates.iter().find(|(_, gate)| {
                    let product = map.0.iter().zip(&channels).map(|(x, c)| x * gate.0[*c]);
                    is_made(own, &product.collect::<Vec<_>>(), map)
                })?;
                Some((*other, after, gate.0))
            });
            if let Some((other, after, gate)) = holds {
                let other = &self.arrays.items[other].name;
                let why = format!("by value: {other}{after} times {gate}; not a module of its own");
                found.insert(array, why);
            }
        }
    }

    fn sums(&self, model: &Model, scores: &Scores, found: &mut BTreeMap<usize, String>) {
        let size = self.shape[1..].iter().product::<usize>();
        let fits = |id: ModuleId| model.module(id).shape[..] == self.shape[1..];
        let embeddings = model.modules().iter().filter(|m| m.kind == Kind::PosEmbed && fits(m.id));
        let spread = |id: ModuleId| {
            let own = scores.module(id)?;
            // A sample of some values only holds those of one place if the batch is one clip.
            let whole = own.0.len() == size;
            let value = |(n, place): (usize, &usize)| match whole {
                true => Some(own.0[place % size]),
                false if self.shape[0] == 1 => own.0.get(n).copied(),
                false => None,
            };
            let values: Option<Vec<f64>> = self.places.iter().enumerate().map(value).collect();
            Some((&*model.module(id).name, values?))
        };
        let embeddings: Vec<(&str, Vec<f64>)> =
            embeddings.filter_map(|module| spread(module.id)).collect();
        if embeddings.is_empty() {
            return;
        }
        let factors = self.factors();
        for (array, own) in self.open(scores) {
            let holds = factors.iter().filter(|(other, ..)| *other != array).find_map(
                |(other, map, after)| {
                    let embedding = embeddings.iter().find(|(_, embedding)| {
                        let sum = |at: usize| map.0[at] + embedding[at];
                        let step = (own.0.len() / FEW).max(1);
                        let few = (0..own.0.len()).step_by(step);
                        let (a, b): (Vec<f64>, Vec<f64>) =
                            few.map(|at| (own.0[at], sum(at))).unzip();
                        relative_l2(&b, &a) < 10.0 * EXACT
                            && is_made(own, &(0..own.0.len()).map(sum).collect::<Vec<_>>(), map)
                    })?;
                    Some((*other, after, embedding.0))
                },
            );
            if let Some((other, after, embedding)) = holds {
                let other = &self.arrays.items[other].name;
                let why =
                    format!("by value: {other}{after} plus {embedding}; not a module of its own");
                found.insert(array, why);
            }
        }
    }
}

/// Whether an array has the values of a formula, and not those of the value that the formula begins with.
fn is_made(own: &Sample, formula: &[f64], from: &Sample) -> bool {
    let distance = relative_l2(formula, &own.0);
    distance < EXACT && distance * FACTOR < relative_l2(&from.0, &own.0)
}

/// Whether in each of some channels one array is a multiple of another one.
fn proportional(a: &Sample, b: &Sample, channels: &[usize]) -> bool {
    let step = (channels.len() / FEW).max(1);
    let pairs = (0..channels.len().saturating_sub(1)).step_by(step);
    let pairs: Vec<(f64, f64)> = pairs
        .filter(|&at| channels[at] == channels[at + 1])
        .map(|at| (a.0[at] * b.0[at + 1], a.0[at + 1] * b.0[at]))
        .collect();
    pairs.iter().any(|(x, y)| x * y != 0.0)
        && pairs.iter().all(|(x, y)| (x - y).abs() <= 10.0 * EXACT * (x.abs() + y.abs()))
}

/// The steps of batch normalisations that are in a dump beside their inputs and results: x - mean and
/// (x - mean) * scale.
pub fn steps(
    search: &Search,
    scores: &Scores,
    clear: &BTreeMap<usize, Clear>,
) -> BTreeMap<usize, String> {
    let (arrays, model, mut found) = (&search.arrays, search.model, BTreeMap::new());
    for bn in model.modules().iter().filter(|module| module.kind == Kind::BatchNorm) {
        let class = arrays.classes.of[bn.id.0];
        let Some(maps) = Maps::of(arrays, class) else { continue };
        let input = search.graph.reads(bn.id).first().copied();
        let channels = maps.channels();
        let near = |truth: Option<&Sample>, own: &Sample| {
            truth.is_some_and(|truth| relative_l2(&own.0, &truth.0) < EXACT)
        };
        let truth = scores.module(bn.id);
        let after = truth.map(Sample::relu);
        let x = input.and_then(|id| scores.module(id));
        let inputs: Vec<_> = maps.all.iter().filter(|(_, own)| near(x, own)).collect();
        let results: Vec<_> = maps
            .all
            .iter()
            .filter(|(_, own)| near(truth, own) || near(after.as_ref(), own))
            .collect();
        for &(array, own) in &maps.all {
            let is_bn = clear.get(&array).is_none_or(|clear| {
                let id = clear.target.module();
                id == bn.id || Some(id) == input
            });
            let itself = near(x, own) || near(truth, own) || near(after.as_ref(), own);
            if !arrays.items[array].is_open() || !is_bn || itself {
                continue;
            }
            if let Some((other, _)) = inputs.iter().find(|(_, x)| shifted(x, own, &channels)) {
                let other = &arrays.items[*other].name;
                let what = format!("{other} less one value for each channel, as in {}", bn.name);
                found.insert(array, format!("by value: {what}; not a module of its own"));
            } else if let Some((other, _)) = results.first()
                && truth.is_some_and(|truth| shifted(own, truth, &channels))
            {
                let other = &arrays.items[*other].name;
                let what = format!("{} before its offset is added, which gives {other}", bn.name);
                found.insert(array, format!("by value: {what}; not a module of its own"));
            }
        }
    }
    found
}

/// Whether `to` is `from` plus one value for each channel.
fn shifted(from: &Sample, to: &Sample, channels: &[usize]) -> bool {
    let mut offsets: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    for ((x, y), channel) in from.0.iter().zip(&to.0).zip(channels) {
        let (sum, count) = offsets.entry(*channel).or_default();
        (*sum, *count) = (*sum + y - x, *count + 1.0);
    }
    let offset = |channel: &usize| offsets[channel].0 / offsets[channel].1;
    let made = from.0.iter().zip(channels).map(|(x, channel)| x + offset(channel));
    is_made(to, &made.collect::<Vec<_>>(), from)
}
