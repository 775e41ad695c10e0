//! The catalogue: every known way to port the network wrongly. It has three uses: `--inject` and
//! `selftest` plant a mistake as a fault, [`super::hypotheses`] tries the mistakes as explanations of
//! a divergence, and [`super::not_exercised`] tells which of them a run could not have noticed.
//!
//! To add a mistake:
//!
//! 1. Write a function in `places` that returns a [`Change`] for each place where the mistake would
//!    change a result. A change consists of edits (`edit`): of the weights, of the description, of the
//!    clip, or of the expression that a module computes (`expr`).
//! 2. Add a line to [`Fault::ALL`]: the name for `--inject`, the mistake in words, the function, and
//!    how `selftest` plants it. In words a mistake is a noun phrase ("missing gate") of at most 42
//!    characters, or 30 if it is not `Single`, so that it fits the table of `selftest`.
//! 3. Run `cargo test -p compare faults` (does an engine with the mistake compute what the expressions
//!    say?) and `harness selftest --only NAME` (is the mistake found, located and named?).

use anyhow::{Result, bail};
use spec::{Model, Selection};

use super::edit::Change;
use super::graph::ModelGraph;
use super::places::{activation, block, clip, embedding, gate, norm, number, weight};

/// A known mistake.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// Its name for `--inject` and in records.
    pub word: &'static str,
    /// The mistake in words, as a noun phrase.
    pub what: &'static str,
    /// Lists the places where the mistake would change a result.
    places: fn(&ModelGraph) -> Vec<Change>,
    /// How `selftest` plants it.
    planting: Planting,
}

/// How `selftest` plants a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planting {
    /// At one place at a time: programs make it at one place.
    Single,
    /// At one place at a time, and at all places at once: programs often make it everywhere.
    Throughout,
    /// As `Throughout`; whether a place changes a result depends on the values there.
    ByValue,
}

use Planting::{ByValue, Single, Throughout};

const fn fault(
    word: &'static str,
    what: &'static str,
    places: fn(&ModelGraph) -> Vec<Change>,
    planting: Planting,
) -> Fault {
    Fault { word, what, places, planting }
}

impl Fault {
    /// The catalogue.
    pub const ALL: &'static [Fault] = &[
        fault("shifted-frame", "frames shifted by one", clip::shifted, Single),
        fault("reversed-frames", "frames in reverse order", clip::reversed, Single),
        fault("bgr", "colours in BGR order", clip::bgr, Single),
        fault("frame-major", "channels stacked as frame * 3 + colour", clip::frame_major, Single),
        fault("pixels-0-1", "pixels only scaled to 0..1", clip::unit, Single),
        fault("pixels-0-255", "pixels not normalised", clip::bytes, Single),
        fault("pixels-symmetric", "pixels only scaled to -1..1", clip::symmetric, Single),
        fault(
            "same-padding",
            "SAME padding on a strided convolution",
            block::same_padding_conv,
            Single,
        ),
        fault("max-pool-same", "max-pool with SAME padding", block::same_padding_pool, Single),
        fault("relu-missing", "missing ReLU", activation::relu_missing, Throughout),
        fault("relu6", "ReLU6 instead of ReLU", activation::relu6, ByValue),
        fault("relu-added", "extra ReLU", activation::relu_added, Single),
        fault("sigmoid-missing", "missing sigmoid", activation::sigmoid_missing, Single),
        fault("sigmoid-early", "sigmoid before glo_conv.6", activation::sigmoid_early, Throughout),
        fault("hard-sigmoid", "hard sigmoid", activation::hard_sigmoid, Throughout),
        fault("missing-gate", "missing gate", gate::missing, Throughout),
        fault("gate-missing-tfc", "gate missing in TFC only", gate::missing_in_tfc, Single),
        fault("gate-after-tfc", "gate applied after TFC", gate::after_tfc, Throughout),
        fault("gate-missing-ioi", "gate missing in IOI only", gate::missing_in_ioi, Throughout),
        fault("gate-on-short", "gate applied to short_conv too", gate::on_short, Throughout),
        fault("ioi-missing", "missing IOI branch", gate::ioi_missing, Single),
        fault("tfc-missing", "missing temporal branch", gate::tfc_missing, Single),
        fault("align-corners", "align_corners off", embedding::half_pixel, Throughout),
        fault("align-corners-on", "align_corners on", embedding::aligned, Single),
        fault(
            "resize-antialias",
            "anti-aliased embedding resize",
            embedding::antialiased,
            Throughout,
        ),
        fault("resize-flax", "embedding resized as in the Flax port", embedding::flax, Single),
        fault("embedding-dropped", "missing embedding", embedding::dropped, Single),
        fault("embedding-late", "embedding added one layer late", embedding::late, Throughout),
        fault(
            "embedding-before-relu",
            "embedding added before the ReLU",
            embedding::before_relu,
            Single,
        ),
        fault(
            "embedding-before-bn",
            "embedding added before the BN",
            embedding::before_norm,
            Single,
        ),
        fault("embedding-transposed", "transposed embedding", embedding::transposed, Single),
        fault("swapped-weights", "swapped weights", weight::swapped, Single),
        fault("transposed-kernel", "transposed kernel", weight::transposed, Throughout),
        fault("turned-kernel", "kernel rotated by 180 degrees", weight::turned, Throughout),
        fault("kernel-hwio", "HWIO kernel read as OIHW", weight::channels_last, Single),
        fault(
            "kernel-io-exchanged",
            "kernel input and output channels swapped",
            weight::exchanged,
            Single,
        ),
        fault("channel-off", "channels off by one", weight::channel_off, Single),
        fault("bias-missing", "missing bias", weight::bias_missing, Single),
        fault("dense-order", "[in, out] matrix read as [out, in]", weight::dense_order, Single),
        fault("eps", "eps 1e-3 instead of 1e-5", norm::eps, Throughout),
        fault("eps-1e-6", "eps 1e-6 instead of 1e-5", norm::eps_small, Throughout),
        fault("eps-0", "eps 0 instead of 1e-5", norm::eps_zero, Single),
        fault("bn-statistics", "BN statistics not loaded", norm::statistics, Throughout),
        fault("bn-affine", "BN weight and bias not loaded", norm::affine, Single),
        fault("bn-deviation", "BN variance used as standard deviation", norm::deviation, Single),
        fault("bn-training", "BN in training mode", norm::batch, Throughout),
        fault("bn-missing", "missing BN", norm::missing, Single),
        fault("max-for-mean", "global max instead of average pooling", block::max_for_mean, Single),
        fault("residual-missing", "missing residual", block::residual_missing, Single),
        fault(
            "residual-after-relu",
            "residual added after the ReLU",
            block::residual_after_relu,
            Single,
        ),
        fault(
            "residual-before-bn",
            "residual added before the BN",
            block::residual_before_norm,
            Single,
        ),
        fault("shortcut-strided", "shortcut not downsampled", block::shortcut_strided, Single),
        fault("softmax", "softmax already applied", block::softmax, Single),
        fault("bf16", "bf16 in one layer", number::bf16, Throughout),
        fault("f16", "f16 in one layer", number::f16, Single),
        fault("tf32", "TF32 in one layer", number::tf32, Throughout),
    ];

    /// Every place of a model where the mistake changes a result, as far as shapes tell. A transposed
    /// kernel on a map of one pixel is not a place, nor is a resize of an embedding that already fits.
    pub fn places(&self, model: &Model) -> Vec<Change> {
        self.places_on(&ModelGraph::new(model))
    }

    /// The same as [`Fault::places`], for a graph that has been built already.
    pub fn places_on(&self, graph: &ModelGraph) -> Vec<Change> {
        let mut places = (self.places)(graph);
        places.iter_mut().for_each(|place| place.word = self.word);
        places
    }

    /// Whether `selftest` plants it at all places at once, too.
    pub fn is_throughout(&self) -> bool {
        self.planting != Single
    }

    /// Whether the mistake changes a result only for some values, as ReLU6 does. Without a run, the shapes
    /// cannot tell at which places it matters.
    pub fn is_by_value(&self) -> bool {
        self.planting == ByValue
    }
}

/// Stands for the layer in `--inject FAULT@everywhere`.
const EVERYWHERE: &str = "everywhere";

/// Parses the argument of `--inject`: `FAULT`, `FAULT@LAYER` or `FAULT@everywhere`. The fault is made
/// at the middle one of the places that remain, or at all of them.
///
/// # Errors
///
/// If the fault or the layer is unknown, or if the fault would change no result in that layer.
pub fn parse(model: &Model, text: &str) -> Result<Change> {
    let (word, layer) = text.split_once('@').map_or((text, None), |(w, l)| (w, Some(l)));
    let Some(fault) = Fault::ALL.iter().find(|fault| fault.word == word) else {
        let known: Vec<_> = Fault::ALL.iter().map(|fault| fault.word).collect();
        bail!("--inject {text}: unknown fault `{word}`; use one of {}", known.join(", "));
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
            "--inject {text}: this model has no place{} where the fault \"{}\" would change a \
             result; choose another layer or another --size{}",
            layer.map(|l| format!(" in {l}")).unwrap_or_default(),
            fault.what,
            other.map(|size| format!(" such as {size}")).unwrap_or_default()
        );
    }
    let middle = places.len() / 2;
    Ok(places.swap_remove(middle))
}

/// The mistake made at all places at once where it reads the same (`Change::variant`) as at the first
/// place; None if there are no places.
pub fn throughout(places: &[Change]) -> Option<Change> {
    let variant = places.first()?.variant;
    let same: Vec<Change> = places.iter().filter(|p| p.variant == variant).cloned().collect();
    Change::throughout(&same)
}

/// `count` different places, or all of them if there are fewer, chosen at random by the seed.
pub fn choose(mut places: Vec<Change>, count: usize, seed: u64) -> Vec<Change> {
    let draws = checkpoint::formula::uniform("selftest", count.min(places.len()), seed);
    let mut chosen = vec![];
    for u in draws {
        let at = ((u * places.len() as f32) as usize).min(places.len() - 1);
        chosen.push(places.swap_remove(at));
    }
    chosen
}
