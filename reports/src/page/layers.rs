//! Views of the layers: the rows of the sortable table, and the details of each block.

use minijinja::value::Value;
use serde::Serialize;

use crate::blocks::Block;
use crate::format::{self, cosine, count, metric, short, words, wrapping};
use crate::ratio_band::RatioBand;
use record::{ErrorKind, Errors, Layer};

/// One column of the sortable table.
#[derive(Serialize)]
pub(super) struct ColumnView {
    /// Name of the column in the page's URL: `#sort=ratio`.
    key: &'static str,
    title: &'static str,
    /// Meaning of the column, shown as a tooltip.
    hint: &'static str,
    numeric: bool,
    /// Whether the first click sorts in descending order, as for values whose largest are the worst.
    down: bool,
}

/// Key, title, meaning, whether the column is numeric, whether it is first sorted in descending order.
const COLUMNS: [(&str, &str, &str, bool, bool); 11] = [
    ("depth", "#", "order of execution", true, false),
    ("name", "Layer", "module path", false, false),
    ("verdict", "Verdict", "verdict on the layer", false, false),
    ("ratio", "/allowed", "own error divided by the allowed error", true, true),
    ("rel_l2", "rel L2", "relative L2 of the own error", true, true),
    ("inherited", "/allowed", "accumulated error divided by the allowed error", true, true),
    ("inherited_rel_l2", "rel L2", "relative L2 of the accumulated error", true, true),
    ("kind", "Kind", "what the module computes", false, false),
    ("shape", "Output", "shape of the output", false, false),
    ("params", "Params", "number of parameters", true, true),
    ("macs", "MACs", "multiply-accumulates for one clip", true, true),
];

/// A count: the text that is shown, and the value by which the column is sorted.
#[derive(Serialize)]
struct Counted {
    text: String,
    value: u64,
}

/// One row of the sortable table.
#[derive(Serialize)]
pub(super) struct LayerView {
    depth: usize,
    name: String,
    path: Value,
    alias: Option<String>,
    kind: String,
    shape: String,
    errors: [String; 4],
    counts: [Counted; 2],
    verdict: &'static str,
    verdict_words: String,
    remark: String,
}

/// One block with all measured values of its layers.
#[derive(Serialize)]
pub(super) struct BlockView {
    name: String,
    anchor: String,
    /// The band of the worst own error, as a class of the style sheet.
    band: &'static str,
    verdict: &'static str,
    verdict_words: String,
    ratio: String,
    layers: String,
    rows: Vec<DetailView>,
}

/// One layer in the details of a block.
#[derive(Serialize)]
struct DetailView {
    path: Value,
    alias: Option<String>,
    verdict: &'static str,
    verdict_words: String,
    n: String,
    remark: String,
    errors: Vec<DetailErrors>,
}

/// The own or the accumulated error of a layer in the details; no cells if it was not measured.
#[derive(Serialize)]
struct DetailErrors {
    /// The name in JSON, which is also a class of the style sheet.
    what: &'static str,
    words: &'static str,
    cells: Option<[String; 9]>,
}

/// The columns of the sortable table.
pub(super) fn columns() -> Vec<ColumnView> {
    let view = |(key, title, hint, numeric, down)| ColumnView { key, title, hint, numeric, down };
    COLUMNS.into_iter().map(view).collect()
}

/// Formats a layer for the sortable table.
pub(super) fn layer_view((depth, layer): (usize, &Layer)) -> LayerView {
    LayerView {
        depth,
        name: layer.name.clone(),
        path: Value::from_safe_string(wrapping(&layer.name)),
        alias: layer.alias.clone(),
        kind: words(layer.kind.as_str()),
        shape: format::shape(&layer.shape),
        errors: errors(layer),
        counts: [layer.params, layer.macs].map(|value| Counted { text: metric(value), value }),
        verdict: layer.verdict.as_str(),
        verdict_words: layer.verdict.words().to_owned(),
        remark: remark(layer),
    }
}

/// Error ratio and relative L2 of the own error, then of the accumulated error.
fn errors(layer: &Layer) -> [String; 4] {
    let shown = |errors: Option<Errors>, read: fn(Errors) -> f64| {
        errors.map_or_else(|| "–".to_owned(), |errors| short(read(errors)))
    };
    [
        shown(layer.introduced, |e| e.ratio),
        shown(layer.introduced, |e| e.rel_l2),
        shown(layer.inherited, |e| e.ratio),
        shown(layer.inherited, |e| e.rel_l2),
    ]
}

/// Remarks on a layer: the layer through which it was checked, its note, its numbers of NaN and infinite values.
fn remark(layer: &Layer) -> String {
    let covered = layer.covered_by.as_ref().map(|by| format!("checked through {by}"));
    let broken = layer.introduced.or(layer.inherited).and_then(broken);
    let parts: Vec<String> = [covered, layer.note.clone(), broken].into_iter().flatten().collect();
    parts.join("; ")
}

fn broken(errors: Errors) -> Option<String> {
    (errors.nan > 0 || errors.inf > 0)
        .then(|| format!("{} NaN, {} infinite", errors.nan, errors.inf))
}

/// Formats the details of a block.
pub(super) fn block_view(block: &Block<'_>, bound: f64) -> BlockView {
    BlockView {
        name: block.name.to_owned(),
        anchor: block.anchor.clone(),
        band: RatioBand::of(block.ratio, bound).class(),
        verdict: block.verdict.as_str(),
        verdict_words: block.verdict.words().to_owned(),
        ratio: block.ratio.map_or_else(|| "–".to_owned(), short),
        layers: count(block.layers.len(), "layer"),
        rows: block.layers.iter().map(|layer| detail(layer)).collect(),
    }
}

fn detail(layer: &Layer) -> DetailView {
    DetailView {
        path: Value::from_safe_string(wrapping(&layer.name)),
        alias: layer.alias.clone(),
        verdict: layer.verdict.as_str(),
        verdict_words: layer.verdict.words().to_owned(),
        n: short(layer.n),
        remark: remark(layer),
        errors: vec![
            detail_errors(ErrorKind::Introduced, layer.introduced),
            detail_errors(ErrorKind::Inherited, layer.inherited),
        ],
    }
}

fn detail_errors(kind: ErrorKind, errors: Option<Errors>) -> DetailErrors {
    DetailErrors { what: kind.as_str(), words: kind.words(), cells: errors.map(error_cells) }
}

fn error_cells(e: Errors) -> [String; 9] {
    [
        short(e.ratio),
        short(e.rel_l2),
        short(e.e_ref),
        short(e.max_rel),
        short(e.max_abs),
        e.ulp.to_string(),
        cosine(e.cosine),
        e.nan.to_string(),
        e.inf.to_string(),
    ]
}
