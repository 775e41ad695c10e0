//! How a command ended, as an exit code.

use std::process::ExitCode;

use anyhow::Result;
use record::Ended;
use video::VideoError;

use crate::{announce, failure, stop};

/// `EX_TEMPFAIL` of sysexits.h: the same command succeeds later.
const STOPPED: u8 = 75;

/// The outcome of a command that ran to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Exit code 0.
    Passed,
    /// Exit code 1: a divergence, a regression, or not everything was compared.
    Failed,
    /// A signal stopped the run. Exit code 130 if it was Ctrl-C; otherwise 75, for schedulers. stderr
    /// names the command that goes on.
    Stopped,
}

impl Outcome {
    /// The outcome of a check.
    pub fn of(passed: bool) -> Self {
        if passed { Outcome::Passed } else { Outcome::Failed }
    }
}

/// Turns the result of a command into the exit code of the program: 0, 1, 75 or 130, or 2 for an error, which
/// is printed on stderr.
pub fn exit_code(result: Result<Outcome>) -> ExitCode {
    stop::give_way();
    if let (Ok(_), Some(why)) = (&result, announce::lost()) {
        let why = format!(
            "stdout cannot be written ({why}), and what belongs there is lost; free space, or send stdout elsewhere, \
             and run again"
        );
        failure::replace(Ended::Error, &why, 2);
        stderr_line!("harness: {why}");
        return ExitCode::from(2);
    }
    match result {
        Ok(Outcome::Passed) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(1),
        Ok(Outcome::Stopped) => stopped(),
        Err(error) if matches!(error.downcast_ref(), Some(VideoError::Stopped)) => stopped(),
        Err(error) => {
            let why = files::printable(&format!("{error:#}"));
            failure::leave(Ended::Error, &why, 2);
            stderr_line!("harness: {why}");
            ExitCode::from(2)
        }
    }
}

fn stopped() -> ExitCode {
    let why = files::printable(&stop::in_words());
    let code = if stop::interrupted() { stop::INTERRUPTED } else { STOPPED };
    failure::leave(Ended::Stopped, &why, code);
    stderr_line!("harness: {why}");
    ExitCode::from(code)
}
