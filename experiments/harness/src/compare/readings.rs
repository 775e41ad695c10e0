//! Finds out what the arrays of a dump show: their modules, or what later in-place operations left,
//! or what a runtime has folded into them. Each line of a program does the same at every place, so
//! the arrays of a role vote, and one reading holds for all of them.

use std::collections::BTreeMap;

use anyhow::Result;
use spec::{Engine, Flow, Kind, Model, ModuleId, Precision, Selection, Tensor};

use super::lockstep::{self, Runner};
use super::measure;
use crate::dump::Dump;
use crate::dump::chain::{Cause, Reading, Site, Through, sites};
use crate::faults::relu;

/// An array further away than this from everything that it may show does not vote.
const UNLIKE: f64 = 0.5;

/// A block's array is what the next block is fed if it is as near as this to the truth.
const NEAR: f64 = 0.1;

/// An array that fits nothing well still votes for what it is this many times closer to.
const CLOSER: f64 = 5.0;

/// The readings of a dump, by the module that an array is named after; a module without an entry
/// shows itself. The truth runs once, and is given the dump's own block outputs, so that a mistake
/// in one block does not spoil the votes of the next.
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
            ballot.see(dump, id, &value);
        }
        // An array that shows something else would spoil what follows.
        let near = |own: &Tensor| {
            own.iter().all(f64::is_finite)
                && measure::distance(&value, own, Precision::F64).rel_l2 < NEAR
        };
        let block = matches!(model.module(id).kind, Kind::Block);
        match dump.get(id).filter(|own| block && near(own)) {
            Some(own) => Flow::Replace(precision.round(own)),
            None => Flow::Continue,
        }
    })?;
    Ok(elect(&sites, &ballots, precision))
}

/// One array and how far it is from what it may show.
struct Ballot {
    array: usize,
    /// Index of its site.
    site: usize,
    own: ModuleId,
    readings: Vec<Reading>,
    /// Relative L2 distance to its own module, then to each reading.
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
    /// Compares the array with the truth at a module, if it may show that.
    fn see(&mut self, dump: &Dump, id: ModuleId, truth: &Tensor) {
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
                    // Without values below zero the ReLU has been there already.
                    Through::Sum(..) if value.iter().all(|x| x >= 0.0) => f64::INFINITY,
                    Through::Sum(..) => distance(truth, &relu(value.clone())),
                };
            }
        }
    }

    /// Which readings the array fits; 0 is its own module.
    fn votes(&self, tolerance: f64) -> Vec<usize> {
        let all = || 0..self.distances.len();
        let fits: Vec<usize> = all().filter(|&at| self.distances[at] <= tolerance).collect();
        if !fits.is_empty() {
            return fits;
        }
        let best = all().min_by(|&a, &b| self.distances[a].total_cmp(&self.distances[b]));
        let close = |at: &usize| {
            let distance = self.distances[*at];
            distance < UNLIKE && distance * CLOSER < self.distances[0]
        };
        best.filter(close).into_iter().collect()
    }
}

/// The reading that most arrays of each role fit, the earliest of equals, for each of its sites.
fn elect(sites: &[Site], ballots: &[Ballot], precision: Precision) -> BTreeMap<ModuleId, Reading> {
    // Within a block the truth's errors and those of a coarse number format add up a little.
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

/// The modules between those that arrays are named after and those that they show, such as the BN
/// between a convolution and the ReLU that is fused into it, each with the module that is shown.
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

/// What the readings say of the program that wrote the dump, in sentences.
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
            "the dump's hooks kept references: arrays hold what later in-place operations left ({})",
            in_place.join(", ")
        ));
    }
    if !folded.is_empty() {
        sentences.push(format!(
            "BatchNorm is folded into the convolutions: their arrays show what follows them ({})",
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
        // An array without negative values fits both and decides nothing.
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
