//! Which of the sets of weights in a file is meant.
//!
//! A file may hold several: raw and averaged weights, a teacher, an optimiser's copies, each in a
//! dictionary of its own or behind a prefix of the names. The one is taken whose tensors fit the
//! model best, by name and shape; what else there is, is told.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use crate::weights::error::{Fault, first_three, quoted};
use crate::weights::provenance::OtherSet;
use crate::weights::tensor::official_shape;
use crate::weights::{ParamSpec, names};

/// What a set of weights has to fit, and the key of the one that was asked for.
#[derive(Debug, Clone, Copy)]
pub(in crate::weights) struct Wanted<'s> {
    pub(in crate::weights) specs: &'s [ParamSpec],
    pub(in crate::weights) key: Option<&'s str>,
}

/// A tensor before it is known whether it is wanted.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    /// The keys that lead to it, joined by `/`.
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// Where in the name the keys of dictionaries end, that of the tensor itself left out.
    pub(super) nodes: Vec<usize>,
}

/// The set that was taken.
#[derive(Debug)]
pub(super) struct Choice {
    /// Bytes of each name that lead to the set.
    pub(super) prefix: usize,
    /// Its tensors, in the file's order.
    pub(super) members: Vec<usize>,
    /// Its key; none where it is the whole file.
    pub(super) section: Option<String>,
    pub(super) others: Vec<OtherSet>,
}

/// Parts of a name that a set may be behind.
const MAX_PARTS: usize = 8;
/// Bytes of names that are looked at: each stands in all dictionaries around it.
const MAX_WORK: usize = 1 << 24;
/// Other sets that are told.
const MAX_OTHERS: usize = 32;

/// Words in a key that speak against it where two sets fit alike: averages and teachers, then
/// what an optimiser keeps for each tensor.
const LATER: [&[&str]; 2] = [
    &["ema", "averag", "teacher", "swa", "shadow", "momentum", "target", "avg"],
    &["opt", "moment", "accum", "exp_avg", "mu", "nu", "grad"],
];

/// Tensors behind one prefix that the model has.
#[derive(Debug, Default)]
struct Set<'l> {
    prefix: &'l str,
    members: Vec<usize>,
    names: HashSet<String>,
    /// How many of the names have the right shape.
    fits: usize,
}

impl Set<'_> {
    fn key(&self) -> String {
        key(self.prefix)
    }

    /// 0 for the weights themselves.
    fn rank(&self) -> usize {
        let key = self.key().to_lowercase();
        let parts: Vec<&str> = key.split(['.', '_']).collect();
        let speaks = |word: &str| match word.len() {
            // `mu` is a part of many words.
            ..=2 => parts.contains(&word),
            _ => parts.iter().any(|part| part.starts_with(word)),
        };
        let at = LATER.iter().rposition(|words| words.iter().any(|word| speaks(word)));
        at.map_or(0, |at| at + 1)
    }
}

fn key(prefix: &str) -> String {
    prefix.replace('/', ".").trim_end_matches('.').to_owned()
}

/// Chooses among the tensors of a file, of which there is at least one.
pub(super) fn choose(leaves: &[Leaf], wanted: &Wanted<'_>) -> Result<Choice, Fault> {
    let shapes: HashMap<&str, &[usize]> =
        wanted.specs.iter().map(|spec| (spec.name.as_str(), spec.shape.as_slice())).collect();
    let sets = sets(leaves, &shapes)?;
    let taken = match wanted.key {
        Some(wanted) => by_key(leaves, &sets, wanted)?,
        None => best(sets.iter()).map_or_else(|| crowded(leaves), |set| set.prefix.to_owned()),
    };
    let parts = wanted.specs.iter().filter_map(|spec| spec.name.split('.').next()).collect();
    let needed = wanted.specs.len();
    Ok(Contents { leaves, sets: &sets, prefix: &taken, parts, needed }.choice())
}

/// Every set: for each dictionary the tensors in it that the model has, apart by what stands before
/// the first part of the name that means one.
fn sets<'l>(leaves: &'l [Leaf], shapes: &HashMap<&str, &[usize]>) -> Result<Vec<Set<'l>>, Fault> {
    let mut by_prefix: HashMap<&str, usize> = HashMap::new();
    let mut sets: Vec<Set<'l>> = Vec::new();
    let mut work = 0;
    for (index, leaf) in leaves.iter().enumerate() {
        let mut seen: Vec<&str> = Vec::new();
        for &node in [0].iter().chain(&leaf.nodes) {
            // The end of a key, and the `/` behind it.
            let node = if node == 0 { 0 } else { node + 1 };
            let rest = &leaf.name[node..];
            work += rest.len();
            if work > MAX_WORK {
                return Err(Fault::new(
                    "its names are too long, or its dictionaries nest or repeat without end",
                    "get the checkpoint from another source",
                ));
            }
            let Some((skipped, name)) = meaning(rest, shapes) else { continue };
            let prefix = &leaf.name[..node + skipped];
            // From the dictionaries around a set the same prefix comes again.
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

/// The first place in a name from which on it means a tensor of the model, and which.
fn meaning(name: &str, shapes: &HashMap<&str, &[usize]>) -> Option<(usize, String)> {
    let starts = name.match_indices(['.', '/']).map(|(at, _)| at + 1);
    [0].into_iter().chain(starts).take(MAX_PARTS).find_map(|start| {
        let meant = names::canonical_param(&name[start..])?;
        shapes.contains_key(meant.as_str()).then_some((start, meant))
    })
}

/// Of ten tensors, how many may be wrong or missing in a set that is meant all the same: weights of
/// which one is damaged must be refused, not averages be taken instead.
const NEARLY: usize = 9;

/// The set that fits best: one that nearly has all names that any has, nearly all in the right shape;
/// of several, weights before averages, then the one with most tensors that fit, without doubles, in
/// the innermost dictionary, the first.
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
    // The last of several maxima is taken, hence the reversal.
    let first = sets.clone().rev().max_by_key(|set| order(set))?;
    // Dictionaries that hold nothing else around a set have the same members.
    let same = sets.filter(|set| set.members == first.members);
    same.max_by_key(|set| set.prefix.len())
}

/// Where no tensor is one of the model's: the dictionary with most tensors of its own.
fn crowded(leaves: &[Leaf]) -> String {
    let mut own: BTreeMap<&str, usize> = BTreeMap::new();
    for leaf in leaves {
        let node = leaf.nodes.last().map_or("", |end| &leaf.name[..end + 1]);
        *own.entry(node).or_default() += 1;
    }
    let most = own.iter().rev().max_by_key(|(_, count)| **count);
    most.map_or_else(String::new, |(node, _)| (*node).to_owned())
}

/// The prefix that a key means: that of a set, the best one in a dictionary of sets, or else any
/// beginning of names.
fn by_key(leaves: &[Leaf], sets: &[Set<'_>], wanted: &str) -> Result<String, Fault> {
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
            let has = match keys.len() {
                0 => "no set of weights with a key".to_owned(),
                _ => format!("the keys {}", first_three(keys.iter().map(String::as_str))),
            };
            Err(Fault::new(
                format!("nothing in it is behind the key `{}`; it has {has}", quoted(&wanted)),
                "name one of them behind ::, or leave :: and the key out",
            ))
        }
    }
}

/// The tensors of a file, seen from the set that was taken.
struct Contents<'c, 'l> {
    leaves: &'c [Leaf],
    sets: &'c [Set<'l>],
    prefix: &'c str,
    /// First parts of the names of the model's tensors.
    parts: HashSet<&'c str>,
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
        let (sets, beside) = self.other_sets(&core);
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
            // A dictionary inside of it that holds no tensor of the model is something else.
            let strange =
                self.child(*index).is_some_and(|c| !used.contains(c) && !self.is_layer(c));
            inside && !strange && !beside.contains(index)
        };
        let members: Vec<usize> = (0..self.leaves.len()).filter(is_member).collect();
        let inside: HashSet<usize> = members.iter().copied().collect();
        let mut rest: BTreeMap<String, usize> = BTreeMap::new();
        for index in 0..self.leaves.len() {
            if inside.contains(&index) || beside.contains(&index) {
                continue;
            }
            // A set's own bookkeeping.
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

    /// Sets with most of the model's tensors and none of those that were taken.
    fn other_sets(&self, core: &HashSet<usize>) -> (Vec<&Set<'_>>, HashSet<usize>) {
        let mut large: Vec<&Set<'_>> =
            self.sets.iter().filter(|set| set.names.len() * 2 >= self.needed.max(1)).collect();
        // Dictionaries around a set after it; sorting keeps the file's order otherwise.
        large.sort_by_key(|set| (set.members.len(), Reverse(set.prefix.len())));
        large.sort_by_key(|set| Reverse(set.fits));
        let (mut others, mut beside) = (Vec::new(), HashSet::new());
        for set in large {
            let is_new = |index: &usize| !core.contains(index) && !beside.contains(index);
            if !set.members.iter().all(is_new) {
                continue;
            }
            beside.extend(set.members.iter().copied());
            others.push(set);
        }
        (others, beside)
    }

    /// The dictionary inside of the set that a tensor is in.
    fn child(&self, index: usize) -> Option<&str> {
        let leaf = &self.leaves[index];
        let end = leaf.nodes.iter().find(|end| **end >= self.prefix.len())?;
        leaf.name.starts_with(self.prefix).then(|| &leaf.name[..*end])
    }

    /// Whether a dictionary is named like a part of the network: a deeper network has more of them.
    fn is_layer(&self, path: &str) -> bool {
        let name = names::canonical_module(&path[self.prefix.len()..]);
        let part = name.split('.').next().unwrap_or_default();
        self.parts.contains(part)
    }

    /// What a tensor outside belongs to: the outermost dictionary that the set is not in.
    fn label(&self, index: usize) -> String {
        let leaf = &self.leaves[index];
        let end = leaf.nodes.iter().find(|end| !self.prefix.starts_with(&leaf.name[..**end + 1]));
        key(&leaf.name[..end.copied().unwrap_or(leaf.name.len())])
    }
}
