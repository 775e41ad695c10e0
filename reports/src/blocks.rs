//! Groups the rows of the table of layers into the blocks of the drawing of the network.

use std::collections::HashMap;

use crate::ratio_band::RatioBand;
use crate::rows::{Row, worse};

/// One block of the network, with its layers and their worst results.
#[derive(Debug, Clone)]
pub(crate) struct Block<'a> {
    /// Name of the block: `stem`, `layer1.0`, …, `head`.
    pub name: &'a str,
    /// The `id` of the block's details in the page.
    pub anchor: String,
    /// The layers of the block, in order of execution.
    pub rows: Vec<&'a Row>,
    /// The worst budget ratio of an introduced error; `None` if no layer was measured.
    pub ratio: Option<f64>,
    /// The worst budget ratio of an inherited error; `None` if no layer was measured.
    pub inherited: Option<f64>,
    /// The worst verdict of a layer in the block, by the order of [`VERDICTS`].
    pub verdict: &'static str,
}

/// Verdicts from the worst to the best, with the verdict that a block shows. A covered layer counts
/// as passed.
const VERDICTS: [(&str, &str); 5] = [
    ("diverged", "diverged"),
    ("inherited", "inherited"),
    ("not_compared", "not_compared"),
    ("pass", "pass"),
    ("covered", "pass"),
];

impl<'a> Block<'a> {
    fn new(name: &'a str, rows: Vec<&'a Row>) -> Self {
        Block {
            name,
            anchor: anchor(name),
            ratio: worst(rows.iter().filter_map(|row| row.ratio())),
            inherited: worst(rows.iter().filter_map(|row| row.inherited_ratio())),
            verdict: worst_verdict(&rows),
            rows,
        }
    }

    /// The stage of the network that the block belongs to: `layer1` for `layer1.0`.
    pub fn stage(&self) -> &'a str {
        self.name.split_once('.').map_or(self.name, |(stage, _)| stage)
    }

    /// The band of the worst introduced ratio.
    pub fn band(&self, bound: f64) -> RatioBand {
        RatioBand::of(self.ratio, bound)
    }

    /// The aliases of the CTLs in the block, such as `ctl3`.
    pub fn aliases(&self) -> impl Iterator<Item = &'a str> {
        self.rows.iter().filter(|row| row.kind == "ctl").filter_map(|row| row.alias.as_deref())
    }

    /// The output shape of the block, as text.
    pub fn shape(&self) -> Option<&'a str> {
        self.rows.last().map(|row| row.shape.as_str())
    }
}

/// Groups rows by block; the blocks come in order of execution.
pub(crate) fn blocks(rows: &[Row]) -> Vec<Block<'_>> {
    let mut names: Vec<&str> = Vec::new();
    let mut members: HashMap<&str, Vec<&Row>> = HashMap::new();
    for row in rows {
        let of_block = members.entry(&row.block).or_insert_with(|| {
            names.push(&row.block);
            Vec::new()
        });
        of_block.push(row);
    }
    let mut rows_of = |name| members.remove(name).unwrap_or_default();
    names.into_iter().map(|name| Block::new(name, rows_of(name))).collect()
}

/// The largest of the ratios, where NaN counts as larger than any number; `None` if there are none.
pub(crate) fn worst(ratios: impl Iterator<Item = f64>) -> Option<f64> {
    ratios.reduce(worse)
}

fn worst_verdict(rows: &[&Row]) -> &'static str {
    let present = |verdict: &str| rows.iter().any(|row| row.verdict == verdict);
    let found = VERDICTS.iter().find(|(verdict, _)| present(verdict));
    found.map_or("not_compared", |(_, shown)| shown)
}

/// An `id` made of a block's name; every character that a URL would have to escape becomes a dash.
fn anchor(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '-' };
    format!("block-{}", name.chars().map(safe).collect::<String>())
}
