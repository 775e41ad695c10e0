//! The table of a record, which is written as Parquet. The pages do not read it.

use std::path::Path;

pub(crate) use polars::prelude::Column;
use polars::prelude::{DataFrame, KeyValueMetadata, NamedFrom, ParquetWriter, Series};

use crate::error::{ReportError, Result};
use crate::{page, write_atomically};
use record::Record;

/// Makes the table of a record: one row for each layer, injected fault, video and engine, epoch,
/// trained network, contestant, step or group of ratios, depending on the kind of the record.
///
/// # Errors
///
/// If polars refuses the columns, which is a bug in this crate.
pub fn to_table(record: &Record) -> Result<DataFrame> {
    Ok(DataFrame::new_infer_height(page::of(record).table())?)
}

/// The file name of a record's table, such as `layers.parquet`: it says what a row stands for.
pub fn table_name(record: &Record) -> &'static str {
    page::of(record).table_name()
}

/// Writes the table of a record as Parquet. The metadata holds the kind of the record as `kind` and,
/// except for evaluations, the run (command, machine, versions, …) as JSON under `run`.
///
/// # Errors
///
/// If the table cannot be made or the file cannot be written.
pub fn write_parquet(record: &Record, path: &Path) -> Result<()> {
    let mut table = to_table(record)?;
    let mut metadata = vec![("kind".to_owned(), record.kind().to_owned())];
    if page::of(record).table_holds_run() {
        let run = serde_json::to_string(record.run());
        let run = run.map_err(|error| ReportError::write(path, error.into()))?;
        metadata.push(("run".to_owned(), run));
    }
    let mut bytes = Vec::new();
    ParquetWriter::new(&mut bytes)
        .with_key_value_metadata(Some(KeyValueMetadata::from_static(metadata)))
        .finish(&mut table)?;
    write_atomically(path, &bytes)
}

/// A column with one value for each row. The values are numbers, texts or booleans, or options of these.
pub(crate) fn column<'a, Row, Value, Phantom: ?Sized>(
    name: &str,
    rows: &'a [Row],
    of: impl Fn(&'a Row) -> Value,
) -> Column
where
    Series: NamedFrom<Vec<Value>, Phantom>,
{
    Series::new(name.into(), rows.iter().map(of).collect::<Vec<_>>()).into()
}
