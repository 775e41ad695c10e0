//! Typed rows, read from the table of layers.

use polars::prelude::{DataFrame, PolarsResult};

/// One error of one layer: the columns with one prefix. The fields are those of
/// [`record::Errors`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ErrorRow {
    pub rel_l2: f64,
    pub max_abs: f64,
    pub max_rel: f64,
    pub cosine: f64,
    pub ratio: f64,
    pub e_ref: f64,
    pub ulp: u64,
    pub nan: u64,
    pub inf: u64,
}

/// One layer: a row of the table. The fields are those of [`record::Layer`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub depth: usize,
    pub name: String,
    pub alias: Option<String>,
    pub kind: String,
    pub block: String,
    pub shape: String,
    pub params: u64,
    pub macs: u64,
    pub n: f64,
    pub verdict: String,
    pub covered_by: Option<String>,
    pub note: Option<String>,
    pub introduced: Option<ErrorRow>,
    pub inherited: Option<ErrorRow>,
}

impl Row {
    /// The budget ratio of the introduced error or, if that was not measured, of the inherited error.
    pub fn ratio(&self) -> Option<f64> {
        self.introduced.or(self.inherited).map(|errors| errors.ratio)
    }

    /// The budget ratio of the inherited error.
    pub fn inherited_ratio(&self) -> Option<f64> {
        self.inherited.map(|errors| errors.ratio)
    }
}

/// The larger of two ratios, where NaN counts as larger than any number.
pub(crate) fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// Reads all rows of a table of layers.
pub(crate) fn rows(table: &DataFrame) -> PolarsResult<Vec<Row>> {
    let reader = Reader { table };
    (0..table.height()).map(|row| reader.row(row)).collect()
}

struct Reader<'a> {
    table: &'a DataFrame,
}

impl Reader<'_> {
    fn text(&self, column: &str, row: usize) -> PolarsResult<Option<String>> {
        Ok(self.table.column(column)?.str()?.get(row).map(str::to_owned))
    }

    fn float(&self, column: &str, row: usize) -> PolarsResult<Option<f64>> {
        Ok(self.table.column(column)?.f64()?.get(row))
    }

    fn count(&self, column: &str, row: usize) -> PolarsResult<Option<u64>> {
        Ok(self.table.column(column)?.u64()?.get(row))
    }

    fn row(&self, row: usize) -> PolarsResult<Row> {
        Ok(Row {
            depth: row,
            name: self.text("name", row)?.unwrap_or_default(),
            alias: self.text("alias", row)?,
            kind: self.text("kind", row)?.unwrap_or_default(),
            block: self.text("block", row)?.unwrap_or_default(),
            shape: self.text("shape", row)?.unwrap_or_default(),
            params: self.count("params", row)?.unwrap_or_default(),
            macs: self.count("macs", row)?.unwrap_or_default(),
            n: self.float("n", row)?.unwrap_or(f64::NAN),
            verdict: self.text("verdict", row)?.unwrap_or_default(),
            covered_by: self.text("covered_by", row)?,
            note: self.text("note", row)?,
            introduced: self.errors("introduced", row)?,
            inherited: self.errors("inherited", row)?,
        })
    }

    /// The error with this prefix (`introduced` or `inherited`); `None` if it was not measured.
    fn errors(&self, prefix: &str, row: usize) -> PolarsResult<Option<ErrorRow>> {
        let float = |name: &str| self.float(&format!("{prefix}_{name}"), row);
        let count = |name: &str| -> PolarsResult<u64> {
            Ok(self.count(&format!("{prefix}_{name}"), row)?.unwrap_or(0))
        };
        let Some(ratio) = float("ratio")? else { return Ok(None) };
        let or_nan = |name: &str| -> PolarsResult<f64> { Ok(float(name)?.unwrap_or(f64::NAN)) };
        Ok(Some(ErrorRow {
            rel_l2: or_nan("rel_l2")?,
            max_abs: or_nan("max_abs")?,
            max_rel: or_nan("max_rel")?,
            cosine: or_nan("cosine")?,
            ratio,
            e_ref: or_nan("e_ref")?,
            ulp: count("ulp")?,
            nan: count("nan")?,
            inf: count("inf")?,
        }))
    }
}
