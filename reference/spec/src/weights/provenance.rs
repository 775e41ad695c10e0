//! Where a set of weights comes from.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::format::Format;
use super::names::Naming;

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
    /// The keys that led to the state dict: `state_dict`.
    pub section: Option<String>,
    /// How many of the tensors were stored in which number format. All but float32 were converted.
    pub dtypes: BTreeMap<String, usize>,
    /// Tensors that no forward pass reads (`num_batches_tracked`, the state of an optimiser).
    pub ignored: usize,
}

impl fmt::Display for Provenance {
    /// `w.pth (PyTorch zip, mmaction2 names, sha256 0123456789ab; 653 float32)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        let (Some(format), Some(sha256), Some(naming)) = (self.format, &self.sha256, self.naming)
        else {
            return Ok(());
        };
        let short = sha256.get(..12).unwrap_or(sha256);
        let dtypes: Vec<_> = self.dtypes.iter().map(|(name, n)| format!("{n} {name}")).collect();
        write!(f, " ({format}, {naming} names, sha256 {short}; {})", dtypes.join(", "))
    }
}
