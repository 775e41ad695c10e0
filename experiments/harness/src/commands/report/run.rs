//! `harness report`: makes reports again from records.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use record::Record;

use super::args::ReportArgs;
use crate::outcome::Outcome;
use crate::publish;

/// Writes an HTML report for each record, and an index if there are several.
pub fn run(args: &ReportArgs) -> Result<Outcome> {
    let mut entries = vec![];
    for (at, run) in args.runs.iter().enumerate() {
        let record = with_current_kernels(record::read_record(run)?);
        let html = place(run, args.out.as_deref(), at);
        if let Some(folder) = html.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("{}: cannot be created", folder.display()))?;
        }
        reports::write_report(&record, &html, Some(&html.with_extension("parquet")))?;
        publish::print(&html.display().to_string());
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
        publish::print(&index.display().to_string());
    }
    Ok(Outcome::Passed)
}

/// Adds the current digests of the kernels to the record of a `gpu-check`, so that its report shows which
/// kernels have changed since.
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

/// The path of a report: next to the record, or in the folder `out` under the run's name.
fn place(run: &Path, out: Option<&Path>, at: usize) -> PathBuf {
    let Some(out) = out else {
        return if run.is_dir() { run.join("report.html") } else { run.with_extension("html") };
    };
    let name = run.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = name.unwrap_or_else(|| "run".to_owned());
    out.join(format!("{:02}-{name}.html", at + 1))
}
