//! Finds out what the arrays of a dump show: the output of the module that they are named after, the
//! result of a later in-place operation, or a module that the runtime has folded into theirs.
//!
//! One line of a program makes the arrays of one role in all blocks, so these arrays show the same
//! thing everywhere. They vote, and the reading with the most votes holds for all of them.

use std::collections::BTreeMap;

use anyhow::Result;
use spec::{Engine, Flow, Kind, Model, ModuleId, Precision, Selection, Tensor};

use super::lockstep::{self, Runner};
use super::measure;
use crate::dump::Dump;
use crate::dump::chain::{Cause, Reading, Site, Through, sites};
use crate::faults::relu;

/// An array does not vote if its relative L2 distance to everything that it may show is larger.
const MAX_VOTE_DISTANCE: f64 = 0.5;

/// A block's array is fed to the next block if its relative L2 distance from the truth is smaller.
const MAX_FEED_DISTANCE: f64 = 0.1;

/// An array that fits nothing well still votes for another module if it is this many times closer to
/// that one than to its own.
const CLOSER_FACTOR: f64 = 5.0;

/// The readings of a dump, by the module that the array is named after. An array without an entry
/// shows its own module.
///
/// The truth runs once and is fed the dump's own block outputs, so that a mistake in one block does not
/// spoil the votes of the next.
///
/// # Errors
///
/// If the engine fails.
pub fn detect(
    truth: &mut dyn Engine,
    model: &Model,
    dump: &Dump,
    input: &Tensor,
) -> Result<BTreeMap<ModuleId, Reading>> {
    let sites = sites(model);
    let mut ballots = ballots(&sites, dump);
    if ballots.is_empty() {
        return Ok(BTreeMap::new());
    }
    let precision = dump.format.0;
    let runner = Runner { engine: truth, input };
    lockstep::run(vec![runner], &Selection::all(model.modules()), |id, mut values| {
        let Some(value) = values.pop().flatten() else { return Flow::Continue };
        for ballot in &mut ballots {
            ballot.compare(dump, id, &value);
        }
        // An array that shows another module must not be fed to the next block.
        let near = |own: &Tensor| {
            own.iter().all(f64::is_finite)
                && measure::distance(&value, own, Precision::F64).rel_l2 < MAX_FEED_DISTANCE
        };
        let block = matches!(model.module(id).kind, Kind::Block);
        match dump.get(id).filter(|own| block && near(own)) {
            Some(own) => Flow::Replace(precision.round(own)),
            None => Flow::Continue,
        }
    })?;
    Ok(elect(&sites, &ballots, precision))
}

/// One array and its distances from everything that it may show.
struct Ballot {
    array: usize,
    /// Index of the array's site.
    site: usize,
    own: ModuleId,
    readings: Vec<Reading>,
    /// Relative L2 distance to the array's own module, then to each reading.
    distances: Vec<f64>,
}

fn ballots(sites: &[Site], dump: &Dump) -> Vec<Ballot> {
    let ballot = |array: usize| {
        let own = dump.module_of(array)?;
        let site = sites.iter().position(|site| site.module == own)?;
        let readings = sites[site].readings.clone();
        let distances = vec![f64::INFINITY; readings.len() + 1];
        Some(Ballot { array, site, own, readings, distances })
    };
    (0..dump.arrays.len()).filter_map(ballot).collect()
}

impl Ballot {
    /// Measures the distance from the truth at a module, if the array may show that module.
    fn compare(&mut self, dump: &Dump, id: ModuleId, truth: &Tensor) {
        let shows = |reading: &&Reading| reading.module == id;
        if self.own != id && !self.readings.iter().any(|reading| shows(&reading)) {
            return;
        }
        let Some(value) = dump.value(self.array) else { return };
        let distance =
            |truth: &Tensor, value: &Tensor| measure::distance(truth, value, Precision::F64).rel_l2;
        let same_shape = value.shape == truth.shape;
        if self.own == id {
            self.distances[0] = distance(truth, &value);
        }
        for (reading, slot) in self.readings.iter().zip(&mut self.distances[1..]) {
            if reading.module == id && same_shape {
                *slot = match reading.through {
                    Through::AsIs => distance(truth, &value),
                    Through::AfterRelu => distance(&relu(truth.clone()), &value),
                    // Without a negative value the block's ReLU has already been applied.
                    Through::Sum(..) if value.iter().all(|x| x >= 0.0) => f64::INFINITY,
                    Through::Sum(..) => distance(truth, &relu(value.clone())),
                };
            }
        }
    }

    /// What the array votes for: 0 is its own module, i is reading i - 1.
    fn votes(&self, tolerance: f64) -> Vec<usize> {
        let all = || 0..self.distances.len();
        let fits: Vec<usize> = all().filter(|&at| self.distances[at] <= tolerance).collect();
        if !fits.is_empty() {
            return fits;
        }
        let best = all().min_by(|&a, &b| self.distances[a].total_cmp(&self.distances[b]));
        let close = |at: &usize| {
            let distance = self.distances[*at];
            distance < MAX_VOTE_DISTANCE && distance * CLOSER_FACTOR < self.distances[0]
        };
        best.filter(close).into_iter().collect()
    }
}

/// For each site the reading with the most votes among the arrays of its role. In a tie the earliest
/// operation wins.
fn elect(sites: &[Site], ballots: &[Ballot], precision: Precision) -> BTreeMap<ModuleId, Reading> {
    // Within a block the rounding errors of a coarse number format add up.
    let tolerance = (16.0 * precision.epsilon()).max(1e-3);
    let mut counts: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for ballot in ballots {
        let count = counts.entry(sites[ballot.site].role).or_default();
        count.resize(ballot.distances.len().max(count.len()), 0);
        ballot.votes(tolerance).into_iter().for_each(|at| count[at] += 1);
    }
    let winner = |role: &str| {
        let count = counts.get(role)?;
        let most = *count.iter().max()?;
        count.iter().position(|&votes| votes == most)
    };
    let elected = ballots.iter().filter_map(|ballot| {
        let won = winner(sites[ballot.site].role)?;
        Some((ballot.own, *ballot.readings.get(won.checked_sub(1)?)?))
    });
    elected.collect()
}

/// The modules between the one that an array is named after and the one that it shows, each with the
/// one that is shown. An example is the BN between a convolution and the ReLU that is fused into it.
pub fn passed_over(
    model: &Model,
    readings: &BTreeMap<ModuleId, Reading>,
) -> Vec<(ModuleId, ModuleId)> {
    let sites = sites(model);
    let between = |(id, reading): (&ModuleId, &Reading)| {
        let site = sites.iter().find(|site| site.module == *id)?;
        let until = site.readings.iter().position(|other| other == reading)?;
        let passed = site.readings[..until].iter().map(|other| other.module);
        let passed = passed.filter(|module| *module != *id && *module != reading.module);
        Some(passed.map(|module| (module, reading.module)).collect::<Vec<_>>())
    };
    readings.iter().filter_map(between).flatten().collect()
}

/// What the readings tell about the program that wrote the dump, in sentences for the report.
pub fn in_words(model: &Model, readings: &BTreeMap<ModuleId, Reading>) -> Vec<String> {
    let sites = sites(model);
    let roles = |cause: Cause| {
        let mut roles: Vec<&str> = readings
            .iter()
            .filter(|(_, reading)| reading.cause == cause)
            .filter_map(|(id, _)| sites.iter().find(|site| site.module == *id))
            .map(|site| site.role)
            .collect();
        roles.sort_unstable();
        roles.dedup();
        roles
    };
    let mut sentences = vec![];
    let (in_place, folded) = (roles(Cause::InPlace), roles(Cause::Folded));
    if !in_place.is_empty() {
        sentences.push(format!(
            "these arrays hold the value after the next ReLU or other operation, because layers were fused or \
             the dump's hooks kept references: {}",
            in_place.join(", ")
        ));
    }
    if !folded.is_empty() {
        sentences.push(format!(
            "BatchNorm is folded into the convolutions, and these arrays show what follows them: {}",
            folded.join(", ")
        ));
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ballot(distances: &[f64]) -> Ballot {
        let reading =
            Reading { module: ModuleId(1), through: Through::AfterRelu, cause: Cause::InPlace };
        Ballot {
            array: 0,
            site: 0,
            own: ModuleId(0),
            readings: vec![reading; distances.len() - 1],
            distances: distances.to_vec(),
        }
    }

    fn elected(ballots: &[Ballot]) -> usize {
        let site = Site { module: ModuleId(0), role: "bn1", readings: vec![] };
        elect(&[site], ballots, Precision::F32).len()
    }

    #[test]
    fn a_role_has_one_reading() {
        let late = || ballot(&[0.7, 1e-7]);
        let as_is = || ballot(&[1e-7, 0.7]);
        assert_eq!(elected(&[late(), late(), as_is()]), 1);
        assert_eq!(elected(&[late(), as_is(), as_is()]), 0);
        // An array without negative values fits both readings and decides nothing.
        assert_eq!(elected(&[ballot(&[1e-7, 1e-7]), late()]), 1);
        assert_eq!(elected(&[ballot(&[1e-7, 1e-7])]), 0);
    }

    #[test]
    fn a_wrong_array_votes_for_what_it_is_closer_to() {
        assert_eq!(ballot(&[0.7, 0.01]).votes(1e-3), [1]);
        assert_eq!(ballot(&[0.02, 0.7]).votes(1e-3), [0usize; 0]);
        assert_eq!(ballot(&[3.0, 0.6]).votes(1e-3), [0usize; 0]);
        assert_eq!(ballot(&[f64::NAN, f64::NAN]).votes(1e-3), [0usize; 0]);
    }
}
