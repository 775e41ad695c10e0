//! The page of a comparison.

mod clips;
mod quantised;
mod table;

use minijinja::value::Value;
use serde::Serialize;

use super::layers::{self, BlockView, ColumnView, LayerView};
use super::provenance::{self, Provenance};
use super::summary::{self, Summary};
use super::{Headline, Measure, Page};
use crate::blocks::{Block, blocks};
use crate::error::Result;
use crate::plot::{Data, RATIO, REL_L2, Span, draw};
use crate::ratio_band::{RatioBand, worse};
use crate::table::Column;
use crate::{format, heatmap, network};
use record::{
    ArrayState, DiffRecord, Edge, ErrorKind, Errors, Layer, LayerVerdict, LedgerEntry,
    NotExercised, SourceFile,
};

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
    clips: Option<clips::ClipsView>,
    quantised: Option<quantised::QuantisedView>,
    ledger: Vec<ArrayView>,
    ledger_counts: Vec<StateCount>,
    bound: String,
    /// What a layer is fed for its own error.
    fed: &'static str,
    provenance: Provenance,
}

/// A step before the network.
#[derive(Serialize)]
struct StageView {
    name: String,
    verdict: &'static str,
    words: &'static str,
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
    title: &'static str,
    layer: String,
    what: &'static str,
    meaning: String,
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
const VERDICTS: [LayerVerdict; 5] = [
    LayerVerdict::Diverged,
    LayerVerdict::Inherited,
    LayerVerdict::NotCompared,
    LayerVerdict::Pass,
    LayerVerdict::Covered,
];

impl Page for DiffRecord {
    fn render(&self) -> Result<String> {
        super::fill("diff.html", &view(self)?)
    }

    fn headline(&self) -> Headline {
        let culprit = self.culprit.as_ref().map(|culprit| culprit.text.clone());
        let sentence = culprit.or_else(|| self.first_divergent.clone()).unwrap_or_default();
        Headline::new(self.verdict, self.verdict.as_str(), sentence)
    }

    fn measures(&self) -> Vec<Measure> {
        let worst = |read: fn(&Layer) -> Option<Errors>| {
            let all = self.layers.iter().filter_map(read).map(|errors| errors.ratio);
            all.reduce(worse)
        };
        // Without the candidate's name: often it is another file, and the question is what has changed.
        let of = |what: &str, value: Option<f64>| {
            let name = what.to_owned();
            value.map(|value| Measure { name, value, interval: None, by_ratio: true })
        };
        let found = [
            of("worst own error / allowed", worst(|layer| layer.introduced)),
            of("worst accumulated error / allowed", worst(|layer| layer.inherited)),
            of("error / allowed of the logits", self.logits.map(|errors| errors.ratio)),
        ];
        found.into_iter().flatten().collect()
    }

    fn table_name(&self) -> &'static str {
        "layers.parquet"
    }

    fn table(&self) -> Vec<Column> {
        table::columns(&self.layers)
    }
}

/// Builds the view.
fn view(diff: &DiffRecord) -> Result<View> {
    let layers = &diff.layers;
    let blocks = blocks(layers);
    let stage = |stage: &record::Stage| StageView {
        name: stage.name.clone(),
        verdict: stage.verdict.as_str(),
        words: stage.verdict.words(),
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
        summary: summary::of(diff),
        legend: legend(diff.bound),
        network: markup(network::draw(&blocks, diff.bound)),
        plots: plots(layers, &blocks, diff.bound)?,
        heatmap: heat_view(diff),
        columns: layers::columns(),
        layers: layers.iter().enumerate().map(layers::layer_view).collect(),
        verdicts: verdicts(layers),
        blocks: blocks.iter().map(|block| layers::block_view(block, diff.bound)).collect(),
        unmatched: diff.unmatched.clone(),
        remarks: diff.remarks.clone(),
        not_exercised: not_exercised(&diff.not_exercised),
        edge: diff.edge.as_ref().map(edge),
        clips: clips::view(diff),
        quantised: quantised::view(diff),
        ledger: diff.ledger.iter().map(array).collect(),
        ledger_counts: states(&diff.ledger),
        bound: format!("{}", diff.bound),
        fed: fed(diff),
        provenance: provenance::of(&diff.run).with(diff.files.iter().map(hash)),
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

fn plots(layers: &[Layer], blocks: &[Block<'_>], bound: f64) -> Result<Plots> {
    let spans = spans(blocks);
    let data = Data { layers, spans: &spans, bound };
    Ok(Plots { ratio: markup(draw(&RATIO, &data)?), rel_l2: markup(draw(&REL_L2, &data)?) })
}

/// The depths of each stage, which are named under the axis.
fn spans<'a>(blocks: &[Block<'a>]) -> Vec<Span<'a>> {
    let spans = network::stages(blocks).filter_map(|stage| {
        let (first, last) = (stage.first()?, stage.last()?);
        Some(Span { name: first.stage(), depths: first.depths.0..last.depths.1 + 1 })
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
        size: format!(
            "{} of {} x {}",
            format::count(edge.clips as usize, "clip"),
            edge.size[0],
            edge.size[1]
        ),
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
        ErrorKind::Introduced => fed(diff),
        ErrorKind::Inherited => "the network runs through",
    };
    // The map is that of the first layer with one that is above the bound, or else of the one nearest to it.
    let above = |layer: &Layer| {
        match map.what {
            ErrorKind::Introduced => layer.introduced,
            ErrorKind::Inherited => layer.inherited,
        }
        .is_some_and(|errors| !summary::within(errors.ratio, diff.bound) || errors.nan > 0)
    };
    let shown = diff.layers.iter().find(|layer| layer.name == map.layer);
    Some(HeatView {
        title: match shown.is_some_and(above) {
            true => "The first map above the bound, over space",
            false => "The map nearest to the bound, over space",
        },
        layer: map.layer.clone(),
        what: map.what.words(),
        meaning: format::capitalized(meaning),
        svg: markup(std::mem::take(&mut drawing.svg)),
        drawing,
    })
}

/// A file on which the comparison depends.
fn hash(file: &SourceFile) -> (String, String) {
    let text = format!("{}, {} bytes, sha256 {}", file.path, file.bytes, file.sha256);
    (format!("File: {}", file.role), text)
}

/// What a layer is fed for its own error. A dump cannot be fed, so the reference is fed its values.
fn fed(diff: &DiffRecord) -> &'static str {
    match diff.run.candidate.starts_with("npz:") {
        true => "the reference is fed the dump’s own input of the layer",
        false => "the layer is fed the reference’s input",
    }
}

fn verdicts(layers: &[Layer]) -> Vec<VerdictCount> {
    let counted = VERDICTS.iter().map(|verdict| VerdictCount {
        name: verdict.as_str(),
        label: verdict.words().to_owned(),
        count: layers.iter().filter(|layer| layer.verdict == *verdict).count(),
    });
    counted.filter(|verdict| verdict.count > 0).collect()
}
