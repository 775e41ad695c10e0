//! Mistakes in the clip. Each has two places: the clip itself, and the first convolution, which reads
//! the clip.

use super::super::clip::{Planes, Scaling};
use super::super::edit::{Change, Edit};
use super::super::expr::Expr;
use super::super::graph::{ModelGraph, change};

/// Frames shifted by one, in either direction.
pub fn shifted(graph: &ModelGraph) -> Vec<Change> {
    let late = ordered(graph, Planes::Late, "every frame is one position too late");
    // With two frames both directions are the same.
    let early = match graph.model.config.frames {
        2 => vec![],
        _ => ordered(graph, Planes::Early, "every frame is one position too early"),
    };
    [late, early].concat()
}

/// Frames in reverse order.
pub fn reversed(graph: &ModelGraph) -> Vec<Change> {
    ordered(graph, Planes::Reversed, "the frames are in reverse order")
}

/// Colours in BGR order.
pub fn bgr(graph: &ModelGraph) -> Vec<Change> {
    ordered(graph, Planes::Bgr, "the colours are in BGR order")
}

/// Channels stacked frame by frame instead of colour by colour.
pub fn frame_major(graph: &ModelGraph) -> Vec<Change> {
    let variant = "the channels are stacked as frame * 3 + colour instead of colour * T + frame";
    ordered(graph, Planes::FrameMajor, variant)
}

/// Pixels from 0 to 1.
pub fn unit(graph: &ModelGraph) -> Vec<Change> {
    scaled(
        graph,
        Scaling::Unit,
        "the pixels are scaled to 0..1 instead of normalised by mean and std",
    )
}

/// Pixels from 0 to 255.
pub fn bytes(graph: &ModelGraph) -> Vec<Change> {
    scaled(graph, Scaling::Bytes, "the pixels are 0..255, not normalised by mean and std")
}

/// Pixels from -1 to 1.
pub fn symmetric(graph: &ModelGraph) -> Vec<Change> {
    scaled(
        graph,
        Scaling::Symmetric,
        "the pixels are scaled to -1..1 instead of normalised by mean and std",
    )
}

fn ordered(graph: &ModelGraph, planes: Planes, variant: &'static str) -> Vec<Change> {
    let frames = graph.model.config.frames;
    if frames < 2 && planes != Planes::Bgr {
        return vec![];
    }
    in_clip_or_stem(graph, variant, &|clip| Expr::Planes(Box::new(clip), planes, frames))
}

fn scaled(graph: &ModelGraph, scaling: Scaling, variant: &'static str) -> Vec<Change> {
    let frames = graph.model.config.frames;
    in_clip_or_stem(graph, variant, &|clip| Expr::Scaled(Box::new(clip), scaling, frames))
}

/// The mistake `wrong` in two places: in the clip itself, and where the stem reads the clip.
fn in_clip_or_stem(
    graph: &ModelGraph,
    variant: &'static str,
    wrong: &dyn Fn(Expr) -> Expr,
) -> Vec<Change> {
    let (input, stem) = (graph.model.input, graph.model.stem.conv.id);
    let clip = change(variant, variant, input, vec![Edit::Clip(wrong(Expr::Own))]);
    let what = format!("{variant}, where {} reads the clip", graph.name(stem));
    let read = graph.exchange(&Expr::Output(input), &wrong(Expr::Output(input)));
    vec![clip, change(variant, what, stem, read)]
}
