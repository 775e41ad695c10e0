//! Maps of names: a text file that says which module each array of a dump shows.
//!
//! A line is `THEIRS = OURS`. `#` begins a comment. A `*` in THEIRS stands for any text, and the `*`s
//! in OURS, in the same order, repeat it. One array may show several modules (`a = conv1, bn1`, or one
//! line for each), and `-` says that it shows none. A name with spaces at its ends, `#`, `*`, `=` or
//! control characters is written as a JSON string, which is taken literally. A line without `*` comes
//! before one with it, and otherwise the first line that fits counts.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use spec::{Model, Selection};

use super::names::{Meaning, meaning};

/// A larger file is not a map.
const MAX_BYTES: u64 = 16 << 20;

/// The word for "shows no module".
const NOTHING: &str = "-";

/// A map of names. An empty one changes nothing.
#[derive(Debug, Clone, Default)]
pub struct NameMap {
    /// What errors call the map: its file.
    origin: String,
    lines: Vec<Line>,
}

#[derive(Debug, Clone)]
struct Line {
    number: usize,
    theirs: Theirs,
    ours: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Theirs {
    Exact(String),
    Glob(String),
}

impl NameMap {
    /// Reads a map from a file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, a line has another form, or a line names no module of the model.
    pub fn read(path: &Path, model: &Model) -> Result<Self> {
        let origin = path.display().to_string();
        let size = std::fs::metadata(path).with_context(|| format!("{origin}: cannot be read"))?;
        if size.is_dir() || size.len() > MAX_BYTES {
            bail!(
                "{origin}: this is not a map of names; give a text file with lines `theirs = ours`"
            );
        }
        // A pipe is welcome, but may be longer than it says.
        let mut bytes = vec![];
        let read =
            File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
        if read.with_context(|| format!("{origin}: cannot be read"))? as u64 > MAX_BYTES {
            bail!("{origin}: this is longer than a map of names can be");
        }
        let Ok(text) = String::from_utf8(bytes) else {
            bail!("{origin}: a map of names is UTF-8 text, and this file is not; save it as UTF-8");
        };
        NameMap::parse(&text, &origin, model)
    }

    /// Reads a map from text; errors call it `origin`.
    ///
    /// # Errors
    ///
    /// If a line has another form or names no module of the model.
    pub fn parse(text: &str, origin: &str, model: &Model) -> Result<Self> {
        let mut lines = vec![];
        for (at, text) in text.lines().enumerate() {
            let number = at + 1;
            let line = parse_line(text).map_err(|why| {
                anyhow::anyhow!("{origin}, line {number}: {why}; write `theirs = ours`")
            })?;
            let Some((theirs, ours)) = line else { continue };
            let line = Line { number, theirs, ours };
            line.check(origin, model)?;
            lines.push(line);
        }
        Ok(NameMap { origin: origin.to_owned(), lines })
    }

    /// Whether the map has no lines.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Adds that an array shows these modules; with none of them it is left out.
    pub(crate) fn add(&mut self, array: &str, ours: &[String]) {
        let ours = if ours.is_empty() { vec![NOTHING.to_owned()] } else { ours.to_vec() };
        let number = self.lines.len() + 1;
        self.lines.push(Line { number, theirs: Theirs::Exact(array.to_owned()), ours });
    }

    /// What the map says about an array: `None` if no line fits its name.
    ///
    /// # Errors
    ///
    /// If a line with `*` gives a name that no module has.
    pub fn meanings(&self, model: &Model, array: &str) -> Result<Option<Vec<Meaning>>> {
        let exact: Vec<&Line> = self.lines.iter().filter(|line| line.is(array)).collect();
        let glob = || self.lines.iter().find_map(|line| Some((line, line.captured(array)?)));
        let mut found = vec![];
        let mut add = |line: &Line, captured: &[&str]| -> Result<()> {
            for ours in &line.ours {
                let ours = substitute(ours, captured);
                found.push(self.module(model, line, &ours)?);
            }
            Ok(())
        };
        match (exact.is_empty(), glob()) {
            (false, _) => exact.into_iter().try_for_each(|line| add(line, &[]))?,
            (true, Some((line, captured))) => add(line, &captured)?,
            (true, None) => return Ok(None),
        }
        found.dedup();
        Ok(Some(found))
    }

    fn module(&self, model: &Model, line: &Line, ours: &str) -> Result<Meaning> {
        match (ours, meaning(model, ours)) {
            (NOTHING, _) => Ok(Meaning::LeftOut),
            (_, Meaning::Unknown) => bail!("{}", no_module(&self.origin, line.number, ours, model)),
            (_, meaning) => Ok(meaning),
        }
    }

    /// The number of lines.
    pub fn count(&self) -> usize {
        self.lines.len()
    }

    /// The lines that fit none of these arrays, for a remark: their numbers.
    pub fn unused(&self, arrays: &[String]) -> Vec<usize> {
        let used = |line: &&Line| arrays.iter().any(|a| line.is(a) || line.captured(a).is_some());
        self.lines.iter().filter(|line| !used(line)).map(|line| line.number).collect()
    }
}

impl Line {
    fn is(&self, array: &str) -> bool {
        matches!(&self.theirs, Theirs::Exact(name) if name == array)
    }

    fn captured<'a>(&self, array: &'a str) -> Option<Vec<&'a str>> {
        let Theirs::Glob(pattern) = &self.theirs else { return None };
        captures(pattern, array)
    }

    /// Refuses names that no module has, and more stars on the right than on the left.
    fn check(&self, origin: &str, model: &Model) -> Result<()> {
        let stars = |text: &str| text.matches('*').count();
        let most = match &self.theirs {
            Theirs::Exact(_) => 0,
            Theirs::Glob(pattern) => stars(pattern),
        };
        for ours in &self.ours {
            if stars(ours) > most {
                bail!(
                    "{origin}, line {}: `{ours}` has {} stars and the name on the left {most}; each star \
                     on the right repeats one on the left",
                    self.number,
                    stars(ours)
                );
            }
            if stars(ours) == 0 && ours != NOTHING && meaning(model, ours) == Meaning::Unknown {
                bail!("{}", no_module(origin, self.number, ours, model));
            }
        }
        Ok(())
    }
}

fn no_module(origin: &str, number: usize, ours: &str, model: &Model) -> String {
    let why = match Selection::by_names(model.modules(), [ours]) {
        Err(error) => error.to_string(),
        Ok(_) => format!("`{ours}` has no output of its own; name one module below it"),
    };
    format!("{origin}, line {number}: {why}")
}

/// The name and the modules of a line; `None` for an empty line or a comment.
fn parse_line(text: &str) -> Result<Option<(Theirs, Vec<String>)>, String> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let (theirs, rest) = match text.starts_with('"') {
        true => quoted(text)?,
        false => plain(text)?,
    };
    let ours = rest.split_once('#').map_or(rest, |(ours, _)| ours);
    let ours: Vec<String> = ours.split(',').map(|name| name.trim().to_owned()).collect();
    if ours.iter().any(String::is_empty) {
        return Err("a module name is missing after `=` or after a comma".to_owned());
    }
    Ok(Some((theirs, ours)))
}

fn quoted(text: &str) -> Result<(Theirs, &str), String> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let name = match values.next() {
        Some(Ok(name)) => name,
        _ => return Err("the name in quotes is not a JSON string".to_owned()),
    };
    let rest = text[values.byte_offset()..].trim_start();
    let rest = rest.strip_prefix('=').ok_or("there is no `=` after the name")?;
    Ok((Theirs::Exact(name), rest))
}

fn plain(text: &str) -> Result<(Theirs, &str), String> {
    let (theirs, rest) = text.split_once('=').ok_or("there is no `=`")?;
    let theirs = theirs.trim();
    match theirs {
        "" => Err("a name is missing before `=`".to_owned()),
        name if name.contains('*') => Ok((Theirs::Glob(name.to_owned()), rest)),
        name => Ok((Theirs::Exact(name.to_owned()), rest)),
    }
}

/// A name as a map has it on the left.
pub(crate) fn written(name: &str) -> String {
    let odd = |c: char| c.is_control() || "#*=\"".contains(c);
    match name.trim() != name || name.is_empty() || name.contains(odd) {
        true => serde_json::to_string(name).unwrap_or_default(),
        false => name.to_owned(),
    }
}

/// The texts that the stars of a pattern stand for, each but the last as short as possible; `None` if a
/// name does not fit.
fn captures<'a>(pattern: &str, name: &'a str) -> Option<Vec<&'a str>> {
    let (first, rest) = pattern.split_once('*')?;
    let mut left = name.strip_prefix(first)?;
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop()?;
    let mut found = vec![];
    for part in parts {
        let at = left.find(part)?;
        found.push(&left[..at]);
        left = &left[at + part.len()..];
    }
    found.push(left.strip_suffix(last)?);
    Some(found)
}

fn substitute(ours: &str, captured: &[&str]) -> String {
    let mut parts = ours.split('*');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for (part, capture) in parts.zip(captured) {
        let _ = write!(text, "{capture}{part}");
    }
    text
}

#[cfg(test)]
mod tests {
    use spec::Config;

    use super::*;

    fn model() -> Model {
        Model::new(Config { depth: 18, width: 0.125, ..Config::default() }).unwrap()
    }

    fn shown(text: &str, array: &str) -> Result<Option<Vec<String>>> {
        let m = model();
        let found = NameMap::parse(text, "m.map", &m)?.meanings(&m, array)?;
        let name = |meaning: Meaning| match meaning.module() {
            Some(id) => m.module(id).name.clone(),
            None => "-".to_owned(),
        };
        Ok(found.map(|all| all.into_iter().map(name).collect()))
    }

    #[test]
    fn lines_globs_and_comments_are_read() {
        let text = "# a comment\n\n0001 = conv1 # the stem\nx.*.c* = layer1.*.conv*\n\
                    both = bn1, maxpool\nboth = fc\nrelu* = -\n\"a = #\" = bn1\nlogit_out = logits\n";
        let cases: [(&str, Option<&[&str]>); 8] = [
            ("0001", Some(&["conv1"])),
            ("x.0.c2", Some(&["layer1.0.conv2"])),
            ("both", Some(&["bn1", "maxpool", "fc"])),
            ("relu_7", Some(&["-"])),
            ("a = #", Some(&["bn1"])),
            ("logit_out", Some(&["fc"])),
            ("other", None),
            ("x.0.d2", None),
        ];
        for (array, expected) in cases {
            let expected = expected.map(|all| all.iter().map(|s| (*s).to_owned()).collect());
            assert_eq!(shown(text, array).unwrap(), expected, "{array}");
        }
    }

    #[test]
    fn wrong_lines_are_refused_with_their_number() {
        let m = model();
        for (text, words) in [
            ("a", "line 1: there is no `=`"),
            ("\na =", "line 2: a module name is missing"),
            ("= conv1", "a name is missing"),
            ("a = conv9", "did you mean"),
            ("a = layer1.*", "stars"),
            ("\"a = conv1", "not a JSON string"),
            ("a = conv1,,bn1", "after a comma"),
        ] {
            let error = NameMap::parse(text, "m.map", &m).unwrap_err().to_string();
            assert!(error.contains(words) && error.starts_with("m.map, line"), "{text}: {error}");
        }
        let error = shown("a* = layer*.0", "a9").unwrap_err().to_string();
        assert!(error.contains("no module is named `layer9.0`"), "{error}");
    }

    #[test]
    fn names_are_written_as_they_are_read() {
        for name in ["a/b:0", " a", "x = y", "#1", "a*b", "tab\there", ""] {
            let text = format!("{} = conv1", written(name));
            assert_eq!(shown(&text, name).unwrap(), Some(vec!["conv1".to_owned()]), "{text}");
        }
    }
}
