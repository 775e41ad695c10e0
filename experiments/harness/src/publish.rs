//! What a command leaves behind: lines on stdout, a record and a report.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use record::Record;

use crate::flags::OutputArgs;
use crate::{announce, failure, latest};

/// Writes the record, the report and its table as Parquet, to the paths of `out` or else into the run's
/// folder, and prints the paths on stderr.
pub fn publish(record: &Record, folder: &Path, out: &OutputArgs) -> Result<()> {
    let (json, html) = (out.json.as_deref(), out.html.as_deref());
    if json.is_none() || html.is_none() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{}: cannot be created", folder.display()))?;
    }
    let html_path = html.map_or(folder.join("report.html"), Path::to_owned);
    let parquet = html.is_none().then(|| folder.join(reports::table_name(record)));
    if out.record_on_stdout() {
        print(record::to_json(record)?.trim_end());
        failure::record_is_written();
    }
    // The folder of a run is whole, also where the record goes to stdout, unless --html keeps its files apart.
    let file = match json {
        Some(_) if out.record_on_stdout() => html.is_none().then(|| folder.join("record.json")),
        Some(path) => Some(path.to_owned()),
        None => Some(folder.join("record.json")),
    };
    if let Some(file) = file {
        record::write_record(record, &file)?;
        failure::record_is_written();
        announce!("record {}", file.display());
    }
    reports::write_report(record, &html_path, parquet.as_deref())?;
    announce!("report {}", html_path.display());
    latest::point(folder);
    Ok(())
}

/// Publishes a record and prints the result `text`, which is shown also if the record cannot be written.
pub fn answer(record: &Record, text: &str, folder: &Path, out: &OutputArgs) -> Result<()> {
    let published = publish(record, folder, out);
    print_result(text, out);
    published
}

/// Prints a result on stdout, or, as a note, on stderr if the record has stdout for itself.
pub fn print_result(text: &str, out: &OutputArgs) {
    match out.record_on_stdout() {
        true => announce!("{text}"),
        false => print(text),
    }
}

/// Prints a line and flushes stdout.
pub fn print_line(text: &str) {
    let mut out = std::io::stdout().lock();
    announce::printed(writeln!(out, "{text}").and_then(|()| out.flush()));
}

/// Prints results without flushing.
pub fn print(text: &str) {
    announce::printed(writeln!(std::io::stdout(), "{text}"));
}
