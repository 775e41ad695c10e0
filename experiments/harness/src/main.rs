//! The binary `harness`. `cli` lists the commands, each of which is a folder under `commands` with its
//! arguments (`args`), its work (`run`) and its table (`table`). The flags that they share are in
//! `flags`, and what they share is in the other modules here, which know no command.

mod cli;
mod commands;
mod disk;
mod engines;
mod eval;
mod flags;
mod input;
mod machine;
mod models;
mod outcome;
mod preprocessing;
mod progress;
mod publish;
mod stop;
#[cfg(feature = "libtorch")]
mod train;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    outcome::exit_code(cli::Cli::parse().command.run())
}
