//! The view of a comparison.

use minijinja::value::Value;
use serde::Serialize;

use super::layers::{self, BlockView, ColumnView, LayerView};
use super::provenance::{self, Provenance};
use super::summary::{self, Summary};
use crate::blocks::{Block, blocks};
use crate::error::Result;
use crate::level::Level;
use crate::plot::{Data, RATIO, REL_L2, Span, draw};
use crate::record::{DiffRecord, ErrorKind};
use crate::rows::{Row, rows};
use crate::table::layers_table;
use crate::{format, heatmap, network};

/// Everything that the template shows, formatted.
#[derive(Serialize)]
pub(super) struct View {
    title: String,
    summary: Summary,
    legend: Vec<Legend>,
    preprocessing: Vec<StageView>,
    network: Value,
    plots: Plots,
    heatmap: Option<HeatView>,
    columns: Vec<ColumnView>,
    layers: Vec<LayerView>,
    verdicts: Vec<VerdictCount>,
    blocks: Vec<BlockView>,
    unmatched: Vec<String>,
    bound: String,
    provenance: Provenance,
}

#[derive(Serialize)]
struct StageView {
    name: String,
    verdict: &'static str,
    detail: String,
}

#[derive(Serialize)]
struct Legend {
    class: &'static str,
    label: String,
}

#[derive(Serialize)]
struct Plots {
    ratio: Value,
    rel_l2: Value,
}

#[derive(Serialize)]
struct HeatView {
    layer: String,
    what: &'static str,
    meaning: &'static str,
    svg: Value,
    drawing: heatmap::Drawing,
}

/// A verdict that the table can be filtered by.
#[derive(Serialize)]
struct VerdictCount {
    name: &'static str,
    label: String,
    count: usize,
}

/// The verdicts of layers, the most urgent first.
const VERDICTS: [&str; 5] = ["diverged", "inherited", "not_compared", "pass", "covered"];

/// Builds the view from the table of the record.
pub(super) fn view(diff: &DiffRecord) -> Result<View> {
    let rows = rows(&layers_table(diff)?)?;
    let blocks = blocks(&rows);
    let stage = |stage: &crate::record::Stage| StageView {
        name: stage.name.clone(),
        verdict: stage.verdict.as_str(),
        detail: stage.detail.clone(),
    };
    Ok(View {
        preprocessing: diff.preprocessing.iter().map(stage).collect(),
        title: format!(
            "{} · {} against {}",
            diff.verdict.as_str(),
            diff.run.candidate,
            diff.run.reference
        ),
        summary: summary::of(diff, &rows),
        legend: legend(diff.bound),
        network: markup(network::draw(&blocks, diff.bound)),
        plots: plots(&rows, &blocks, diff.bound)?,
        heatmap: heat_view(diff),
        columns: layers::columns(),
        layers: rows.iter().map(layers::layer_view).collect(),
        verdicts: verdicts(&rows),
        blocks: blocks.iter().map(|block| layers::block_view(block, diff.bound)).collect(),
        unmatched: diff.unmatched.clone(),
        bound: format!("{}", diff.bound),
        provenance: provenance::of(&diff.run),
    })
}

/// Markup that this crate made, with every foreign text in it escaped already.
fn markup(svg: String) -> Value {
    Value::from_safe_string(svg)
}

fn legend(bound: f64) -> Vec<Legend> {
    let entry = |level: Level| Legend { class: level.class(), label: level.label(bound) };
    Level::ALL.into_iter().map(entry).collect()
}

fn plots(rows: &[Row], blocks: &[Block<'_>], bound: f64) -> Result<Plots> {
    let spans = spans(blocks);
    let data = Data { rows, spans: &spans, bound };
    Ok(Plots { ratio: markup(draw(&RATIO, &data)?), rel_l2: markup(draw(&REL_L2, &data)?) })
}

/// Where each stage lies along the axis.
fn spans<'a>(blocks: &[Block<'a>]) -> Vec<Span<'a>> {
    let spans = network::stages(blocks).filter_map(|stage| {
        let mut depths = stage.iter().flat_map(|block| &block.rows).map(|row| row.depth);
        let first = depths.next()?;
        let last = depths.next_back().unwrap_or(first);
        Some(Span { name: stage.first()?.stage(), depths: first..last + 1 })
    });
    spans.collect()
}

fn heat_view(diff: &DiffRecord) -> Option<HeatView> {
    let map = diff.heatmap.as_ref()?;
    let mut drawing = heatmap::draw(map)?;
    let meaning = match map.what {
        ErrorKind::Introduced => "The layer was fed the reference’s input",
        ErrorKind::Inherited => "The network ran through",
    };
    Some(HeatView {
        layer: map.layer.clone(),
        what: map.what.as_str(),
        meaning,
        svg: markup(std::mem::take(&mut drawing.svg)),
        drawing,
    })
}

fn verdicts(rows: &[Row]) -> Vec<VerdictCount> {
    let counted = VERDICTS.iter().map(|name| VerdictCount {
        name,
        label: format::words(name),
        count: rows.iter().filter(|row| row.verdict == *name).count(),
    });
    counted.filter(|verdict| verdict.count > 0).collect()
}
