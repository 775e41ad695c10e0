//! How a command ended, as an exit code.

use std::process::ExitCode;

use anyhow::Result;
use video::VideoError;

/// `EX_TEMPFAIL` of sysexits.h: the same command succeeds later.
const STOPPED: u8 = 75;

/// The outcome of a command that ran to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Exit code 0.
    Passed,
    /// Exit code 1: a divergence, a regression, or not everything was compared.
    Failed,
    /// Exit code 75: a signal stopped the run, and the same command goes on from there.
    Stopped,
}

impl Outcome {
    /// The outcome of a check.
    pub fn of(passed: bool) -> Self {
        if passed { Outcome::Passed } else { Outcome::Failed }
    }
}

/// Turns the result of a command into the exit code of the program: 0, 1, 75, or 2 for an error, which is
/// printed on stderr.
pub fn exit_code(result: Result<Outcome>) -> ExitCode {
    match result {
        Ok(Outcome::Passed) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(1),
        Ok(Outcome::Stopped) => ExitCode::from(STOPPED),
        Err(error) if matches!(error.downcast_ref(), Some(VideoError::Stopped)) => {
            eprintln!("harness: stopped by a signal; run the same command again to go on");
            ExitCode::from(STOPPED)
        }
        Err(error) => {
            eprintln!("harness: {}", files::printable(&format!("{error:#}")));
            ExitCode::from(2)
        }
    }
}
