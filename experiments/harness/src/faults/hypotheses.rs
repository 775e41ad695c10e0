//! What may explain a divergence at a module: the mistakes that ports are known to make there.

use spec::model::Ctl;
use spec::{Kind, Model, Module, ModuleId, PosEmbed, Semantics};

use super::edit::{self, Change, Edit, Rewrite, WeightRewrite};
use super::inject::{Fault, conv_by_id};

/// Mistakes whose effect would first be seen at the output of this module, when it and everything
/// before it is fed the right input. `unseen` tells which modules the candidate does not show: a
/// mistake there first shows at the next module that it does show.
pub fn hypotheses(model: &Model, at: ModuleId, unseen: &dyn Fn(ModuleId) -> bool) -> Vec<Change> {
    let module = model.module(at);
    let mut changes: Vec<Change> =
        Fault::ALL.iter().flat_map(|fault| fault.places(model)).filter(|c| c.site == at).collect();
    changes.extend(match module.kind {
        Kind::Conv => conv(model, module),
        Kind::BatchNorm => batch_norm(module),
        Kind::Linear => linear(module),
        Kind::Input => input(at),
        _ => vec![],
    });
    for ctl in model.ctls() {
        let reads_embedding = at == ctl.spatial_conv.glo_mid.conv.id;
        let embedding = ctl.spatial_conv.pos_embed.id;
        if at == embedding || (reads_embedding && unseen(embedding)) {
            changes.extend(embeddings(ctl));
        }
        let reads_gate = at == ctl.temporal_conv.id || at == ctl.spatial_conv.glo_in.conv.id;
        if reads_gate && unseen(ctl.gate.sigmoid) {
            changes.extend(gate_missing(ctl));
        }
    }
    if at == model.stem.conv.id && unseen(model.input) {
        changes.extend(input(model.input));
    }
    // The same mistake may come from two lists.
    let mut seen = std::collections::HashSet::new();
    changes.retain(|change| seen.insert(change.what.clone()));
    changes
}

fn weight(module: &Module, leaf: &str, what: &str, rewrite: WeightRewrite) -> Change {
    let name = format!("{}.{leaf}", module.name);
    Change { what: what.into(), site: module.id, edits: vec![Edit::Weight(name, rewrite)] }
}

fn conv(model: &Model, module: &Module) -> Vec<Change> {
    let mut changes = vec![weight(
        module,
        "weight",
        "kernel turned by 180 degrees (convolution instead of cross-correlation)",
        edit::turn_kernel,
    )];
    if conv_by_id(model, module.id).is_some_and(|conv| conv.bias) {
        changes.push(weight(module, "bias", "the bias is missing", edit::zero));
    }
    changes
}

fn linear(module: &Module) -> Vec<Change> {
    vec![
        weight(module, "bias", "the bias is missing", edit::zero),
        Change {
            what: "softmax already applied: these are probabilities, not logits".into(),
            site: module.id,
            edits: vec![Edit::Output(module.id, edit::softmax)],
        },
    ]
}

fn batch_norm(module: &Module) -> Vec<Change> {
    let reset = |leaf: &str, rewrite: WeightRewrite| {
        Edit::Weight(format!("{}.{leaf}", module.name), rewrite)
    };
    vec![
        Change {
            what: "the running statistics were not loaded (mean 0, variance 1)".into(),
            site: module.id,
            edits: vec![reset("running_mean", edit::zero), reset("running_var", edit::one)],
        },
        Change {
            what: "weight and bias were not loaded (1 and 0)".into(),
            site: module.id,
            edits: vec![reset("weight", edit::one), reset("bias", edit::zero)],
        },
        Change {
            what: AFTER_RELU.into(),
            site: module.id,
            edits: vec![Edit::Output(module.id, edit::relu)],
        },
    ]
}

/// What a hook on a module reads if the next ReLU runs in place.
pub const AFTER_RELU: &str = "recorded after the ReLU that follows (an in-place ReLU overwrites \
                              what a hook has seen; clone in the hook)";

fn embeddings(ctl: &Ctl) -> Vec<Change> {
    let variants = [
        (PosEmbed::Off, "the positional embedding is dropped"),
        (PosEmbed::HalfPixel, "align_corners off"),
        (PosEmbed::AlignCorners, "align_corners on"),
    ];
    variants
        .into_iter()
        .filter(|(variant, _)| *variant != ctl.semantics.pos_embed)
        .map(|(pos_embed, what)| Change {
            what: what.into(),
            site: ctl.spatial_conv.pos_embed.id,
            edits: vec![Edit::Semantics(ctl.number, Semantics { pos_embed, ..ctl.semantics })],
        })
        .collect()
}

fn gate_missing(ctl: &Ctl) -> Option<Change> {
    let semantics = Semantics { tfc: false, ..ctl.semantics };
    ctl.semantics.tfc.then(|| Change {
        what: "the gate g is missing (1 everywhere)".into(),
        site: ctl.gate.sigmoid,
        edits: vec![Edit::Semantics(ctl.number, semantics)],
    })
}

fn input(site: ModuleId) -> Vec<Change> {
    let orders: [(&str, Rewrite); 5] = [
        ("colours in the order BGR", |clip| edit::planes(clip, |c, t, _| (2 - c, t))),
        ("frames in reverse order", |clip| edit::planes(clip, |c, t, n| (c, n - 1 - t))),
        ("every frame one too late", |clip| edit::planes(clip, |c, t, n| (c, (t + n - 1) % n))),
        ("every frame one too early", |clip| edit::planes(clip, |c, t, n| (c, (t + 1) % n))),
        ("channels stacked as frame * 3 + colour instead of colour * T + frame", |clip| {
            // Channel k of the right order is read where the wrong order has put channel k.
            edit::planes(clip, |c, t, n| ((c * n + t) % 3, (c * n + t) / 3))
        }),
    ];
    orders
        .into_iter()
        .map(|(what, rewrite)| Change {
            what: what.into(),
            site,
            edits: vec![Edit::Input(rewrite)],
        })
        .collect()
}
