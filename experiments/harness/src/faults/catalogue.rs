//! The catalogue: every mistake of ports that the harness knows. It serves three times: `--inject`
//! and `selftest` make them on purpose, [`super::hypotheses`] tries them as the explanation of a
//! divergence, and [`super::not_exercised`] says which of them a run could not have seen.
//!
//! To add one: a function in `places` that lists where it would change a result, and a line here.

use anyhow::{Result, bail};
use spec::{Model, Selection};

use super::edit::Change;
use super::ground::Ground;
use super::places::{activation, block, clip, embedding, gate, norm, number, weight};

/// A kind of mistake.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// The word for `--inject`.
    pub word: &'static str,
    /// What is wrong.
    pub what: &'static str,
    places: fn(&Ground) -> Vec<Change>,
    /// How it is made by a whole program.
    habit: Habit,
}

/// How a mistake is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// At one place; `selftest` plants it at one.
    Single,
    /// Often at every place of a program; `selftest` plants it at all, too.
    Throughout,
    /// As `Throughout`; and whether a place is one is known only from the values there.
    ByValue,
}

use Habit::{ByValue, Single, Throughout};

const fn fault(
    word: &'static str,
    what: &'static str,
    places: fn(&Ground) -> Vec<Change>,
    habit: Habit,
) -> Fault {
    Fault { word, what, places, habit }
}

impl Fault {
    /// Every mistake that can be injected.
    pub const ALL: &'static [Fault] = &[
        fault("shifted-frame", "frames shifted by one", clip::shifted, Single),
        fault("reversed-frames", "frames in reverse order", clip::reversed, Single),
        fault("bgr", "colours in the order BGR", clip::bgr, Single),
        fault("frame-major", "channels as frame * 3 + colour", clip::frame_major, Single),
        fault("pixels-0-1", "pixels scaled to 0..1 only", clip::unit, Single),
        fault("pixels-0-255", "pixels not normalised", clip::bytes, Single),
        fault("pixels-symmetric", "pixels scaled to -1..1 only", clip::symmetric, Single),
        fault("same-padding", "SAME padding on a stride", block::same_padding_conv, Single),
        fault("max-pool-same", "max-pool with SAME padding", block::same_padding_pool, Single),
        fault("relu-missing", "a ReLU missing", activation::relu_missing, Throughout),
        fault("relu6", "ReLU6 instead of ReLU", activation::relu6, ByValue),
        fault("relu-added", "a ReLU where none belongs", activation::relu_added, Single),
        fault("sigmoid-missing", "a sigmoid missing", activation::sigmoid_missing, Single),
        fault("sigmoid-early", "sigmoid before glo_conv.6", activation::sigmoid_early, Throughout),
        fault("hard-sigmoid", "hard sigmoid", activation::hard_sigmoid, Throughout),
        fault("missing-gate", "missing gate", gate::missing, Throughout),
        fault("gate-missing-tfc", "gate missing in TFC only", gate::missing_in_tfc, Single),
        fault("gate-missing-ioi", "gate missing in IOI only", gate::missing_in_ioi, Throughout),
        fault("gate-on-short", "gate laid on short_conv, too", gate::on_short, Throughout),
        fault("ioi-missing", "IOI branch missing", gate::ioi_missing, Single),
        fault("tfc-missing", "temporal branch missing", gate::tfc_missing, Single),
        fault("align-corners", "align_corners off", embedding::half_pixel, Throughout),
        fault("align-corners-on", "align_corners on", embedding::aligned, Single),
        fault(
            "resize-antialias",
            "embedding resized, antialiased",
            embedding::antialiased,
            Throughout,
        ),
        fault("resize-flax", "embedding resized as in Flax", embedding::flax, Single),
        fault("embedding-dropped", "embedding dropped", embedding::dropped, Single),
        fault("embedding-late", "embedding one layer later", embedding::late, Throughout),
        fault("embedding-before-relu", "embedding before the ReLU", embedding::before_relu, Single),
        fault("embedding-before-bn", "embedding before the BN", embedding::before_norm, Single),
        fault("embedding-transposed", "embedding transposed", embedding::transposed, Single),
        fault("swapped-weights", "swapped weights", weight::swapped, Single),
        fault("transposed-kernel", "transposed kernel", weight::transposed, Throughout),
        fault("turned-kernel", "kernel turned by 180 degrees", weight::turned, Throughout),
        fault("kernel-hwio", "kernel read as HWIO", weight::channels_last, Single),
        fault("kernel-io-exchanged", "kernel with I and O exchanged", weight::exchanged, Single),
        fault("channel-off", "one channel off", weight::channel_off, Single),
        fault("bias-missing", "bias missing", weight::bias_missing, Single),
        fault("dense-order", "dense matrix transposed", weight::dense_order, Single),
        fault("eps", "eps 1e-3 instead of 1e-5", norm::eps, Throughout),
        fault("eps-1e-6", "eps 1e-6 instead of 1e-5", norm::eps_small, Throughout),
        fault("eps-0", "eps 0 instead of 1e-5", norm::eps_zero, Single),
        fault("bn-statistics", "BN statistics not loaded", norm::statistics, Throughout),
        fault("bn-affine", "BN weight, bias not loaded", norm::affine, Single),
        fault("bn-deviation", "BN variance as deviation", norm::deviation, Single),
        fault("bn-training", "BN in training mode", norm::batch, Throughout),
        fault("bn-missing", "BN left out", norm::missing, Single),
        fault("max-for-mean", "largest value instead of mean", block::max_for_mean, Single),
        fault("residual-missing", "residual missing", block::residual_missing, Single),
        fault("residual-after-relu", "residual after the ReLU", block::residual_after_relu, Single),
        fault("residual-before-bn", "residual before the BN", block::residual_before_norm, Single),
        fault("shortcut-strided", "shortcut not downsampled", block::shortcut_strided, Single),
        fault("softmax", "softmax already applied", block::softmax, Single),
        fault("bf16", "bf16 in one layer", number::bf16, Throughout),
        fault("f16", "f16 in one layer", number::f16, Single),
        fault("tf32", "TF32 in one layer", number::tf32, Throughout),
    ];

    /// Every place of this model where the mistake changes a result, as far as shapes tell: no
    /// transposed kernel on a map of 1 pixel, no resize where the embedding already fits.
    pub fn places(&self, model: &Model) -> Vec<Change> {
        self.places_on(&Ground::new(model))
    }

    /// As [`Fault::places`], where the model has been looked at already.
    pub fn places_on(&self, ground: &Ground) -> Vec<Change> {
        let mut places = (self.places)(ground);
        places.iter_mut().for_each(|place| place.word = self.word);
        places
    }

    /// Whether programs make it at every place.
    pub fn is_throughout(&self) -> bool {
        self.habit != Single
    }

    /// Whether only values tell where it would change a result.
    pub fn is_by_value(&self) -> bool {
        self.habit == ByValue
    }
}

/// The layer of `--inject FAULT@everywhere`.
const EVERYWHERE: &str = "everywhere";

/// Understands `FAULT`, `FAULT@LAYER` or `FAULT@everywhere`.
pub fn parse(model: &Model, text: &str) -> Result<Change> {
    let (word, layer) = text.split_once('@').map_or((text, None), |(w, l)| (w, Some(l)));
    let Some(fault) = Fault::ALL.iter().find(|fault| fault.word == word) else {
        let known: Vec<_> = Fault::ALL.iter().map(|fault| fault.word).collect();
        bail!("--inject {text}: no fault is called `{word}`; use one of {}", known.join(", "));
    };
    let mut places = fault.places(model);
    if let Some(layer) = layer.filter(|layer| *layer != EVERYWHERE) {
        let chosen = Selection::by_names(model.modules(), [layer])?;
        places.retain(|change| chosen.contains(change.site));
    }
    if layer == Some(EVERYWHERE)
        && let Some(all) = throughout(&places)
    {
        return Ok(all);
    }
    if places.is_empty() {
        let other = super::try_size(fault, model);
        bail!(
            "--inject {text}: in this model there is no place{} where {} would change a result; \
             choose another layer, or another --size{}",
            layer.map(|l| format!(" in {l}")).unwrap_or_default(),
            fault.what,
            other.map(|size| format!(" such as {size}")).unwrap_or_default()
        );
    }
    let middle = places.len() / 2;
    Ok(places.swap_remove(middle))
}

/// The mistake at all places of its first variant.
pub fn throughout(places: &[Change]) -> Option<Change> {
    let variant = places.first()?.variant;
    let same: Vec<Change> = places.iter().filter(|p| p.variant == variant).cloned().collect();
    Change::throughout(&same)
}

/// `count` different places, or all where there are fewer, drawn by a seeded generator.
pub fn choose(mut places: Vec<Change>, count: usize, seed: u64) -> Vec<Change> {
    let draws = spec::weights::formula::uniform("selftest", count.min(places.len()), seed);
    let mut chosen = vec![];
    for u in draws {
        let at = ((u * places.len() as f32) as usize).min(places.len() - 1);
        chosen.push(places.swap_remove(at));
    }
    chosen
}
