//! Checks that damaged files do not pass. Arrays of a correct dump and tensors of a correct checkpoint are
//! changed in ten ways. No changed file may pass, unless its values have the same bits or, for an array
//! that is left out, the next module is compared in its place.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result};
use checkpoint::{Source, Weights};
use ndarray::{ArrayD, IxDyn};
use ndarray_npy::NpzWriter;
use record::{Mutation, Verdict};
use spec::{Config, Engine, Flow, Model, ModuleId, Precision, Tap, Tensor};

use crate::engines::{self, Device};
use crate::flags::{EngineName, InputSource};
use crate::{input, progress};
use compare::dump::{Closing, Dump, ledger};
use compare::{Comparison, Side, judge};

/// Named arrays, as a file holds them.
type Arrays = Vec<(String, ArrayD<f32>)>;

/// Changes the array with the index `at`; `None` if the result would hold the same values.
type Change = fn(&Arrays, at: usize) -> Option<Arrays>;

/// The kinds of change, by the names that records and tables use.
const KINDS: [(&str, Change); 10] = [
    ("dropped", dropped),
    ("renamed", renamed),
    ("swapped with one of its shape", swapped),
    ("transposed", transposed),
    ("scaled by 1.001", |arrays, at| values(arrays, at, |x| x * 1.001)),
    ("NaN in one place", nan),
    ("zeroed", |arrays, at| values(arrays, at, |_| 0.0)),
    ("emptied", emptied),
    ("of another rank", another_rank),
    ("doubled under another prefix", doubled),
];

fn changed(arrays: &Arrays, at: usize, new: ArrayD<f32>) -> Option<Arrays> {
    let old = &arrays[at].1;
    let bits = |array: &ArrayD<f32>| array.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let same = bits(old) == bits(&new);
    (!same).then(|| {
        let mut arrays = arrays.clone();
        arrays[at].1 = new;
        arrays
    })
}

fn values(arrays: &Arrays, at: usize, f: fn(f32) -> f32) -> Option<Arrays> {
    changed(arrays, at, arrays[at].1.mapv(f))
}

fn dropped(arrays: &Arrays, at: usize) -> Option<Arrays> {
    let mut arrays = arrays.clone();
    arrays.remove(at);
    Some(arrays)
}

fn renamed(arrays: &Arrays, at: usize) -> Option<Arrays> {
    let mut arrays = arrays.clone();
    arrays[at].0 = format!("renamed.{}", arrays[at].0.replace('.', "_"));
    Some(arrays)
}

fn swapped(arrays: &Arrays, at: usize) -> Option<Arrays> {
    let shape = arrays[at].1.shape();
    let other = (0..arrays.len()).find(|&other| other != at && arrays[other].1.shape() == shape)?;
    let mut swapped = changed(arrays, at, arrays[other].1.clone())?;
    swapped[other].1 = arrays[at].1.clone();
    Some(swapped)
}

/// Exchanges the last two axes, and stores the values in the order of the new shape.
fn transposed(arrays: &Arrays, at: usize) -> Option<Arrays> {
    let mut array = arrays[at].1.clone();
    let rank = array.ndim();
    if rank < 2 {
        return None;
    }
    array.swap_axes(rank - 1, rank - 2);
    changed(arrays, at, array.as_standard_layout().into_owned())
}

fn nan(arrays: &Arrays, at: usize) -> Option<Arrays> {
    let mut array = arrays[at].1.clone();
    let middle = array.len() / 2;
    *array.iter_mut().nth(middle)? = f32::NAN;
    changed(arrays, at, array)
}

fn emptied(arrays: &Arrays, at: usize) -> Option<Arrays> {
    changed(arrays, at, ArrayD::zeros(IxDyn(&[0])))
}

/// Stacks two copies of the array along a new axis.
fn another_rank(arrays: &Arrays, at: usize) -> Option<Arrays> {
    let array = &arrays[at].1;
    let twice = ndarray::stack(ndarray::Axis(array.ndim()), &[array.view(), array.view()]).ok()?;
    changed(arrays, at, twice.as_standard_layout().into_owned())
}

/// Adds a second array for the same module, with other values.
fn doubled(arrays: &Arrays, at: usize) -> Option<Arrays> {
    let (name, array) = &arrays[at];
    let mut arrays = arrays.clone();
    arrays.push((format!("module.{name}"), array.mapv(|x| 1.5 * x + 0.25)));
    Some(arrays)
}

/// The default number of arrays that are changed in each way.
pub const DEFAULT: usize = 12;

/// Changes `count` arrays of a dump and of a checkpoint in each way (all arrays if there are fewer), and
/// counts what became of the changed files. The arrays are spread evenly over the file, and `seed` chooses
/// the first one.
pub fn run(count: usize, seed: u64, truth: EngineName, device: Device) -> Result<Vec<Mutation>> {
    let lab = Lab::new(truth, device)?;
    let (dump, checkpoint) = (lab.dump()?, lab.checkpoint());
    let chosen = |arrays: &Arrays| {
        let count = count.min(arrays.len());
        let step = arrays.len() as f64 / count.max(1) as f64;
        let first = seed as usize % arrays.len().max(1);
        let places = (0..count).map(|at| (first + (at as f64 * step) as usize) % arrays.len());
        places.collect::<Vec<_>>()
    };
    let (of_dump, of_checkpoint) = (chosen(&dump), chosen(&checkpoint));
    let total = KINDS.len() * (of_dump.len() + of_checkpoint.len());
    let bar = progress::bar("changing files", total as u64);
    let mut found = vec![];
    for (what, change) in KINDS {
        let mut tally = Mutation::new("dump", what);
        for &at in &of_dump {
            if let Some(arrays) = change(&dump, at) {
                let fate = lab.try_dump(&arrays)?;
                tally.count(&dump[at].0, fate);
            }
            bar.inc(1);
        }
        found.push(tally);
        let mut tally = Mutation::new("checkpoint", what);
        for &at in &of_checkpoint {
            if let Some(arrays) = change(&checkpoint, at) {
                let fate = lab.try_checkpoint(&arrays, &dump)?;
                tally.count(&checkpoint[at].0, fate);
            }
            bar.inc(1);
        }
        found.push(tally);
    }
    bar.finish_and_clear();
    Ok(found)
}

/// A small model with its weights and its clip, and a folder for the changed files.
struct Lab {
    model: Model,
    weights: Weights,
    clip: Tensor,
    truth: EngineName,
    device: Device,
    folder: tempfile::TempDir,
}

impl Lab {
    fn new(truth: EngineName, device: Device) -> Result<Self> {
        let config =
            Config { depth: 10, width: 0.125, classes: 7, size: (64, 64), ..Config::default() };
        let model = Model::new(config)?;
        let weights = Weights::load(&Source::Formula(0), model.parameters())?;
        let clip = input::load(&InputSource::Formula(0), &model, 1)?;
        let folder = tempfile::tempdir().context("a temporary folder cannot be created")?;
        Ok(Lab { model, weights, clip, truth, device, folder })
    }

    fn load(&self, engine: EngineName, weights: &Weights, p: Precision) -> Result<Box<dyn Engine>> {
        engines::load(engine, self.model.clone(), weights, p, self.device)
    }

    /// A correct dump: the output of every module by the engine `scalar`.
    fn dump(&self) -> Result<Arrays> {
        let mut tap = Keep { model: &self.model, arrays: vec![] };
        let mut engine = self.load(EngineName::Scalar, &self.weights, Precision::F32)?;
        engine.forward(&self.clip, &mut tap)?;
        Ok(tap.arrays)
    }

    /// A correct checkpoint with PyTorch's names.
    fn checkpoint(&self) -> Arrays {
        let named = self.model.parameters().iter().filter_map(|spec| {
            let data = self.weights.get(&spec.name)?.data.clone();
            Some((spec.name.clone(), ArrayD::from_shape_vec(IxDyn(&spec.shape), data).ok()?))
        });
        named.collect()
    }

    fn try_dump(&self, arrays: &Arrays) -> Result<Fate> {
        let path = self.folder.path().join("dump.npz");
        write(&path, arrays)?;
        match Dump::open(&path, &self.model, 1) {
            Ok(dump) => self.compare(dump, &self.weights),
            Err(_) => Ok(Fate::Refused),
        }
    }

    /// Weights that load in spite of the change must make the correct dump diverge.
    fn try_checkpoint(&self, arrays: &Arrays, right: &Arrays) -> Result<Fate> {
        let path = self.folder.path().join("weights.npz");
        write(&path, arrays)?;
        let Ok(weights) = Weights::load(&Source::file(path), self.model.parameters()) else {
            return Ok(Fate::Refused);
        };
        let path = self.folder.path().join("right.npz");
        write(&path, right)?;
        self.compare(Dump::open(&path, &self.model, 1)?, &weights)
    }

    fn compare(&self, dump: Dump, weights: &Weights) -> Result<Fate> {
        let (model, clip) = (self.model.clone(), self.clip.clone());
        let load = |precision| self.load(self.truth, weights, precision);
        let mut comparison = Comparison::new(model, Side::Dump(dump), clip, Precision::F32, load)?;
        let measured = comparison.measure(&|| ())?;
        let Comparison { model, selection, candidate, .. } = &comparison;
        let found = comparison.judge(&measured);
        let Side::Dump(dump) = candidate else { return Ok(Fate::Refused) };
        let closing = Closing {
            fates: &measured.fates,
            readings: &measured.readings,
            selection,
            gave_clip: false,
            steps_compared: false,
        };
        Ok(Fate::of(found, &ledger(dump, model, &closing)))
    }
}

/// What became of a changed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The file could not be opened or loaded.
    Refused,
    /// The comparison diverged, or not everything was compared.
    Noticed,
    /// The comparison passed, and the missing array was checked through the next module.
    Covered,
    /// The comparison passed.
    Passed,
}

impl Fate {
    fn of(found: judge::Findings, ledger: &[record::LedgerEntry]) -> Self {
        use record::{ArrayState, LayerVerdict};
        let refused = ledger.iter().any(|entry| entry.state == ArrayState::Refused);
        let missing =
            found.layers.iter().filter(|layer| layer.verdict == LayerVerdict::Covered).count();
        match found.verdict {
            Verdict::Pass if refused => Fate::Noticed,
            Verdict::Pass if missing > 0 => Fate::Covered,
            Verdict::Pass => Fate::Passed,
            _ => Fate::Noticed,
        }
    }
}

/// Counts a changed file in a record.
trait Tally {
    fn count(&mut self, array: &str, fate: Fate);
}

impl Tally for Mutation {
    fn count(&mut self, array: &str, fate: Fate) {
        self.made += 1;
        let left_out = matches!(self.what.as_str(), "dropped" | "renamed");
        match fate {
            Fate::Refused => self.refused += 1,
            Fate::Noticed => self.noticed += 1,
            Fate::Covered if left_out => self.covered += 1,
            // A renamed clip is recognised by its shape, and it was compared.
            Fate::Passed if self.what == "renamed" => self.covered += 1,
            Fate::Covered | Fate::Passed => self.passed.push(array.to_owned()),
        }
    }
}

/// A tap that keeps every module's output as an array.
struct Keep<'a> {
    model: &'a Model,
    arrays: Arrays,
}

impl Tap for Keep<'_> {
    fn wants(&self, _: ModuleId) -> bool {
        true
    }

    fn observe(&mut self, id: ModuleId, value: Tensor) -> Flow {
        let name = match id == self.model.output() {
            true => "logits".to_owned(),
            false => self.model.module(id).name.clone(),
        };
        let array = ArrayD::from_shape_vec(IxDyn(&value.shape), value.to_f32());
        self.arrays.extend(array.ok().map(|array| (name, array)));
        Flow::Continue
    }
}

fn write(path: &Path, arrays: &Arrays) -> Result<()> {
    let file =
        File::create(path).with_context(|| format!("{}: cannot be written", path.display()))?;
    let mut npz = NpzWriter::new(BufWriter::new(file));
    for (name, array) in arrays {
        npz.add_array(name, array)?;
    }
    npz.finish()?;
    Ok(())
}

/// The table of the counts, 100 columns wide at most.
pub fn table(mutations: &[Mutation]) -> String {
    let mut text = format!(
        "{:12} {:30} {:>6} {:>8} {:>8} {:>16} {:>7}",
        "file", "one array of it", "made", "refused", "noticed", "through the next", "passed"
    );
    for m in mutations {
        text += &format!(
            "\n{:12} {:30} {:>6} {:>8} {:>8} {:>16} {:>7}",
            m.file,
            m.what,
            m.made,
            m.refused,
            m.noticed,
            m.covered,
            m.passed.len()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_changes_nothing_is_not_counted() {
        let arrays: Arrays = vec![
            ("a".into(), ArrayD::zeros(IxDyn(&[1, 2, 2]))),
            ("b".into(), ArrayD::ones(IxDyn(&[1, 2, 2]))),
        ];
        assert!(values(&arrays, 0, |_| 0.0).is_none());
        assert!(transposed(&arrays, 1).is_none());
        assert!(swapped(&arrays, 0).is_some());
        assert!(emptied(&arrays, 1).is_some());
        assert_eq!(another_rank(&arrays, 1).unwrap()[1].1.shape(), [1, 2, 2, 2]);
        assert_eq!(doubled(&arrays, 1).unwrap()[2].0, "module.b");
    }
}
