//! What the weights of a file say about it, in words: which are not those of the checkpoint, and whether
//! the file is of this network at all.

use anyhow::{Result, bail};
use checkpoint::Weights;
use spec::{Kind, Model, relative_l2};

use super::Ground;
use super::align::Alignment;
use super::anchors::{Anchor, Content, Numbers};
use super::moved::Moved;
use super::places::Place;
use super::weigh::{Likeness, factor, smallest};
use crate::proto::NodeProto;
use crate::read::{Net, NodeId, ValueId, attribute, printable};

/// Refuses a file of which almost nothing matches.
///
/// # Errors
///
/// If fewer than a quarter of the nodes with weights have weights of the checkpoint.
pub(super) fn refuse_stranger(
    net: &Net,
    model: &Model,
    anchors: &[Anchor],
    places: &[Place],
    aligned: &Alignment,
) -> Result<()> {
    refuse_other_shape(net, anchors, places)?;
    let known = |a: usize| aligned.places[a].and_then(|p| aligned.evidence.get(&(a, p)));
    let proven =
        (0..anchors.len()).filter(|&a| known(a).is_some_and(|l| l.strength() >= 2)).count();
    let total = anchors.len();
    if total > 0 && 4 * proven >= total.min(places.len()) {
        return Ok(());
    }
    // Scales of normalisations are alike whatever they belong to, so only products tell.
    let product = |a: &usize| matches!(anchors[*a].content, Content::Product { .. });
    let pairs = aligned.evidence.iter().filter(|((a, _), _)| product(a));
    let nearest = pairs.filter_map(|(&(a, p), likeness)| match likeness {
        Likeness::Shape(d) | Likeness::Near(d) => Some((*d, a, p)),
        _ => None,
    });
    let nearest = nearest.min_by(|x, y| x.0.total_cmp(&y.0));
    let nearest = nearest.map_or(String::new(), |(distance, a, p)| {
        format!(
            "; the nearest are {} and {}, with a relative difference of {distance:.2}",
            net.called(anchors[a].node),
            model.module(places[p].id).name
        )
    });
    bail!(
        "{proven} of the {total} nodes with weights have weights of the checkpoint{nearest}; is the file \
         of another training? Give its checkpoint with --weights"
    );
}

/// Refuses a file whose first convolution has another shape than the stem.
fn refuse_other_shape(net: &Net, anchors: &[Anchor], places: &[Place]) -> Result<()> {
    let stem = places.first().map_or(&[][..], |place| &place.shape);
    // A normalisation of the clip may come before it.
    let is_norm = |at: &usize| matches!(anchors[*at].content, Content::Norm { .. });
    let first = anchors.iter().filter(|anchor| anchor.before.iter().all(is_norm));
    let first =
        first.filter(|anchor| anchor.before.iter().all(|&at| anchors[at].before.is_empty()));
    let shapes = first.filter_map(|anchor| match &anchor.content {
        Content::Product { shape, .. } => Some((anchor.node, shape)),
        Content::Norm { .. } => None,
    });
    let shapes: Vec<_> = shapes.collect();
    if shapes.iter().any(|(_, shape)| **shape == stem) {
        return Ok(());
    }
    match shapes.first() {
        Some((node, shape)) => bail!(
            "the first convolution, {}, has a weight of the shape {shape:?}, but conv1 has {stem:?}; \
             check --depth, --width, --frames and --classes",
            net.called(*node)
        ),
        None => bail!("the file has no convolution that reads the clip, so it is not this network"),
    }
}

/// One sentence for each node whose weights are not those of the checkpoint.
pub(super) fn remarks(
    net: &Net,
    model: &Model,
    weights: &Weights,
    ground: &Ground,
    moved: &Moved,
) -> Vec<String> {
    let Ground { anchors, places, aligned } = ground;
    let mut found = vec![];
    for (a, anchor) in anchors.iter().enumerate().filter(|(a, _)| !moved.settled.contains(a)) {
        let Some(p) = aligned.places[a] else { continue };
        let Some(likeness) = aligned.evidence.get(&(a, p)) else { continue };
        let name = &model.module(places[p].id).name;
        let node = net.called(anchor.node);
        let other = others(a, p, aligned).map(|q| &model.module(places[q].id).name);
        let said = match (likeness, other) {
            (Likeness::Same | Likeness::Scaled, _) => {
                bias(model, weights, anchor, &places[p], *likeness)
            }
            (_, Some(other)) => Some(format!("has the weights of {other}")),
            (Likeness::Reordered(order), _) => Some(format!("has its weights {order}")),
            (Likeness::Partly, _) => Some(partly(model, weights, anchor, name).to_owned()),
            (Likeness::Near(d) | Likeness::Shape(d), _) => {
                Some(format!("has other weights, with a relative difference of {d:.1e}"))
            }
        };
        found.extend(said.map(|said| format!("{node}, which stands at {name}, {said}")));
    }
    found
}

/// The sentence on a node that cuts large values off, which nothing in the network does: a clip may have none. What
/// float16 cannot hold is cut off rightly.
pub(super) fn clipped(net: &Net) -> Option<String> {
    const FLOAT16: f64 = 65504.0;
    let most = |id: NodeId, node: &NodeProto| {
        let stated = net.operand(id, 2).and_then(|constant| constant.values.first().copied());
        stated.or_else(|| attribute(node, "max").map(|max| f64::from(max.f)))
    };
    // A sigmoid is at most 1, and from 20 on it is 1 in float32.
    const SATURATED: f64 = 20.0;
    let is_sigmoid = |id: NodeId| net.node(id).op_type == "Sigmoid";
    let harmless = |id: NodeId, most: f64| {
        let from = net.data_inputs(id).first().and_then(|value| net.producer(*value));
        let to = net.out(id).map(|out| net.consumers(out)).unwrap_or_default();
        (from.is_some_and(is_sigmoid) && most >= 1.0)
            || (most >= SATURATED && !to.is_empty() && to.iter().all(|id| is_sigmoid(*id)))
    };
    let (id, most) =
        net.nodes().filter(|(_, node)| node.op_type == "Clip").find_map(|(id, node)| {
            let most = most(id, node)?;
            (most < FLOAT16 && !harmless(id, most)).then_some((id, most))
        })?;
    Some(format!("{} cuts values off at {most}, which nothing in the network does", net.called(id)))
}

const OTHER_BIAS: &str = "has another bias";
const SOME_VECTORS: &str = "has some, but not all, of its vectors";

/// The sentence on constants that stand at other nodes than in the network; None if there are none.
pub(super) fn moved(net: &Net, anchors: &[Anchor], moved: &Moved) -> Option<String> {
    let first = moved.settled.first()?;
    Some(format!(
        "{} nodes have constants that other nodes make up for, as tf2onnx writes normalisations, so values between \
         them are compared without these; the first is {}",
        moved.settled.len(),
        net.called(anchors[*first].node)
    ))
}

/// What is wrong with a normalisation that has some of the module's vectors.
fn partly(model: &Model, weights: &Weights, anchor: &Anchor, name: &str) -> &'static str {
    let Content::Norm { parts, .. } = &anchor.content else { return "has other values" };
    let leaves = ["weight", "bias", "running_mean", "running_var"];
    let (slack, least) = (64.0 * anchor.format.epsilon(), smallest(anchor.format));
    let own = |leaf: &str| Some(weights.get(&format!("{name}.{leaf}"))?.to_f64());
    let same = |(leaf, part): (&&str, &Numbers)| {
        own(leaf).is_some_and(|own| close(part, &own, slack, least))
    };
    let whole = parts.len() == leaves.len() && model.find(name).is_some();
    match whole && leaves.iter().zip(parts).all(same) {
        true => "has another eps",
        false => SOME_VECTORS,
    }
}

/// Another place whose weights the anchor has.
fn others(a: usize, p: usize, aligned: &Alignment) -> Option<usize> {
    let mut found = aligned.evidence.range((a, 0)..(a + 1, 0));
    found.find(|((_, q), likeness)| *q != p && likeness.strength() == 3).map(|((_, q), _)| *q)
}

/// What is wrong with the bias of a product, or with the normalisation that is folded into it.
fn bias(
    model: &Model,
    weights: &Weights,
    anchor: &Anchor,
    place: &Place,
    likeness: Likeness,
) -> Option<String> {
    let Content::Product { values, bias, shape } = &anchor.content else { return None };
    let name = &model.module(place.id).name;
    let get = |name: String| Some(weights.get(&name)?.to_f64());
    let own = get(format!("{name}.bias")).unwrap_or_else(|| vec![0.0; shape[0]]);
    let zeros = vec![0.0; shape[0]];
    let found = bias.as_ref().map_or(&zeros[..], |bias| bias);
    let slack = 64.0 * anchor.format.epsilon();
    let close = |a: &[f64], b: &[f64], slack| close(a, b, slack, smallest(anchor.format));
    if likeness == Likeness::Same {
        let expected = if place.bias && place.kind != Kind::BatchNorm { own } else { return None };
        return (!close(found, &expected, slack)).then(|| OTHER_BIAS.to_owned());
    }
    let norm = &model.module(place.norm?).name;
    let part = |leaf: &str| get(format!("{norm}.{leaf}"));
    let (gamma, beta) = (part("weight")?, part("bias")?);
    let (mean, variance) = (part("running_mean")?, part("running_var")?);
    let weight = get(format!("{name}.weight"))?;
    let row = weight.len() / shape[0];
    let scale: Vec<f64> =
        values.chunks(row).zip(weight.chunks(row)).map(|(a, b)| factor(a, b)).collect();
    let expected = |eps: f64| {
        let scale: Vec<f64> =
            gamma.iter().zip(&variance).map(|(g, v)| g / (v + eps).sqrt()).collect();
        let shift: Vec<f64> =
            (0..scale.len()).map(|c| beta[c] + (own[c] - mean[c]) * scale[c]).collect();
        (scale, shift)
    };
    let fits = |eps: f64| {
        let (wanted, shift) = expected(eps);
        close(&scale, &wanted, slack) && close(found, &shift, slack)
    };
    if fits(spec::model::BN_EPS) {
        return None;
    }
    // The eps that fits best, so that one which differs little from another is not taken for it.
    let distance = |eps: &f64| relative_l2(&scale, &expected(*eps).0);
    let others = [0.0, 1e-6, 1e-4, 1e-3].into_iter();
    let best = others.min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
    match fits(best) {
        true => Some(format!("has {norm} folded in with eps {best:e} instead of 1e-5")),
        false => {
            Some(format!("has {norm} folded in with other values than those of the checkpoint"))
        }
    }
}

/// Whether two vectors agree, with the largest value as the measure.
fn close(a: &[f64], b: &[f64], slack: f64, smallest: f64) -> bool {
    let largest = b.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| (x - y).abs() <= slack * largest + smallest)
}

/// A sentence on nodes with weights that are no module of the network; None if there are none.
pub(super) fn left_over(net: &Net, anchors: &[Anchor], aligned: &Alignment) -> Option<String> {
    let left: Vec<String> = (0..anchors.len())
        .filter(|&a| aligned.places[a].is_none())
        .filter(|&a| matches!(anchors[a].content, Content::Product { .. }))
        .map(|a| net.called(anchors[a].node))
        .collect();
    let first = left.first()?;
    Some(match left.len() {
        1 => format!("{first} has weights, but is none of the network's modules"),
        n => format!(
            "{n} nodes with weights are none of the network's modules; the first is {first}"
        ),
    })
}

/// A sentence on a file that returns several values of the logits' width, of which the first is compared; None
/// if there is one at most.
pub(super) fn several_logits(net: &Net, model: &Model) -> Option<String> {
    let classes = model.fc.as_ref()?.out_features;
    let wide = net.outputs(classes).filter(|(_, wide)| *wide);
    let found: Vec<ValueId> = wide.map(|(id, _)| id).collect();
    (found.len() > 1).then(|| {
        format!(
            "the file returns {} values with {classes} columns; the first, `{}`, is compared, and the others \
             are not",
            found.len(),
            printable(net.name(found[0]))
        )
    })
}

/// Sentences, shortened to a few.
pub(super) fn shortened(mut sentences: Vec<String>) -> Vec<String> {
    const SHOWN: usize = 4;
    let more = sentences.len().saturating_sub(SHOWN);
    if more > 1 {
        sentences.truncate(SHOWN);
        sentences.push(format!("and {more} more nodes have other weights than the checkpoint"));
    }
    sentences
        .into_iter()
        .map(|sentence| format!("weights: {}", printable_line(&sentence)))
        .collect()
}

fn printable_line(sentence: &str) -> String {
    // Names were shortened one by one; here only control characters could remain.
    sentence.split(' ').map(printable).collect::<Vec<_>>().join(" ")
}
