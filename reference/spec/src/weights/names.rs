//! The official name of a tensor or module, whatever framework has written it.
//!
//! Official are the paths of the authors' PyTorch modules without `backbone.net.`; the head is
//! `fc`. The Flax port names the members of its Sequentials (`glo_conv/conv2` is `glo_conv.3`),
//! MindSpore names the parts of a batch normalisation differently.

/// Prefixes that wrappers put before a name; any number of them, in any order.
const PREFIXES: [&str; 10] = [
    "backbone.net.",
    "backbone.",
    "net.",
    "module.",
    "model.",
    "params.",
    "batch_stats.",
    "intermediates.",
    "state_dict.",
    "_orig_mod.",
];

/// Names of the head.
const HEADS: [&str; 4] = ["cls_head.fc_cls", "head.fc", "fc_cls", "classifier"];

/// Members of the Flax port's containers and their index in PyTorch's Sequential.
const MEMBERS: [(&str, &[(&str, &str)]); 2] = [
    ("param_conv", &[("conv1", "1"), ("norm1", "2"), ("conv2", "4")]),
    (
        "glo_conv",
        &[("conv1", "0"), ("norm1", "1"), ("conv2", "3"), ("norm2", "4"), ("conv3", "6")],
    ),
];

/// What other frameworks call the leaves of a state dict.
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

/// Leaves that a forward pass does not read.
const UNUSED: [&str; 1] = ["num_batches_tracked"];

/// The official path of a module: `backbone.net.layer1.0.conv1` and `layer1.0/conv1` are
/// `layer1.0.conv1`. Names that are already official stay as they are.
pub fn canonical_module(name: &str) -> String {
    let name = strip_call(name).replace('/', ".");
    let mut rest = name.as_str();
    while let Some(shorter) = PREFIXES.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
        rest = shorter;
    }
    for head in HEADS {
        if let Some(after) = rest.strip_prefix(head)
            && (after.is_empty() || after.starts_with('.'))
        {
            return format!("fc{after}");
        }
    }
    numbered_members(rest)
}

/// The official name of a tensor, None for one that no forward pass reads.
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

/// Flax's `capture_intermediates` ends a module's path with `__call__`, and its place in a tuple.
fn strip_call(name: &str) -> &str {
    let name = name.strip_suffix("/0").or(name.strip_suffix(".0")).filter(|n| n.ends_with(CALL)).unwrap_or(name);
    name.strip_suffix(CALL).map_or(name, |n| n.trim_end_matches(['/', '.']))
}

const CALL: &str = "__call__";

fn numbered_members(path: &str) -> String {
    let mut parts: Vec<&str> = path.split('.').collect();
    for at in 1..parts.len() {
        let known = MEMBERS.iter().find(|(container, _)| *container == parts[at - 1]);
        let index = known.and_then(|(_, members)| members.iter().find(|(m, _)| *m == parts[at]));
        if let Some((_, index)) = index {
            parts[at] = index;
        }
    }
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_three_frameworks_have_one_name() {
        let cases = [
            ("backbone.net.layer1.2.conv2", "layer1.2.conv2"),
            ("module.backbone.net.conv1", "conv1"),
            ("net.bn1", "bn1"),
            ("cls_head.fc_cls", "fc"),
            ("layer1.0/conv2/spatial_conv/glo_conv/conv1", "layer1.0.conv2.spatial_conv.glo_conv.0"),
            ("layer1.0/conv2/param_conv/norm1/__call__/0", "layer1.0.conv2.param_conv.2"),
            ("layer2.0/downsample.1/__call__", "layer2.0.downsample.1"),
            ("layer2.0.downsample.0", "layer2.0.downsample.0"),
            ("intermediates/layer1.0/conv1/__call__", "layer1.0.conv1"),
            ("layer1.0.conv2.spatial_conv.glo_conv.0", "layer1.0.conv2.spatial_conv.glo_conv.0"),
        ];
        for (name, expected) in cases {
            assert_eq!(canonical_module(name), expected, "{name}");
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
