//! The rows of the table gathered into the blocks that the network is drawn as.

use std::collections::HashMap;

use crate::level::Level;
use crate::rows::{Row, worse};

/// One block of the network with what its layers say.
#[derive(Debug, Clone)]
pub(crate) struct Block<'a> {
    /// Its name: `stem`, `layer1.0`, …, `head`.
    pub name: &'a str,
    /// Where its details are in the page.
    pub anchor: String,
    /// Its layers, in order of execution.
    pub rows: Vec<&'a Row>,
    /// The worst ratio of the error that a layer introduces.
    pub ratio: Option<f64>,
    /// The worst ratio when the network runs through.
    pub inherited: Option<f64>,
    /// The worst verdict of its layers.
    pub verdict: &'static str,
}

/// Verdicts from the worst to the best. A layer that is covered counts as passed.
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

    /// The part of the network that it stands in: `layer1` of `layer1.0`.
    pub fn stage(&self) -> &'a str {
        self.name.split_once('.').map_or(self.name, |(stage, _)| stage)
    }

    /// The step of its worst ratio.
    pub fn level(&self, bound: f64) -> Level {
        Level::of(self.ratio, bound)
    }

    /// The short names of the CTLs in it.
    pub fn aliases(&self) -> impl Iterator<Item = &'a str> {
        self.rows.iter().filter(|row| row.kind == "ctl").filter_map(|row| row.alias.as_deref())
    }

    /// The shape that leaves it.
    pub fn shape(&self) -> Option<&'a str> {
        self.rows.last().map(|row| row.shape.as_str())
    }
}

/// The blocks in order of execution.
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

/// The largest of some ratios, if there is one.
pub(crate) fn worst(ratios: impl Iterator<Item = f64>) -> Option<f64> {
    ratios.reduce(worse)
}

fn worst_verdict(rows: &[&Row]) -> &'static str {
    let present = |verdict: &str| rows.iter().any(|row| row.verdict == verdict);
    let found = VERDICTS.iter().find(|(verdict, _)| present(verdict));
    found.map_or("not_compared", |(_, shown)| shown)
}

/// A name that is safe in an address: letters, digits, dots, dashes.
fn anchor(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '-' };
    format!("block-{}", name.chars().map(safe).collect::<String>())
}
