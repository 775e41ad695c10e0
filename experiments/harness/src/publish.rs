//! What a command leaves behind: lines on stdout, a record and a report.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use record::Record;

use crate::flags::OutputArgs;

/// Writes the record, the report and its table as Parquet, to the paths of `out` or else into the run's
/// folder, and prints the paths on stderr.
pub fn publish(record: &Record, folder: &Path, out: &OutputArgs) -> Result<()> {
    let (json, html) = (out.json.as_deref(), out.html.as_deref());
    if json.is_none() || html.is_none() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{}: cannot be created", folder.display()))?;
    }
    let json = json.map_or(folder.join("record.json"), Path::to_owned);
    let html_path = html.map_or(folder.join("report.html"), Path::to_owned);
    let parquet = html.is_none().then(|| folder.join(reports::table_name(record)));
    record::write_record(record, &json)?;
    reports::write_report(record, &html_path, parquet.as_deref())?;
    eprintln!("record {}\nreport {}", json.display(), html_path.display());
    Ok(())
}

/// Prints a line and flushes stdout; a closed pipe (`harness info | head`) is not a failure.
pub fn print_line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints results without flushing; a closed pipe is not a failure.
pub fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
