//! Finds the module that an array is named after.

use spec::names::canonical_module;
use spec::{Model, ModuleId};

/// Names that programs give the clip; upper and lower case are the same.
const CLIP: [&str; 17] = [
    "input",
    "clip",
    "x",
    "data",
    "video",
    "inputs",
    "input.1",
    "input_1",
    "input.0",
    "input_0",
    "inputs.0",
    "inputs_0",
    "images",
    "imgs",
    "frames",
    "pixel_values",
    "args_0",
];

/// What the name of an array means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The output of a module.
    Module(ModuleId),
    /// The output of a container, which is the output of its last member: this module.
    Container(ModuleId),
    /// A step before the network, such as `video.resized`.
    Step,
    /// A map of names says that it shows no module.
    LeftOut,
    /// The logits, of a model without a classifier.
    NoHead,
    /// No module has this name.
    Unknown,
}

impl Meaning {
    /// The module whose output the array holds; None if it is not an output of the network.
    pub fn module(self) -> Option<ModuleId> {
        match self {
            Meaning::Module(id) | Meaning::Container(id) => Some(id),
            Meaning::Step | Meaning::LeftOut | Meaning::NoHead | Meaning::Unknown => None,
        }
    }
}

/// The layer and the block of a name such as `layer1.1.bn1` or `model/layer1/1/bn1`.
pub fn block(name: &str) -> Option<(usize, usize)> {
    let parts: Vec<&str> = name.split(['.', '/']).collect();
    parts.windows(2).find_map(|pair| {
        let layer = pair[0].strip_prefix("layer")?.parse().ok()?;
        Some((layer, pair[1].parse().ok()?))
    })
}

/// The meaning of an array's name in a model. PyTorch, Flax and MindSpore paths, aliases such as `ctl3`
/// and the wrappers' prefixes are understood.
pub fn meaning(model: &Model, name: &str) -> Meaning {
    if crate::dump::STEPS.contains(&name) {
        return Meaning::Step;
    }
    if is_clip(name) {
        return Meaning::Module(model.input);
    }
    let canonical = canonical_module(name);
    let head = model.fc.as_ref().map(|fc| fc.id);
    match (canonical.as_str(), head) {
        ("logits", Some(fc)) => return Meaning::Module(fc),
        ("cls_head", Some(fc)) => return Meaning::Container(fc),
        ("logits" | "cls_head" | "fc", None) => return Meaning::NoHead,
        _ => {}
    }
    let aliased = model.modules().iter().find(|m| m.alias.as_deref() == Some(name));
    match model.find(&canonical).or(aliased) {
        Some(module) => Meaning::Module(module.id),
        None => container(model, &canonical).map_or(Meaning::Unknown, Meaning::Container),
    }
}

/// Whether a name is one that programs give the clip.
pub fn is_clip(name: &str) -> bool {
    CLIP.iter().any(|clip| clip.eq_ignore_ascii_case(name))
}

/// The last member of a Sequential, or the last block of a stage: its output is the container's.
fn container(model: &Model, canonical: &str) -> Option<ModuleId> {
    let below = format!("{canonical}.");
    let sequential = || {
        let member = |m: &&spec::Module| {
            let leaf = m.name.strip_prefix(&below)?;
            leaf.parse::<usize>().ok().map(|index| (index, m.id))
        };
        let members = model.modules().iter().filter_map(|m| member(&m));
        members.max_by_key(|(index, _)| *index).map(|(_, id)| id)
    };
    let stage = || {
        let mut blocks = model.blocks.iter().filter(|block| block.name.starts_with(&below));
        blocks.next_back().map(|block| block.id)
    };
    match canonical.is_empty() {
        true => None,
        false => stage().or_else(sequential),
    }
}

#[cfg(test)]
mod tests {
    use spec::Config;

    use super::*;

    #[test]
    fn containers_mean_their_last_member() {
        let model = Model::new(Config { depth: 18, width: 0.125, ..Config::default() }).unwrap();
        let cases = [
            ("layer1", "layer1.1"),
            ("backbone.net.layer4", "layer4.1"),
            ("layer1.0.conv1.param_conv", "layer1.0.conv1.param_conv.5"),
            ("layer1.0/conv1/spatial_conv/glo_conv", "layer1.0.conv1.spatial_conv.glo_conv.7"),
            ("layer2.0.downsample", "layer2.0.downsample.1"),
            ("layer2.0.shortcut_conv", "layer2.0.shortcut_conv.1"),
        ];
        for (name, expected) in cases {
            let id = model.find(expected).unwrap().id;
            assert_eq!(meaning(&model, name), Meaning::Container(id), "{name}");
        }
        assert_eq!(meaning(&model, "Clip"), Meaning::Module(model.input));
        assert_eq!(meaning(&model, "logits"), meaning(&model, "cls_head.fc_cls"));
        assert_eq!(meaning(&model, "logits"), meaning(&model, "module.logits"));
        assert_eq!(meaning(&model, "ctl3"), meaning(&model, "layer1.1.conv1"));
        let backbone = Model::backbone(model.config.clone()).unwrap();
        for head in ["logits", "module.logits", "cls_head", "fc"] {
            assert_eq!(meaning(&backbone, head), Meaning::NoHead, "{head}");
        }
        for unknown in ["", "layer9", "relu", "layer1.0.relu", "optimizer"] {
            assert_eq!(meaning(&model, unknown), Meaning::Unknown, "{unknown}");
        }
    }
}
