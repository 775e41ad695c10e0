//! Turns run records into tables, plots and one self-contained HTML file.
//!
//! The crate reads run records (crate [`record`]) and nothing else, so a report can be made again from a
//! record, without running an engine:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::path::Path;
//! let record = record::read_record(Path::new("runs/today"))?;
//! reports::write_report(&record, Path::new("report.html"), Some(Path::new("layers.parquet")))?;
//! # Ok(())
//! # }
//! ```

mod blocks;
mod chart;
pub mod error;
mod format;
mod heatmap;
mod junit;
mod network;
mod page;
mod plot;
mod published;
mod ratio_band;
mod stats;
mod table;

use std::path::Path;

use record::{BenchRecord, DiffRecord, Record};

pub use error::{ReportError, Result};
pub use format::count;
pub use junit::junit;
pub use page::{
    IndexEntry, ablation_in_words, compare, has_published, render, render_index, render_with_bench,
};
pub use table::{table_name, to_table, write_parquet};

/// Writes the page of a record to `html` and, if `parquet` is given, the table of the record there.
///
/// # Errors
///
/// If a plot, the table or the page cannot be made, or if a file cannot be written.
pub fn write_report(record: &Record, html: &Path, parquet: Option<&Path>) -> Result<()> {
    write_atomically(html, render(record)?.as_bytes())?;
    parquet.map_or(Ok(()), |path| write_parquet(record, path))
}

/// Writes the page of a record like [`write_report`], with the times of a bench in the plots of published
/// methods if the page has them (see [`has_published`]).
///
/// # Errors
///
/// As [`write_report`], and if the bench measured another network.
pub fn write_report_with_bench(
    record: &Record,
    bench: &BenchRecord,
    html: &Path,
    parquet: Option<&Path>,
) -> Result<()> {
    write_atomically(html, render_with_bench(record, bench)?.as_bytes())?;
    parquet.map_or(Ok(()), |path| write_parquet(record, path))
}

/// Writes a comparison as JUnit XML.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_junit(record: &DiffRecord, path: &Path) -> Result<()> {
    write_atomically(path, junit(record)?.as_bytes())
}

/// Writes a page that lists several reports with their verdicts and links to them.
///
/// # Errors
///
/// If the page cannot be made or the file cannot be written.
pub fn write_index(entries: &[IndexEntry], html: &Path) -> Result<()> {
    write_atomically(html, render_index(entries)?.as_bytes())
}

/// Writes the page that compares two records of the same kind, each with the name of its run.
///
/// # Errors
///
/// If the records are of different kinds, if the page cannot be made or the file cannot be written.
pub fn write_comparison(
    before: (&str, &Record),
    after: (&str, &Record),
    html: &Path,
) -> Result<()> {
    write_atomically(html, compare(before, after)?.as_bytes())
}

fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    files::write(path, content).map_err(|source| ReportError::write(path, source))
}
