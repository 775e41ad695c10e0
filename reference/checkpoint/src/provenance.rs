//! [`Provenance`], which says where a set of weights comes from.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::error::first_three;
use super::format::Format;
use super::names::Naming;

/// A set of tensors in a file that was passed over, such as averaged weights, a teacher or the state of
/// an optimiser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OtherSet {
    /// The keys that lead to the set, joined by dots; `FILE::KEY` selects it.
    pub key: String,
    /// Number of tensors in the set.
    pub tensors: usize,
    /// Number of tensors that the model has too, with the same shape.
    pub fits: usize,
    /// Whether `fits` is the same as for the set that was taken.
    pub ties: bool,
}

/// What was taken from a file and what was passed over, in one sentence; `None` if nothing was passed
/// over.
pub(super) fn note(section: Option<&str>, others: &[OtherSet]) -> Option<String> {
    let sets = others.iter().filter(|other| other.fits > 0);
    let tied: Vec<&str> = sets.clone().filter(|o| o.ties).map(|o| o.key.as_str()).collect();
    let sets: Vec<&str> = sets.filter(|o| !o.ties).map(|o| o.key.as_str()).collect();
    let rest: Vec<&str> = others.iter().filter(|o| o.fits == 0).map(|o| o.key.as_str()).collect();
    let mut parts = Vec::new();
    if !tied.is_empty() {
        let verb = if tied.len() == 1 { "fits" } else { "fit" };
        let tied = first_three(tied);
        parts.push(format!("{tied}, which {verb} equally well (FILE::KEY selects another)"));
    }
    if !sets.is_empty() {
        parts.push(format!("{}, also weights (FILE::KEY selects another)", first_three(sets)));
    }
    if !rest.is_empty() {
        parts.push(first_three(rest));
    }
    let taken = section.map_or("the tensors at its top level".to_owned(), |key| format!("`{key}`"));
    (!parts.is_empty()).then(|| format!("{taken} was taken; passed over: {}", parts.join("; ")))
}

impl Provenance {
    /// What was taken from the file and what was passed over, in one sentence for people; `None` if the
    /// file has no other contents.
    pub fn note(&self) -> Option<String> {
        note(self.section.as_deref(), &self.passed_over)
    }
}

/// Where a set of weights comes from, for records and reports.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Provenance {
    /// The source as it was given: a path or `formula:SEED`.
    pub source: String,
    /// The format of the file; `None` for a formula.
    pub format: Option<Format>,
    /// SHA-256 of the file in hexadecimal; `None` for a formula.
    pub sha256: Option<String>,
    /// The naming scheme of the tensors; `None` for a formula.
    pub naming: Option<Naming>,
    /// The key of the set that was taken, such as `state_dict`; `None` if that is the whole file.
    pub section: Option<String>,
    /// The other contents of the file, with other sets of weights first.
    pub passed_over: Vec<OtherSet>,
    /// The number of tensors in each number format. All formats but float32 were converted.
    pub dtypes: BTreeMap<String, usize>,
    /// Number of tensors that no forward pass reads (`num_batches_tracked`, the state of an optimiser).
    pub ignored: usize,
}

impl fmt::Display for Provenance {
    /// For instance `w.pth (PyTorch zip, mmaction2 names, sha256 0123456789ab; 653 float32; set `ema`)`.
    /// The set is named only if the file has others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        let (Some(format), Some(sha256), Some(naming)) = (self.format, &self.sha256, self.naming)
        else {
            return Ok(());
        };
        let short = sha256.get(..12).unwrap_or(sha256);
        let dtypes: Vec<_> = self.dtypes.iter().map(|(name, n)| format!("{n} {name}")).collect();
        write!(f, " ({format}, {naming} names, sha256 {short}; {}", dtypes.join(", "))?;
        if self.passed_over.iter().any(|other| other.fits > 0) {
            let section =
                self.section.as_deref().map_or("top level".to_owned(), |s| format!("`{s}`"));
            write!(f, "; set {section}")?;
        }
        f.write_str(")")
    }
}
