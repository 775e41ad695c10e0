//! `harness report`: reports again, from records alone.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use reports::Record;

use crate::Outcome;
use crate::cli::ReportArgs;

/// Writes an HTML report for each record, and an index where there are several.
pub fn run(args: &ReportArgs) -> Result<Outcome> {
    let mut entries = vec![];
    for (at, run) in args.runs.iter().enumerate() {
        let record = with_current_kernels(reports::read_record(run)?);
        let html = place(run, args.out.as_deref(), at);
        if let Some(folder) = html.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("{}: cannot be made", folder.display()))?;
        }
        reports::write_report(&record, &html, Some(&html.with_extension("parquet")))?;
        super::print(&html.display().to_string());
        entries.push((record, html));
    }
    if let [_, _, ..] = entries.as_slice() {
        let folder = args.out.clone().unwrap_or_default();
        let index = folder.join("index.html");
        let listed: Vec<_> = entries
            .into_iter()
            .map(|(record, html)| {
                let link = html.strip_prefix(&folder).unwrap_or(&html).display().to_string();
                reports::IndexEntry::new(&record, &link, &link)
            })
            .collect();
        reports::write_index(&listed, &index)?;
        super::print(&index.display().to_string());
    }
    Ok(Outcome::Passed)
}

/// A check on a GPU says which kernels have changed since.
fn with_current_kernels(mut record: Record) -> Record {
    #[cfg(feature = "cuda")]
    if let Record::Gpu(gpu) = &mut record {
        let current = cuda::kernels::digests();
        for kernel in &mut gpu.kernels {
            let found = current.iter().find(|(file, _)| *file == kernel.file);
            kernel.current = found.map_or("gone".to_owned(), |(_, digest)| digest.clone());
        }
    }
    record
}

/// Beside the record, or in the folder asked for under the run's own name.
fn place(run: &Path, out: Option<&Path>, at: usize) -> PathBuf {
    let Some(out) = out else {
        return if run.is_dir() { run.join("report.html") } else { run.with_extension("html") };
    };
    let name = run.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = name.unwrap_or_else(|| "run".to_owned());
    out.join(format!("{:02}-{name}.html", at + 1))
}
