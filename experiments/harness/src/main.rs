//! The binary `harness`. `cli` lists the commands, each of which is a folder under `commands` with its
//! arguments (`args`), its work (`run`) and its table (`table`). The flags that they share are in
//! `flags`, and what they share is in the other modules here, which know no command.

#[macro_use]
mod announce;

mod cli;
mod command_line;
mod commands;
mod disk;
mod engines;
mod eval;
mod failure;
mod flags;
mod input;
mod latest;
mod lock;
mod machine;
mod models;
mod outcome;
mod outputs;
mod preprocessing;
mod progress;
mod publish;
mod stop;
#[cfg(feature = "libtorch")]
mod train;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else, so that whoever stops the run at once finds its end at --json.
    stop::listen();
    let cli = cli::Cli::read();
    if cli.quiet {
        announce::silence();
    }
    outcome::exit_code(cli.command.run())
}
