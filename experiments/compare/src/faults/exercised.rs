//! Tells which known mistakes a run could not have noticed.

use checkpoint::Weights;
use spec::{Config, Model, ModuleId, Tensor};

use super::catalogue::Fault;
use super::clip::Planes;
use super::edit::Change;
use super::graph::ModelGraph;
use super::reach::first_shown;

/// A mistake that would not have changed any compared value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotExercised {
    /// Its name in the catalogue.
    pub word: &'static str,
    /// The mistake in words.
    pub what: String,
    /// A frame size HxW at which it would change a value; None if no size helps.
    pub try_size: Option<String>,
}

/// Frame sizes that together exercise everything that depends on the size: odd maps, even maps, maps of
/// one pixel, and maps that are larger than, smaller than or equal to the embedding.
pub const SIZES: [(usize, usize); 6] =
    [(57, 65), (64, 64), (72, 88), (96, 96), (224, 224), (225, 225)];

/// The value at which a ReLU6 cuts off.
const RELU6: f64 = 6.0;

/// Every mistake of the catalogue that would not change any compared value of this model. `compared`
/// tells which modules were compared, and `largest` the largest value of one of them; infinity if it is not
/// known. Some mistakes leave some clips as they are: a still one in reverse order is the same.
///
/// A mistake that this network cannot have at any size is left out (align_corners on, where it is on).
pub fn not_exercised(
    model: &Model,
    compared: &dyn Fn(ModuleId) -> bool,
    largest: &dyn Fn(ModuleId) -> f64,
    clip: Option<&Tensor>,
) -> Vec<NotExercised> {
    let graph = ModelGraph::new(model);
    let seen = |change: &Change| first_shown(&graph, change, compared).is_some();
    let mut found = vec![];
    for fault in Fault::ALL {
        let places = fault.places_on(&graph);
        let size = if places.is_empty() { try_size(fault, model) } else { None };
        // Either the mistake has a place only at another size, or it has places here but none of them
        // changes a compared value.
        if size.is_some() || (!places.is_empty() && !places.iter().any(seen)) {
            let (word, what) = (fault.word, fault.what.to_owned());
            found.push(NotExercised { word, what, try_size: size });
        } else if let Some(clip) = clip
            && !places.is_empty()
            && orders(fault.word).iter().any(|planes| keeps(*planes, clip, model))
        {
            let what = format!("{} (this clip stays the same)", fault.what);
            found.push(NotExercised { word: fault.word, what, try_size: None });
        } else if fault.is_by_value()
            && places.iter().all(|change| !(seen(change) && largest(change.site) > RELU6))
        {
            let what = format!("{} (no value of this input exceeds {RELU6})", fault.what);
            found.push(NotExercised { word: fault.word, what, try_size: None });
        }
    }
    found
}

/// Every mistake of the catalogue that leaves these weights as they are, wherever it is made: statistics that were
/// not loaded, of a network that was never trained, or another resize of embeddings that are zero.
pub fn kept_by_weights(
    model: &Model,
    weights: &Weights,
    compared: &dyn Fn(ModuleId) -> bool,
) -> Vec<NotExercised> {
    let graph = ModelGraph::new(model);
    let is_embedding = |name: &&str| name.contains("pos_embed");
    let names = model.parameters().iter().map(|spec| spec.name.as_str());
    let zero = |name: &str| weights.get(name).is_some_and(|p| p.data.iter().all(|v| *v == 0.0));
    let mut embeddings = names.filter(is_embedding).peekable();
    let all_zero = embeddings.peek().is_some() && embeddings.all(zero);
    let kept = |change: &Change| {
        let of_embedding = ["embedding-", "align-corners", "resize-"];
        let of_embedding = of_embedding.iter().any(|word| change.word.starts_with(word));
        of_embedding && all_zero || change.keeps(weights)
    };
    let is_kept = |fault: &&Fault| {
        let places = fault.places_on(&graph);
        let mut seen = places
            .iter()
            .filter(|change| first_shown(&graph, change, compared).is_some())
            .peekable();
        seen.peek().is_some() && seen.all(kept)
    };
    let found = Fault::ALL.iter().filter(is_kept);
    found
        .map(|fault| NotExercised {
            word: fault.word,
            what: format!("{} (these weights stay the same)", fault.what),
            try_size: None,
        })
        .collect()
}

/// Every other eps of the catalogue that changes no compared value by more than what passes there, as
/// `passes_up_to` (a relative L2 error) tells.
pub fn too_small(
    model: &Model,
    weights: &Weights,
    compared: &dyn Fn(ModuleId) -> bool,
    passes_up_to: &dyn Fn(ModuleId) -> f64,
) -> Vec<NotExercised> {
    let graph = ModelGraph::new(model);
    let largest = |fault: &'static Fault| {
        let mut largest: Option<f64> = None;
        for place in fault.places_on(&graph) {
            let effect = place.effect_of_eps(&graph, weights)?;
            if let Some(shown) = first_shown(&graph, &place, compared) {
                let passes = effect <= passes_up_to(shown);
                largest = Some(passes.then_some(effect)?.max(largest.unwrap_or(0.0)));
            }
        }
        Some((fault, largest?))
    };
    let found = Fault::ALL.iter().filter_map(largest);
    found
        .map(|(fault, effect)| NotExercised {
            word: fault.word,
            what: format!("{} (changes values by {effect:.0e}, which passes)", fault.what),
            try_size: None,
        })
        .collect()
}

/// The wrong orders of planes that a mistake in the clip may mean.
fn orders(word: &str) -> &'static [Planes] {
    match word {
        "shifted-frame" => &[Planes::Late, Planes::Early],
        "reversed-frames" => &[Planes::Reversed],
        "bgr" => &[Planes::Bgr],
        "frame-major" => &[Planes::FrameMajor],
        _ => &[],
    }
}

/// Whether every plane of a clip [N, 3, T, H, W] has the same values in a wrong order.
fn keeps(planes: Planes, clip: &Tensor, model: &Model) -> bool {
    let (frames, (height, width)) = (model.config.frames, model.config.size);
    let (values, plane) = (clip.to_f32(), height * width);
    let at = |image: &[f32], plane_index: usize| {
        let values = image.get(plane_index * plane..(plane_index + 1) * plane)?;
        Some(values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>())
    };
    let same = |image: &[f32]| {
        (0..3 * frames).all(|channel| {
            let other = planes.from(channel, frames);
            other == channel || at(image, channel) == at(image, other)
        })
    };
    values.chunks(3 * frames * plane).all(same)
}

/// The first of [`SIZES`], other than the model's own size, at which a mistake would change a result.
pub fn try_size(fault: &Fault, model: &Model) -> Option<String> {
    let others = SIZES.into_iter().filter(|size| *size != model.config.size);
    let model_of = |size| {
        let config = Config { size, ..model.config.clone() };
        match model.fc {
            Some(_) => Model::new(config).ok(),
            None => Model::backbone(config).ok(),
        }
    };
    let fits = |size: &(usize, usize)| {
        model_of(*size).is_some_and(|model| !fault.places(&model).is_empty())
    };
    let (height, width) = others.into_iter().find(fits)?;
    Some(format!("{height}x{width}"))
}
