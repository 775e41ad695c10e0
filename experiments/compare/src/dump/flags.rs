//! The flags of the model from which a dump was made, as the names and shapes of its arrays tell them.

use spec::config::DEPTHS;
use spec::{Config, Model, ModuleId};

use super::names::{is_clip, meaning};
use super::{Meaning, Order, survey};

/// A share of arrays or modules that is nearly all.
const NEARLY_ALL: f64 = 0.8;

/// A name and a shape.
pub(super) type Named<'a> = (&'a str, &'a [usize]);

/// The flags by which the model that an arrays' shapes fit differs from `model`, such as `--depth 10 --size 64`;
/// None if no model is found that nearly all arrays fit.
pub(super) fn fitting(arrays: &[Named], model: &Model) -> Option<String> {
    let mut config = model.config.clone();
    (config.frames, config.size) =
        arrays.iter().find_map(clip).unwrap_or((config.frames, config.size));
    config.classes = arrays.iter().find_map(classes).unwrap_or(config.classes);
    config.width = arrays.iter().find_map(|array| width(array, &config)).unwrap_or(config.width);
    let of_depth = |&(depth, ..): &(usize, [usize; 4], bool)| {
        let found = Model::new(Config { depth, ..config.clone() }).ok()?;
        Some((fits(arrays, &found), found.config))
    };
    // Of equals the last is taken, which is the shallowest.
    let (share, best) =
        DEPTHS.iter().rev().filter_map(of_depth).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (share >= NEARLY_ALL).then(|| differences(&best, &model.config)).flatten()
}

/// The depth of a network of which the arrays show nearly all modules and nothing else, if it has fewer blocks than
/// `model`.
pub(super) fn shallower(arrays: &[Named], model: &Model) -> Option<usize> {
    let known = |model: &Model| -> Vec<ModuleId> {
        let own = arrays.iter().filter_map(|(name, _)| meaning(model, name).module());
        own.filter(|id| *id != model.input).collect()
    };
    let named = known(model).len();
    let shows_all = |depth: usize| {
        let small = Model::new(Config { depth, ..model.config.clone() }).ok()?;
        if small.modules().len() >= model.modules().len() || fits(arrays, &small) < NEARLY_ALL {
            return None;
        }
        let shown = known(&small);
        let weighted: Vec<_> = small.modules().iter().filter(|m| m.kind.has_weights()).collect();
        let count = weighted.iter().filter(|module| shown.contains(&module.id)).count();
        let nearly_all = count as f64 >= NEARLY_ALL * weighted.len() as f64;
        (shown.len() == named && nearly_all).then_some(depth)
    };
    DEPTHS.iter().rev().find_map(|&(depth, ..)| shows_all(depth))
}

/// The share of the arrays that have the name and the shape of a module.
fn fits(arrays: &[Named], model: &Model) -> f64 {
    let meanings: Vec<Meaning> = arrays.iter().map(|(name, _)| meaning(model, name)).collect();
    let of_modules =
        |(meaning, (_, shape)): (&Meaning, &Named)| Some((meaning.module()?, shape.to_vec()));
    let named: Vec<_> = meanings.iter().zip(arrays).filter_map(of_modules).collect();
    let Some(batch) = survey::batch(model, &named) else { return 0.0 };
    let fit = |(id, shape): &&(ModuleId, Vec<usize>)| {
        Order::detect(shape, &model.module(*id).batch_shape(batch), false).is_some()
    };
    named.iter().filter(fit).count() as f64 / arrays.len() as f64
}

/// Frames and frame size of a clip in any order of dimensions.
fn clip(&(name, shape): &Named) -> Option<(usize, (usize, usize))> {
    let (t, h, w) = match *shape {
        _ if !is_clip(name) => return None,
        [_, 3, t, h, w] | [_, t, 3, h, w] | [_, t, h, w, 3] | [_, h, w, 3, t] => (t, h, w),
        [3, t, h, w] | [t, 3, h, w] | [t, h, w, 3] => (t, h, w),
        [_, stacked, h, w] if stacked % 3 == 0 && h > stacked => (stacked / 3, h, w),
        [_, h, w, stacked] if stacked % 3 == 0 && h > stacked => (stacked / 3, h, w),
        _ => return None,
    };
    Some((t, (h, w)))
}

/// The number of classes of logits.
fn classes(&(name, shape): &Named) -> Option<usize> {
    let is_head = ["logits", "fc"].contains(&name);
    shape.last().copied().filter(|&count| is_head && shape.len() <= 2 && count > 0)
}

/// The width that the channels of the first convolution tell.
fn width(&(name, shape): &Named, config: &Config) -> Option<f64> {
    let halves = (config.size.0.div_ceil(2), config.size.1.div_ceil(2));
    let channels = match *shape {
        _ if name != "conv1" && name != "bn1" => return None,
        [_, c, h, w] if (h, w) == halves => c,
        [_, h, w, c] if (h, w) == halves => c,
        _ => return None,
    };
    Some(channels as f64 / 64.0)
}

/// The flags in which two configurations differ.
fn differences(found: &Config, given: &Config) -> Option<String> {
    let size = |config: &Config| match config.size {
        (h, w) if h == w => h.to_string(),
        (h, w) => format!("{h}x{w}"),
    };
    let of = |config: &Config| {
        [
            ("--depth", config.depth.to_string()),
            ("--width", config.width.to_string()),
            ("--frames", config.frames.to_string()),
            ("--size", size(config)),
            ("--classes", config.classes.to_string()),
        ]
    };
    let both = of(found).into_iter().zip(of(given));
    let other =
        both.filter(|((_, a), (_, b))| a != b).map(|((flag, value), _)| format!("{flag} {value}"));
    let other: Vec<String> = other.collect();
    (!other.is_empty()).then(|| other.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(depth: usize) -> Model {
        let config = Config {
            depth,
            width: 0.125,
            frames: 4,
            size: (64, 48),
            classes: 7,
            ..Config::default()
        };
        Model::new(config).unwrap()
    }

    /// The names and shapes of all modules of a network.
    fn dump(model: &Model) -> Vec<(String, Vec<usize>)> {
        model.modules().iter().map(|m| (m.name.clone(), m.batch_shape(2))).collect()
    }

    fn named(dump: &[(String, Vec<usize>)]) -> Vec<Named<'_>> {
        dump.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect()
    }

    #[test]
    fn the_flags_of_another_model_are_found() {
        let arrays = dump(&model(10));
        let default = Model::new(Config::default()).unwrap();
        let flags = "--depth 10 --width 0.125 --frames 4 --size 64x48 --classes 7";
        assert_eq!(fitting(&named(&arrays), &default).as_deref(), Some(flags));
        assert_eq!(fitting(&named(&arrays), &model(10)), None, "no flag differs");
        assert_eq!(fitting(&[("a", &[3]), ("b", &[4])], &default), None);
    }

    #[test]
    fn a_shallower_network_is_recognised_only_if_the_dump_is_nearly_whole() {
        let arrays = dump(&model(10));
        assert_eq!(shallower(&named(&arrays), &model(18)), Some(10));
        assert_eq!(shallower(&named(&arrays), &model(10)), None);
        assert_eq!(shallower(&named(&dump(&model(18))), &model(18)), None);
        let blocks: Vec<_> = arrays.into_iter().filter(|(name, _)| name.ends_with(".0")).collect();
        assert_eq!(shallower(&named(&blocks), &model(18)), None, "four blocks of a deeper network");
    }
}
