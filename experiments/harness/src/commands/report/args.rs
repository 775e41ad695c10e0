//! The command line of `harness report`.

use std::path::PathBuf;

use clap::Args;

use crate::outputs::Outputs;

/// The arguments of `harness report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Records: JSON files, folders that hold a record.json, or folders of such folders. Other files are
    /// left out, which is said.
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Also write a page comparison.html that compares two runs of one kind: what changed in verdicts,
    /// ratios, times and accuracy.
    #[arg(long)]
    pub compare: bool,
    /// Put the times of this bench into the plots of published methods, which reports of evaluations on k400
    /// have. They are marked as those of another machine.
    #[arg(long, value_name = "BENCH")]
    pub published: Option<PathBuf>,
    /// Also print each report as PDF, next to it, with Chromium or Chrome, which must be on PATH (or
    /// HARNESS_CHROMIUM is its path).
    #[arg(long)]
    pub pdf: bool,
    /// Folder for the reports; by default each is written next to its record.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

impl ReportArgs {
    /// The places that the command will write to.
    pub fn outputs(&self) -> Outputs {
        if self.out.is_some() {
            return Outputs::default().folder("--out", self.out.as_ref());
        }
        let folder = |run: &PathBuf| match run.is_dir() {
            true => Some(run.clone()),
            false => run.parent().filter(|folder| folder.is_dir()).map(PathBuf::from),
        };
        let folders = self.runs.iter().filter_map(folder);
        folders.fold(Outputs::default(), |all, folder| {
            all.folder("the folder of a run", Some(&folder))
        })
    }
}
