//! The error of checkpoints: one sentence that names the file, the tensor and what to do next.

use std::fmt;
use std::path::Path;

/// Largest number of characters of a file's own text that a message repeats.
const QUOTED: usize = 120;

/// Why a checkpoint cannot be used, and what to do about it, as one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct WeightsError {
    /// The file, or `formula:SEED`.
    pub file: String,
    /// The tensor that the error is about, if it is about a single one.
    pub tensor: Option<String>,
    /// What is wrong and what to do next.
    pub text: String,
}

impl fmt::Display for WeightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        if let Some(tensor) = &self.tensor {
            // A text is either a predicate (`has the shape ...`) or a sentence of its own.
            let sentence = self.text.starts_with("the ") || self.text.starts_with("its ");
            let colon = if sentence { ":" } else { "" };
            write!(f, "tensor `{tensor}`{colon} ")?;
        }
        f.write_str(&self.text)
    }
}

/// An error for which the file is not known yet: what is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    tensor: Option<String>,
    what: String,
    advice: String,
}

impl Failure {
    pub(super) fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Failure { tensor: None, what: what.into(), advice: advice.into() }
    }

    /// A failure because the bytes of the file are inconsistent.
    pub(super) fn damaged(what: impl fmt::Display) -> Self {
        Failure::new(format!("the file is damaged or truncated: {what}"), "get the file again")
    }

    /// Adds the name of the tensor that the failure is about, unless it has one already.
    pub(super) fn in_tensor(mut self, tensor: &str) -> Self {
        self.tensor.get_or_insert_with(|| quoted(tensor));
        self
    }

    /// What is wrong and what to do, without the file and the tensor.
    pub(super) fn sentence(&self) -> String {
        format!("{}; {}", self.what, self.advice)
    }

    /// What is wrong, without the advice.
    pub(super) fn what(&self) -> &str {
        &self.what
    }

    /// Makes this the error of a file.
    pub(super) fn in_file(self, file: &str) -> WeightsError {
        let text = format!("{}; {}", self.what, self.advice);
        WeightsError { file: file.to_owned(), tensor: self.tensor, text }
    }

    /// The error of an operation on a path; `doing` is its participle, such as `read`.
    pub(super) fn io(path: &Path, doing: &str, why: &std::io::Error) -> WeightsError {
        let advice = match doing {
            "read" | "opened" => "check the path and its permissions",
            _ => "check the path, its permissions and the free space",
        };
        Failure::new(format!("cannot be {doing} ({why})"), advice)
            .in_file(&path.display().to_string())
    }
}

/// Makes text from a file safe to print: control characters are replaced and the length is limited.
pub(super) fn quoted(text: &str) -> String {
    let mut clean = text.chars().map(|c| if c.is_control() { '?' } else { c });
    let mut out: String = clean.by_ref().take(QUOTED).collect();
    if clean.next().is_some() {
        out.push('…');
    }
    out
}

/// A count with its noun, such as `1 tensor` or `2 tensors`.
pub(super) fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// Quotes the first three of a list of names, such as `a`, `b`, `c`, …
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
    fn messages_are_one_short_line_whatever_the_file_contains() {
        let name = format!("a\n\x1b[2J{}", "x".repeat(100_000));
        let text = Failure::damaged("odd").in_tensor(&name).in_file("w.pth").to_string();
        assert!(text.starts_with("w.pth: tensor `a??[2Jxxx"), "{text}");
        assert!(text.contains("x…`: the file"), "{text}");
        assert!(text.len() < 300 && !text.contains('\n'), "{text}");
        assert!(text.ends_with("the file is damaged or truncated: odd; get the file again"));
    }

    #[test]
    fn at_most_three_names_are_listed() {
        assert_eq!(first_three(["a"]), "`a`");
        assert_eq!(first_three(["a", "b", "c", "d"]), "`a`, `b`, `c`, …");
        assert_eq!(
            (counted(1, "tensor"), counted(2, "tensor")),
            ("1 tensor".into(), "2 tensors".into())
        );
    }
}
