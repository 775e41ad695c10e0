//! The table of a comparison: one row for each layer, in order of execution.

use crate::format::shape;
use crate::table::{Column, column};
use record::{Errors, Layer};

/// A column made from a field of [`Errors`]: its name without the prefix, and how it is read.
type ErrorColumn<T> = (&'static str, fn(&Errors) -> T);

/// The floating-point columns of an [`Errors`]. The table has them twice, with the prefixes
/// `introduced_` and `inherited_`.
const FLOATS: [ErrorColumn<f64>; 6] = [
    ("rel_l2", |e| e.rel_l2),
    ("max_abs", |e| e.max_abs),
    ("max_rel", |e| e.max_rel),
    ("cosine", |e| e.cosine),
    ("ratio", |e| e.ratio),
    ("e_ref", |e| e.e_ref),
];

/// The integer columns of an [`Errors`], with the same prefixes.
const COUNTS: [ErrorColumn<u64>; 3] = [("ulp", |e| e.ulp), ("nan", |e| e.nan), ("inf", |e| e.inf)];

/// The columns of the table.
pub(super) fn columns(layers: &[Layer]) -> Vec<Column> {
    let depths: Vec<u64> = (0..layers.len() as u64).collect();
    let mut columns = vec![
        column("depth", &depths, |depth| *depth),
        column("name", layers, |l| l.name.as_str()),
        column("alias", layers, |l| l.alias.as_deref()),
        column("kind", layers, |l| l.kind.as_str()),
        column("block", layers, |l| l.block.as_str()),
        column("shape", layers, |l| shape(&l.shape)),
        column("params", layers, |l| l.params),
        column("macs", layers, |l| l.macs),
        column("n", layers, |l| l.n),
        column("verdict", layers, |l| l.verdict.as_str()),
        column("covered_by", layers, |l| l.covered_by.as_deref()),
        column("note", layers, |l| l.note.as_deref()),
    ];
    columns.extend(error_columns("introduced", layers, |l| l.introduced.as_ref()));
    columns.extend(error_columns("inherited", layers, |l| l.inherited.as_ref()));
    columns
}

fn error_columns(prefix: &str, layers: &[Layer], of: fn(&Layer) -> Option<&Errors>) -> Vec<Column> {
    let title = |name| format!("{prefix}_{name}");
    let floats =
        FLOATS.iter().map(|(name, read)| column(&title(name), layers, |l| of(l).map(read)));
    let counts =
        COUNTS.iter().map(|(name, read)| column(&title(name), layers, |l| of(l).map(read)));
    floats.chain(counts).collect()
}
