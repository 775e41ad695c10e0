//! [`Source`], the source of weights as it is given on the command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The source of weights: `formula:SEED`, the path of a checkpoint, or `PATH::KEY` for one of several
/// sets of weights in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Reproducible weights with this seed; see [`super::formula`].
    Formula(u64),
    /// A checkpoint in any of the formats of [`super::Format`].
    File {
        /// The path of the file.
        path: PathBuf,
        /// The key of a set of weights, such as `state_dict_ema`; `None` for the set that fits best.
        key: Option<String>,
    },
}

/// The separator between a path and a key.
const SEPARATOR: &str = "::";

impl Source {
    /// The set of weights in a checkpoint that fits best.
    pub fn file(path: impl Into<PathBuf>) -> Source {
        Source::File { path: path.into(), key: None }
    }
}

impl FromStr for Source {
    type Err = String;

    /// Parses a source. A path that contains `::` must be followed by `::`, even without a key.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(seed) = text.strip_prefix("formula:")
            && !seed.starts_with(':')
        {
            return seed.parse().map(Source::Formula).map_err(|_| {
                format!(
                    "`{text}` has no valid seed; give formula:SEED with an integer from 0 to \
                     2^64 - 1"
                )
            });
        }
        let (path, key) = match text.rsplit_once(SEPARATOR) {
            Some((path, "")) => (path, None),
            Some((path, key)) => (path, Some(key.to_owned())),
            None => (text, None),
        };
        match path {
            "" => Err("no weights are given; give a file or formula:SEED".to_owned()),
            path => Ok(Source::File { path: path.into(), key }),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Formula(seed) => write!(f, "formula:{seed}"),
            Source::File { path, key: Some(key) } => {
                write!(f, "{}{SEPARATOR}{key}", path.display())
            }
            Source::File { path, key: None } => {
                let path = path.display().to_string();
                let end = if path.contains(SEPARATOR) { SEPARATOR } else { "" };
                write!(f, "{path}{end}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_parsed_and_printed_alike() {
        let cases = [
            ("formula:7", Source::Formula(7)),
            ("w.pth", Source::file("w.pth")),
            ("a/w.pth::ema", Source::File { path: "a/w.pth".into(), key: Some("ema".into()) }),
            ("C::w.pth::", Source::file("C::w.pth")),
            ("C::w.pth::ema", Source::File { path: "C::w.pth".into(), key: Some("ema".into()) }),
        ];
        for (text, source) in cases {
            assert_eq!(text.parse(), Ok(source.clone()), "{text}");
            assert_eq!(source.to_string(), text);
        }
        for text in ["", "::", "::ema", "formula:", "formula:x", "formula:-1"] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }
}
