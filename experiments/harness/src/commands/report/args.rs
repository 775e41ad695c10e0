//! The command line of `harness report`.

use std::path::PathBuf;

use clap::Args;

/// The arguments of `harness report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Records (JSON files, or folders that hold a record.json).
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Folder for the reports; by default each is written next to its record.
    #[arg(long)]
    pub out: Option<PathBuf>,
}
