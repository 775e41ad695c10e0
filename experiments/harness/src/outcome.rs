//! How a command ended, as an exit code.

use std::process::ExitCode;

use anyhow::Result;

/// The outcome of a command that ran to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Exit code 0.
    Passed,
    /// Exit code 1: a divergence, a regression, or not everything was compared.
    Failed,
}

impl Outcome {
    /// The outcome of a check.
    pub fn of(passed: bool) -> Self {
        if passed { Outcome::Passed } else { Outcome::Failed }
    }
}

/// Turns the result of a command into the exit code of the program: 0, 1, or 2 for an error, which is
/// printed on stderr.
pub fn exit_code(result: Result<Outcome>) -> ExitCode {
    match result {
        Ok(Outcome::Passed) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(1),
        Err(error) => {
            eprintln!("harness: {error:#}");
            ExitCode::from(2)
        }
    }
}
