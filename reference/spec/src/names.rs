//! Converts the name of a module in any framework to the official name.
//!
//! The official names are the paths of the authors' PyTorch modules without `backbone.net.`; the head
//! is `fc`. The Flax port names the members of its Sequentials (`glo_conv/conv2` is `glo_conv.3`).

/// Prefixes that programs put before a name. There may be several, in any order.
const PREFIXES: [&str; 8] = [
    "backbone.net.",
    "backbone.",
    "net.",
    "model.",
    "params.",
    "batch_stats.",
    "intermediates.",
    "state_dict.",
];

/// Parts of a path that belong to a wrapper around a module, such as data parallelism, compilation,
/// activation checkpointing, sharding or DeepSpeed. They may be anywhere before the last part.
const WRAPPERS: [&str; 7] = [
    "module",
    "_module",
    "_orig_mod",
    "_checkpoint_wrapped_module",
    "_forward_module",
    "_fsdp_wrapped_module",
    "_fpw_module",
];

/// Names of the head in other programs.
const HEADS: [&str; 4] = ["cls_head.fc_cls", "head.fc", "fc_cls", "classifier"];

/// The members of the Flax port's containers and their indices in PyTorch's Sequential.
const MEMBERS: [(&str, &[(&str, &str)]); 2] = [
    ("param_conv", &[("conv1", "1"), ("norm1", "2"), ("conv2", "4")]),
    ("glo_conv", &[("conv1", "0"), ("norm1", "1"), ("conv2", "3"), ("norm2", "4"), ("conv3", "6")]),
];

/// The official path of a module: both `backbone.net.layer1.0.conv1` and `layer1.0/conv1` become
/// `layer1.0.conv1`. An official path is returned unchanged.
pub fn canonical_module(name: &str) -> String {
    let name = without_wrappers(&strip_call(name).replace('/', "."));
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

/// Removes the parts of a path that belong to wrappers.
fn without_wrappers(path: &str) -> String {
    let Some((parents, last)) = path.rsplit_once('.') else { return path.to_owned() };
    let kept = parents.split('.').filter(|part| !WRAPPERS.contains(part));
    kept.chain([last]).collect::<Vec<_>>().join(".")
}

/// The suffix that Flax's `capture_intermediates` adds to a module's path. An index into a tuple may
/// follow it.
const CALL: &str = "__call__";

fn strip_call(name: &str) -> &str {
    let place = name.strip_suffix("/0").or_else(|| name.strip_suffix(".0"));
    let name = place.filter(|shorter| shorter.ends_with(CALL)).unwrap_or(name);
    name.strip_suffix(CALL).map_or(name, |path| path.trim_end_matches(['/', '.']))
}

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
            (
                "layer1.0/conv2/spatial_conv/glo_conv/conv1",
                "layer1.0.conv2.spatial_conv.glo_conv.0",
            ),
            ("layer1.0/conv2/param_conv/norm1/__call__/0", "layer1.0.conv2.param_conv.2"),
            ("layer2.0/downsample.1/__call__", "layer2.0.downsample.1"),
            ("layer2.0._checkpoint_wrapped_module.conv1", "layer2.0.conv1"),
            ("_forward_module.module.net._fsdp_wrapped_module.layer1._orig_mod.0", "layer1.0"),
            ("layer2.0.downsample.0", "layer2.0.downsample.0"),
            ("intermediates/layer1.0/conv1/__call__", "layer1.0.conv1"),
            ("layer1.0.conv2.spatial_conv.glo_conv.0", "layer1.0.conv2.spatial_conv.glo_conv.0"),
        ];
        for (name, expected) in cases {
            assert_eq!(canonical_module(name), expected, "{name}");
        }
    }
}
