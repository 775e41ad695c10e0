//! The eight faults of `--inject`, and the places where each of them shows.

use anyhow::{Result, bail};
use spec::model::Conv;
use spec::{Kind, Model, Module, PosEmbed, Selection, Semantics};

use super::edit::{self, Change, Edit};

/// A kind of fault.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// The word for `--inject`.
    pub word: &'static str,
    /// What is wrong.
    pub what: &'static str,
    places: fn(&Model) -> Vec<Change>,
}

impl Fault {
    /// Every fault that can be injected.
    pub const ALL: [Fault; 8] = [
        Fault { word: "swapped-weights", what: "swapped weights", places: swapped_weights },
        Fault { word: "eps", what: "eps 1e-3 instead of 1e-5", places: eps },
        Fault { word: "align-corners", what: "align_corners off", places: align_corners },
        Fault { word: "shifted-frame", what: "frames shifted by one", places: shifted_frame },
        Fault { word: "transposed-kernel", what: "transposed kernel", places: transposed_kernel },
        Fault { word: "channel-off", what: "one channel off", places: channel_off },
        Fault { word: "missing-gate", what: "missing gate", places: missing_gate },
        Fault { word: "bf16", what: "bf16 in one layer", places: bf16_layer },
    ];

    /// Every place of this model where the fault changes a result: no transposed kernel on a map
    /// of 1 pixel, no resize where the embedding already fits.
    pub fn places(&self, model: &Model) -> Vec<Change> {
        (self.places)(model)
    }
}

/// Understands `FAULT` or `FAULT@LAYER`.
pub fn parse(model: &Model, text: &str) -> Result<Change> {
    let (word, layer) = text.split_once('@').map_or((text, None), |(w, l)| (w, Some(l)));
    let Some(fault) = Fault::ALL.iter().find(|fault| fault.word == word) else {
        let known: Vec<_> = Fault::ALL.iter().map(|fault| fault.word).collect();
        bail!("--inject {text}: no fault is called `{word}`; use one of {}", known.join(", "));
    };
    let mut places = fault.places(model);
    if let Some(layer) = layer {
        let chosen = Selection::by_names(model.modules(), [layer])?;
        places.retain(|change| chosen.contains(change.site));
    }
    if places.is_empty() {
        bail!(
            "--inject {text}: in this model there is no place{} where {} would change a result; \
             choose another layer, or another --size",
            layer.map(|l| format!(" in {l}")).unwrap_or_default(),
            fault.what
        );
    }
    let middle = places.len() / 2;
    Ok(places.swap_remove(middle))
}

/// `count` places drawn with replacement by a seeded generator.
pub fn choose(places: &[Change], count: usize, seed: u64) -> Vec<Change> {
    let draws = spec::weights::formula::uniform("selftest", count, seed);
    let at = |u: f32| ((u * places.len() as f32) as usize).min(places.len() - 1);
    draws.into_iter().map(|u| places[at(u)].clone()).collect()
}

fn of_kind(model: &Model, kind: Kind) -> impl Iterator<Item = &Module> {
    model.modules().iter().filter(move |m| m.kind == kind)
}

fn weight_name(module: &Module) -> String {
    format!("{}.weight", module.name)
}

fn weight_shape<'a>(model: &'a Model, name: &str) -> &'a [usize] {
    model.parameters().iter().find(|p| p.name == name).map_or(&[], |p| &p.shape)
}

/// A convolution or the classifier with the next one of the same shape.
fn swapped_weights(model: &Model) -> Vec<Change> {
    let layers: Vec<_> =
        model.modules().iter().filter(|m| matches!(m.kind, Kind::Conv | Kind::Linear)).collect();
    let shape = |m: &Module| weight_shape(model, &weight_name(m)).to_vec();
    let pairs = layers.iter().enumerate().filter_map(|(at, a)| {
        layers[at + 1..].iter().find(|b| shape(b) == shape(a)).map(|b| (a, b))
    });
    pairs
        .map(|(a, b)| Change {
            what: format!("the weights of {} and {} swapped", a.name, b.name),
            site: a.id,
            edits: vec![Edit::Swap(weight_name(a), weight_name(b))],
        })
        .collect()
}

fn eps(model: &Model) -> Vec<Change> {
    of_kind(model, Kind::BatchNorm)
        .map(|m| Change {
            what: "eps 1e-3 instead of 1e-5".into(),
            site: m.id,
            edits: vec![Edit::Eps(m.id, 1e-3)],
        })
        .collect()
}

fn align_corners(model: &Model) -> Vec<Change> {
    let resized = model.ctls().filter(|ctl| {
        let p = &ctl.spatial_conv.pos_embed;
        p.size != (p.dim, p.dim) && p.dim > 1
    });
    resized
        .map(|ctl| Change {
            what: "align_corners off".into(),
            site: ctl.spatial_conv.pos_embed.id,
            edits: vec![Edit::Semantics(
                ctl.number,
                Semantics { pos_embed: PosEmbed::HalfPixel, ..ctl.semantics },
            )],
        })
        .collect()
}

fn shifted_frame(model: &Model) -> Vec<Change> {
    if model.config.frames < 2 {
        return vec![];
    }
    let late =
        Edit::Input(|clip| edit::planes(clip, |c, t, frames| (c, (t + frames - 1) % frames)));
    let early = Edit::Input(|clip| edit::planes(clip, |c, t, frames| (c, (t + 1) % frames)));
    [("late", late), ("early", early)]
        .map(|(word, edit)| Change {
            what: format!("every frame one too {word}"),
            site: model.input,
            edits: vec![edit],
        })
        .to_vec()
}

/// Convolutions whose kernel has two sides and whose map has more than one pixel: on one pixel only
/// the kernel's centre is used.
fn wide_convs(model: &Model) -> impl Iterator<Item = &Module> {
    of_kind(model, Kind::Conv).filter(|m| {
        let side = weight_shape(model, &weight_name(m)).last().copied().unwrap_or(1);
        side > 1 && m.shape[1] * m.shape[2] > 1
    })
}

fn transposed_kernel(model: &Model) -> Vec<Change> {
    wide_convs(model)
        .map(|m| Change {
            what: "kernel transposed (height and width exchanged)".into(),
            site: m.id,
            edits: vec![Edit::Weight(weight_name(m), edit::transpose_kernel)],
        })
        .collect()
}

fn channel_off(model: &Model) -> Vec<Change> {
    of_kind(model, Kind::Conv)
        .filter(|m| {
            let shape = weight_shape(model, &weight_name(m));
            shape[1] > 1 || shape[0] > 1
        })
        .map(|m| Change {
            what: "channels off by one".into(),
            site: m.id,
            edits: vec![Edit::Weight(weight_name(m), edit::channel_off)],
        })
        .collect()
}

fn missing_gate(model: &Model) -> Vec<Change> {
    model
        .ctls()
        .map(|ctl| Change {
            what: "the gate g is missing (1 everywhere)".into(),
            site: ctl.gate.sigmoid,
            edits: vec![Edit::Semantics(ctl.number, Semantics { tfc: false, ..ctl.semantics })],
        })
        .collect()
}

fn bf16_layer(model: &Model) -> Vec<Change> {
    model
        .modules()
        .iter()
        .filter(|m| matches!(m.kind, Kind::Conv | Kind::Linear))
        .map(|m| Change {
            what: "computed in bf16".into(),
            site: m.id,
            edits: vec![
                Edit::Weight(weight_name(m), edit::weight_to_bf16),
                Edit::Output(m.id, edit::to_bf16),
            ],
        })
        .collect()
}

/// The convolution of a model with this id.
pub(super) fn conv_by_id(model: &Model, id: spec::ModuleId) -> Option<&Conv> {
    use spec::model::Body;
    let mut all: Vec<&Conv> = vec![&model.stem.conv];
    for block in &model.blocks {
        all.extend(block.downsample.as_ref().map(|d| &d.conv));
        if let Body::Bottleneck { reduce, expand, .. } = &block.body {
            all.extend([&reduce.conv, &expand.conv]);
        }
        all.extend(block.shortcut.as_ref().map(|s| &s.conv));
    }
    for ctl in model.ctls() {
        let ioi = &ctl.spatial_conv;
        all.extend([&ctl.gate.conv1, &ctl.gate.conv2, &ctl.temporal_conv, &ioi.short_conv]);
        all.extend([&ioi.glo_in.conv, &ioi.glo_mid.conv, &ioi.glo_out]);
    }
    all.into_iter().find(|conv| conv.id == id)
}

/// Sizes at which what another size leaves out has a place.
const EDGE_SIZES: [&str; 3] = ["57x65", "64x64", "225x225"];

/// Mistakes that would change no compared value of this model.
pub fn not_exercised(
    model: &Model,
    _compared: &dyn Fn(spec::ModuleId) -> bool,
) -> Vec<reports::record::NotExercised> {
    let missing = Fault::ALL.iter().filter(|fault| fault.places(model).is_empty());
    let sized = |fault: &Fault| {
        let has_place = |size: &&&str| {
            let Ok(spec::config::FrameSize(h, w)) = size.parse() else { return false };
            let config = spec::Config { size: (h, w), ..model.config.clone() };
            Model::new(config).is_ok_and(|model| !fault.places(&model).is_empty())
        };
        EDGE_SIZES.iter().find(has_place).map(|size| (*size).to_owned())
    };
    let entry = |fault: &Fault| reports::record::NotExercised {
        what: fault.what.to_owned(),
        try_size: sized(fault),
    };
    missing.map(entry).collect()
}
