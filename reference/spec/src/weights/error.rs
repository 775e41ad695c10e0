//! One sentence for every way in which a checkpoint can be wrong.

use std::fmt;
use std::path::Path;

/// Longest piece of a stranger's text that a message repeats.
const QUOTED: usize = 120;

/// A checkpoint that cannot be used, and what to do about it: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct WeightsError {
    /// The file, or `formula:SEED`.
    pub file: String,
    /// The tensor, where it is about one.
    pub tensor: Option<String>,
    /// What is wrong and what to do next.
    pub text: String,
}

impl fmt::Display for WeightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        if let Some(tensor) = &self.tensor {
            write!(f, "tensor `{tensor}` ")?;
        }
        f.write_str(&self.text)
    }
}

/// A failure before it is known in which file: what is wrong, and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    tensor: Option<String>,
    what: String,
    advice: String,
}

impl Fault {
    pub(super) fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Fault { tensor: None, what: what.into(), advice: advice.into() }
    }

    /// Bytes that do not fit together.
    pub(super) fn damaged(what: impl fmt::Display) -> Self {
        Fault::new(format!("the file is damaged or cut short: {what}"), "get the file again")
    }

    /// The same failure, as one of a tensor.
    pub(super) fn of(mut self, tensor: &str) -> Self {
        self.tensor.get_or_insert_with(|| quoted(tensor));
        self
    }

    /// What is wrong with a piece of a file, as a sentence of its own.
    pub(super) fn sentence(&self) -> String {
        format!("{}; {}", self.what, self.advice)
    }

    /// What is wrong, without the advice.
    pub(super) fn what(&self) -> &str {
        &self.what
    }

    /// The failure of a file.
    pub(super) fn at(self, file: &str) -> WeightsError {
        let text = format!("{}; {}", self.what, self.advice);
        WeightsError { file: file.to_owned(), tensor: self.tensor, text }
    }

    /// The failure of an operation on a path.
    pub(super) fn io(path: &Path, doing: &str, why: &std::io::Error) -> WeightsError {
        let advice = "check the path, its permissions and the space left";
        Fault::new(format!("cannot be {doing} ({why})"), advice).at(&path.display().to_string())
    }
}

/// A stranger's text, shortened to one line that a terminal cannot mistake for commands.
pub(super) fn quoted(text: &str) -> String {
    let mut clean = text.chars().map(|c| if c.is_control() { '?' } else { c });
    let mut out: String = clean.by_ref().take(QUOTED).collect();
    if clean.next().is_some() {
        out.push('…');
    }
    out
}

/// `1 tensor`, `2 tensors`.
pub(super) fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// The first three of a list of names: `a`, `b`, `c`, …
pub(super) fn first_three<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let mut names = names.into_iter();
    let mut shown: Vec<String> =
        names.by_ref().take(3).map(|name| format!("`{}`", quoted(name))).collect();
    if names.next().is_some() {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_short_line_whatever_a_file_says() {
        let name = format!("a\n\x1b[2J{}", "x".repeat(100_000));
        let text = Fault::damaged("odd").of(&name).at("w.pth").to_string();
        assert!(text.starts_with("w.pth: tensor `a??[2Jxxx"), "{text}");
        assert!(text.len() < 300 && !text.contains('\n'), "{text}");
        assert!(text.ends_with("the file is damaged or cut short: odd; get the file again"));
    }

    #[test]
    fn three_names_are_enough() {
        assert_eq!(first_three(["a"]), "`a`");
        assert_eq!(first_three(["a", "b", "c", "d"]), "`a`, `b`, `c`, …");
        assert_eq!(
            (counted(1, "tensor"), counted(2, "tensor")),
            ("1 tensor".into(), "2 tensors".into())
        );
    }
}
