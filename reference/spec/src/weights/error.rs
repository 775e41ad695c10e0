//! One sentence for every way in which a checkpoint can be wrong.

use thiserror::Error;

/// A checkpoint that cannot be used, and what to do about it.
#[derive(Debug, Error, PartialEq)]
#[error("{file}: {}{text}", .tensor.as_ref().map(|t| format!("tensor `{t}` ")).unwrap_or_default())]
pub struct WeightsError {
    /// The file.
    pub file: String,
    /// The tensor, where it is about one.
    pub tensor: Option<String>,
    /// What is wrong.
    pub text: String,
}

impl WeightsError {
    /// About a whole file.
    pub fn new(file: &str, text: impl Into<String>) -> Self {
        WeightsError { file: file.to_owned(), tensor: None, text: text.into() }
    }

    /// About one tensor in it.
    pub fn tensor(file: &str, tensor: &str, text: impl Into<String>) -> Self {
        // Names come from strangers: keep them to one short line.
        let tensor = tensor.chars().filter(|c| !c.is_control()).take(200).collect();
        WeightsError { file: file.to_owned(), tensor: Some(tensor), text: text.into() }
    }
}
