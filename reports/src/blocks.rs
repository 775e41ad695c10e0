//! Groups the layers of a comparison into the blocks of the drawing of the network.

use std::collections::HashMap;

use record::{Errors, Layer, LayerKind, LayerVerdict};

use crate::format;
use crate::ratio_band::{RatioBand, worse};

/// One block of the network, with its layers and their worst results.
#[derive(Debug, Clone)]
pub(crate) struct Block<'a> {
    /// Name of the block: `stem`, `layer1.0`, …, `head`.
    pub name: &'a str,
    /// The `id` of the block's details in the page.
    pub anchor: String,
    /// The layers of the block, in order of execution.
    pub layers: Vec<&'a Layer>,
    /// Positions of its first and its last layer in the order of execution.
    pub depths: (usize, usize),
    /// The worst error ratio of an own error; `None` if no layer was measured.
    pub ratio: Option<f64>,
    /// The worst error ratio of an accumulated error; `None` if no layer was measured.
    pub inherited: Option<f64>,
    /// The worst verdict of a layer in the block, by the order of [`VERDICTS`].
    pub verdict: LayerVerdict,
}

/// Verdicts from the worst to the best, with the verdict that a block shows. A layer that was checked through the next one counts
/// as passed.
const VERDICTS: [(LayerVerdict, LayerVerdict); 5] = [
    (LayerVerdict::Diverged, LayerVerdict::Diverged),
    (LayerVerdict::Inherited, LayerVerdict::Inherited),
    (LayerVerdict::NotCompared, LayerVerdict::NotCompared),
    (LayerVerdict::Pass, LayerVerdict::Pass),
    (LayerVerdict::Covered, LayerVerdict::Pass),
];

impl<'a> Block<'a> {
    /// The block of the given layers, of which there is at least one.
    fn new(name: &'a str, members: &[(usize, &'a Layer)]) -> Self {
        let layers: Vec<&Layer> = members.iter().map(|(_, layer)| *layer).collect();
        let worst = |of: fn(&Layer) -> Option<Errors>| {
            layers.iter().filter_map(|layer| of(layer)).map(|errors| errors.ratio).reduce(worse)
        };
        Block {
            name,
            anchor: anchor(name),
            depths: (members[0].0, members[members.len() - 1].0),
            ratio: worst(|layer| layer.introduced.or(layer.inherited)),
            inherited: worst(|layer| layer.inherited),
            verdict: worst_verdict(&layers),
            layers,
        }
    }

    /// The stage of the network that the block belongs to: `layer1` for `layer1.0`.
    pub fn stage(&self) -> &'a str {
        self.name.split_once('.').map_or(self.name, |(stage, _)| stage)
    }

    /// The band of the worst own error.
    pub fn band(&self, bound: f64) -> RatioBand {
        RatioBand::of(self.ratio, bound)
    }

    /// The aliases of the CTLs in the block, such as `ctl3`.
    pub fn aliases(&self) -> impl Iterator<Item = &'a str> {
        let ctls = self.layers.iter().filter(|layer| layer.kind == LayerKind::Ctl);
        ctls.filter_map(|layer| layer.alias.as_deref())
    }

    /// The output shape of the block, as text.
    pub fn shape(&self) -> Option<String> {
        self.layers.last().map(|layer| format::shape(&layer.shape))
    }
}

/// Groups layers by block; the blocks come in order of execution.
pub(crate) fn blocks(layers: &[Layer]) -> Vec<Block<'_>> {
    let mut names: Vec<&str> = Vec::new();
    let mut members: HashMap<&str, Vec<(usize, &Layer)>> = HashMap::new();
    for (depth, layer) in layers.iter().enumerate() {
        let of_block = members.entry(&layer.block).or_insert_with(|| {
            names.push(&layer.block);
            Vec::new()
        });
        of_block.push((depth, layer));
    }
    names.into_iter().map(|name| Block::new(name, &members[name])).collect()
}

fn worst_verdict(layers: &[&Layer]) -> LayerVerdict {
    let present = |verdict| layers.iter().any(|layer| layer.verdict == verdict);
    let found = VERDICTS.iter().find(|(verdict, _)| present(*verdict));
    found.map_or(LayerVerdict::NotCompared, |(_, shown)| *shown)
}

/// An `id` made of a block's name; every character that a URL would have to escape becomes a dash.
fn anchor(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '-' };
    format!("block-{}", name.chars().map(safe).collect::<String>())
}
