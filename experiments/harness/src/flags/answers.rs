//! The flags of `diff` for results in other forms than table, record and report.

use std::path::PathBuf;

use clap::Args;

/// Results for other programs.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Results for other programs")]
pub struct AnswerArgs {
    /// Write the verdicts as JUnit XML, one test for each layer, for continuous integration.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write the smallest reproduction of the first divergence: the layer's inputs, weights and outputs as
    /// npy files, and a check.py in numpy that exits with 1 until it is mended.
    #[arg(long, value_name = "DIR")]
    pub repro: Option<PathBuf>,
}
