//! The section about several inputs: a row for each input, a map of blocks and inputs, and the layers
//! that matter most.

use record::{Clips, DiffRecord, OverClips};
use serde::Serialize;

use crate::format;
use crate::ratio_band::{RatioBand, worse};

/// Number of layers in the table.
const LAYERS: usize = 12;

/// More inputs than this have no columns in the map.
const COLUMNS: usize = 64;

/// The section, formatted.
#[derive(Serialize)]
pub(super) struct ClipsView {
    count: usize,
    inputs: Vec<InputView>,
    blocks: Vec<BlockView>,
    layers: Vec<LayerView>,
}

#[derive(Serialize)]
struct InputView {
    name: String,
    verdict: &'static str,
    ratio: String,
    layer: String,
    first: String,
}

/// One row of the map: a block with the worst ratio for each input.
#[derive(Serialize)]
struct BlockView {
    name: String,
    cells: Vec<Cell>,
}

#[derive(Serialize)]
struct Cell {
    class: &'static str,
    title: String,
}

#[derive(Serialize)]
struct LayerView {
    name: String,
    passed: String,
    interval: String,
    median: String,
    p90: String,
    worst: String,
    input: String,
}

pub(super) fn view(diff: &DiffRecord) -> Option<ClipsView> {
    let clips = diff.clips.as_ref()?;
    let input = |input: &record::ClipResult| InputView {
        name: input.input.clone(),
        verdict: input.verdict.as_str(),
        ratio: format::short(input.worst),
        layer: input.worst_layer.clone().unwrap_or_default(),
        first: input.first_divergent.clone().unwrap_or_default(),
    };
    Some(ClipsView {
        count: clips.inputs.len(),
        inputs: clips.inputs.iter().map(input).collect(),
        blocks: map(diff, clips),
        layers: layers(clips),
    })
}

/// The worst ratio of each block with each input; empty for too many inputs.
fn map(diff: &DiffRecord, clips: &Clips) -> Vec<BlockView> {
    if clips.inputs.len() > COLUMNS {
        return vec![];
    }
    let block = |layers: &[record::Layer]| {
        let members: Vec<&OverClips> = clips
            .modules
            .iter()
            .filter(|module| layers.iter().any(|layer| layer.name == module.name))
            .collect();
        let cell = |(at, input): (usize, &record::ClipResult)| {
            let ratios = members.iter().filter_map(|module| module.ratios.get(at).copied());
            let ratio = ratios.reduce(worse);
            let class = RatioBand::of(ratio, diff.bound).class();
            let shown = ratio.map_or_else(|| "not compared".to_owned(), format::short);
            Cell { class, title: format!("{}: {shown}", input.input) }
        };
        let cells = clips.inputs.iter().enumerate().map(cell).collect();
        BlockView { name: layers[0].block.clone(), cells }
    };
    diff.layers.chunk_by(|a, b| a.block == b.block).map(block).collect()
}

/// The layers that passed with the fewest inputs, and then those with the largest ratios.
fn layers(clips: &Clips) -> Vec<LayerView> {
    let largest = |module: &OverClips| module.ratios.iter().copied().reduce(worse).unwrap_or(0.0);
    let rank = |value: f64| if value.is_nan() { f64::INFINITY } else { value };
    let mut order: Vec<&OverClips> = clips.modules.iter().collect();
    order.sort_by(|a, b| {
        let by_ratio = rank(largest(b)).total_cmp(&rank(largest(a)));
        a.passed.cmp(&b.passed).then(by_ratio)
    });
    let view = |module: &&OverClips| LayerView {
        name: module.name.clone(),
        passed: format!("{} of {}", module.passed, module.ratios.len()),
        interval: format!("{:.1} to {:.1} %", 100.0 * module.low, 100.0 * module.high),
        median: format::short(module.median),
        p90: format::short(module.p90),
        worst: format::short(largest(module)),
        input: clips
            .inputs
            .get(module.worst_input as usize)
            .map_or_else(String::new, |input| input.input.clone()),
    };
    order.iter().take(LAYERS).map(view).collect()
}
