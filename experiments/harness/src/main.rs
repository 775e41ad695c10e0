//! The binary `harness`. Each command has a file under `commands`, the comparison itself is under
//! `compare`, and the catalogue of known mistakes is under `faults`.

mod bench;
mod cli;
mod commands;
mod disk;
mod engines;
mod eval;
mod input;
mod machine;
mod preprocessing;
mod progress;
mod stop;
mod table;
#[cfg(feature = "libtorch")]
mod train;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

/// The result of a command that ran to its end.
pub enum Outcome {
    /// Exit code 0: everything passed.
    Passed,
    /// Exit code 1: something diverged, or not everything was compared.
    Failed,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Diff(args) => commands::diff::run(&args),
        Command::Dump(args) => commands::dump::run(&args),
        #[cfg(feature = "cuda")]
        Command::GpuCheck(args) => commands::gpu_check::run(&args),
        Command::Selftest(args) => commands::selftest::run(&args),
        Command::Train(args) => train(&args),
        Command::Ablate(args) => commands::ablate::run(&args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::BenchWorker(args) => bench::worker::run(&args),
        Command::Export(command) => commands::export::run(&command),
        Command::Info(args) => commands::info::run(&args),
        Command::Weights(command) => commands::weights::run(&command),
        Command::Report(args) => commands::report::run(&args),
    };
    match outcome {
        Ok(Outcome::Passed) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(1),
        Err(error) => {
            eprintln!("harness: {error:#}");
            ExitCode::from(2)
        }
    }
}

#[cfg(feature = "libtorch")]
fn train(args: &cli::TrainArgs) -> anyhow::Result<Outcome> {
    commands::train::run(args)
}

#[cfg(not(feature = "libtorch"))]
fn train(_: &cli::TrainArgs) -> anyhow::Result<Outcome> {
    anyhow::bail!("train: this harness was built without libtorch, which training needs")
}
