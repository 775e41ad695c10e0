//! Matches the values of an ONNX file with the modules of the network: by weights, not by names.
//!
//! Reading order: `anchors` (the nodes with weights), `weigh` (whose weights they are), `places` and
//! `align` (which module each node is, with its neighbours where weights do not tell), `follow` (modules
//! without weights), `moved` (constants that
//! stand at other nodes than in the network), `report` (what is said about the file).

mod align;
mod anchors;
mod follow;
mod layout;
mod moved;
mod places;
mod reorder;
mod report;
mod requantised;
mod weigh;

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use checkpoint::Weights;
use spec::{Model, ModuleId, Precision};

use crate::read::{Net, ValueId};

pub use layout::{Axes, Clip, as_file, as_module, fixed_batch};
pub use moved::Offsets;
pub use requantised::{Requantised, requantised};

/// The modules of a file.
pub struct Matched {
    /// The value of each module that the file shows, in order of execution.
    pub points: BTreeMap<ModuleId, ValueId>,
    /// The node of each module with weights, as an index into the graph's nodes.
    pub nodes: BTreeMap<ModuleId, usize>,
    /// The number format of the weights.
    pub precision: Precision,
    /// How the file takes the clip.
    pub clip: Clip,
    /// The order of the axes of each value of four dimensions, where the graph tells.
    pub axes: HashMap<ValueId, Axes>,
    /// What values of the file have more than those of their modules, because constants were moved.
    pub offsets: Offsets,
    /// What was found out about the file, one sentence each.
    pub remarks: Vec<String>,
    /// The first of the nodes that have other weights or another eps than the network, in words.
    pub contradiction: Option<String>,
}

/// Matches a file.
///
/// # Errors
///
/// If almost nothing in the file matches, or if its input is not a clip.
pub fn matched(net: &Net, model: &Model, weights: &Weights) -> Result<Matched> {
    found_in(net, model, weights, &Ground::of(net, model, weights)?)
}

/// The nodes with weights, the modules with weights, and which is which.
struct Ground {
    anchors: Vec<anchors::Anchor>,
    places: Vec<places::Place>,
    aligned: align::Alignment,
}

impl Ground {
    fn of(net: &Net, model: &Model, weights: &Weights) -> Result<Self> {
        let anchors = anchors::anchors(net);
        let places = places::places(model);
        let aligned = align::align(&anchors, &places, model, weights);
        report::refuse_stranger(net, model, &anchors, &places, &aligned)?;
        Ok(Ground { anchors, places, aligned })
    }
}

fn found_in(net: &Net, model: &Model, weights: &Weights, ground: &Ground) -> Result<Matched> {
    let Ground { anchors, places, aligned } = ground;
    let placed = aligned.places.iter().enumerate().filter_map(|(a, p)| {
        let p = (*p)?;
        Some((places[p].id, (a, *aligned.evidence.get(&(a, p))?)))
    });
    let at: HashMap<_, _> = placed.collect();
    let nodes = at.iter().map(|(id, (a, _))| (*id, anchors[*a].node.0)).collect();
    let mut follow = follow::Follow::new(net, model, anchors, at);
    follow.all();
    let (points, folded) = (follow.points, follow.folded);
    let mut remarks = vec![summary(model, places, aligned, &points, folded.len())];
    let moved = moved::moved(net, model, weights, anchors, places, aligned);
    remarks.extend(report::moved(net, anchors, &moved));
    let mut strange = report::remarks(net, model, weights, ground, &moved);
    strange.extend(report::clipped(net));
    let contradiction = strange.first().cloned();
    remarks.extend(report::shortened(strange));
    remarks.extend(report::left_over(net, anchors, aligned));
    remarks.extend(report::several_logits(net, model));
    let clip = layout::clip(net, model)?;
    Ok(Matched {
        precision: precision(anchors),
        axes: layout::axes(net, anchors),
        points,
        nodes,
        clip,
        offsets: moved.offsets,
        remarks,
        contradiction,
    })
}

/// The format that most nodes have.
fn precision(anchors: &[anchors::Anchor]) -> Precision {
    let mut counts: HashMap<Precision, usize> = HashMap::new();
    for anchor in anchors {
        *counts.entry(anchor.format).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map_or(Precision::F32, |(format, _)| format)
}

/// The sentence on how many nodes and modules were matched.
fn summary(
    model: &Model,
    places: &[places::Place],
    aligned: &align::Alignment,
    points: &BTreeMap<ModuleId, ValueId>,
    folded: usize,
) -> String {
    let found = aligned.places.iter().flatten().count();
    let graph = match aligned.by_graph.len() {
        0 => String::new(),
        n => format!(", {n} of them by their place in the graph"),
    };
    let folded = match folded {
        0 => String::new(),
        n => format!("; {n} batch normalisations are folded into the convolutions before them"),
    };
    format!(
        "{found} of {} modules with weights matched{graph}, {} of {} modules shown{folded}",
        places.len(),
        points.len(),
        model.modules().len()
    )
}
