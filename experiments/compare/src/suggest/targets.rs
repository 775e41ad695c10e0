//! What an array may show: the output of a module, or a value between two modules that frameworks give
//! a name of its own.

use spec::{Engine, Flow, Model, ModuleId, Precision, Selection};

use anyhow::Result;

use super::arrays::Arrays;
use super::sample::Sample;
use crate::dump::chain::{Through, sites};
use crate::lockstep::{self, Runner};

/// Something that an array may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The output of a module.
    Module(ModuleId),
    /// The output of a normalisation after the ReLU that follows it.
    AfterRelu(ModuleId),
    /// The sum of a block's last normalisation and its shortcut, before the block's ReLU.
    Sum(ModuleId, ModuleId),
}

impl Target {
    /// All targets of a model.
    pub fn all(model: &Model) -> Vec<Target> {
        let mut targets: Vec<Target> =
            model.modules().iter().map(|module| Target::Module(module.id)).collect();
        for reading in sites(model).into_iter().flat_map(|site| site.readings) {
            let target = match reading.through {
                Through::AsIs => continue,
                Through::AfterRelu => Target::AfterRelu(reading.module),
                Through::Sum(a, b) => Target::Sum(a, b),
            };
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
        targets
    }

    /// The module that the target belongs to.
    pub fn module(self) -> ModuleId {
        match self {
            Target::Module(id) | Target::AfterRelu(id) | Target::Sum(id, _) => id,
        }
    }

    /// The target in words.
    pub fn in_words(self, model: &Model) -> String {
        let name = |id: ModuleId| &model.module(id).name;
        match self {
            Target::Module(id) => name(id).clone(),
            Target::AfterRelu(id) => format!("{} after the ReLU that follows it", name(id)),
            Target::Sum(a, b) => format!("the sum of {} and {}", name(a), name(b)),
        }
    }

    /// The sample of the target, from those of the modules.
    fn sample(self, modules: &[Option<Sample>]) -> Option<Sample> {
        let of = |id: ModuleId| modules[id.0].as_ref();
        match self {
            Target::Module(id) => of(id).cloned(),
            Target::AfterRelu(id) => of(id).map(Sample::relu),
            Target::Sum(a, b) => of(a)?.plus(of(b)?),
        }
    }
}

/// The correlations of every array with every target that has its shape.
pub struct Scores {
    /// For each array: the target and the correlation, the best first.
    pub of: Vec<Vec<(Target, f64)>>,
    /// The samples of the modules.
    modules: Vec<Option<Sample>>,
}

impl Scores {
    /// Runs the truth, feeds it the arrays of `fed` at their modules, and correlates.
    pub fn measure(
        truth: &mut dyn Engine,
        model: &Model,
        arrays: &Arrays,
        targets: &[Target],
        fed: &[(ModuleId, usize)],
    ) -> Result<Self> {
        let mut modules: Vec<Option<Sample>> = vec![None; model.modules().len()];
        let runner = Runner { engine: truth, input: &arrays.clip };
        lockstep::run(vec![runner], &Selection::all(model.modules()), |id, mut values| {
            if let Some(value) = values.pop().flatten() {
                modules[id.0] = Some(Sample::of(&value));
            }
            let array = fed.iter().find(|(module, _)| *module == id).map(|(_, array)| *array);
            match array.and_then(|array| arrays.value(array, arrays.classes.of[id.0])) {
                Some(value) => Flow::Replace(Precision::F64.round(value)),
                None => Flow::Continue,
            }
        })?;
        let of_targets: Vec<(Target, Option<Sample>)> =
            targets.iter().map(|target| (*target, target.sample(&modules))).collect();
        let of = arrays.items.iter().map(|item| {
            let score = |(target, sample): &(Target, Option<Sample>)| {
                let own = item.samples.get(&arrays.classes.of[target.module().0])?;
                Some((*target, own.correlation(sample.as_ref()?)))
            };
            let mut scores: Vec<(Target, f64)> = of_targets.iter().filter_map(score).collect();
            scores.sort_by(|a, b| b.1.total_cmp(&a.1));
            scores
        });
        let of = of.collect();
        Ok(Scores { of, modules })
    }

    /// The relative L2 distance between the samples of an array and those of a module's output; infinite if
    /// either was not sampled.
    pub fn distance(&self, arrays: &Arrays, array: usize, id: ModuleId) -> f64 {
        let own = arrays.items[array].samples.get(&arrays.classes.of[id.0]);
        match (own, &self.modules[id.0]) {
            (Some(own), Some(truth)) => spec::relative_l2(&own.0, &truth.0),
            _ => f64::INFINITY,
        }
    }

    /// The sample of a module's output, before an array was fed there.
    pub fn module(&self, id: ModuleId) -> Option<&Sample> {
        self.modules[id.0].as_ref()
    }

    /// The correlation of an array with a module; 0 if they were not correlated.
    pub fn at(&self, array: usize, id: ModuleId) -> f64 {
        let found = self.of[array].iter().find(|(target, _)| *target == Target::Module(id));
        found.map_or(0.0, |(_, score)| *score)
    }

    /// The best target of an array if its values alone decide, with its correlation and the next best
    /// target.
    pub fn clear(&self, array: usize) -> Option<Clear> {
        let scores = &self.of[array];
        let (target, score) = *scores.first()?;
        let next = scores.get(1).copied();
        let gap = 1.0 - next.map_or(-1.0, |(_, score)| score);
        let decided = score >= ENOUGH && (1.0 - score).max(SAME) * FACTOR <= gap;
        decided.then_some(Clear { target, score, next })
    }
}

/// What the values of an array show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clear {
    /// The target.
    pub target: Target,
    /// The correlation with it.
    pub score: f64,
    /// The next best target and the correlation with that one.
    pub next: Option<(Target, f64)>,
}

/// Values decide from this correlation on.
pub const ENOUGH: f64 = 0.999;

/// The next best target must be this many times further from a correlation of 1.
pub const FACTOR: f64 = 8.0;

/// Correlations closer to 1 than this are equal.
const SAME: f64 = 1e-9;
