//! The page of a comparison.

use minijinja::value::Value;
use serde::Serialize;

use super::layers::{self, BlockView, ColumnView, LayerView};
use super::provenance::{self, Provenance};
use super::summary::{self, Summary};
use crate::blocks::{Block, blocks};
use crate::error::Result;
use crate::plot::{Data, RATIO, REL_L2, Span, draw};
use crate::ratio_band::RatioBand;
use crate::rows::{Row, rows};
use crate::table::layers_table;
use crate::{format, heatmap, network};
use record::{ArrayState, DiffRecord, Edge, ErrorKind, LedgerEntry, NotExercised};

/// The values of the template `diff.html`, formatted.
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
    remarks: Vec<String>,
    not_exercised: Vec<NotExercisedView>,
    edge: Option<EdgeView>,
    ledger: Vec<ArrayView>,
    ledger_counts: Vec<StateCount>,
    bound: String,
    provenance: Provenance,
}

/// A step before the network.
#[derive(Serialize)]
struct StageView {
    name: String,
    verdict: &'static str,
    detail: String,
}

/// A known mistake that would have changed no compared value of this run.
#[derive(Serialize)]
struct NotExercisedView {
    what: String,
    size: Option<String>,
    at_edge: bool,
}

/// The second comparison, in a small configuration.
#[derive(Serialize)]
struct EdgeView {
    size: String,
    verdict: &'static str,
    compared: u64,
    worst: String,
    culprit: Option<String>,
    explanation: Option<String>,
    seconds: String,
}

/// One array of a dump, from the ledger.
#[derive(Serialize)]
struct ArrayView {
    name: String,
    module: String,
    state: &'static str,
    words: String,
    detail: String,
}

/// Number of arrays in one state of the ledger.
#[derive(Serialize)]
struct StateCount {
    label: String,
    count: usize,
}

/// A colour of the drawing of the network, and its meaning.
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

/// A verdict by which the table can be filtered.
#[derive(Serialize)]
struct VerdictCount {
    name: &'static str,
    label: String,
    count: usize,
}

/// The verdicts on layers, the most urgent first.
const VERDICTS: [&str; 5] = ["diverged", "inherited", "not_compared", "pass", "covered"];

/// Builds the view from a record of `harness diff`, by way of its table.
pub(super) fn view(diff: &DiffRecord) -> Result<View> {
    let rows = rows(&layers_table(diff)?)?;
    let blocks = blocks(&rows);
    let stage = |stage: &record::Stage| StageView {
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
        remarks: diff.remarks.clone(),
        not_exercised: not_exercised(&diff.not_exercised),
        edge: diff.edge.as_ref().map(edge),
        ledger: diff.ledger.iter().map(array).collect(),
        ledger_counts: states(&diff.ledger),
        bound: format!("{}", diff.bound),
        provenance: provenance::of(&diff.run),
    })
}

/// Marks SVG of this crate as safe: it has escaped every text from the record.
fn markup(svg: String) -> Value {
    Value::from_safe_string(svg)
}

fn legend(bound: f64) -> Vec<Legend> {
    let entry = |band: RatioBand| Legend { class: band.class(), label: band.label(bound) };
    RatioBand::ALL.into_iter().map(entry).collect()
}

fn plots(rows: &[Row], blocks: &[Block<'_>], bound: f64) -> Result<Plots> {
    let spans = spans(blocks);
    let data = Data { rows, spans: &spans, bound };
    Ok(Plots { ratio: markup(draw(&RATIO, &data)?), rel_l2: markup(draw(&REL_L2, &data)?) })
}

/// The depths of each stage, which are named under the axis.
fn spans<'a>(blocks: &[Block<'a>]) -> Vec<Span<'a>> {
    let spans = network::stages(blocks).filter_map(|stage| {
        let mut depths = stage.iter().flat_map(|block| &block.rows).map(|row| row.depth);
        let first = depths.next()?;
        let last = depths.next_back().unwrap_or(first);
        Some(Span { name: stage.first()?.stage(), depths: first..last + 1 })
    });
    spans.collect()
}

fn not_exercised(mistakes: &[NotExercised]) -> Vec<NotExercisedView> {
    let view = |m: &NotExercised| NotExercisedView {
        what: m.what.clone(),
        size: m.try_size.clone(),
        at_edge: m.at_edge,
    };
    mistakes.iter().map(view).collect()
}

fn edge(edge: &Edge) -> EdgeView {
    let culprit = edge.culprit.as_ref();
    EdgeView {
        size: format!("{} x {}", edge.size[0], edge.size[1]),
        verdict: edge.verdict.as_str(),
        compared: edge.compared,
        worst: format::short(edge.worst),
        culprit: culprit.map(|culprit| culprit.text.clone()),
        explanation: culprit.and_then(|culprit| culprit.explanation.clone()),
        seconds: format!("{:.1}", edge.seconds),
    }
}

fn array(entry: &LedgerEntry) -> ArrayView {
    ArrayView {
        name: entry.array.clone(),
        module: entry.module.clone().unwrap_or_default(),
        state: entry.state.as_str(),
        words: format::words(entry.state.as_str()),
        detail: entry.detail.clone().unwrap_or_default(),
    }
}

/// The number of arrays in each state, the most urgent state first.
fn states(ledger: &[LedgerEntry]) -> Vec<StateCount> {
    use ArrayState::{Clip, Compared, Fused, NotSelected, Refused, Same, Unknown};
    let order = [Refused, Unknown, NotSelected, Compared, Same, Fused, Clip];
    let counted = order.iter().map(|state| StateCount {
        label: format::words(state.as_str()),
        count: ledger.iter().filter(|entry| entry.state == *state).count(),
    });
    counted.filter(|state| state.count > 0).collect()
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
