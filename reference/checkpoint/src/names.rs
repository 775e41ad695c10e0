//! Converts the names of tensors in any framework to the official names, which are the official path
//! of the module ([`spec::names`]) and PyTorch's name of the parameter. MindSpore and Flax have other
//! names for the parts of a batch normalisation.

use std::fmt;

use serde::Serialize;

use spec::names::canonical_module;

/// Names of parameters in other frameworks, and the official ones.
const LEAVES: [(&str, &str); 8] = [
    ("kernel", "weight"),
    ("scale", "weight"),
    ("mean", "running_mean"),
    ("var", "running_var"),
    ("gamma", "weight"),
    ("beta", "bias"),
    ("moving_mean", "running_mean"),
    ("moving_variance", "running_var"),
];

/// Parameters that a forward pass does not read.
const UNUSED: [&str; 1] = ["num_batches_tracked"];

/// The official name of a tensor, or `None` if no forward pass reads it.
pub fn canonical_param(name: &str) -> Option<String> {
    let module = canonical_module(name);
    let (path, leaf) = module.rsplit_once('.').unwrap_or(("", module.as_str()));
    if UNUSED.contains(&leaf) {
        return None;
    }
    if leaf == "pos_embed" {
        // In the Flax port the embedding belongs to glo_conv, in PyTorch to spatial_conv.
        return Some(format!("{}.pos_embed", path.strip_suffix(".glo_conv").unwrap_or(path)));
    }
    let leaf = LEAVES.iter().find(|(other, _)| *other == leaf).map_or(leaf, |(_, ours)| ours);
    Some(if path.is_empty() { leaf.to_owned() } else { format!("{path}.{leaf}") })
}

/// The order in which a framework stores the dimensions of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// PyTorch's order: convolutions [out, in, kh, kw], linear layers [out, in], embeddings
    /// [1, 16, h, w].
    Official,
    /// The order of Flax's kernels: convolutions [kh, kw, in, out], linear layers [in, out].
    FlaxKernel,
    /// The order of Flax's positional embeddings: [h, w, 16].
    FlaxEmbedding,
}

impl Layout {
    /// For each dimension in PyTorch's order, the index of the stored dimension. Shapes of another
    /// rank than the layout expects are not permuted, so that messages show them as they are.
    pub(super) fn axes(self, rank: usize) -> Vec<usize> {
        match (self, rank) {
            (Layout::FlaxKernel, 4) => vec![3, 2, 0, 1],
            (Layout::FlaxKernel, 2) => vec![1, 0],
            (Layout::FlaxEmbedding, 3) => vec![2, 0, 1],
            _ => (0..rank).collect(),
        }
    }
}

/// The layout of a tensor, which follows from its name.
pub(super) fn layout(name: &str) -> Layout {
    let name = name.replace('/', ".");
    match name.rsplit_once('.').unwrap_or(("", &name)) {
        (_, "kernel") => Layout::FlaxKernel,
        (path, "pos_embed") if path.ends_with("glo_conv") => Layout::FlaxEmbedding,
        _ => Layout::Official,
    }
}

/// The naming scheme of the tensors of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Naming {
    /// The paths of the bare PyTorch network, possibly with a prefix such as `module.` or `net.`.
    Bare,
    /// The paths of mmaction2: `backbone.net.…`, `cls_head.fc_cls.…`.
    Mmaction2,
    /// The names of the Flax port: `kernel`, `scale`, `mean`, `var`.
    Flax,
    /// The names of MindSpore: `gamma`, `beta`, `moving_mean`, `moving_variance`.
    MindSpore,
}

impl fmt::Display for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Naming::Bare => "PyTorch",
            Naming::Mmaction2 => "mmaction2",
            Naming::Flax => "Flax",
            Naming::MindSpore => "MindSpore",
        })
    }
}

/// A test whether a name belongs to a naming scheme.
type Sign = fn(&str) -> bool;

/// The naming scheme of these names: the first one, in the order below, to which any name belongs.
pub(super) fn naming<'n>(names: impl Iterator<Item = &'n str> + Clone) -> Naming {
    let signs: [(Naming, Sign); 3] = [
        (Naming::Flax, |name| name.ends_with("kernel")),
        (Naming::MindSpore, |name| name.ends_with(".gamma") || name.ends_with(".moving_mean")),
        (Naming::Mmaction2, |name| name.contains("backbone.") || name.contains("cls_head.")),
    ];
    let shown = signs.iter().find(|(_, sign)| names.clone().any(sign));
    shown.map_or(Naming::Bare, |(naming, _)| *naming)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_and_naming_schemes_follow_from_the_names() {
        assert_eq!(layout("params/conv1/kernel").axes(4), [3, 2, 0, 1]);
        assert_eq!(layout("params/fc/kernel").axes(2), [1, 0]);
        assert_eq!(layout("layer1.0/conv2/spatial_conv/glo_conv/pos_embed").axes(3), [2, 0, 1]);
        assert_eq!(layout("layer1.0.conv2.spatial_conv.pos_embed").axes(4), [0, 1, 2, 3]);
        let cases = [
            (["backbone.net.conv1.weight", "cls_head.fc_cls.bias"], Naming::Mmaction2),
            (["module.conv1.weight", "fc.bias"], Naming::Bare),
            (["conv1.weight", "bn1.gamma"], Naming::MindSpore),
            (["params/conv1/kernel", "params/bn1/scale"], Naming::Flax),
        ];
        for (names, expected) in cases {
            assert_eq!(naming(names.iter().copied()), expected, "{names:?}");
        }
    }

    #[test]
    fn tensors_of_three_frameworks_have_one_name() {
        let cases = [
            ("backbone.net.bn1.running_var", Some("bn1.running_var")),
            ("backbone.net.bn1.num_batches_tracked", None),
            ("layer1.0.bn1.moving_variance", Some("layer1.0.bn1.running_var")),
            ("layer1.0.bn1.gamma", Some("layer1.0.bn1.weight")),
            ("batch_stats/layer1.0/bn1/mean", Some("layer1.0.bn1.running_mean")),
            ("params/fc/kernel", Some("fc.weight")),
            ("cls_head.fc_cls.bias", Some("fc.bias")),
            (
                "params/layer1.0/conv2/spatial_conv/glo_conv/pos_embed",
                Some("layer1.0.conv2.spatial_conv.pos_embed"),
            ),
            (
                "params/layer1.0/conv2/spatial_conv/glo_conv/norm2/scale",
                Some("layer1.0.conv2.spatial_conv.glo_conv.4.weight"),
            ),
        ];
        for (name, expected) in cases {
            assert_eq!(canonical_param(name).as_deref(), expected, "{name}");
        }
    }
}
