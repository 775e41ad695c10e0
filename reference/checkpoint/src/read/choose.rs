//! Chooses one of the sets of weights in a file.
//!
//! A file may have several sets: raw and averaged weights, a teacher, the copies of an optimiser. Each
//! is in its own dictionary, or its names have their own prefix. The set whose tensors fit the model
//! best, by name and shape, is taken, and the others are reported.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use spec::ParamSpec;
use spec::names::canonical_module;

use crate::error::{Failure, first_three, quoted};
use crate::names;
use crate::provenance::OtherSet;
use crate::tensor::official_shape;

/// The tensors that a set of weights must fit, and the key of a set that was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'s> {
    pub(crate) specs: &'s [ParamSpec],
    pub(crate) key: Option<&'s str>,
}

/// A tensor of the file, before a set has been chosen.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    /// The keys that lead to the tensor, joined by `/`.
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// The offsets in the name at which the keys of the dictionaries around the tensor end.
    pub(super) nodes: Vec<usize>,
}

/// The set that was taken.
#[derive(Debug)]
pub(super) struct Choice {
    /// Length in bytes of the prefix of each name that leads to the set.
    pub(super) prefix: usize,
    /// The indices of the tensors of the set, in the order of the file.
    pub(super) members: Vec<usize>,
    /// The key of the set; `None` if the set is the whole file.
    pub(super) section: Option<String>,
    /// The sets that were passed over.
    pub(super) others: Vec<OtherSet>,
}

/// Largest number of parts of a name that are tried as the prefix of a set.
const MAX_PARTS: usize = 8;
/// Largest number of bytes of names that are examined. Each name counts once for every dictionary
/// around it.
const MAX_WORK: usize = 1 << 24;
/// Largest number of other sets that are reported.
const MAX_OTHERS: usize = 32;

/// If two sets fit equally well, words in a key that make a set less likely: first those of averages
/// and teachers, then, less likely still, those of the state of an optimiser.
const LESS_LIKELY: [&[&str]; 2] = [
    &["ema", "averag", "teacher", "swa", "shadow", "momentum", "target", "avg"],
    &["opt", "moment", "accum", "exp_avg", "mu", "nu", "grad"],
];

/// The tensors that have the names of the model after one common prefix.
#[derive(Debug, Default)]
struct Set<'l> {
    prefix: &'l str,
    /// Indices of the tensors in the file.
    members: Vec<usize>,
    /// Official names of the tensors.
    names: HashSet<String>,
    /// Number of names whose tensor has the right shape.
    fits: usize,
}

impl Set<'_> {
    fn key(&self) -> String {
        key(self.prefix)
    }

    /// 0 for raw weights, otherwise 1 plus the last index in [`LESS_LIKELY`] with a matching word.
    fn rank(&self) -> usize {
        let key = self.key().to_lowercase();
        let parts: Vec<&str> = key.split(['.', '_']).collect();
        let contains = |word: &str| match word.len() {
            // Short words such as `mu` must match a whole part, because they begin many other words.
            ..=2 => parts.contains(&word),
            _ => parts.iter().any(|part| part.starts_with(word)),
        };
        let at = LESS_LIKELY.iter().rposition(|words| words.iter().any(|word| contains(word)));
        at.map_or(0, |at| at + 1)
    }
}

fn key(prefix: &str) -> String {
    prefix.replace('/', ".").trim_end_matches('.').to_owned()
}

/// Chooses a set among the tensors of a file, of which there must be at least one.
pub(super) fn choose(leaves: &[Leaf], wanted: &Wanted<'_>) -> Result<Choice, Failure> {
    let shapes: HashMap<&str, &[usize]> =
        wanted.specs.iter().map(|spec| (spec.name.as_str(), spec.shape.as_slice())).collect();
    let sets = sets(leaves, &shapes)?;
    let taken = match wanted.key {
        Some(wanted) => by_key(leaves, &sets, wanted)?,
        None => best(sets.iter())
            .map_or_else(|| fullest_dictionary(leaves), |set| set.prefix.to_owned()),
    };
    let parts = wanted.specs.iter().filter_map(|spec| spec.name.split('.').next()).collect();
    let needed = wanted.specs.len();
    Ok(Contents { leaves, sets: &sets, prefix: &taken, parts, needed }.choice())
}

/// Finds all sets: for each dictionary, the tensors in it that the model has, grouped by the part of
/// the name that precedes a name of the model.
fn sets<'l>(leaves: &'l [Leaf], shapes: &HashMap<&str, &[usize]>) -> Result<Vec<Set<'l>>, Failure> {
    let mut by_prefix: HashMap<&str, usize> = HashMap::new();
    let mut sets: Vec<Set<'l>> = Vec::new();
    let mut work = 0;
    for (index, leaf) in leaves.iter().enumerate() {
        let mut seen: Vec<&str> = Vec::new();
        for &node in [0].iter().chain(&leaf.nodes) {
            // Skip the `/` after the end of a key.
            let node = if node == 0 { 0 } else { node + 1 };
            let rest = &leaf.name[node..];
            work += rest.len();
            if work > MAX_WORK {
                return Err(Failure::new(
                    "its names are too long, or its dictionaries nest too deep or repeat each other",
                    "get the checkpoint from another source",
                ));
            }
            let Some((skipped, name)) = matching_suffix(rest, shapes) else { continue };
            let prefix = &leaf.name[..node + skipped];
            // Each dictionary around a set leads to the same prefix; the set is kept once.
            if seen.contains(&prefix) {
                continue;
            }
            seen.push(prefix);
            let at = *by_prefix.entry(prefix).or_insert_with(|| {
                sets.push(Set { prefix, ..Set::default() });
                sets.len() - 1
            });
            let set = &mut sets[at];
            set.members.push(index);
            let shape = official_shape(&leaf.name[prefix.len()..], &leaf.shape);
            let fits = shapes.get(name.as_str()).is_some_and(|expected| **expected == *shape);
            set.fits += usize::from(set.names.insert(name) && fits);
        }
    }
    Ok(sets)
}

/// Finds the first offset at which the rest of a name is that of a tensor of the model; also returns
/// the official name of that tensor.
fn matching_suffix(name: &str, shapes: &HashMap<&str, &[usize]>) -> Option<(usize, String)> {
    let starts = name.match_indices(['.', '/']).map(|(at, _)| at + 1);
    [0].into_iter().chain(starts).take(MAX_PARTS).find_map(|start| {
        let meant = names::canonical_param(&name[start..])?;
        shapes.contains_key(meant.as_str()).then_some((start, meant))
    })
}

/// Out of ten tensors, how many must be right for a set to count as nearly complete. Such a set is
/// preferred over complete averages, because weights with one damaged tensor must be refused instead
/// of being replaced by the averages.
const NEARLY: usize = 9;

/// The set that fits best. It must have nearly as many names as the largest set, nearly all of them
/// with the right shape. Among several such sets, raw weights come before averages; then the set with
/// the most tensors that fit, the fewest duplicates, the innermost dictionary and the first place in
/// the file is preferred.
fn best<'s, 'l: 's>(
    sets: impl DoubleEndedIterator<Item = &'s Set<'l>> + Clone,
) -> Option<&'s Set<'l>> {
    let most = sets.clone().map(|set| set.names.len()).max()?;
    let nearly = |part: usize, whole: usize| part * 10 >= whole * NEARLY;
    let order = |set: &Set<'_>| {
        let names = set.names.len();
        let whole = (nearly(names, most) && nearly(set.fits, names), nearly(names, most));
        let counts = (set.fits, names, Reverse(set.members.len()));
        (whole, Reverse(set.rank()), counts)
    };
    // `max_by_key` returns the last of several maxima, hence the reversal.
    let first = sets.clone().rev().max_by_key(|set| order(set))?;
    // A dictionary around a set that contains nothing else has the same members.
    let same = sets.filter(|set| set.members == first.members);
    same.max_by_key(|set| set.prefix.len())
}

/// The prefix of the dictionary with the most tensors directly in it, for a file in which no tensor has
/// a name of the model.
fn fullest_dictionary(leaves: &[Leaf]) -> String {
    let mut own: BTreeMap<&str, usize> = BTreeMap::new();
    for leaf in leaves {
        let node = leaf.nodes.last().map_or("", |end| &leaf.name[..end + 1]);
        *own.entry(node).or_default() += 1;
    }
    let most = own.iter().rev().max_by_key(|(_, count)| **count);
    most.map_or_else(String::new, |(node, _)| (*node).to_owned())
}

/// The prefix that a key selects: that of a set, or that of the best set in a dictionary of sets, or
/// else the key itself if any name begins with it. Fails if no name does.
fn by_key(leaves: &[Leaf], sets: &[Set<'_>], wanted: &str) -> Result<String, Failure> {
    let wanted = key(wanted);
    let behind = |leaf: &&Leaf| {
        let rest = leaf.name.get(wanted.len()..).unwrap_or_default();
        rest.starts_with(['.', '/']) && key(&leaf.name[..wanted.len()]) == wanted
    };
    match leaves.iter().find(behind) {
        Some(leaf) => {
            let behind = &leaf.name[..=wanted.len()];
            let exact = |set: &Set<'_>| set.prefix == behind;
            let inside = |set: &&Set<'_>| set.prefix.starts_with(behind);
            let best = match sets.iter().any(exact) {
                true => None,
                false => best(sets.iter().filter(inside)),
            };
            Ok(best.map_or(behind, |set| set.prefix).to_owned())
        }
        None => {
            let mut known: Vec<&Set<'_>> =
                sets.iter().filter(|set| !set.prefix.is_empty()).collect();
            known.sort_by_key(|set| Reverse(set.names.len()));
            let keys: Vec<String> = known.iter().map(|set| set.key()).collect();
            let (has, advice) = match keys.len() {
                0 => ("no set of weights with a key".to_owned(), "leave out :: and the key"),
                _ => (
                    format!("the keys {}", first_three(keys.iter().map(String::as_str))),
                    "give one of its keys after ::, or leave out :: and the key",
                ),
            };
            Err(Failure::new(
                format!(
                    "the file has no tensors under the key `{}`; it has {has}",
                    quoted(&wanted)
                ),
                advice,
            ))
        }
    }
}

/// The tensors of a file and the prefix of the set that was taken.
struct Contents<'c, 'l> {
    leaves: &'c [Leaf],
    sets: &'c [Set<'l>],
    prefix: &'c str,
    /// The first parts of the names of the model's tensors.
    parts: HashSet<&'c str>,
    /// Number of tensors that the model needs.
    needed: usize,
}

impl Contents<'_, '_> {
    fn choice(&self) -> Choice {
        let taken = self.sets.iter().find(|set| set.prefix == self.prefix);
        let (fits, core): (usize, HashSet<usize>) = match taken {
            Some(set) => (set.fits, set.members.iter().copied().collect()),
            None => {
                let all = 0..self.leaves.len();
                (0, all.filter(|&at| self.leaves[at].name.starts_with(self.prefix)).collect())
            }
        };
        let (sets, in_others) = self.other_sets(&core);
        let other = |set: &&Set<'_>| OtherSet {
            key: quoted(&set.key()),
            tensors: set.members.len(),
            fits: set.fits,
            ties: set.fits == fits,
        };
        let mut others: Vec<OtherSet> = sets.iter().map(other).collect();
        let used: HashSet<&str> = core.iter().filter_map(|&index| self.child(index)).collect();
        let is_member = |index: &usize| {
            let inside = self.leaves[*index].name.starts_with(self.prefix);
            // A dictionary inside the set without any tensor of the model is unrelated.
            let unrelated =
                self.child(*index).is_some_and(|c| !used.contains(c) && !self.is_layer(c));
            inside && !unrelated && !in_others.contains(index)
        };
        let members: Vec<usize> = (0..self.leaves.len()).filter(is_member).collect();
        let inside: HashSet<usize> = members.iter().copied().collect();
        let mut rest: BTreeMap<String, usize> = BTreeMap::new();
        for index in 0..self.leaves.len() {
            if inside.contains(&index) || in_others.contains(&index) {
                continue;
            }
            // Other tensors with the prefix of a set belong to it as bookkeeping.
            let name = &self.leaves[index].name;
            match sets.iter().position(|set| name.starts_with(set.prefix)) {
                Some(at) => others[at].tensors += 1,
                None => *rest.entry(self.label(index)).or_default() += 1,
            }
        }
        others.extend(rest.into_iter().map(|(key, tensors)| OtherSet {
            key: quoted(&key),
            tensors,
            fits: 0,
            ties: false,
        }));
        others.truncate(MAX_OTHERS);
        let section = Some(key(self.prefix)).filter(|key| !key.is_empty());
        Choice { prefix: self.prefix.len(), members, section, others }
    }

    /// The other sets, which have at least half of the model's tensors and share none with the set that
    /// was taken or with each other; also returns the indices of all their tensors.
    fn other_sets(&self, core: &HashSet<usize>) -> (Vec<&Set<'_>>, HashSet<usize>) {
        let mut large: Vec<&Set<'_>> =
            self.sets.iter().filter(|set| set.names.len() * 2 >= self.needed.max(1)).collect();
        // A dictionary around a set comes after the set; otherwise stable sorting keeps the file's
        // order.
        large.sort_by_key(|set| (set.members.len(), Reverse(set.prefix.len())));
        large.sort_by_key(|set| Reverse(set.fits));
        let (mut others, mut in_others) = (Vec::new(), HashSet::new());
        for set in large {
            let is_new = |index: &usize| !core.contains(index) && !in_others.contains(index);
            if !set.members.iter().all(is_new) {
                continue;
            }
            in_others.extend(set.members.iter().copied());
            others.push(set);
        }
        (others, in_others)
    }

    /// The path of the outermost dictionary inside the set that contains a tensor, if there is one.
    fn child(&self, index: usize) -> Option<&str> {
        let leaf = &self.leaves[index];
        let end = leaf.nodes.iter().find(|end| **end >= self.prefix.len())?;
        leaf.name.starts_with(self.prefix).then(|| &leaf.name[..*end])
    }

    /// Whether a dictionary has the name of a part of the network. A checkpoint of a deeper network has
    /// more of them.
    fn is_layer(&self, path: &str) -> bool {
        let name = canonical_module(&path[self.prefix.len()..]);
        let part = name.split('.').next().unwrap_or_default();
        self.parts.contains(part)
    }

    /// The key under which a tensor outside the set is reported: that of the outermost dictionary which
    /// does not contain the set.
    fn label(&self, index: usize) -> String {
        let leaf = &self.leaves[index];
        let end = leaf.nodes.iter().find(|end| !self.prefix.starts_with(&leaf.name[..**end + 1]));
        key(&leaf.name[..end.copied().unwrap_or(leaf.name.len())])
    }
}
