//! Where a network's numbers come from, as it is written on the command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// `formula:SEED`, or the path of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Reproducible numbers, see [`super::formula`].
    Formula(u64),
    /// A checkpoint in any of the formats of [`super::Format`].
    File(PathBuf),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(seed) = text.strip_prefix("formula:") else {
            return match text {
                "" => Err("no weights are named; give a file or formula:SEED".to_owned()),
                path => Ok(Source::File(path.into())),
            };
        };
        seed.parse().map(Source::Formula).map_err(|_| {
            format!(
                "`{text}` has no usable seed; write formula: and a whole number from 0 to 2^64 - 1"
            )
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Formula(seed) => write!(f, "formula:{seed}"),
            Source::File(path) => write!(f, "{}", path.display()),
        }
    }
}
