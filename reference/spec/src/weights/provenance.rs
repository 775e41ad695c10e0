//! Where a set of weights comes from.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::error::first_three;
use super::format::Format;
use super::names::Naming;

/// Tensors in a file that were passed over: averaged weights, a teacher, an optimiser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OtherSet {
    /// The keys that lead to it, joined by dots: with `FILE::KEY` it is taken instead.
    pub key: String,
    /// How many tensors it has.
    pub tensors: usize,
    /// How many of the model's tensors are among them, in the right shape.
    pub fits: usize,
    /// Whether these are as many as in the set that was taken.
    pub ties: bool,
}

/// What was taken of a file and what was passed over, in one sentence; none where nothing was.
pub(super) fn note(section: Option<&str>, others: &[OtherSet]) -> Option<String> {
    let sets = others.iter().filter(|other| other.fits > 0);
    let tied: Vec<&str> = sets.clone().filter(|o| o.ties).map(|o| o.key.as_str()).collect();
    let sets: Vec<&str> = sets.filter(|o| !o.ties).map(|o| o.key.as_str()).collect();
    let rest: Vec<&str> = others.iter().filter(|o| o.fits == 0).map(|o| o.key.as_str()).collect();
    let mut parts = Vec::new();
    if !tied.is_empty() {
        let verb = if tied.len() == 1 { "fits" } else { "fit" };
        let tied = first_three(tied);
        parts.push(format!("{tied}, which {verb} as well (FILE::KEY takes another)"));
    }
    if !sets.is_empty() {
        parts.push(format!("{}, weights too (FILE::KEY takes another)", first_three(sets)));
    }
    if !rest.is_empty() {
        parts.push(first_three(rest));
    }
    let taken = section.map_or("the tensors at its top level".to_owned(), |key| format!("`{key}`"));
    (!parts.is_empty()).then(|| format!("{taken} was taken; passed over: {}", parts.join("; ")))
}

impl Provenance {
    /// What was taken of the file and what was passed over, in one sentence, for people; none where
    /// the file holds nothing else.
    pub fn note(&self) -> Option<String> {
        note(self.section.as_deref(), &self.passed_over)
    }
}

/// Where a set of weights comes from, for records and reports.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Provenance {
    /// As it was asked for: a path or `formula:SEED`.
    pub source: String,
    /// The format of the file; none for a formula.
    pub format: Option<Format>,
    /// SHA-256 of the file in hexadecimal; none for a formula.
    pub sha256: Option<String>,
    /// Whose names the tensors had.
    pub naming: Option<Naming>,
    /// The key of the set that was taken: `state_dict`; none where it is the whole file.
    pub section: Option<String>,
    /// What else the file holds, with other sets of weights first.
    pub passed_over: Vec<OtherSet>,
    /// How many of the tensors were stored in which number format. All but float32 were converted.
    pub dtypes: BTreeMap<String, usize>,
    /// Tensors that no forward pass reads (`num_batches_tracked`, the state of an optimiser).
    pub ignored: usize,
}

impl fmt::Display for Provenance {
    /// `w.pth (PyTorch zip, mmaction2 names, sha256 0123456789ab; 653 float32; set `ema`)`; the set
    /// is told where the file holds others.
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
